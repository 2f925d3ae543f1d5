//! Asks a server that speaks the OpenAI API, over TCP, TLS or a Unix socket.
//!
//! Requests block; one that is to be given up from another thread carries a [`Stop`]. Each has a connection of its own, so
//! whoever drops the [`Events`] of an answer ends it on the server too.
//!
//! ```no_run
//! let client = client::Client::at("http://127.0.0.1:8080")?;
//! let question = serde_json::json!({"messages": [{"role": "user", "content": "Hello"}], "stream": true});
//! for event in client.stream("/v1/chat/completions", &question)? {
//!     eprintln!("{}", event?["choices"][0]["delta"]["content"]);
//! }
//! # Ok::<(), client::Error>(())
//! ```

mod address;
mod error;
mod events;
mod parser;
mod request;
mod stop;
#[cfg(unix)]
mod unix;

pub use error::Error;
pub use events::Events;
pub use request::{Client, segment};
pub use stop::Stop;
