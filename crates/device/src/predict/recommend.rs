//! How a model is best run on a device: bits, keys and values, threads, what stays in memory.

use kernels::ops::attention::KvType;
use serde::Serialize;

use super::{Fit, MemoryTable, Setting, Timed};
use crate::profile::Profile;
use crate::{Shape, Speeds};

/// Bits per weight to choose from, those of the common formats, most first: beyond the first nothing is gained, below the
/// last models lose more than a smaller one would.
const BITS: [f64; 6] = [8.5, 6.6, 5.5, 4.5, 3.5, 2.7];

/// Tokens a second from which on more bits are worth more than more speed: people read 5 to 10 words a second at most.
const FAST_ENOUGH: f64 = 10.0;

/// What is advised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// Bits per weight to pack to; `None` where the file is good as it is, or no packing makes it fit.
    pub pack_to_bits: Option<f64>,
    /// How to keep keys and values.
    pub kv: &'static str,
    /// Threads for prompts.
    pub prefill_threads: Option<usize>,
    /// Threads for answers.
    pub decode_threads: Option<usize>,
    /// The cores that those for answers are.
    pub cores: String,
    /// Tokens of a prompt that are computed together.
    pub batch: usize,
    /// Layers that stay in memory, of all.
    pub resident_layers: usize,
    /// All of the model's layers.
    pub layers: usize,
    /// Experts that are held in memory, of all; 0 of 0 without experts.
    pub resident_experts: usize,
    /// All experts of all layers.
    pub experts: usize,
    /// In sentences.
    pub advice: Vec<String>,
}

pub(super) fn recommend(
    profile: &Profile,
    shape: &Shape,
    setting: &Setting,
    timed: &Timed,
) -> Recommendation {
    let mut advice = Vec::new();
    let (kv_type, after) = kv_type(profile, shape, setting, timed, &mut advice);
    let pack_to_bits = bits(profile, shape, &Setting { kv_type, ..*setting }, after, &mut advice);
    let layers = shape.layers.len();
    let threads = |speed: &Option<super::Speed>| speed.as_ref().map(|speed| speed.threads);
    let decode_threads = threads(&timed.decode);
    let experts = shape.experts();
    let (resident_layers, resident_experts) = match timed.verdict.fit {
        Fit::Fits => (layers, experts),
        Fit::Streams { resident_layers, resident_experts, .. } => (resident_layers, resident_experts),
        Fit::Killed => (0, 0),
    };
    Recommendation {
        pack_to_bits,
        kv: kv_type.name(),
        prefill_threads: threads(&timed.prefill),
        decode_threads,
        cores: decode_threads.map_or_else(String::new, |threads| cores(profile, threads)),
        batch: timed.batch,
        resident_layers,
        layers,
        resident_experts,
        experts,
        advice,
    }
}

/// Halves unless only 8 bits make it fit; never 4 on its own account, which cost much.
fn kv_type(
    profile: &Profile,
    shape: &Shape,
    setting: &Setting,
    timed: &Timed,
    advice: &mut Vec<String>,
) -> (KvType, Fit) {
    let packed = Setting { kv_type: KvType::Q8_0, ..*setting };
    let helps = setting.kv_type == KvType::F16 && KvType::Q8_0.fits(shape.config.head_dim);
    if timed.verdict.fit == Fit::Fits || !helps {
        return (setting.kv_type, timed.verdict.fit);
    }
    let with_packed = Timed::new(profile, shape, &packed).verdict.fit;
    match (timed.verdict.fit, with_packed) {
        (Fit::Streams { .. }, Fit::Fits) | (Fit::Killed, Fit::Fits | Fit::Streams { .. }) => {
            advice.push("keep keys and values in 8 bits: --kv q8_0".to_owned());
            (KvType::Q8_0, with_packed)
        }
        _ => (setting.kv_type, timed.verdict.fit),
    }
}

/// The most bits that fit and are fast, or else about 4, or else the most that fit.
fn bits(
    profile: &Profile,
    shape: &Shape,
    setting: &Setting,
    fit: Fit,
    advice: &mut Vec<String>,
) -> Option<f64> {
    let own = shape.bits_per_weight();
    let candidate = |bits: f64| {
        let timed = Timed::new(profile, &shape.at_bits(bits), setting);
        let fast = timed.decode.is_some_and(|speed| speed.tok_s >= FAST_ENOUGH);
        (bits, timed.verdict.fit == Fit::Fits, fast)
    };
    let tried: Vec<(f64, bool, bool)> = BITS.into_iter().filter(|&bits| bits < own).map(candidate).collect();
    let own_is_fast =
        Timed::new(profile, shape, setting).decode.is_some_and(|speed| speed.tok_s >= FAST_ENOUGH);
    if fit == Fit::Fits && (own_is_fast || own <= 5.0) && own <= 9.0 {
        return None;
    }
    let fast = tried.iter().find(|(_, fits, fast)| *fits && *fast);
    let four = || tried.iter().find(|(bits, fits, _)| *fits && *bits <= 4.5);
    match fast.or_else(four) {
        Some(&(bits, ..)) => {
            advice.push(format!("pack it to {bits} bits per weight: pouch pack --bits {bits}"));
            Some(bits)
        }
        None if fit != Fit::Fits => {
            advice
                .push("no number of bits makes it fit: take a smaller model or a shorter context".to_owned());
            None
        }
        None => None,
    }
}

/// `1 Cortex-X4, 3 Cortex-A720`: kinds are listed fastest first.
fn cores(profile: &Profile, threads: usize) -> String {
    let mut left = threads;
    let mut parts = Vec::new();
    for cores in &profile.cores {
        let taken = cores.count.min(left);
        left -= taken;
        if taken > 0 {
            parts.push(format!("{taken} {}", cores.name));
        }
    }
    parts.join(", ")
}

/// The largest file that leaves room for everything else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeBudget {
    /// Bytes of tensor data in the file.
    pub bytes: u64,
    /// Bits per weight that this is.
    pub bits: f64,
}

/// The largest file of the model of this `shape` that stays in memory as a whole on the device, with a full context; at most
/// 8.5 bits per weight, beyond which nothing is gained. `None` if nothing else leaves room for weights.
pub fn size_budget(profile: &Profile, shape: &Shape, setting: &Setting) -> Option<SizeBudget> {
    let threads = setting.threads.or_else(|| Speeds::choices(profile).into_iter().max()).unwrap_or(1);
    let memory = MemoryTable::of(shape, setting, threads);
    if memory.anonymous_bytes() as f64 > profile.memory.limit_gb.value * 1e9 {
        return None;
    }
    let beside = memory.resident_bytes() - memory.weights_bytes;
    let room = (profile.memory.free_gb.value * 1e9) as u64;
    let bits = (room.checked_sub(beside)? as f64 * 8.0 / shape.product_weights() as f64).min(BITS[0]);
    Some(SizeBudget { bytes: (bits / 8.0 * shape.parameters as f64) as u64, bits })
}
