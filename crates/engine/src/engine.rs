//! The engine: one loaded model, one worker team, one set of buffers; it advances any session by a step.
//!
//! A step is the smallest piece of work that is worth its overhead: a chunk of a prompt, or one token. Between steps the
//! engine holds nothing of the session, so the caller decides after each one whose turn it is.

use std::sync::Arc;
use std::thread::available_parallelism;

use kernels::Team;
use model::{Logits, Model, Workspace};

use crate::error::Error;
use crate::session::{EndReason, Session, SessionOptions};

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

/// As many threads as this process may run at once: the cores of its affinity mask, or fewer where a control group's
/// quota grants less. More would only take turns, and a worker without a core holds up nobody but helps nobody either.
pub fn default_threads() -> usize {
    available_parallelism().map_or(1, usize::from)
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
    /// This token was sampled and is part of the answer.
    Token(u32),
    /// The answer is over; further steps repeat this and cost nothing.
    End(EndReason),
}

/// Computes steps of sessions, one at a time.
pub struct Engine {
    model: Arc<Model>,
    team: Arc<Team>,
    workspace: Workspace,
    /// The logits that the sampler works on; penalties change them.
    logits: Vec<f32>,
}

impl Engine {
    /// An engine with its own worker team.
    pub fn new(model: Arc<Model>, options: EngineOptions) -> Engine {
        let threads = options.threads.unwrap_or_else(default_threads);
        Engine::with_team(model, Arc::new(Team::new(threads)), options.batch)
    }

    /// An engine that works with a team that others use too. `batch` as in [`EngineOptions`], at least 1.
    pub fn with_team(model: Arc<Model>, team: Arc<Team>, batch: usize) -> Engine {
        let workspace = Workspace::new(&model.config, batch);
        let logits = vec![0.0; model.config.vocabulary];
        Engine { model, team, workspace, logits }
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
        self.workspace.max_batch()
    }

    /// A new session with this engine's model.
    ///
    /// # Errors
    /// [`Error::Setting`] for options without a meaning, [`Error::Model`] if there is no memory for the cache.
    pub fn session(&self, options: SessionOptions) -> Result<Session, Error> {
        Session::new(Arc::clone(&self.model), options)
    }

    /// Advances `session`: computes its next chunk of prompt, or its next token. The prompt's last chunk gives a token at
    /// once, as its logits are at hand then.
    ///
    /// Sampling a token allocates nothing, unless the session has stop strings, for which text must be made.
    ///
    /// # Errors
    /// [`Error::Empty`] if nothing was pushed, [`Error::OtherModel`] for a session of another engine's model,
    /// [`Error::NoFiniteLogit`], [`Error::Model`].
    pub fn step(&mut self, session: &mut Session) -> Result<Step, Error> {
        if !Arc::ptr_eq(&self.model, &session.model) {
            return Err(Error::OtherModel);
        }
        if let Some(end) = session.check_end() {
            return Ok(Step::End(end));
        }
        let done = session.cache.len();
        let pending = &session.tokens[done..];
        if pending.is_empty() {
            return Err(Error::Empty);
        }
        let chunk = &pending[..pending.len().min(self.workspace.max_batch())];
        let is_last = chunk.len() == pending.len();
        let want = if is_last { Logits::Last } else { Logits::None };
        let position = done + chunk.len() - 1;
        let logits = self.model.forward(&self.team, &mut self.workspace, &mut session.cache, chunk, want)?;
        if !is_last {
            let (done, total) = session.prefilled();
            return Ok(Step::Prefilled { done, total });
        }
        self.logits.copy_from_slice(logits);
        let token = session.sampler.sample(&mut self.logits, &session.tokens);
        let token = token.ok_or(Error::NoFiniteLogit { position })?;
        Ok(session.accept(token).map_or(Step::Token(token), Step::End))
    }
}
