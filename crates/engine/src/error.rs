//! What can go wrong when a session runs, with the figures a caller needs to mend it.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting lies outside what it can mean.
    #[error("{name} = {got}: expected {expected}")]
    Setting {
        /// The setting's name, as on the command line.
        name: &'static str,
        /// Its value.
        got: f64,
        /// The values it can take.
        expected: &'static str,
    },
    /// The tokens do not fit the session's context.
    #[error(
        "{needed} tokens do not fit the context of {capacity}: shorten the text or ask for a larger context"
    )]
    ContextFull {
        /// Tokens of the session with those to be added.
        needed: usize,
        /// Tokens that the session's KV cache holds.
        capacity: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Ids are below this.
        vocabulary: usize,
    },
    /// A step was asked of an engine for a session of another engine's model.
    #[error("the session belongs to another model than the engine runs")]
    OtherModel,
    /// A draft model that is larger than the memory there is for it.
    #[error(
        "the draft model does not stay in memory as a whole, and reading it for every guess would be slower than not \
         guessing: leave the draft model out, or take a smaller one"
    )]
    DraftStreams,
    /// A draft model that numbers its tokens in another way.
    #[error(
        "the draft model has another vocabulary: token {token} is {got:?} there and {expected:?} here; \
         take a smaller model of the same family"
    )]
    OtherVocabulary {
        /// The first token that differs.
        token: u32,
        /// Its text in the model's vocabulary; empty if it has no such token.
        expected: String,
        /// Its text in the draft model's vocabulary; empty if it has no such token.
        got: String,
    },
    /// A step was asked of a session that has no tokens to work on.
    #[error("the session has no tokens to continue from: push a prompt first")]
    Empty,
    /// The model gave no usable logit: every one is NaN or minus infinity.
    #[error(
        "the model gave no finite logit at position {position}: the file is damaged or the format overflows"
    )]
    NoFiniteLogit {
        /// The position of the token that was fed in.
        position: usize,
    },
    /// The form that an answer is held to cannot be kept.
    #[error("the answer cannot take the form asked for: {reason}")]
    Constraint {
        /// Why.
        reason: String,
    },
    /// A name that nothing goes by.
    #[error("unknown {what} {got:?}: expected {expected}")]
    UnknownName {
        /// What should have that name.
        what: &'static str,
        /// The name.
        got: String,
        /// Those there are.
        expected: &'static str,
    },
    /// A request whose keys and values exceed the memory even alone.
    #[error(
        "{tokens} tokens need {} MB for their keys and values, of {} MB that the service may take: ask for a shorter \
         answer, give it a coarser cache or more memory",
        needed.div_ceil(1_000_000), limit / 1_000_000
    )]
    NeverFits {
        /// Tokens of prompt and answer.
        tokens: usize,
        /// Bytes.
        needed: usize,
        /// Bytes.
        limit: usize,
    },
    /// Too many requests wait already.
    #[error("{waiting} requests are waiting already: try again later")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The service has been shut down.
    #[error("the service has stopped")]
    Stopped,
    /// The system gave no thread.
    #[error("cannot start the service's thread: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no way to run the model in the memory there is.
    #[error(transparent)]
    Refused(#[from] device::Refusal),
    /// A model that nothing can be planned for.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// The model could not be run.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The tokenizer or the chat template failed.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// A saved conversation could not be read or written.
    #[error("the conversation {path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A saved conversation is not what this version writes.
    #[error("the saved conversation cannot be used: {reason}")]
    Saved {
        /// What is wrong with it.
        reason: String,
    },
    /// Sessions cannot be written down in this folder.
    #[error("the journal {path}: {source}", path = path.display())]
    Journal {
        /// The folder, or a file in it.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A session cannot be written down.
    #[error("it cannot be written down in {path}: {reason}", path = path.display())]
    NotJournalled {
        /// The session's file.
        path: std::path::PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process writes sessions down in this folder.
    #[error("the journal {path} is in use by another process: end it, or take another folder", path = path.display())]
    JournalInUse {
        /// The folder.
        path: std::path::PathBuf,
    },
}
