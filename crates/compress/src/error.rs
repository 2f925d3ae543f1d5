//! What can go wrong while a model is compressed.

use std::path::PathBuf;

/// Why a model could not be compressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source, or what was written, is no model.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A model file could not be read or written.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// The result could not be measured.
    #[error(transparent)]
    Evaluate(#[from] evaluate::Error),
    /// A file that should hold the importance of columns does not.
    #[error("{}: no importance matrix that can be used: {problem}", path.display())]
    Importance {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file beside the model could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
