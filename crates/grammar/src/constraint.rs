//! A compiled form as the veto that a session asks for.

use std::fmt;
use std::sync::Arc;

use engine::{Constraint, Error};
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use crate::grammars::first_line;

/// Bits in a word of a token set.
const BITS: usize = u32::BITS as usize;

/// A parser in the middle of an answer.
pub(crate) struct Form {
    matcher: Matcher,
    /// The only tokens that may come, whatever the grammar says; all if `None`.
    plain: Option<Arc<SimpleVob>>,
    ends: Arc<SimpleVob>,
    /// Whether a token came with which answers end.
    has_ended: bool,
}

impl Form {
    pub(crate) fn new(matcher: Matcher, plain: Option<Arc<SimpleVob>>, ends: Arc<SimpleVob>) -> Form {
        Form { matcher, plain, ends, has_ended: false }
    }

    /// Whether the answer is complete and nothing may follow.
    fn is_over(&self) -> bool {
        self.has_ended || self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    /// The tokens that may come next.
    fn allowed(&mut self) -> Result<SimpleVob, Error> {
        if self.is_over() {
            return Ok((*self.ends).clone());
        }
        let mut allowed = self.matcher.compute_mask().map_err(|error| failure(&error.to_string()))?;
        if let Some(plain) = &self.plain {
            allowed.and(plain);
        }
        Ok(allowed)
    }
}

impl Constraint for Form {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        let allowed = self.allowed()?;
        if allowed.is_zero() {
            return Err(failure("no token of the model leads on"));
        }
        apply(allowed.as_slice(), logits);
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool, Error> {
        let contains = |tokens: &SimpleVob| (token as usize) < tokens.len() && tokens.is_allowed(token);
        if contains(&self.ends) {
            let may_end =
                self.is_over() || self.matcher.is_accepting().map_err(|error| failure(&error.to_string()))?;
            self.has_ended |= may_end;
            return if may_end { Ok(true) } else { Err(failure("it may not end here")) };
        }
        if self.is_over() {
            return Err(failure("it was complete before the last token"));
        }
        if self.plain.as_deref().is_some_and(|plain| !contains(plain)) {
            return Err(failure("a control token has no place in it"));
        }
        self.matcher.consume_token(token).map_err(|error| failure(&error.to_string()))?;
        Ok(self.is_over())
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Form")
            .field("stop_reason", &self.matcher.stop_reason())
            .finish_non_exhaustive()
    }
}

/// Sets the logits whose bit is not set to minus infinity; ids beyond the set are no tokens.
fn apply(allowed: &[u32], logits: &mut [f32]) {
    let mut chunks = logits.chunks_mut(BITS);
    for (&word, chunk) in allowed.iter().zip(&mut chunks) {
        match word {
            0 => chunk.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            _ => {
                for (bit, logit) in chunk.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
    chunks.for_each(|chunk| chunk.fill(f32::NEG_INFINITY));
}

fn failure(reason: &str) -> Error {
    Error::Constraint { reason: first_line(reason) }
}
