//! Whether a model fits, and if not, why.

use model::Resident;
use serde::Serialize;

use super::MemoryTable;
use crate::profile::Profile;
use crate::residency::{self, least};
use crate::{LayerShape, Shape};

/// How a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Everything stays in memory.
    Fits,
    /// Some layers stay, the others are read from storage for every token.
    Streams {
        /// Layers that stay.
        resident_layers: usize,
        /// Bytes of the others; a token reads all of them but the experts that it does not meet.
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
    pub(super) fn of(profile: &Profile, shape: &Shape, memory: &MemoryTable) -> Verdict {
        let bytes = |figure: &crate::Figure| (figure.value * 1e9) as u64;
        let (free, limit) = (bytes(&profile.memory.free_gb), bytes(&profile.memory.limit_gb));
        let (anonymous, resident) = (memory.anonymous_bytes(), memory.resident_bytes());
        let system = profile.system.name();
        if anonymous > limit {
            let reason = format!(
                "keys, values and buffers take {}, and {system} ends a program here at about {}",
                gb(anonymous),
                gb(limit)
            );
            return Verdict { fit: Fit::Killed, reason };
        }
        if resident <= free {
            let reason = format!("{} of {} that a program may have here", gb(resident), gb(free));
            return Verdict { fit: Fit::Fits, reason };
        }
        let layers = shape.layers.len();
        let resident_layers = match residency::resident(shape, memory, free) {
            Some(Resident::Layers(count)) => count,
            // As if all experts of a layer stood together.
            Some(Resident::Experts(count)) => count * layers / shape.experts().max(1),
            Some(Resident::All) => layers,
            None => {
                let reason = format!(
                    "even layer by layer it needs {}, and a program may have {} here",
                    gb(memory.keeping(shape, least(shape)).resident_bytes()),
                    gb(free)
                );
                return Verdict { fit: Fit::Killed, reason };
            }
        };
        // Those that stay are spread evenly.
        let all: u64 = shape.layers.iter().map(LayerShape::bytes).sum();
        let streamed_bytes = all / layers.max(1) as u64 * (layers - resident_layers) as u64;
        let reason = format!(
            "it takes {} and a program may have {} here: {resident_layers} of {} layers can stay in memory, {} are read \
             from storage for every token",
            gb(resident),
            gb(free),
            layers,
            gb(streamed_bytes)
        );
        Verdict { fit: Fit::Streams { resident_layers, streamed_bytes }, reason }
    }

    /// Seconds that a pass reads from storage at least: of every layer that does not stay, what one token meets, or all of
    /// it, which many tokens do. 0 where all fits, infinite where nobody knows the storage.
    pub(super) fn streamed_seconds(&self, profile: &Profile, shape: &Shape, many: bool) -> f64 {
        let Fit::Streams { resident_layers, .. } = self.fit else { return 0.0 };
        let matrices = shape.layers[resident_layers..].iter().flat_map(|layer| &layer.matrices);
        let bytes: f64 =
            matrices.map(|matrix| if many { matrix.bytes() as f64 } else { matrix.bytes_read() }).sum();
        match &profile.storage {
            _ if bytes == 0.0 => 0.0,
            Some(storage) => bytes / (storage.read_gb_s.value * 1e9),
            None => f64::INFINITY,
        }
    }
}

/// `1.23 GB`.
fn gb(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}
