//! Everything that asking can fail with.

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be asked there.
    #[error("{address:?} is no server's address: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No request can say this: a key with a line break, a path with a space.
    #[error("this cannot be asked: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("no server answers at {address}: {reason}. Is it running? `pouch serve` starts one")]
    Unreachable {
        /// The server's address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The server does not do what it is asked.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The error's name for programs, such as `model_not_found`.
        code: Option<String>,
        /// The server's own words.
        message: String,
    },
    /// The server began an answer and tells that it cannot go on.
    #[error("the answer ended: {message}")]
    Failed {
        /// The error's name for programs.
        code: Option<String>,
        /// The server's own words.
        message: String,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {address} ended in the middle of the answer")]
    CutOff {
        /// The server's address.
        address: String,
    },
    /// What answers is no such server, or sends more than any answer has.
    #[error("what {address} answers cannot be understood: {reason}")]
    NotUnderstood {
        /// The server's address.
        address: String,
        /// Where reading it failed.
        reason: String,
    },
    /// Its [`Stop`](crate::Stop) ended the request.
    #[error("the request was given up")]
    Stopped,
}
