//! The engine: one loaded model, one worker team, one set of buffers; it advances any session by a step.
//!
//! A step is the smallest piece of work that is worth its overhead: a chunk of a prompt, or one forward pass for the next
//! token and those that were guessed after it. Between steps the engine holds nothing of the session, so the caller
//! decides after each one whose turn it is.

use std::sync::Arc;
use std::time::Instant;

use device::default_threads;
use kernels::Team;
use model::Model;

use crate::error::Error;
use crate::memory::Memory;
use crate::pass::Pass;
use crate::session::{EndReason, Session, SessionOptions, SessionState};
use crate::speculation::{DraftEngine, PassCosts, check_vocabulary};
use crate::store::PageStore;

/// Tokens in a chunk of prefill unless asked otherwise: long enough that each weight read from memory serves many
/// tokens, short enough that a waiting session gets its turn.
pub const DEFAULT_BATCH: usize = 256;

/// How an engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads that compute, the calling one among them; [`default_threads`] if `None`.
    pub threads: Option<usize>,
    /// Tokens of a prompt that one step computes at most.
    pub batch: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { threads: None, batch: DEFAULT_BATCH }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A chunk of the prompt was computed: `done` of the `total` tokens that this turn has to.
    Prefilled {
        /// Tokens computed.
        done: usize,
        /// Tokens to compute.
        total: usize,
    },
    /// So many tokens were sampled, at least one: the last of [`Session::answer`].
    Tokens(usize),
    /// The answer is over; further steps repeat this and cost nothing.
    End(EndReason),
}

/// Computes steps of sessions, one at a time.
pub struct Engine {
    model: Arc<Model>,
    team: Arc<Team>,
    pass: Pass,
    /// Guesses for the sessions made here.
    draft: Option<DraftEngine>,
    /// Of decode steps.
    costs: PassCosts,
    memory: Memory,
}

impl Engine {
    /// An engine with its own worker team.
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Engine {
        let threads = options.threads.unwrap_or_else(default_threads);
        Engine::with_team(model, Arc::new(Team::new(threads)), options.batch)
    }

    /// An engine that works with a team that others use too. `batch` as in [`EngineOptions`], at least 1.
    pub fn with_team(model: Arc<Model>, team: Arc<Team>, batch: usize) -> Engine {
        let pass = Pass::new(&model, batch);
        Engine { model, team, pass, draft: None, costs: PassCosts::new(), memory: Memory::unlimited() }
    }

    /// The same, with all that it and its sessions take out of `memory`.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no room for its buffers.
    pub fn within(model: Arc<Model>, team: Arc<Team>, batch: usize, memory: Memory) -> Result<Engine, Error> {
        let pass = Pass::within(&model, batch, memory.budget())?;
        Ok(Engine { model, team, pass, draft: None, costs: PassCosts::new(), memory })
    }

    /// Has `draft_model`, a smaller one of the same family, guess the next tokens in sessions made from now on.
    ///
    /// # Errors
    /// [`Error::OtherVocabulary`] if its tokens are not those of the engine's model, [`Error::Model`] if there is no room for
    /// its buffers.
    pub fn set_draft_model(&mut self, draft_model: Arc<Model>) -> Result<(), Error> {
        check_vocabulary(&self.model, &draft_model)?;
        let team = Arc::clone(&self.team);
        self.draft = Some(DraftEngine::new(draft_model, team, self.batch(), self.memory.budget())?);
        Ok(())
    }

    /// The model that this engine runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The worker team.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// Tokens of a prompt that one step computes at most.
    pub fn batch(&self) -> usize {
        self.pass.batch()
    }

    /// A new session with this engine's model.
    ///
    /// # Errors
    /// [`Error::Setting`] for options without a meaning, [`Error::Model`] if there is no memory for the cache.
    pub fn session(&self, options: SessionOptions) -> Result<Session, Error> {
        let draft_model = self.draft.as_ref().map(|draft| Arc::clone(&draft.model));
        Session::new(Arc::clone(&self.model), draft_model, options, self.memory.budget())
    }

    /// A session that goes on where the one of `state` was, to the same tokens and the same text. What `store` has of its keys
    /// and values is not computed again.
    ///
    /// # Errors
    /// [`Error::OtherModel`] for a state of another model, [`Error::Saved`], [`Error::Token`] and [`Error::ContextFull`] for
    /// one that no session had, and as [`Engine::session`].
    pub fn restore(&self, state: SessionState, store: &PageStore) -> Result<Session, Error> {
        let draft_model = self.draft.as_ref().map(|draft| Arc::clone(&draft.model));
        let budget = self.memory.budget();
        let mut session = Session::restore(Arc::clone(&self.model), draft_model, state, budget)?;
        session.fill(store);
        Ok(session)
    }

    /// Advances `session`: computes its next chunk of prompt, or its next token, or several at once where they were guessed.
    /// The prompt's last chunk gives a token at once, as its logits are at hand then.
    ///
    /// Sampling a token allocates nothing, unless the session has stop strings, for which text must be made.
    ///
    /// # Errors
    /// [`Error::Empty`] if nothing was pushed, [`Error::OtherModel`] for a session of another engine's model,
    /// [`Error::NoFiniteLogit`], [`Error::Constraint`], [`Error::Model`].
    pub fn step(&mut self, session: &mut Session) -> Result<Step, Error> {
        if !Arc::ptr_eq(&self.model, &session.model) {
            return Err(Error::OtherModel);
        }
        if let Some(end) = session.check_end() {
            return Ok(Step::End(end));
        }
        let Engine { model, team, pass, draft, costs, memory } = self;
        memory.look();
        pass.clear(false);
        pass.add(session, pass.batch())?;
        pass.draft(session, costs, draft.as_mut())?;
        let start = Instant::now();
        let sessions = &mut [&mut *session];
        pass.begin(model, team, sessions)?;
        pass.advance(model, team, sessions, model.config.layers.len())?;
        let step = pass.finish(model, team, sessions)?.remove(0)?;
        pass.record(costs, start);
        if let (Step::Prefilled { .. }, Some(speculator)) = (step, &mut session.speculator) {
            speculator.prefill(draft.as_mut(), &session.tokens[..session.cache.len()])?;
        }
        Ok(step)
    }
}
