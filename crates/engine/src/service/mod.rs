//! One thread and one worker team that run the sessions of everybody, whatever their model.
//!
//! A [`Service`] is a handle; a request goes in and its updates come out through the request's own sink. Inside,
//! sessions are values that wait in a list. The thread computes one forward pass at a time, looks after every layer whether
//! somebody is more urgent ([`crate::scheduler`]), and if so puts the pass aside as it is.

mod flight;
mod jobs;
mod memory;
mod runner;
#[cfg(test)]
mod simulation;
mod station;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use device::default_threads;
use kernels::Team;
use model::{KvCache, Model};

use crate::choices::Choice;
use crate::constraint::Constraint;
use crate::engine::DEFAULT_BATCH;
use crate::error::Error;
use crate::generate::Figures;
use crate::journal::{Journal, Recovered};
use crate::memory::Memory;
use crate::scheduler::{Claim, Class, PolicyOptions};
use crate::session::{DEFAULT_CONTEXT, EndReason, SessionOptions, SessionState};
use crate::store::PageStore;
pub use jobs::normalise;
use jobs::{Embedding, Job, Task};
use runner::{Mail, Runner};
use world::Real;

/// How a service works.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Threads that compute; [`default_threads`] if `None`.
    pub threads: Option<usize>,
    /// Tokens of a prompt that one pass computes at most.
    pub batch: usize,
    /// Whose turn it is.
    pub policy: PolicyOptions,
    /// Sessions that have memory at once; further requests wait.
    pub most_sessions: usize,
    /// Requests that wait for that at most; further ones are refused.
    pub most_waiting: usize,
    /// What is kept where.
    pub keeping: Keeping,
}

/// Where a service keeps what it has computed, and how much memory it may take.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Models that were opened with it, keys, values and buffers count against its budget.
    pub memory: Memory,
    /// Keys and values of beginnings that may come up again.
    pub store: Option<PageStore>,
    /// Answers that must outlive the process.
    pub journal: Option<Journal>,
}

impl Default for Keeping {
    /// No limit, and nothing outlives its request.
    fn default() -> Keeping {
        Keeping { memory: Memory::unlimited(), store: None, journal: None }
    }
}

/// How a request is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Under which id; an older entry of it is replaced.
    pub id: String,
    /// What is to be found with it.
    pub meta: serde_json::Value,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions {
            threads: None,
            batch: DEFAULT_BATCH,
            policy: PolicyOptions::default(),
            most_sessions: 64,
            most_waiting: 1024,
            keeping: Keeping::default(),
        }
    }
}

/// A request for an answer.
#[derive(Debug)]
pub struct Request {
    /// Who answers.
    pub model: Arc<Model>,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// How to answer. A context of `None` is as large as prompt and answer need.
    pub options: SessionOptions,
    /// How urgent it is.
    pub class: Class,
    /// How soon the first token is wanted; the class says if `None`.
    pub deadline: Option<Duration>,
    /// The form of the answer.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Tell how likely each token was, and so many alternatives.
    pub logprobs: Option<usize>,
    /// Write the answer down as it grows, so that it survives the process. It is in the journal's hands when
    /// [`Service::submit`] returns; [`Journal::settle`] waits until it is on disk.
    pub journal: Option<JournalEntry>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Update {
    /// So much of the prompt is computed.
    Prefilled {
        /// Tokens computed, those found computed among them.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// The answer goes on.
    Tokens {
        /// New text: whole characters, perhaps none yet.
        text: String,
        /// New tokens.
        tokens: Vec<u32>,
        /// How they were chosen, if the request asked.
        choices: Vec<Choice>,
    },
    /// One text's embedding, in the order of the request.
    Embedding(Vec<f32>),
    /// It is over: no further update.
    End {
        /// Why; `None` if it was cancelled or asked for embeddings.
        end: Option<EndReason>,
        /// Counts and times.
        figures: Figures,
    },
    /// It failed: no further update.
    Failed(Error),
}

/// Takes a request's updates, on the service's thread: it must not block.
pub type Sink = Box<dyn FnMut(Update) + Send>;

/// Names a request of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// How the tokens' vectors become one of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The last one.
    Last,
}

/// What a service is doing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ServiceFigures {
    /// Requests that wait for memory.
    pub queued: usize,
    /// Sessions by class: background, normal, interactive.
    pub running: [usize; 3],
    /// Bytes of their keys and values.
    pub kv_bytes: usize,
    /// Tokens of prompts computed so far.
    pub prefilled_tokens: u64,
    /// Tokens of prompts that were found computed.
    pub reused_tokens: u64,
    /// Tokens of answers so far.
    pub decoded_tokens: u64,
    /// Requests that came to their end, were cancelled, failed.
    pub ended: u64,
    /// See `ended`.
    pub cancelled: u64,
    /// See `ended`.
    pub failed: u64,
    /// Sessions whose memory was given to another.
    pub evicted: u64,
    /// Passes that were put aside for a more urgent one.
    pub preempted: u64,
    /// Seconds that the machine computed.
    pub busy_seconds: f64,
    /// Tokens of prompts a second, lately; of answers; 0 before the first.
    pub prefill_tok_s: f64,
    /// See `prefill_tok_s`.
    pub decode_tok_s: f64,
    /// The longest layer of late, in seconds: what a newcomer may have to wait.
    pub longest_layer_seconds: f64,
}

/// A handle of a running service; clones are handles of the same. The thread ends after the last one is gone, or at
/// [`Service::shutdown`].
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    mail: Mutex<Sender<Mail>>,
    /// Requests without a session.
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    memory: Memory,
    next: AtomicU64,
    began: Instant,
    journal: Option<Journal>,
    figures: Arc<Mutex<ServiceFigures>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Service {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system gives none.
    pub fn start(options: ServiceOptions) -> Result<Service, Error> {
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let figures = Arc::new(Mutex::new(ServiceFigures::default()));
        let began = Instant::now();
        let threads = options.threads.unwrap_or_else(default_threads);
        let (most_waiting, memory) = (options.most_waiting, options.keeping.memory.clone());
        let journal = options.keeping.journal.clone();
        let (theirs, told) = (Arc::clone(&waiting), Arc::clone(&figures));
        let thread = std::thread::Builder::new()
            .name("pouch-service".to_owned())
            .spawn(move || {
                let team = Team::new(threads);
                Runner::new(Real { began, mail: receiver }, options, team, theirs, told).run();
            })
            .map_err(|source| Error::Thread { source })?;
        Ok(Service {
            shared: Arc::new(Shared {
                mail: Mutex::new(sender),
                waiting,
                most_waiting,
                memory,
                next: AtomicU64::new(0),
                began,
                journal,
                figures,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Asks for an answer. What comes of it goes to `sink`.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::ContextFull`] and [`Error::Token`] for a prompt that can never be computed,
    /// [`Error::Setting`] for options without a meaning, [`Error::NeverFits`] for what exceeds the memory, [`Error::Busy`] if too many wait already, [`Error::Stopped`] after [`Service::shutdown`].
    pub fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, Error> {
        let Request { model, prompt, mut options, class, deadline, constraint, logprobs, journal } = request;
        if prompt.is_empty() {
            return Err(Error::Empty);
        }
        let trained = model.config.context.max(DEFAULT_CONTEXT);
        let answer = options.limits.max_tokens.unwrap_or(usize::MAX);
        let context = options.context.unwrap_or_else(|| prompt.len().saturating_add(answer).min(trained));
        check_prompt(&model, &prompt, context)?;
        options.context = Some(context);
        options.sampler.check()?;
        let most = prompt.len().saturating_add(answer).min(context);
        let (needed, limit) =
            (KvCache::bytes(&model.config, most, options.kv_type), self.shared.memory.budget().limit());
        if needed > limit {
            return Err(Error::NeverFits { tokens: most, needed, limit });
        }
        let state = Box::new(SessionState::of_prompt(&model, prompt, options));
        let kept = self.shared.journal.as_ref().zip(journal);
        if let Some((journal, entry)) = &kept {
            journal.begin(&entry.id, &entry.meta, &state);
        }
        let id = kept.as_ref().map(|(_, entry)| entry.id.clone());
        let task = Task::Answer { state, constraint, logprobs };
        let sent = self.send(model, task, id, class, deadline, sink);
        if let (Err(_), Some((journal, entry))) = (&sent, kept) {
            journal.remove(&entry.id);
        }
        sent
    }

    /// Goes on with an answer that an earlier process had written down, to the same tokens; `sink` gets it from its beginning.
    /// `constraint` is the one it had, at its beginning.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if it was another model's, and as [`Service::submit`].
    pub fn resume(
        &self,
        model: Arc<Model>,
        recovered: Recovered,
        class: Class,
        constraint: Option<Box<dyn Constraint>>,
        logprobs: Option<usize>,
        sink: Sink,
    ) -> Result<RequestId, Error> {
        let Recovered { id, state, .. } = recovered;
        if state.model != model.identity() {
            return Err(Error::OtherModel);
        }
        let task = Task::Answer { state: Box::new(state), constraint, logprobs };
        self.send(model, task, Some(id), class, None, sink)
    }

    /// Asks for the embeddings of `texts`, each of at least one token: vectors of length 1.
    ///
    /// # Errors
    /// As [`Service::submit`].
    pub fn embed(
        &self,
        model: Arc<Model>,
        texts: Vec<Vec<u32>>,
        pooling: Pooling,
        class: Class,
        sink: Sink,
    ) -> Result<RequestId, Error> {
        for text in &texts {
            if text.is_empty() {
                return Err(Error::Empty);
            }
            check_prompt(&model, text, model.config.context)?;
        }
        let task = Task::Embed(Embedding::new(texts, pooling));
        self.send(model, task, None, class, None, sink)
    }

    fn send(
        &self,
        model: Arc<Model>,
        task: Task,
        journal: Option<String>,
        class: Class,
        deadline: Option<Duration>,
        sink: Sink,
    ) -> Result<RequestId, Error> {
        let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting >= self.shared.most_waiting {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Busy { waiting });
        }
        let id = RequestId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let claim = Claim::new(class, deadline, self.shared.began.elapsed());
        self.mail(Mail::Job(Box::new(Job::new(id, model, task, journal, claim, sink))))?;
        Ok(id)
    }

    /// Ends a request as soon as the layer at hand is computed. Its [`Update::End`] still comes.
    pub fn cancel(&self, id: RequestId) {
        // A service that has stopped runs nothing that could be cancelled.
        let _ = self.mail(Mail::Cancel(id));
    }

    /// Says whether the user looks at what becomes of a request.
    pub fn focus(&self, id: RequestId, focused: bool) {
        let _ = self.mail(Mail::Focus(id, focused));
    }

    /// What it is doing.
    pub fn figures(&self) -> ServiceFigures {
        self.shared.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cancels all requests and ends the thread.
    pub fn shutdown(&self) {
        let _ = self.mail(Mail::Stop);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic was told when it happened.
            let _ = thread.join();
        }
    }

    fn mail(&self, mail: Mail) -> Result<(), Error> {
        let sender = self.shared.mail.lock().unwrap_or_else(PoisonError::into_inner);
        sender.send(mail).map_err(|_| Error::Stopped)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let sender = self.mail.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = sender.send(Mail::Stop);
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

/// Refuses what could never be computed.
fn check_prompt(model: &Model, prompt: &[u32], context: usize) -> Result<(), Error> {
    if prompt.len() > context {
        return Err(Error::ContextFull { needed: prompt.len(), capacity: context });
    }
    let vocabulary = model.config.vocabulary;
    match prompt.iter().find(|&&token| token as usize >= vocabulary) {
        Some(&token) => Err(Error::Token { token, vocabulary }),
        None => Ok(()),
    }
}
