//! Answers over HTTP: the OpenAI API, the Ollama API and a web page, from the models of one [`engine::Service`].
//!
//! The engine's thread computes; the threads here read requests, wait for its updates and write them as each protocol wants
//! them. A request takes this way: [`connections`] accepts it, [`security`] lets it pass, a handler in [`openai`], [`ollama`] or
//! [`own`] turns its [`body`] into an `Ask`, [`generation`] hands that to the engine and its updates back as events, and the
//! handler writes those. A client that leaves cancels what it asked for.

mod api_error;
mod app;
mod body;
mod broken;
mod card;
mod connections;
mod embedding;
mod error;
mod files;
mod generation;
mod ids;
mod limits;
mod listen;
mod metrics;
mod models;
mod ollama;
mod openai;
mod own;
mod page;
mod routes;
mod security;
mod server;

pub use error::Error;
pub use ids::new as new_id;
pub use limits::Limits;
pub use listen::{Listen, socket};
pub use models::ModelFile;
pub use server::{Options, Server, Signals};
