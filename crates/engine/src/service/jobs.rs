//! A request on its way: first a task, then a session, and all the while someone who waits for updates.

use std::borrow::{Borrow, BorrowMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Model;

use super::{Pooling, RequestId, Sink, Update};
use crate::constraint::Constraint;
use crate::engine::Step;
use crate::error::Error;
use crate::generate::Figures;
use crate::scheduler::Claim;
use crate::session::{EndReason, Limits, Session, SessionOptions};
use crate::speculation::Speculation;

/// What is asked for.
pub(super) enum Task {
    Answer {
        prompt: Vec<u32>,
        options: Box<SessionOptions>,
        constraint: Option<Box<dyn Constraint>>,
        logprobs: Option<usize>,
    },
    Embed(Embedding),
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
        let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        vector
    }
}

/// A request with everything that belongs to it.
pub(super) struct Job {
    pub(super) id: RequestId,
    pub(super) model: Arc<Model>,
    pub(super) claim: Claim,
    /// Cancelled: to be dropped at the next chance.
    pub(super) is_cancelled: bool,
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
    pub(super) fn new(id: RequestId, model: Arc<Model>, task: Task, claim: Claim, sink: Sink) -> Job {
        Job {
            id,
            model,
            claim,
            is_cancelled: false,
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
    pub(super) fn admit(&mut self) -> Result<bool, Error> {
        match self.task.take() {
            Some(Task::Answer { prompt, options, constraint, logprobs }) => {
                let mut session = Session::new(Arc::clone(&self.model), None, *options)?;
                session.push(&prompt)?;
                if let Some(constraint) = constraint {
                    session.constrain(constraint)?;
                }
                if let Some(alternatives) = logprobs {
                    session.record_choices(alternatives);
                }
                let is_over = session.check_end().is_some();
                self.session = Some(session);
                Ok(is_over)
            }
            Some(Task::Embed(embedding)) => {
                self.embedding = Some(embedding);
                self.next_text().map(|is_there| !is_there)
            }
            None => Ok(true),
        }
    }

    /// Goes to the next text to embed. `false` if there is none.
    fn next_text(&mut self) -> Result<bool, Error> {
        let Some(text) = self.embedding.as_mut().and_then(|embedding| embedding.texts.pop_front()) else {
            return Ok(false);
        };
        let options = SessionOptions {
            context: Some(text.len()),
            speculation: Speculation::Off,
            limits: Limits { max_tokens: Some(0), ..Limits::default() },
            ..SessionOptions::default()
        };
        let mut session = Session::new(Arc::clone(&self.model), None, options)?;
        session.push(&text)?;
        self.session = Some(session);
        Ok(true)
    }

    /// Takes the vectors of the pass that ended. `true` if all texts are done.
    pub(super) fn take_vectors(&mut self, vectors: &[f32]) -> Result<bool, Error> {
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
        Ok(!self.next_text()?)
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

    /// Tells the end, which cancelling is where the session has none. Returns the tokens of the prompt that were found computed.
    pub(super) fn end(mut self) -> usize {
        let mut end: Option<EndReason> = None;
        if let Some(session) = &self.session
            && self.embedding.is_none()
        {
            end = session.end();
            self.figures.reused_tokens = session.reused_len();
            self.figures.drafts = session.drafts();
        }
        (self.sink)(Update::End { end, figures: self.figures });
        self.figures.reused_tokens
    }

    /// Tells that it failed.
    pub(super) fn fail(mut self, error: Error) {
        (self.sink)(Update::Failed(error));
    }
}
