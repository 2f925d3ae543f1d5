//! A request on its way: first a task, then a session, and all the while someone who waits for updates.

use std::borrow::{Borrow, BorrowMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Budget, KvCache, Model, PAGE};

use super::{Keeping, Pooling, RequestId, Sink, Update};
use crate::constraint::Constraint;
use crate::engine::Step;
use crate::error::Error;
use crate::generate::Figures;
use crate::journal::Outcome;
use crate::scheduler::Claim;
use crate::session::{EndReason, Limits, Session, SessionOptions, SessionState};
use crate::speculation::Speculation;

/// What is asked for.
pub(super) enum Task {
    /// An answer from its beginning, or from where an earlier process left it.
    Answer {
        state: Box<SessionState>,
        constraint: Option<Box<dyn Constraint>>,
        logprobs: Option<usize>,
    },
    Embed(Embedding),
}

/// How a job ends that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has come to its end.
    Done,
    Cancelled,
    /// The service stops; another may go on with what is in the journal.
    Stopped,
}

/// Texts whose embeddings are asked for.
pub(super) struct Embedding {
    texts: VecDeque<Vec<u32>>,
    pooling: Pooling,
    /// Of the text at hand.
    sum: Vec<f32>,
}

impl Embedding {
    pub(super) fn new(texts: Vec<Vec<u32>>, pooling: Pooling) -> Embedding {
        Embedding { texts: texts.into(), pooling, sum: Vec::new() }
    }

    /// Takes the vectors of the tokens that were computed, `[token][width]`.
    fn add(&mut self, vectors: &[f32], width: usize) {
        if self.pooling == Pooling::Last {
            self.sum.clear();
        }
        self.sum.resize(width, 0.0);
        let first = match self.pooling {
            Pooling::Mean => 0,
            Pooling::Last => vectors.len() - width,
        };
        for vector in vectors[first..].chunks_exact(width) {
            self.sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
    }

    /// The vector of the text at hand, of length 1; a mean's divisor falls out of it.
    fn finish(&mut self) -> Vec<f32> {
        let mut vector = std::mem::take(&mut self.sum);
        normalise(&mut vector);
        vector
    }
}

/// Scales a vector to length 1. One of length 0 stays as it is.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

/// A request with everything that belongs to it.
pub(super) struct Job {
    pub(super) id: RequestId,
    pub(super) model: Arc<Model>,
    pub(super) claim: Claim,
    /// Cancelled: to be dropped at the next chance.
    pub(super) is_cancelled: bool,
    /// Its memory went to somebody else: what the store knows of it is to be taken over before it is computed.
    pub(super) is_evicted: bool,
    /// Memory for what is known of its text was looked for, and is meant for it as long as it has some.
    pub(super) has_begun: bool,
    /// The id that the journal has it under.
    journal: Option<String>,
    /// Full pages that the store was given.
    kept: usize,
    task: Option<Task>,
    session: Option<Session>,
    embedding: Option<Embedding>,
    sink: Sink,
    figures: Figures,
    asked: Instant,
}

/// The sessions of a pass are those of its jobs, which have one by then.
impl Borrow<Session> for Job {
    fn borrow(&self) -> &Session {
        self.session()
    }
}

impl BorrowMut<Session> for Job {
    fn borrow_mut(&mut self) -> &mut Session {
        self.session_mut()
    }
}

impl Job {
    pub(super) fn new(
        id: RequestId,
        model: Arc<Model>,
        task: Task,
        journal: Option<String>,
        claim: Claim,
        sink: Sink,
    ) -> Job {
        Job {
            id,
            model,
            claim,
            is_cancelled: false,
            journal,
            kept: 0,
            is_evicted: false,
            has_begun: false,
            task: Some(task),
            session: None,
            embedding: None,
            sink,
            figures: Figures::default(),
            asked: Instant::now(),
        }
    }

    pub(super) fn session(&self) -> &Session {
        self.session.as_ref().expect("a job that is computed has a session")
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a job that is computed has a session")
    }

    /// Whether its vectors are wanted rather than its logits.
    pub(super) fn embeds(&self) -> bool {
        self.embedding.is_some()
    }

    /// Whether the next pass for it is one of a single token that others may share.
    pub(super) fn decodes(&self) -> bool {
        !self.embeds() && self.session().pending().len() == 1
    }

    /// Bytes of its keys and values.
    pub(super) fn kv_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, Session::kv_bytes)
    }

    /// Makes the session: from now on the job takes memory. `true` if there is nothing to compute.
    pub(super) fn admit(&mut self, keeping: &Keeping) -> Result<bool, Error> {
        match self.task.take() {
            Some(Task::Answer { state, constraint, logprobs }) => {
                let mut session =
                    Session::restore(Arc::clone(&self.model), None, *state, keeping.memory.budget())?;
                if let Some(constraint) = constraint {
                    session.constrain(constraint)?;
                }
                if let Some(alternatives) = logprobs {
                    session.record_choices(alternatives);
                }
                let is_over = session.check_end().is_some();
                self.session = Some(session);
                if is_over {
                    // An earlier process came to its end and could not tell.
                    return Ok(self.tell_answer());
                }
                self.refill(keeping);
                Ok(false)
            }
            Some(Task::Embed(embedding)) => {
                self.embedding = Some(embedding);
                self.next_text(keeping.memory.budget()).map(|is_there| !is_there)
            }
            None => Ok(true),
        }
    }

    /// Takes over what is known of its tokens.
    pub(super) fn refill(&mut self, keeping: &Keeping) {
        if let (Some(store), Some(session), None) = (&keeping.store, &mut self.session, &self.embedding) {
            session.fill(store);
            self.kept = session.full_pages();
        }
    }

    /// Has store and journal take note of what was computed.
    pub(super) fn keep(&mut self, keeping: &Keeping) {
        let (Some(session), None) = (&self.session, &self.embedding) else { return };
        if let (Some(store), true) = (&keeping.store, session.full_pages() > self.kept) {
            session.keep(store);
            self.kept = session.full_pages();
        }
        if let (Some(journal), Some(id)) = (&keeping.journal, &self.journal) {
            journal.append(id, session);
        }
    }

    /// Gives its memory back; its keys and values are known to the store, or will be computed again.
    pub(super) fn evict(&mut self) {
        if let Some(session) = &mut self.session {
            session.give_back();
        }
        (self.is_evicted, self.has_begun) = (true, false);
    }

    /// Bytes that keys and values of its text will take besides those that they take already, with a page for what it says.
    pub(super) fn kv_bytes_to_come(&self) -> usize {
        self.session.as_ref().map_or(0, |session| {
            let tokens = session.tokens().len() + PAGE;
            KvCache::bytes(&self.model.config, tokens, session.kv_type()).saturating_sub(session.kv_bytes())
        })
    }

    /// Goes to the next text to embed. `false` if there is none.
    fn next_text(&mut self, budget: &Budget) -> Result<bool, Error> {
        let Some(text) = self.embedding.as_mut().and_then(|embedding| embedding.texts.pop_front()) else {
            return Ok(false);
        };
        let options = SessionOptions {
            context: Some(text.len()),
            speculation: Speculation::Off,
            limits: Limits { max_tokens: Some(0), ..Limits::default() },
            ..SessionOptions::default()
        };
        let mut session = Session::new(Arc::clone(&self.model), None, options, budget)?;
        session.push(&text)?;
        self.session = Some(session);
        Ok(true)
    }

    /// Takes the vectors of the pass that ended. `true` if all texts are done.
    pub(super) fn take_vectors(&mut self, vectors: &[f32], budget: &Budget) -> Result<bool, Error> {
        let width = self.model.config.width;
        self.figures.prompt_tokens += vectors.len() / width;
        let is_whole = self.session().pending().is_empty();
        let Some(embedding) = &mut self.embedding else { return Ok(true) };
        embedding.add(vectors, width);
        if !is_whole {
            return Ok(false);
        }
        let vector = embedding.finish();
        (self.sink)(Update::Embedding(vector));
        Ok(!self.next_text(budget)?)
    }

    /// Takes note of a pass that took `time` and gave it `step`, for which it had computed `computed` tokens.
    /// Returns whether the answer is over.
    pub(super) fn take_step(&mut self, step: Step, computed: usize, time: Duration) -> bool {
        let Some(session) = &mut self.session else { return true };
        match step {
            Step::Prefilled { done, total } => {
                self.figures.prefill += time;
                self.figures.prompt_tokens += computed;
                let reused = session.reused_len();
                (self.sink)(Update::Prefilled { done: done + reused, total: total + reused });
                return false;
            }
            Step::Tokens(count) => {
                if self.figures.time_to_first_token.is_some() {
                    self.figures.count_decoded(count, time);
                } else {
                    self.figures.time_to_first_token = Some(self.asked.elapsed());
                    self.figures.prefill += time;
                    self.figures.prompt_tokens += computed;
                    self.claim.deadline = None;
                }
            }
            Step::End(_) => {}
        }
        self.tell_answer()
    }

    /// Tells what is new of the answer. Returns whether it is over.
    fn tell_answer(&mut self) -> bool {
        let Some(session) = &mut self.session else { return true };
        let known = self.figures.generated_tokens;
        let tokens = session.answer()[known..].to_vec();
        self.figures.generated_tokens += tokens.len();
        let mut text = String::new();
        session.take_text(&mut text);
        let choices = session.take_choices();
        let end = session.end();
        if !tokens.is_empty() || !text.is_empty() {
            (self.sink)(Update::Tokens { text, tokens, choices });
        }
        end.is_some()
    }

    /// Tells the end. Returns the tokens of the prompt that were found computed.
    pub(super) fn end(mut self, ending: Ending, keeping: &Keeping) -> usize {
        let mut end: Option<EndReason> = None;
        if let (Some(session), None) = (&self.session, &self.embedding) {
            end = session.end();
            self.figures.reused_tokens = session.reused_len();
            self.figures.drafts = session.drafts();
        }
        let outcome = match (ending, end) {
            (Ending::Stopped, _) => None,
            (Ending::Done, Some(end)) => Some(Outcome::Ended(end)),
            _ => Some(Outcome::Cancelled),
        };
        self.write_outcome(outcome, keeping);
        (self.sink)(Update::End { end, figures: self.figures });
        self.figures.reused_tokens
    }

    /// Tells that it failed.
    pub(super) fn fail(mut self, error: Error, keeping: &Keeping) {
        self.write_outcome(Some(Outcome::Failed(error.to_string())), keeping);
        (self.sink)(Update::Failed(error));
    }

    fn write_outcome(&self, outcome: Option<Outcome>, keeping: &Keeping) {
        if let (Some(journal), Some(id), Some(outcome)) = (&keeping.journal, &self.journal, outcome) {
            journal.end(id, outcome);
        }
    }
}
