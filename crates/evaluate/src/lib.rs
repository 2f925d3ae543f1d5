//! How good a model file is, in figures: perplexity on a text, and the distance of its probabilities from another's.
//!
//! Both follow the procedure of llama.cpp's `llama-perplexity`, so that figures can be compared with that tool's on the
//! same text: the text is tokenized once and cut into windows that do not overlap, the second half of each window is
//! scored, and a window's first token is replaced by BOS where the model wants one.

mod against;
mod distribution;
mod error;
mod logits_file;
mod perplexity;
mod runner;
mod statistics;
mod windows;

pub use against::{Comparison, KL_FRACTIONS, against, against_each, against_file};
pub use distribution::{Divergence, compare_logits, surprise};
pub use error::Error;
pub use logits_file::{LogitsFile, is_logits_file};
pub use perplexity::{Perplexity, perplexity};
pub use statistics::{Mean, quantile};

/// How a text is scored.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tokens in a window. Perplexities at different contexts cannot be compared.
    pub context: usize,
    /// Only so many windows from the text's start; all if `None`.
    pub windows: Option<usize>,
    /// The number format of the tested model's KV cache; that of a reference is always halves.
    pub kv_type: model::KvType,
}

impl Default for Options {
    /// The usual window of 512 tokens, the whole text, an exact enough cache.
    fn default() -> Options {
        Options { context: 512, windows: None, kv_type: model::KvType::F16 }
    }
}

/// Where a measurement stands after a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Windows scored.
    pub done: usize,
    /// Windows in all.
    pub windows: usize,
    /// The perplexity of the tested model over the windows so far.
    pub perplexity: f64,
    /// The mean divergence so far, in nats, where two models are compared.
    pub kl_mean: Option<f64>,
}
