//! The OpenAI API: `/v1`.

pub(crate) mod chat;
mod chat_types;
pub(crate) mod completions;
mod completions_types;
pub(crate) mod embeddings;
mod messages;
pub(crate) mod models;
mod output;
pub(crate) mod records;
pub(crate) mod responses;
mod responses_types;
mod shared;

pub(crate) use messages::{chosen, role};
pub(crate) use responses::choice_body;
pub(crate) use shared::OneOrMany;
