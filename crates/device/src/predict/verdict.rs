//! Whether a model fits, and if not, why.

use model::Resident;
use serde::Serialize;

use super::Setting;
use crate::profile::Profile;
use crate::residency::{Demand, Residency, residency};
use crate::{LayerShape, MatrixShape, Room, Shape};

/// How a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Everything stays in memory.
    Fits,
    /// Some weights stay, the others are read from storage when it is their turn.
    Streams {
        /// Layers that stay; of a mixture of experts all do, but for the experts.
        resident_layers: usize,
        /// Experts that are held, over all layers; 0 where there are none.
        resident_experts: usize,
        /// Bytes that a token of an answer reads. Of experts, if all are used alike: those that are used more often are held, so
        /// that it is less with most texts.
        streamed_bytes: u64,
    },
    /// The system ends the program.
    Killed,
}

/// How a model fits, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How.
    pub fit: Fit,
    /// Why, in a sentence.
    pub reason: String,
}

impl Verdict {
    /// The verdict, and how the model is run if it can be: what the engine does there.
    pub(super) fn of(
        profile: &Profile,
        shape: &Shape,
        setting: &Setting,
        threads: usize,
    ) -> (Verdict, Option<Residency>) {
        let bytes = |figure: &crate::Figure| (figure.value * 1e9) as u64;
        let (free, limit) = (bytes(&profile.memory.free_gb), bytes(&profile.memory.limit_gb));
        let demand = Demand {
            context: setting.context,
            least_context: setting.context,
            kv_type: Some(setting.kv_type),
            batch: setting.batch,
            threads,
            beside: 0,
        };
        let room = Room { bytes: free, limit_bytes: free, by: "the device", path: None };
        let killed = |reason| (Verdict { fit: Fit::Killed, reason }, None);
        let found = match residency(shape, &demand, &room) {
            Ok(found) => found,
            Err(refusal) => {
                return killed(format!(
                    "with the least of its weights in memory it needs {}, and a program may have {} here",
                    gb(refusal.needed),
                    gb(free)
                ));
            }
        };
        let anonymous = found.memory.anonymous_bytes();
        if anonymous > limit {
            let (anonymous, system) = (gb(anonymous), profile.system.name());
            return killed(format!(
                "keys, values and buffers take {anonymous}, and {system} ends a program here at about {}",
                gb(limit)
            ));
        }
        let Residency { resident, memory, .. } = &found;
        let whole = gb(memory.keeping(shape, Resident::All).resident_bytes());
        let layers = shape.layers.len();
        let streamed_bytes = streamed_bytes(shape, *resident, 1) as u64;
        let (fit, reason) = match *resident {
            Resident::All => (Fit::Fits, format!("{whole} of {} that a program may have here", gb(free))),
            Resident::Layers(resident_layers) => (
                Fit::Streams { resident_layers, resident_experts: 0, streamed_bytes },
                format!(
                    "it takes {whole} and a program may have {} here: {resident_layers} of {layers} layers can stay in \
                     memory, {} are read from storage for every token",
                    gb(free),
                    gb(streamed_bytes)
                ),
            ),
            Resident::Experts(resident_experts) => (
                Fit::Streams { resident_layers: layers, resident_experts, streamed_bytes },
                format!(
                    "it takes {whole} and a program may have {} here: {resident_experts} of {} experts can be held in \
                     memory, up to {} are read from storage for every token",
                    gb(free),
                    shape.experts(),
                    gb(streamed_bytes)
                ),
            ),
        };
        (Verdict { fit, reason }, Some(found))
    }
}

/// Seconds that a pass of so many tokens reads from storage at least; infinite where nobody knows the storage.
pub(super) fn streamed_seconds(profile: &Profile, shape: &Shape, resident: Resident, tokens: usize) -> f64 {
    let bytes = streamed_bytes(shape, resident, tokens);
    match &profile.storage {
        _ if bytes == 0.0 => 0.0,
        Some(storage) => bytes / (storage.read_gb_s.value * 1e9),
        None => f64::INFINITY,
    }
}

/// Bytes that a pass of so many tokens reads: layers that do not stay, or experts that are met and not held.
fn streamed_bytes(shape: &Shape, resident: Resident, tokens: usize) -> f64 {
    match resident {
        Resident::All => 0.0,
        // Those that stay are spread evenly.
        Resident::Layers(count) => {
            let all: u64 = shape.layers.iter().map(LayerShape::bytes).sum();
            let layers = shape.layers.len().max(1);
            all as f64 * (layers - count) as f64 / layers as f64
        }
        Resident::Experts(count) => {
            let away = 1.0 - count as f64 / shape.experts().max(1) as f64;
            let met = |matrix: &MatrixShape| {
                matrix.bytes() as f64 * (matrix.used * tokens).min(matrix.count) as f64 / matrix.count as f64
            };
            away * shape.expert_matrices().map(met).sum::<f64>()
        }
    }
}

/// `1.23 GB`.
fn gb(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}
