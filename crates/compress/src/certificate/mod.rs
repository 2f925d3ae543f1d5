//! The certificate: what was made of what, by which settings, and how much of the quality was kept.
//!
//! It lies beside the packed file twice: as JSON for programs ([`check()`] reads it) and as an HTML page for people. The JSON
//! ends with a seal, the SHA-256 of everything before: it shows that something was changed, not who changed it.

mod check;
mod consistency;
mod digest;
mod html;
mod json;
mod remeasure;
#[cfg(test)]
mod tests;

pub use check::{Problem, Report, check, check_original};
pub use digest::{sha256, sha256_of_files};
pub use json::beside;
pub use remeasure::{Deviation, deviations};

use evaluate::{Comparison, KL_FRACTIONS};
use gguf::types::type_info;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The version of the JSON's layout that this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Everything that is certified of one packed file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`FORMAT`] at the time.
    pub format: u32,
    /// The program and its version.
    pub program: String,
    /// What was packed.
    pub source: Source,
    /// What came out.
    pub output: Output,
    /// What was asked for.
    pub settings: Settings,
    /// How near the output is to the reference on text that it was not fitted to.
    pub quality: Quality,
    /// How much of the loss of plain rounding was avoided, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub won_back: Option<WonBack>,
    /// The number formats for keys and values, if they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<KvCache>,
    /// What it took.
    pub cost: Cost,
    /// Every tensor of the output, in the order of the file.
    pub tensors: Vec<Tensor>,
}

/// The model that was packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name, without folders.
    pub file: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// SHA-256 of their content, one after the other.
    pub sha256: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Values in all tensors.
    pub parameters: u64,
    /// Bits of tensor data for each of them.
    pub bits_per_weight: f64,
    /// Its number formats.
    pub types: Vec<TypeShare>,
    /// What the figures of quality compare with, in plain words: for instance, that the source was quantized itself.
    pub reference: String,
}

/// The file that came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name, without folders.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: String,
    /// Values in all tensors.
    pub parameters: u64,
    /// Bits of tensor data for each of them, scales included.
    pub bits_per_weight: f64,
    /// Its number formats.
    pub types: Vec<TypeShare>,
}

/// One number format's share of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeShare {
    /// The format's name.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Tensors in it.
    pub tensors: u64,
    /// Their values.
    pub parameters: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was asked for. Threads are left out: they do not change the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The size asked for, as [`crate::Target`] prints.
    pub target: String,
    /// `fast`, `good` or `best`.
    pub effort: String,
    /// The seed.
    pub seed: u64,
    /// The text that activations were gathered on.
    pub calibration: TextRecord,
    /// The text that quality was measured on.
    pub held_out: TextRecord,
    /// The importance file that was read in place of the calibration text, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_file: Option<String>,
}

/// A text that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRecord {
    /// Its file's name, or that of a built-in text.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its bytes.
    pub bytes: u64,
    /// Tokens in it, by the model's tokenizer.
    pub tokens: u64,
}

/// One tensor of the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its sizes, row length first.
    pub shape: Vec<u64>,
    /// Its number format in the source.
    pub source_type: String,
    /// Its number format in the output.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Bytes of its data.
    pub bytes: u64,
    /// Bits for each of its values, scales included.
    pub bits_per_weight: f64,
    /// Predicted KL divergence in nats if this tensor alone were rounded to its type; none for what is kept exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<f64>,
    /// Squared error of the product with the calibration text's activations, had each value been rounded by itself,
    /// weighted by the importance of its column, as a share of the product's squares; none where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_error: Option<f64>,
    /// The same of what was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Whether the source's values already lay on the output type's grid, so that nothing had to be rounded.
    pub on_grid: bool,
    /// What was folded into it so that it, or what reads its product, rounds better: `input scaled`, `output rotated`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<String>,
    /// How it was rounded: `kept`, `importance`, `gptq`, ...
    pub method: String,
}

/// A figure with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// Its standard error; neighbouring tokens are not independent, so the true one is somewhat larger.
    pub stderr: f64,
}

/// How the output compares with the reference on the held-out text, as crate `evaluate` measures it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The reference's perplexity.
    pub perplexity_before: Figure,
    /// The output's perplexity.
    pub perplexity_after: Figure,
    /// Mean KL(reference || output) over the scored tokens, in nats.
    pub kl_mean: Figure,
    /// Its median.
    pub kl_median: f64,
    /// The divergence that 99 % of the tokens stay below.
    pub kl_p99: f64,
    /// The largest.
    pub kl_max: f64,
    /// Pairs of a share of the tokens and the divergence that it stays below, rising.
    pub kl_quantiles: Vec<(f64, f64)>,
    /// Share of tokens, 0 to 1, for which both find the same next token likeliest.
    pub top1_agreement: Figure,
    /// Tokens that were scored.
    pub scored: u64,
    /// Windows that the text was cut into.
    pub windows: u64,
    /// Tokens in a window.
    pub context: u64,
}

/// What better methods than plain rounding were worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WonBack {
    /// What plain rounding means here.
    pub plain: String,
    /// Mean KL divergence of plain rounding to the same types.
    pub kl_plain: Figure,
    /// Mean KL divergence of the output.
    pub kl: Figure,
    /// `1 - kl / kl_plain`: 1 if all loss was avoided, 0 if none.
    pub share: f64,
}

/// Number formats for keys and values, measured with the output's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvCache {
    /// The smallest that costs little beside what the weights' rounding costs anyway.
    pub recommended: String,
    /// Each that the model's heads fit.
    pub measured: Vec<KvMeasurement>,
}

/// One number format for keys and values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvMeasurement {
    /// `f16`, `q8_0` or `q4_0`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Mean KL(reference with f16 || output with this format) in nats.
    pub kl_mean: Figure,
    /// Bytes that one token of context takes.
    pub bytes_per_token: u64,
}

/// What packing took. Figures of one machine on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds from start to end of the run that finished.
    pub seconds: f64,
    /// Seconds of each stage.
    pub stages: Vec<Stage>,
    /// The most memory that was in use at a time.
    pub peak_memory_bytes: u64,
    /// Threads that computed.
    pub threads: u64,
}

/// One stage of the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// As progress named it.
    pub name: String,
    /// Seconds it took.
    pub seconds: f64,
}

impl Quality {
    /// The figures of a measurement.
    pub fn of(comparison: &Comparison) -> Quality {
        let perplexity =
            |of: &evaluate::Perplexity| Figure { value: of.perplexity, stderr: of.perplexity_stderr };
        Quality {
            perplexity_before: perplexity(&comparison.reference),
            perplexity_after: perplexity(&comparison.tested),
            kl_mean: Figure { value: comparison.kl_mean, stderr: comparison.kl_stderr },
            kl_median: comparison.kl_median,
            kl_p99: comparison.kl_p99,
            kl_max: comparison.kl_max,
            kl_quantiles: KL_FRACTIONS.into_iter().zip(comparison.kl_quantiles).collect(),
            top1_agreement: Figure { value: comparison.top1_agreement, stderr: comparison.top1_stderr },
            scored: comparison.tested.scored,
            windows: comparison.tested.windows as u64,
            context: comparison.tested.context as u64,
        }
    }
}

impl WonBack {
    /// What was won over plain rounding, which `plain` describes.
    pub fn of(plain: &str, kl_plain: Figure, kl: Figure) -> WonBack {
        // Where plain rounding lost nothing there is nothing to win.
        let share = if kl_plain.value > 0.0 { 1.0 - kl.value / kl_plain.value } else { 0.0 };
        WonBack { plain: plain.to_owned(), kl_plain, kl, share }
    }
}

impl TextRecord {
    /// The record of a text that has `tokens` tokens.
    pub fn of(text: &Text, tokens: usize) -> TextRecord {
        TextRecord {
            name: text.name.clone(),
            sha256: sha256(text.content.as_bytes()),
            bytes: text.content.len() as u64,
            tokens: tokens as u64,
        }
    }
}

impl TypeShare {
    /// The number formats of a file's tensors, those with the most parameters first.
    pub fn of(tensors: &[gguf::TensorInfo]) -> Vec<TypeShare> {
        let of_one = |tensor: &gguf::TensorInfo| {
            (type_name(tensor.type_id), tensor.shape.iter().product::<u64>(), tensor.bytes)
        };
        TypeShare::sum(tensors.iter().map(of_one))
    }

    fn sum(tensors: impl Iterator<Item = (String, u64, u64)>) -> Vec<TypeShare> {
        let mut shares: Vec<TypeShare> = Vec::new();
        for (type_name, parameters, bytes) in tensors {
            match shares.iter_mut().find(|share| share.type_name == type_name) {
                Some(share) => {
                    share.tensors += 1;
                    share.parameters += parameters;
                    share.bytes += bytes;
                }
                None => shares.push(TypeShare { type_name, tensors: 1, parameters, bytes }),
            }
        }
        shares.sort_by(|a, b| b.parameters.cmp(&a.parameters).then_with(|| a.type_name.cmp(&b.type_name)));
        shares
    }
}

impl Tensor {
    /// Its values.
    pub fn parameters(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// The name of a number format, `type N` for one that nobody knows.
pub fn type_name(id: u32) -> String {
    type_info(id).map_or_else(|| format!("type {id}"), |info| info.name.to_owned())
}

/// Bits for each of so many values; 0 of none.
pub fn bits_per_weight(bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / parameters as f64 }
}
