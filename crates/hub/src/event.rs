//! What happens during a fetch, told as it happens, so that a terminal can show it and a log can keep it.

use std::fmt;
use std::path::PathBuf;

/// One thing that happened during [`crate::Hub::fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Another process is fetching the same file; this one waits.
    WaitingForOther {
        /// The file both want.
        path: PathBuf,
    },
    /// A source is asked now.
    TryingSource {
        /// The source as people know it.
        source: String,
    },
    /// That source could not deliver; the next one follows, if any.
    SourceFailed {
        /// The source as people know it.
        source: String,
        /// Why, in one line.
        reason: String,
    },
    /// An earlier, unfinished download is continued.
    Resuming {
        /// Bytes already here.
        done: u64,
    },
    /// The connection broke off; it is taken up again where it stopped.
    Reconnecting {
        /// Bytes already here.
        done: u64,
        /// What the network said.
        reason: String,
    },
    /// Bytes arrived.
    Progress {
        /// Bytes here.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// The bytes on disk are being checked.
    Verifying,
    /// The file is complete, checked and in its place.
    Done {
        /// Where it is.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::WaitingForOther { path } => {
                write!(f, "another process is fetching {}; waiting for it", path.display())
            }
            Event::TryingSource { source } => write!(f, "trying {source}"),
            Event::SourceFailed { source, reason } => write!(f, "{source} failed: {reason}"),
            Event::Resuming { done } => write!(f, "continuing after {done} bytes"),
            Event::Reconnecting { done, reason } => {
                write!(f, "connection lost after {done} bytes ({reason}), reconnecting")
            }
            Event::Progress { done, total: Some(total) } => write!(f, "{done} of {total} bytes"),
            Event::Progress { done, total: None } => write!(f, "{done} bytes"),
            Event::Verifying => write!(f, "verifying"),
            Event::Done { path, bytes } => write!(f, "{} ({bytes} bytes)", path.display()),
        }
    }
}
