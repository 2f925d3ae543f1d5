use std::path::PathBuf;

/// Why a profile or a model's shape could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb ("read", "write").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A text that is no profile.
    #[error("{name} is no profile: {reason}")]
    BadProfile {
        /// The profile's name or file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No profile has this name.
    #[error("there is no profile called `{name}`; known are {}", known.join(", "))]
    UnknownProfile {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A profile that could not be written as text.
    #[error("the profile cannot be written: {0}")]
    Write(#[from] toml::ser::Error),
    /// A tensor that the forward pass needs and the file does not have.
    #[error("the model has no tensor `{tensor}`")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A number format that products do not read.
    #[error("tensor `{tensor}` is of type {id}, which is not supported")]
    Format {
        /// The tensor's name.
        tensor: String,
        /// The type's id in the file.
        id: u32,
    },
    /// A file that could not be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// Metadata that make no model.
    #[error(transparent)]
    Model(#[from] model::Error),
}
