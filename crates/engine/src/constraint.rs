//! What an answer may look like: a grammar's veto on the next token.

use std::fmt;

use crate::error::Error;

/// Says, token by token, what may come next in an answer. A session asks before each choice and tells what was chosen.
///
/// A constraint belongs to one answer; the next turn of a session starts without one.
pub trait Constraint: Send + fmt::Debug {
    /// Sets the logits (one value a token of the vocabulary) of tokens that may not come next to minus infinity: those that
    /// end the answer too, unless it may end here.
    ///
    /// # Errors
    /// [`Error::Constraint`] where no token may follow, or the grammar gave up.
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error>;

    /// Takes note that `token` was chosen. `true` if the answer is complete and nothing may follow.
    ///
    /// # Errors
    /// [`Error::Constraint`] for a token that [`mask`](Constraint::mask) would have forbidden.
    fn accept(&mut self, token: u32) -> Result<bool, Error>;
}
