//! What can be wrong with a foreign checkpoint, in words that say what to do next.

use std::path::{Path, PathBuf};

/// Why a checkpoint could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target could not be written.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),

    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb ("open", "read").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// Neither a folder nor a file of a known kind.
    #[error("{} is no known checkpoint; give a folder with config.json and model.safetensors, or a llama2.c .bin file", path.display())]
    Source {
        /// The path that was given.
        path: PathBuf,
    },

    /// A file that the checkpoint needs is not there.
    #[error("{} is missing ({purpose}); download it into the same folder", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// What it is needed for.
        purpose: &'static str,
    },

    /// A text file far larger than any real one.
    #[error("{} has {got} bytes (at most {maximum} are read); this is no model's {purpose}", path.display())]
    FileSize {
        /// The file.
        path: PathBuf,
        /// What it is needed for.
        purpose: &'static str,
        /// Its size in bytes.
        got: u64,
        /// The limit in bytes.
        maximum: u64,
    },

    /// A file that ends too early, or too late.
    #[error("{} should have {expected} bytes but has {actual}; download or copy it again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        actual: u64,
    },

    /// A file that is not JSON or not of the form it should have.
    #[error("{} is not as it should be: {source}; download it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },

    /// A damaged header of a safetensors file.
    #[error("{}: the header is damaged ({problem}); download the file again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },

    /// A value in `config.json` that is absent or of the wrong kind.
    #[error("config.json: '{key}' should be {expected} but is {got}")]
    Config {
        /// The key.
        key: String,
        /// What is needed.
        expected: String,
        /// What is there.
        got: String,
    },

    /// A model family that is not in the table.
    #[error("the architecture {got} cannot be converted; known are {known}")]
    Architecture {
        /// The name in `config.json`.
        got: String,
        /// All known names.
        known: String,
    },

    /// Weights that are quantized already.
    #[error("the weights are quantized already ({method}); take the unquantized checkpoint")]
    Quantized {
        /// The method's name in `config.json`.
        method: String,
    },

    /// A property of the model that the result could not express.
    #[error("the model needs {what}, which is not supported")]
    Unsupported {
        /// The property.
        what: String,
    },

    /// A tensor that the architecture needs is not there.
    #[error("tensor '{tensor}' is missing; the checkpoint is incomplete, download all its files")]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
    },

    /// Tensors that the architecture does not know; dropping them would change the model.
    #[error(
        "tensor '{tensor}' does not belong to a {architecture} model; the checkpoint is of another kind than its config.json says"
    )]
    UnexpectedTensor {
        /// The tensor's name.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },

    /// A tensor in two files.
    #[error("tensor '{tensor}' stands in the checkpoint twice; remove files that do not belong to it")]
    DuplicateTensor {
        /// The tensor's name.
        tensor: String,
    },

    /// A tensor of another size than the configuration asks for.
    #[error(
        "tensor '{tensor}' has the shape {got:?} but config.json asks for {expected:?}; the files do not belong together"
    )]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Rows and columns asked for.
        expected: Vec<u64>,
        /// Rows and columns there.
        got: Vec<u64>,
    },

    /// A tensor whose numbers are no floats.
    #[error("tensor '{tensor}' holds {got} numbers; take the checkpoint with F32, F16 or BF16 weights")]
    NumberType {
        /// The tensor's name.
        tensor: String,
        /// The type in the file.
        got: String,
    },

    /// A value too large for F16.
    #[error("tensor '{tensor}' holds {value:e}, which F16 cannot; convert to BF16 or F32 instead")]
    Overflow {
        /// The tensor's name.
        tensor: String,
        /// The value.
        value: f32,
    },

    /// A llama2.c header with impossible numbers.
    #[error("{}: {field} is {got}; this is no llama2.c checkpoint (legacy export, version 0)", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The number's name.
        field: &'static str,
        /// Its value.
        got: i64,
    },

    /// A vocabulary that cannot be right.
    #[error("{}: {problem}", path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },

    /// A way of splitting text that no known name stands for; a wrong name would spoil the model's output quietly.
    #[error("{}: the pre-tokenizer is of no known kind: {steps}", path.display())]
    PreTokenizer {
        /// The file.
        path: PathBuf,
        /// The steps as they were understood.
        steps: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Error {
        Error::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn vocabulary(path: &Path, problem: impl Into<String>) -> Error {
        Error::Vocabulary { path: path.to_path_buf(), problem: problem.into() }
    }
}

/// Something that was left out or assumed; the model is usable all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Tensors of parts other than the language model (a vision tower) were left out.
    LeftOut {
        /// One of them.
        example: String,
        /// How many.
        count: usize,
    },
    /// Tokens whose ids lie beyond the embedding's rows were left out.
    TokensLeftOut {
        /// One of them.
        example: String,
        /// How many.
        count: usize,
    },
    /// The scores of a SentencePiece vocabulary were derived from the order of its merges.
    DerivedScores,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::LeftOut { example, count } => {
                write!(
                    formatter,
                    "{count} tensors outside the language model were left out, such as '{example}'"
                )
            }
            Warning::TokensLeftOut { example, count } => {
                write!(formatter, "{count} tokens without an embedding were left out, such as '{example}'")
            }
            Warning::DerivedScores => {
                write!(
                    formatter,
                    "tokenizer.model is absent: token scores were derived from the order of merges"
                )
            }
        }
    }
}
