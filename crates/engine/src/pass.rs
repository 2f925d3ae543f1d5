//! One forward pass in the making: a chunk of a prompt, the next tokens of several sessions, or both.
//!
//! A pass may be left alone after any layer and taken up later, while another pass computes: it holds the residual stream of
//! its own batch, and what it has stored in its sessions' caches does not count before it ends. So a pass that is dropped
//! half-way has cost time and nothing else.

use std::borrow::BorrowMut;
use std::time::Instant;

use arrayvec::ArrayVec;
use kernels::Team;
use model::{Budget, Grant, KvCache, MOST_SEGMENTS, Model, Workspace};

use crate::engine::Step;
use crate::error::Error;
use crate::session::Session;
use crate::speculation::{DraftEngine, PassCosts};

/// Sessions that one pass may serve.
pub(crate) const MOST_MEMBERS: usize = MOST_SEGMENTS;

/// What the sessions of a pass got from it, in their order.
pub(crate) type Steps = ArrayVec<Result<Step, Error>, MOST_MEMBERS>;

/// A session's part of a pass.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Tokens of the session.
    given: usize,
    /// Tokens guessed to follow them.
    drafted: usize,
    /// Whether the session has no further tokens pending, so that the pass chooses its next one.
    samples: bool,
}

/// A pass and its buffers, which serve one pass after another.
pub(crate) struct Pass {
    workspace: Workspace,
    /// What is computed, each member's tokens and guesses after those of the one before.
    tokens: Vec<u32>,
    members: ArrayVec<Member, MOST_MEMBERS>,
    /// Layers that have run.
    layer: usize,
    /// Whether the tokens' vectors are wanted, and no logits.
    gives_vectors: bool,
    /// What the buffers take of a budget.
    _grant: Option<Grant>,
}

impl Pass {
    /// Buffers for passes of up to `batch` tokens of `model`.
    pub(crate) fn new(model: &Model, batch: usize) -> Pass {
        let workspace = Workspace::new(&model.config, batch);
        let tokens = Vec::with_capacity(workspace.max_batch());
        Pass { workspace, tokens, members: ArrayVec::new(), layer: 0, gives_vectors: false, _grant: None }
    }

    /// The same, counted against `budget`.
    ///
    /// # Errors
    /// [`Error::Model`] if it has no room for them.
    pub(crate) fn within(model: &Model, batch: usize, budget: &Budget) -> Result<Pass, Error> {
        let pass = Pass::new(model, batch);
        let grant = budget.take("the buffers of a pass", pass.workspace.bytes())?;
        Ok(Pass { _grant: Some(grant), ..pass })
    }

    /// Tokens that a pass may have.
    pub(crate) fn batch(&self) -> usize {
        self.workspace.max_batch()
    }

    /// Tokens that the pass has.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of each session that it computes, without guesses.
    pub(crate) fn given(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|member| member.given)
    }

    /// Whether another session with one pending token fits in.
    pub(crate) fn has_room(&self) -> bool {
        self.tokens.len() < self.batch() && !self.members.is_full()
    }

    /// Begins a pass of nobody: for the vectors of its tokens, or to choose the next ones.
    pub(crate) fn clear(&mut self, gives_vectors: bool) {
        self.gives_vectors = gives_vectors;
        self.tokens.clear();
        self.members.clear();
        self.layer = 0;
    }

    /// Adds a session's next tokens, at most `most` of them. Only the first session of a pass may have more than one
    /// pending: those after it must each get their logits.
    ///
    /// # Errors
    /// [`Error::Empty`] if the session has no tokens pending.
    pub(crate) fn add(&mut self, session: &Session, most: usize) -> Result<(), Error> {
        let pending = session.pending();
        let given = pending.len().min(most.max(1)).min(self.batch() - self.tokens.len());
        debug_assert!(self.members.is_empty() || pending.len() == 1, "only the first member prefills");
        if given == 0 {
            return Err(Error::Empty);
        }
        self.tokens.extend_from_slice(&pending[..given]);
        self.members.push(Member { given, drafted: 0, samples: given == pending.len() });
        Ok(())
    }

    /// Guesses what follows the one token of the only member.
    ///
    /// # Errors
    /// Those of running the draft model.
    pub(crate) fn draft(
        &mut self,
        session: &mut Session,
        costs: &PassCosts,
        engine: Option<&mut DraftEngine>,
    ) -> Result<(), Error> {
        let most = self.batch();
        let [member] = &mut self.members[..] else { return Ok(()) };
        if let (true, 1, Some((speculator, moment))) = (member.samples, member.given, session.speculate(most))
        {
            speculator.draft(moment, costs, engine, &mut self.tokens)?;
            member.drafted = self.tokens.len() - 1;
        }
        Ok(())
    }

    /// Starts to compute. `sessions` are those that were added, here and until the end.
    ///
    /// # Errors
    /// [`Error::Model`]; the sessions are then as they were.
    pub(crate) fn begin<S: BorrowMut<Session>>(
        &mut self,
        model: &Model,
        team: &Team,
        sessions: &mut [S],
    ) -> Result<(), Error> {
        let mut texts = ArrayVec::<&[u32], MOST_MEMBERS>::new();
        let mut rest = &self.tokens[..];
        for member in &self.members {
            let (text, later) = rest.split_at(member.given + member.drafted);
            texts.push(text);
            rest = later;
        }
        if !self.gives_vectors {
            self.workspace.reserve_logits(self.tokens.len() - self.first_wanted())?;
        }
        model.embed(team, &mut self.workspace, &mut caches(sessions), &texts)?;
        Ok(())
    }

    /// Runs the next `layers` layers. `true` once all have run.
    ///
    /// # Errors
    /// [`Error::Model`] if weights cannot be read; the sessions are then as they were.
    pub(crate) fn advance<S: BorrowMut<Session>>(
        &mut self,
        model: &Model,
        team: &Team,
        sessions: &mut [S],
        layers: usize,
    ) -> Result<bool, Error> {
        let end = (self.layer + layers).min(model.config.layers.len());
        let wanted = self.first_wanted();
        model.layers(team, &mut self.workspace, &mut caches(sessions), self.layer..end, wanted)?;
        self.layer = end;
        Ok(end == model.config.layers.len())
    }

    /// Ends the pass: counts what was computed, and chooses the next tokens of those sessions that have nothing more pending.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no room for the logits. What goes wrong with one session is among the steps.
    pub(crate) fn finish<S: BorrowMut<Session>>(
        &mut self,
        model: &Model,
        team: &Team,
        sessions: &mut [S],
    ) -> Result<Steps, Error> {
        let wanted = self.first_wanted()..self.tokens.len();
        let mut logits = model.logits(team, &mut self.workspace, wanted)?;
        let mut first = 0;
        let mut steps = Steps::new();
        for (member, session) in self.members.iter().zip(sessions) {
            let session = session.borrow_mut();
            session.cache.advance(member.given + member.drafted);
            let drafted = &self.tokens[first + member.given..first + member.given + member.drafted];
            first += member.given + member.drafted;
            steps.push(if member.samples {
                let rows = (member.drafted + 1) * model.config.vocabulary;
                let (own, rest) = logits.split_at_mut(rows);
                logits = rest;
                session.choose(own, drafted)
            } else {
                let (done, total) = session.prefilled();
                Ok(Step::Prefilled { done, total })
            });
        }
        Ok(steps)
    }

    /// Ends a pass of one session for the vectors of its tokens, `[token][width]`.
    pub(crate) fn finish_vectors<S: BorrowMut<Session>>(
        &mut self,
        model: &Model,
        team: &Team,
        sessions: &mut [S],
    ) -> &[f32] {
        for (session, member) in sessions.iter_mut().zip(&self.members) {
            session.borrow_mut().cache.advance(member.given);
        }
        model.hidden(team, &mut self.workspace, 0..self.tokens.len())
    }

    /// The first token that the last layer must finish.
    fn first_wanted(&self) -> usize {
        if self.gives_vectors {
            return 0;
        }
        match self.members.first() {
            Some(Member { given, samples: true, .. }) => given - 1,
            Some(Member { given, .. }) => *given,
            None => 0,
        }
    }

    /// Takes note of what a pass took that began at `start`, if it was one of decoding.
    pub(crate) fn record(&self, costs: &mut PassCosts, start: Instant) {
        if let [Member { given: 1, .. }] = self.members[..] {
            costs.record(self.tokens.len(), start.elapsed());
        }
    }
}

/// The caches of the sessions of a pass.
fn caches<S: BorrowMut<Session>>(sessions: &mut [S]) -> ArrayVec<&mut KvCache, MOST_MEMBERS> {
    sessions.iter_mut().map(|session| &mut session.borrow_mut().cache).collect()
}
