//! Why a server could not start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// An error of starting. What goes wrong later goes to the client that asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model to serve.
    #[error("no model to serve")]
    NoModel,
    /// Two models that clients could not tell apart.
    #[error("two models are called {name}: {first} and {second}")]
    SameName {
        /// The name.
        name: String,
        /// The file that has it.
        first: PathBuf,
        /// The file that cannot have it too.
        second: PathBuf,
    },
    /// A model's file could not be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The default model does not fit.
    #[error(transparent)]
    Memory(engine::Error),
    /// Others could reach the server and nothing would stop them.
    #[error("{address} can be reached from other machines: an API key is required")]
    KeyRequired {
        /// The address to listen at.
        address: SocketAddr,
    },
    /// A key that no header could carry.
    #[error("an API key is 8 to 256 printable ASCII characters without spaces")]
    BadKey,
    /// The address is taken or not this machine's.
    #[error("cannot listen at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server listens at the socket.
    #[error("another server listens at {path}", path = path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies where the socket should be.
    #[error("{path} exists and is no socket", path = path.display())]
    NoSocket {
        /// Its path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
}
