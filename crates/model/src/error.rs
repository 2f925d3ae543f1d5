//! Everything that can go wrong between a model file and its logits, as one enum with fields.

use std::path::PathBuf;

use crate::stream::Resident;

/// Why a model could not be opened or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a well-formed GGUF, or could not be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The tokenizer or chat template inside the file is not usable.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// No line of the architecture table has this name.
    #[error("architecture `{got}` is not supported; supported are {known}")]
    UnknownArchitecture {
        /// What `general.architecture` says.
        got: String,
        /// The names in the table, separated by commas.
        known: String,
    },
    /// A key that the architecture needs is absent.
    #[error("the file has no key `{key}`")]
    MissingKey {
        /// The full key.
        key: String,
    },
    /// A key is there, but its value makes no model.
    #[error("`{key}` is {got}, expected {expected}")]
    BadValue {
        /// The full key, or the keys that contradict each other.
        key: String,
        /// What would be valid.
        expected: String,
        /// What the file says.
        got: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor `{tensor}` is missing")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor that this architecture has no use for: the file is not the model that it claims to be.
    #[error("tensor `{tensor}` has no place in this architecture")]
    UnexpectedTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor's shape contradicts the metadata.
    #[error("tensor `{tensor}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// Row length first, as the file has it.
        expected: Vec<u64>,
        /// What the file says, row length first.
        got: Vec<u64>,
    },
    /// A tensor's number format cannot be used where it stands.
    #[error("tensor `{tensor}` has type {got}, expected {expected}")]
    TensorType {
        /// Its name.
        tensor: String,
        /// The types that would do.
        expected: &'static str,
        /// Its type's name, or number if unknown.
        got: String,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Ids are below this.
        vocabulary: usize,
    },
    /// A batch that is empty or larger than the workspace.
    #[error("a batch of {got} tokens; the workspace takes 1 to {most}")]
    BatchSize {
        /// Tokens given.
        got: usize,
        /// Tokens that fit.
        most: usize,
    },
    /// The tokens do not fit in the rest of the cache.
    #[error("{needed} positions are needed, the cache has {capacity}")]
    ContextFull {
        /// Positions after this batch.
        needed: usize,
        /// Positions that the cache holds.
        capacity: usize,
    },
    /// Heads that cannot be kept in this type.
    #[error("heads of {head_dim} values cannot be cached as {kv_type}; use f16")]
    KvType {
        /// The type asked for.
        kv_type: &'static str,
        /// Width of a head.
        head_dim: usize,
    },
    /// A cache, page or workspace that was made for another model.
    #[error("the {what} was made for another model")]
    Mismatch {
        /// `cache`, `page` or `workspace`.
        what: &'static str,
    },
    /// The limit on memory that was set does not allow it.
    #[error(
        "{what} needs {needed} bytes, {free} are free of the {limit} allowed: end or shorten other sessions, or raise the limit"
    )]
    Budget {
        /// What it was for.
        what: &'static str,
        /// How much was asked for.
        needed: usize,
        /// How much is not taken.
        free: usize,
        /// How much may be taken in all.
        limit: usize,
    },
    /// Weights can be read from storage again and again only where they lie there in the layout that the kernels read.
    #[error(
        "the weights do not fit in memory, and no folder could keep a copy to read them from; see POUCH_CACHE"
    )]
    NoCopy,
    /// More or other weights were to stay in memory than a model of this kind can leave out.
    #[error("this model cannot keep {resident:?} in memory")]
    Resident {
        /// What was asked for.
        resident: Resident,
    },
    /// Memory for the model, a cache or a workspace could not be had.
    #[error("not enough memory for {what}: {bytes} bytes")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
}
