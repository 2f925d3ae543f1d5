//! The Ollama API: `/api`, as far as front ends use it.

pub(crate) mod chat;
pub(crate) mod embed;
mod errors;
pub(crate) mod generate;
pub(crate) mod models;
mod shared;
