//! Everything a command can fail with, and the exit code it ends with.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Hub(#[from] hub::Error),
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error(transparent)]
    Text(#[from] text::Error),
    #[error(transparent)]
    Model(#[from] model::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Device(#[from] device::Error),
    #[error(transparent)]
    Evaluate(#[from] evaluate::Error),
    #[error(transparent)]
    Import(#[from] import::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A server that went away while a conversation was held through it.
    #[error(
        "{error}. The conversation is kept as far as it came: `pouch chat --continue {id}` goes on with it"
    )]
    Left { error: client::Error, id: String },
    #[error(transparent)]
    Compress(#[from] compress::Error),
    /// A library's error together with the file it is about.
    #[error("{}: {error}", path.display())]
    InFile { path: PathBuf, error: Box<Failure> },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A model that could be fetched, asked for by a command that does not fetch.
    #[error("{name} is not here yet; `pouch pull {name}` fetches it")]
    NotHere { name: String },
    /// A packed file that is not as its certificate says.
    #[error("{} is not what its certificate says", path.display())]
    NotCertified { path: PathBuf },
    /// The other engine of a measurement.
    #[error("{} {problem}", program.display())]
    Peer { program: PathBuf, problem: String },
    /// A file to append to that holds something else.
    #[error("{} does not begin with the columns of this record: name another file", path.display())]
    Record { path: PathBuf },
    /// The command was called in a way that cannot mean anything.
    #[error("{0}")]
    Usage(String),
    /// Standard output could not be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// Whoever read standard output has had enough, as `head` does.
    #[error("standard output was closed")]
    OutputClosed,
}

impl Failure {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Failure {
        Failure::Io { action, path: path.to_owned(), source }
    }

    /// What to tell the user; `None` where there is nothing to tell.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Failure::OutputClosed => None,
            failure => Some(failure.to_string()),
        }
    }

    /// Whether it is a server that failed, which may be there again the next moment.
    pub(crate) fn is_a_servers(&self) -> bool {
        matches!(self, Failure::Client(_) | Failure::Left { .. })
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::OutputClosed => ExitCode::SUCCESS,
            Failure::Usage(_)
            | Failure::Engine(engine::Error::Setting { .. })
            | Failure::Server(server::Error::KeyRequired { .. } | server::Error::BadKey)
            | Failure::Device(device::Error::UnknownProfile { .. }) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Names the file an error is about, unless the error does so itself.
pub(crate) trait InFile<T> {
    fn in_file(self, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> InFile<T> for Result<T, E> {
    fn in_file(self, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: Failure = error.into();
            match error.to_string().contains(&*path.to_string_lossy()) {
                true => error,
                false => Failure::InFile { path: path.to_owned(), error: Box::new(error) },
            }
        })
    }
}
