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
    /// A packed file without its certificate.
    #[error("{} has no certificate: {} is missing; `pouch pack` writes both", file.display(), path.display())]
    NoCertificate {
        /// The packed file.
        file: PathBuf,
        /// Where the certificate should be.
        path: PathBuf,
    },
    /// A certificate that cannot be read.
    #[error("{} is no certificate: {source}", path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A certificate of a newer program.
    #[error("{} is a certificate of format {got}; this program reads up to {known}", path.display())]
    CertificateFormat {
        /// Its file.
        path: PathBuf,
        /// Its format.
        got: u64,
        /// The newest known.
        known: u32,
    },
    /// What is given as a packed file's original is something else.
    #[error("{} is not the file that was packed, which was {packed} with SHA-256 {sha256}", path.display())]
    OtherOriginal {
        /// What is given.
        path: PathBuf,
        /// The original's name.
        packed: String,
        /// The original's SHA-256.
        sha256: String,
    },
    /// A figure of the certificate that is infinite or no number: the result cannot be certified.
    #[error("the result cannot be certified: {field} is not finite")]
    Uncertifiable {
        /// The figure's name in the certificate.
        field: String,
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
    /// A weight is NaN or infinite.
    #[error("{what} holds NaN or infinity: the source is damaged")]
    NotFinite {
        /// The tensor.
        what: String,
    },
    /// A file that should hold the importance of columns does not.
    #[error("{}: no importance matrix that can be used: {problem}", path.display())]
    Importance {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A text from which nothing can be learned.
    #[error("{name} has {got} tokens in whole windows; {needed} are needed at least: take a longer text")]
    TextTooShort {
        /// The text's name.
        name: String,
        /// Its tokens in whole windows.
        got: usize,
        /// The least.
        needed: usize,
    },
    /// The memory that may be taken does not hold what is needed.
    #[error(
        "{asked} bytes of memory do not suffice for this model: {least} are needed at least, or --effort fast"
    )]
    Memory {
        /// What may be taken.
        asked: u64,
        /// The least.
        least: u64,
    },
    /// A size that no choice of types reaches.
    #[error("the file cannot have {asked} bytes: the smallest that this model can have is {least} bytes")]
    Budget {
        /// Bytes asked for.
        asked: u64,
        /// The smallest.
        least: u64,
    },
    /// A mix of types that nobody knows.
    #[error("{name} is no known mix of types; known are {known}")]
    Recipe {
        /// What was asked for.
        name: String,
        /// All that are known.
        known: String,
    },
    /// Training does not know mixtures of experts.
    #[error("{architecture} is a mixture of experts, which --effort best cannot train: take --effort good")]
    Experts {
        /// `general.architecture`.
        architecture: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Error {
        Error::Io { action, path: path.to_owned(), source }
    }
}
