//! Answers of a given form: JSON, JSON of a schema, a regular expression, a grammar, and calls of tools.
//!
//! [`Grammars`] turns a form into an [`engine::Constraint`], which takes from the model every token that would leave the
//! form. [`ToolFormat`] knows how the models of a family write the calls of tools: it prepares the conversation, holds the
//! answer to calls whose arguments fit their tool's schema, and its [`ToolParser`] reads them out of the answer's text as it comes.
//!
//! The parsing of grammars is that of the crate `llguidance` (<https://github.com/guidance-ai/llguidance>): an Earley parser
//! over lexemes found by derivatives of regular expressions, walked along a trie of the vocabulary. Schemas and tools come
//! from strangers: they may be wrong or hostile, and the worst they can do is to be refused with an [`Error`].

mod constraint;
mod error;
mod grammars;
mod schema;
mod tools;
mod vocabulary;

pub use error::Error;
pub use grammars::Grammars;
pub use tools::{Calls, Piece, ToolChoice, ToolFormat, ToolParser};
