//! What a user can ask of [`crate::pack`].

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sample;

/// How a model is packed.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// How small it is to become.
    pub target: &'a Target,
    /// How much work that is worth.
    pub effort: Effort,
    /// Whether channels may be scaled and heads rotated before rounding, where that is seen to help; of effort
    /// [`Effort::Good`] and above.
    pub fold: bool,
    /// The text that activations are gathered on.
    pub calibration: &'a Text,
    /// The text that the result is measured on; it should have no part of `calibration` in it.
    pub held_out: &'a Text,
    /// Of everything that is drawn by chance: same seed, same file.
    pub seed: u64,
    /// Bytes of memory that may be taken; `None` is as much as is useful.
    pub memory: Option<u64>,
    /// Activation statistics to take in place of gathering them: an importance file of llama.cpp.
    pub imatrix_in: Option<&'a Path>,
    /// Where to save the statistics that were gathered, in that format.
    pub imatrix_out: Option<&'a Path>,
    /// The folder for what a killed run leaves to be continued; removed at the end. `None` is [`work_folder`].
    pub work_folder: Option<&'a Path>,
    /// What the certificate calls the source, where that is not the file's own name: a checkpoint converted on the way.
    pub source_name: Option<&'a str>,
    /// Told where the work stands.
    pub progress: &'a dyn Fn(Progress<'_>),
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("target", &self.target)
            .field("effort", &self.effort)
            .field("fold", &self.fold)
            .field("seed", &self.seed)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// The folder beside `target` that holds what a run has done so far: `OUT.gguf.packing`.
pub fn work_folder(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".packing");
    target.with_file_name(name)
}

/// How small a model is to become.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// So many bits per weight on average, scales included, at most.
    Bits(f64),
    /// A file of at most so many bytes.
    Size(u64),
    /// A well-known mix of types by its name, `Q4_K_M`.
    Recipe(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Bits(bits) => write!(f, "{bits} bits per weight"),
            Target::Size(bytes) => write!(f, "{bytes} bytes"),
            Target::Recipe(name) => f.write_str(name),
        }
    }
}

/// How much work the quality of the result is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Rounding weighted by importance: minutes at most.
    Fast,
    /// Types chosen by measured sensitivity, errors compensated.
    #[default]
    Good,
    /// Training on top of that, for models without experts.
    Best,
}

impl Effort {
    /// As it is spelt on the command line and in certificates.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Fast => "fast",
            Effort::Good => "good",
            Effort::Best => "best",
        }
    }
}

/// A text with the name that the certificate gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// A file's name, or [`sample::SAMPLE_NAME`], [`sample::HELD_OUT_NAME`].
    pub name: String,
    /// The text itself.
    pub content: String,
}

impl Text {
    /// The built-in text for calibration.
    pub fn sample() -> Text {
        Text { name: sample::SAMPLE_NAME.to_owned(), content: sample::sample().to_owned() }
    }

    /// The built-in text to measure on.
    pub fn held_out() -> Text {
        Text { name: sample::HELD_OUT_NAME.to_owned(), content: sample::held_out().to_owned() }
    }
}

/// Where the work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done: `calibrating`, `rounding`.
    pub stage: &'a str,
    /// Units of it that are done; what a unit is depends on the stage, but all take about as long.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}
