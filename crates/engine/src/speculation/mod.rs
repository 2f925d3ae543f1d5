//! Speculation: several tokens from one forward pass, and exactly those that would have come one by one.
//!
//! A decode step is bound by reading the weights, so a pass over a few tokens costs far less than as many passes. Whoever
//! guesses the next tokens may therefore have the model compute them together: position by position the session's own
//! sampler chooses from the logits with the history that it would have had, and at the first choice that differs from the
//! guess the rest is taken back. As no forward result depends on how tokens are cut into batches, the answer is the same
//! as without guesses, to the last draw of the random numbers (Leviathan et al., "Fast Inference from Transformers via
//! Speculative Decoding", 2023, do this with another rule of acceptance, which keeps the distribution but not the draws).
//!
//! Guesses come from two drafters. [`Lookup`] costs nothing: what followed the same tokens earlier. A [`DraftModel`] is
//! asked where that finds nothing. How far either guesses follows from how often it was right and from what passes
//! cost ([`PassCosts`]); so the tokens of an answer never depend on the clock, only how many come at once.

mod costs;
mod draft_model;
mod lookup;

use model::KvCache;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sampler::Sampler;
pub(crate) use costs::PassCosts;
pub(crate) use draft_model::{DraftEngine, DraftModel, check_vocabulary};
use lookup::Lookup;

/// Tokens drafted for one pass at most. More would gain a fifth at best, where all of an answer repeats its prompt, while
/// the logits to check them take a megabyte a token with large vocabularies, and the text comes in bursts.
pub(crate) const MOST_DRAFTED: usize = 23;

/// How far a session drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speculation {
    /// Not at all: each step computes one token.
    Off,
    /// As far as pays off by what was accepted lately and what passes cost on this machine.
    #[default]
    Adaptive,
    /// So many tokens wherever there is something to guess from: for tests and measurements.
    Fixed(usize),
}

/// Tokens that were drafted, and those among them that the answer then had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafts {
    /// Tokens drafted and computed.
    pub drafted: usize,
    /// Of these, tokens that became part of the answer.
    pub accepted: usize,
}

impl Drafts {
    /// What was added to `earlier` to make these.
    pub fn since(&self, earlier: Drafts) -> Drafts {
        Drafts { drafted: self.drafted - earlier.drafted, accepted: self.accepted - earlier.accepted }
    }
}

/// A session's drafting: what it guesses from, and what came of it.
#[derive(Debug)]
pub(crate) struct Speculator {
    speculation: Speculation,
    lookup: Lookup,
    model: Option<DraftModel>,
    /// Whether the draft at hand is the model's.
    is_models: bool,
    pub(crate) drafts: Drafts,
}

/// What a session has at the moment a draft is asked for.
pub(crate) struct Moment<'a> {
    /// The history. Ends as it was.
    pub(crate) tokens: &'a mut Vec<u32>,
    /// Where the answer begins in it.
    pub(crate) answer: usize,
    /// Tokens that the draft may have.
    pub(crate) limit: usize,
    /// The sampler that will choose.
    pub(crate) sampler: &'a Sampler,
}

impl Speculator {
    /// For sessions of up to `context` tokens; `None` where nothing is to be drafted.
    pub(crate) fn new(
        speculation: Speculation,
        context: usize,
        model: Option<DraftModel>,
    ) -> Option<Speculator> {
        (speculation != Speculation::Off).then(|| Speculator {
            speculation,
            lookup: Lookup::new(context),
            model,
            is_models: false,
            drafts: Drafts::default(),
        })
    }

    /// Appends a draft of the tokens after the history to `batch`, or nothing.
    pub(crate) fn draft(
        &mut self,
        moment: Moment<'_>,
        costs: &PassCosts,
        engine: Option<&mut DraftEngine>,
        batch: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let before = batch.len();
        let pace = Pace { speculation: self.speculation, limit: moment.limit.min(MOST_DRAFTED), costs };
        self.lookup.follow(moment.tokens, moment.answer);
        self.lookup.draft(moment.tokens, &pace, batch);
        self.is_models = false;
        if let (true, Some(model), Some(engine)) = (batch.len() == before, &mut self.model, engine) {
            model.draft(engine, moment, &pace, batch)?;
            self.is_models = batch.len() > before;
        }
        Ok(())
    }

    /// Takes note of what came of a draft of `drafted` tokens; `rejected` if one of them was wrong, rather than the answer over.
    pub(crate) fn learn(&mut self, drafted: usize, accepted: usize, rejected: bool) {
        self.drafts.drafted += drafted;
        self.drafts.accepted += accepted;
        // Lookup scores itself on the history, also where it drafted nothing.
        if let (true, Some(model)) = (self.is_models, &mut self.model) {
            model.learn(accepted, rejected);
        }
    }

    /// Computes what the session has computed in prefill, a chunk at a time, for the draft model too.
    pub(crate) fn prefill(
        &mut self,
        engine: Option<&mut DraftEngine>,
        computed: &[u32],
    ) -> Result<(), Error> {
        match (&mut self.model, engine) {
            (Some(model), Some(engine)) => model.prefill(engine, computed),
            _ => Ok(()),
        }
    }

    /// Brings what belongs to the history in step with the session's cache, of which positions were taken back.
    pub(crate) fn truncate(&mut self, cache: &KvCache) {
        if let Some(model) = &mut self.model {
            model.truncate(cache.len());
        }
    }

    /// Forgets the history, which is now another one from the end of `cache` on.
    pub(crate) fn replace(&mut self, cache: &KvCache) {
        self.lookup.clear();
        self.truncate(cache);
    }
}

/// Decides how long a draft is.
pub(crate) struct Pace<'a> {
    speculation: Speculation,
    limit: usize,
    costs: &'a PassCosts,
}

impl Pace<'_> {
    /// Tokens to draft, where the one of index `i` is right with `chance(i)` if those before it are, and each costs
    /// `seconds` to come by.
    fn length(&self, seconds: f64, chance: impl Fn(usize) -> f64) -> usize {
        match self.speculation {
            Speculation::Off => 0,
            Speculation::Fixed(count) => count.min(self.limit),
            Speculation::Adaptive => self.costs.best_length(self.limit, seconds, chance),
        }
    }
}
