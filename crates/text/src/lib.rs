//! Text on its way into a model and out of it: the tokenizer and the chat template, both read from the
//! metadata of a GGUF file.
//!
//! [`Tokenizer`] gives the ids that the reference tokenizers give, [`TextStream`] whole characters out of the
//! bytes of tokens, [`ChatTemplate`] the prompt for a conversation. Vocabularies and templates come from
//! strangers: they may be wrong, and the worst they can do is to be refused with an [`Error`].

mod bpe;
mod byte_alphabet;
mod calendar;
mod character_class;
mod chat_template;
mod error;
mod fallback_template;
mod merge;
mod own_stack;
mod pattern;
mod pretokenize;
mod python_text;
mod roles;
mod special;
mod spm;
mod stream;
mod tokenizer;
mod vocabulary;
mod word_cache;

pub use calendar::format_time;
pub use chat_template::{ChatTemplate, Message, Render};
pub use error::Error;
pub use stream::TextStream;
pub use tokenizer::{Encode, Tokenizer};
