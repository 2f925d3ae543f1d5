//! A second, smaller model that guesses the next tokens.
//!
//! It guesses with the random numbers that the session's sampler will draw next and the same settings. Where both
//! distributions are alike, the same number falls on the same token of both, so that guesses come true about as often
//! with sampling as without.

use std::sync::Arc;
use std::time::Instant;

use kernels::Team;
use model::{Budget, Grant, KvCache, Logits, Model, Workspace};

use super::costs::smooth;
use super::{Moment, Pace};
use crate::error::Error;
use crate::sampler::Sampler;

/// How fast the counted chance follows the text, and where it begins.
const RATE: f64 = 1.0 / 8.0;
const FIRST_CHANCE: f64 = 0.7;

/// Steps without a draft, where drafts do not pay, until one of [`PROBE`] tokens finds out whether they do by now. Each
/// that fails doubles the steps to the next.
const FEWEST_RESTS: usize = 16;
const MOST_RESTS: usize = 512;
const PROBE: usize = 2;

/// The share of a vocabulary by which files of one family differ: some pad theirs.
const PADDING: usize = 100;

/// The draft model and what runs it, shared by all sessions of an engine.
pub(crate) struct DraftEngine {
    pub(crate) model: Arc<Model>,
    team: Arc<Team>,
    workspace: Workspace,
    _grant: Grant,
    /// What a pass over one token takes; 0 before the first.
    seconds: f64,
}

impl DraftEngine {
    /// # Errors
    /// [`Error::Model`] if `budget` has no room for its buffers.
    pub(crate) fn new(
        model: Arc<Model>,
        team: Arc<Team>,
        batch: usize,
        budget: &Budget,
    ) -> Result<DraftEngine, Error> {
        let workspace = Workspace::new(&model.config, batch);
        let _grant = budget.take("the buffers of the draft model", workspace.bytes())?;
        Ok(DraftEngine { model, team, workspace, _grant, seconds: 0.0 })
    }
}

/// A session's part of drafting with a model.
#[derive(Debug)]
pub(crate) struct DraftModel {
    model: Arc<Model>,
    /// Of the draft model, over a beginning of the session's history.
    cache: KvCache,
    /// Has the settings of the session's sampler.
    sampler: Sampler,
    /// Tokens that the session's model has; files of one family may be padded to other sizes.
    vocabulary: usize,
    /// How likely a drafted token is right if those before it are.
    chance: f64,
    /// Steps since the last draft, and how many there are to be at least where drafts do not pay.
    rested: usize,
    rests: usize,
}

impl DraftModel {
    /// `model` guesses for a session of a model with `vocabulary` tokens, of which `cache` holds as many as the session's.
    pub(crate) fn new(model: Arc<Model>, cache: KvCache, sampler: Sampler, vocabulary: usize) -> DraftModel {
        let (rested, rests) = (0, FEWEST_RESTS);
        DraftModel { model, cache, sampler, vocabulary, chance: FIRST_CHANCE, rested, rests }
    }

    /// Appends a draft to `batch`. Where much of the history is not computed, as after a long rest, a step computes one chunk
    /// of it and drafts nothing.
    pub(crate) fn draft(
        &mut self,
        engine: &mut DraftEngine,
        moment: Moment<'_>,
        pace: &Pace<'_>,
        batch: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let count = match pace.length(engine.seconds, |_| self.chance) {
            0 if self.rested >= self.rests => PROBE.min(pace.limit),
            count => count,
        };
        self.rested = if count > 0 { 0 } else { self.rested + 1 };
        let Moment { tokens, sampler, .. } = moment;
        if count == 0 || !self.can_compute(engine, tokens) {
            return Ok(());
        }
        if tokens.len() - self.cache.len() > engine.workspace.max_batch() {
            return self.prefill(engine, tokens);
        }
        let known = tokens.len();
        self.sampler.draw_like(sampler);
        let drafted = self.extend(engine, tokens, known + count);
        batch.extend_from_slice(&tokens[known..]);
        tokens.truncate(known);
        drafted
    }

    /// Samples tokens until there are `length`.
    fn extend(
        &mut self,
        engine: &mut DraftEngine,
        tokens: &mut Vec<u32>,
        length: usize,
    ) -> Result<(), Error> {
        while tokens.len() < length {
            let pending = &tokens[self.cache.len()..];
            let is_single = pending.len() == 1;
            let start = Instant::now();
            let DraftEngine { model, team, workspace, seconds, .. } = engine;
            let logits = model.forward(team, workspace, &mut self.cache, pending, Logits::Last)?;
            if is_single {
                *seconds = smooth(*seconds, start.elapsed());
            }
            let possible = self.vocabulary.min(logits.len());
            let Some(token) = self.sampler.sample(&mut logits[..possible], tokens) else { break };
            tokens.push(token);
        }
        Ok(())
    }

    /// Whether the engine runs this session's draft model, and it has all tokens that are to be computed.
    fn can_compute(&self, engine: &DraftEngine, tokens: &[u32]) -> bool {
        let vocabulary = self.model.config.vocabulary;
        Arc::ptr_eq(&self.model, &engine.model)
            && tokens[self.cache.len()..].iter().all(|&token| (token as usize) < vocabulary)
    }

    /// Computes a chunk of what is not computed of `tokens`, unless drafts do not pay anyway.
    pub(crate) fn prefill(&mut self, engine: &mut DraftEngine, tokens: &[u32]) -> Result<(), Error> {
        if self.rested > 0 || self.cache.len() >= tokens.len() || !self.can_compute(engine, tokens) {
            return Ok(());
        }
        let pending = &tokens[self.cache.len()..];
        let chunk = &pending[..pending.len().min(engine.workspace.max_batch())];
        let DraftEngine { model, team, workspace, .. } = engine;
        model.forward(team, workspace, &mut self.cache, chunk, Logits::None)?;
        Ok(())
    }

    /// Takes note of what came of a draft.
    pub(crate) fn learn(&mut self, accepted: usize, rejected: bool) {
        for _ in 0..accepted {
            self.chance += RATE * (1.0 - self.chance);
        }
        if rejected {
            self.chance -= RATE * self.chance;
        }
        self.rests = if rejected { (2 * self.rests).min(MOST_RESTS) } else { FEWEST_RESTS };
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }
}

/// Checks that `draft` can guess for `model`: the same number stands for the same token, up to padding at the end.
pub(crate) fn check_vocabulary(model: &Model, draft: &Model) -> Result<(), Error> {
    let (ours, theirs) = (&model.tokenizer, &draft.tokenizer);
    let (fewer, more) =
        (ours.vocab_size().min(theirs.vocab_size()), ours.vocab_size().max(theirs.vocab_size()));
    let differs = (0..fewer as u32).find(|&token| ours.piece(token) != theirs.piece(token));
    let token = match differs {
        Some(token) => token,
        None if more - fewer <= more / PADDING => return Ok(()),
        None => fewer as u32,
    };
    Err(Error::OtherVocabulary {
        token,
        expected: ours.piece(token).to_owned(),
        got: theirs.piece(token).to_owned(),
    })
}
