//! Foreign checkpoints into GGUF: safetensors folders as model hubs carry them, and llama2.c files.
//!
//! The result is unquantized (F32, F16 or BF16) and has the metadata and tensor names that every GGUF reader
//! expects. Tensors pass through one piece at a time, so a model far larger than memory can be converted, and the
//! target appears only when it is whole.
//!
//! | module | what it knows |
//! |---|---|
//! | `arch` | the table of architectures: which config names, which tensors, which changes to them |
//! | `tokenizer` | vocabularies, pre-tokenizers, special tokens, chat templates |
//! | `folder` | a safetensors folder: config, shards, and the plan made of them |
//! | `llama2c` | the llama2.c checkpoint and its vocabulary |
//! | `plan` | the list of tensors to write, and the loop that streams them |

mod arch;
mod config;
mod error;
mod float;
mod folder;
mod input;
mod llama2c;
mod plan;
mod rope;
mod shards;
mod tokenizer;

pub use error::{Error, Warning};
pub use float::FloatType;

use std::path::{Path, PathBuf};

/// How to convert.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The number format of matrices; vectors are always F32.
    pub float: FloatType,
    /// Called with the bytes of tensor data written so far and in all.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").field("float", &self.float).finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// `general.architecture` of the result.
    pub architecture: String,
    /// The files that the tensors came from.
    pub sources: Vec<PathBuf>,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of parameters (values in tensors of the source; generated tables do not count).
    pub parameters: u64,
    /// Bytes of tensor data written.
    pub bytes: u64,
    /// What was left out or assumed; show these to the user.
    pub warnings: Vec<Warning>,
}

/// Converts `source` into the GGUF file `target`.
///
/// `source` is a folder with `config.json`, `tokenizer.json` (or `tokenizer.model`) and `model.safetensors` (or
/// shards with their index), one of those files, or a llama2.c checkpoint `NAME.bin` with its vocabulary
/// `tokN.bin` (N entries) or `tokenizer.bin` beside it.
///
/// # Errors
/// See [`Error`]; `target` is then as it was before.
pub fn import(source: &Path, target: &Path, options: &Options<'_>) -> Result<Summary, Error> {
    let about = std::fs::metadata(source).map_err(|error| Error::io("open", source, error))?;
    if about.is_dir() {
        return folder::import(source, target, options);
    }
    match source.extension().and_then(|extension| extension.to_str()) {
        Some("bin") => llama2c::import(source, target, options),
        Some("safetensors" | "json") => {
            let folder = source.parent().filter(|folder| !folder.as_os_str().is_empty());
            folder::import(folder.unwrap_or(Path::new(".")), target, options)
        }
        _ => Err(Error::Source { path: source.to_path_buf() }),
    }
}
