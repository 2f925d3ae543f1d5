//! The architectures: one file and one table line each. A file turns metadata into a [`Config`]; the forward pass
//! does the rest.

mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;

use gguf::Metadata;

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

/// One line of the table.
pub struct Architecture {
    /// What `general.architecture` says.
    pub name: &'static str,
    /// Reads its metadata.
    pub configure: fn(&Keys<'_>) -> Result<Config, Error>,
}

/// Every supported architecture.
pub static TABLE: &[Architecture] = &[
    Architecture { name: "gemma3", configure: gemma3::configure },
    Architecture { name: "llama", configure: llama::configure },
    Architecture { name: "phi3", configure: phi3::configure },
    Architecture { name: "qwen2", configure: qwen2::configure },
    Architecture { name: "qwen3", configure: qwen3::configure },
    Architecture { name: "qwen3moe", configure: qwen3moe::configure },
];

/// Reads the configuration of any supported architecture.
///
/// # Errors
/// [`Error::UnknownArchitecture`], or whatever is wrong with the metadata.
pub fn configure(metadata: &Metadata) -> Result<Config, Error> {
    let keys = Keys::new(metadata)?;
    let architecture = TABLE.iter().find(|entry| entry.name == keys.architecture()).ok_or_else(|| {
        let known: Vec<&str> = TABLE.iter().map(|entry| entry.name).collect();
        Error::UnknownArchitecture { got: keys.architecture().to_owned(), known: known.join(", ") }
    })?;
    (architecture.configure)(&keys)
}
