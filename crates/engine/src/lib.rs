//! Text out of a model: sessions that are advanced step by step, sampling, conversations.
//!
//! [`Engine`] has the machinery (a model, a worker team, buffers), a [`Session`] has one text's state, and
//! [`Engine::step`] does one piece of work on it. [`generate`] is the loop for whoever has a single session;
//! [`Conversation`] puts a chat template around it. A [`PageStore`] spares computing what was
//! computed before, and a [`Journal`] lets sessions outlive the process. [`Memory`] decides how much of it all of them may take.

mod chat;
mod choices;
mod constraint;
mod engine;
mod error;
mod generate;
mod journal;
mod lock;
mod memory;
mod pass;
mod prompt;
mod random;
mod sampler;
mod scheduler;
mod service;
mod session;
mod speculation;
mod stop;
mod store;
mod worker;

pub use chat::{Conversation, load_messages, save_messages};
pub use choices::Choice;
pub use constraint::Constraint;
pub use device::{Demand, Residency};
pub use engine::{DEFAULT_BATCH, Engine, EngineOptions, Step};
pub use error::Error;
pub use generate::{Event, Figures, Generation, generate};
pub use journal::{Journal, Outcome, Recovered};
pub use memory::{Memory, conversations};
pub use prompt::encode_prompt;
pub use random::Random;
pub use sampler::{Sampler, SamplerOptions};
pub use scheduler::{Claim, Class, Policy, PolicyOptions, Sharing};
pub use service::{
    JournalEntry, Keeping, Pooling, Request, RequestId, Service, ServiceFigures, ServiceOptions, Sink,
    Update, normalise,
};
pub use session::{DEFAULT_CONTEXT, EndReason, Limits, Session, SessionOptions, SessionState};
pub use speculation::{Drafts, Speculation};
pub use stop::StopMatcher;
pub use store::{PageStore, StoreFigures, StoreOptions};
