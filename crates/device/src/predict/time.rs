//! Seconds of a pass, part by part.
//!
//! One token reads all weights of its products once: that is bytes over the rate at which a product of that format reads
//! them, and for each parallel phase the time to start and end it. Many tokens unpack each weight once a batch and multiply
//! it with each of them. Attention reads the cache for one token and multiplies for many. What lies between the products
//! goes by the number of values that pass through it.

use kernels::ops::attention::KvType;
use model::KvCache;
use serde::Serialize;

use super::Setting;
use crate::{Profile, Shape, Speeds};

/// Parallel phases of a layer: query, key and value; attention; output; gate and up; down.
const PHASES: f64 = 5.0;

/// Values that pass through norms, rounding, rotations, gates and sums, each as long as so many multiplications at the
/// float peak of a thread. This and the next two are measured, on Zen 4 with models of 135 M to 1.5 G parameters.
const MACS_A_VALUE: f64 = 20.0;

/// Of that time, for many tokens, the share that waits for the caches between the cores, which more threads do not shorten.
const SHARED: f64 = 0.5;

/// Products of many tokens with a model's matrices, which have all sizes, reach so much of what the probe's reach.
const MIXED: f64 = 0.97;

/// Positions that one thread takes when one token's attention is computed. Source: `kernels::ops::attention`.
const SPAN: f64 = 512.0;

/// Seconds to make an entry of the vocabulary, at a float peak of 10^9 multiplications a second.
const ENTRY: f64 = 2.5e-5;
/// Seconds to start at that speed, without a vocabulary.
const START: f64 = 1.0;

/// Seconds by what they are spent on; for prefill of the whole prompt, for decode of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Products with weights.
    pub weights_s: f64,
    /// Attention: keys and values are read and multiplied.
    pub attention_s: f64,
    /// Norms, rotations, activations.
    pub values_s: f64,
    /// Starting and ending parallel phases, until memory streams.
    pub phases_s: f64,
    /// Waiting for storage, beyond the time that reading is hidden behind computing.
    pub storage_s: f64,
}

impl Parts {
    /// All of them.
    pub fn total_s(&self) -> f64 {
        self.weights_s + self.attention_s + self.values_s + self.phases_s + self.storage_s
    }

    fn add(&mut self, other: Parts) {
        self.weights_s += other.weights_s;
        self.attention_s += other.attention_s;
        self.values_s += other.values_s;
        self.phases_s += other.phases_s;
        self.storage_s += other.storage_s;
    }

    /// With `streamed` seconds of reading beside the computing.
    fn beside(mut self, streamed: f64) -> Parts {
        self.storage_s = (streamed - self.total_s()).max(0.0);
        self
    }
}

/// A phase's speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Tokens a second.
    pub tok_s: f64,
    /// Threads.
    pub threads: usize,
    /// Where the time goes.
    #[serde(flatten)]
    pub parts: Parts,
}

/// The fastest; of those that are as fast within 3 %, the one with the fewest threads, which takes the least energy.
pub(super) fn best(speeds: impl Iterator<Item = Speed>) -> Option<Speed> {
    let speeds: Vec<Speed> = speeds.filter(|speed| speed.tok_s.is_finite()).collect();
    let fastest = speeds.iter().map(|speed| speed.tok_s).fold(0.0, f64::max);
    speeds.into_iter().filter(|speed| speed.tok_s >= 0.97 * fastest).min_by_key(|speed| speed.threads)
}

/// One token after `at_context` others.
pub(super) fn decode(shape: &Shape, setting: &Setting, speeds: &Speeds, streamed: f64) -> Speed {
    let all = shape.weight_bytes();
    let weights_s = shape.matrices().map(|matrix| speeds.seconds(matrix, all)).sum();
    let layers = shape.config.layers.len() as f64;
    let parts = Parts {
        weights_s,
        attention_s: attention_of_one(shape, setting, speeds),
        values_s: values(shape) * MACS_A_VALUE / speeds.float_of_one,
        phases_s: (PHASES * layers + 1.0) * speeds.phase,
        storage_s: 0.0,
    };
    let parts = parts.beside(streamed);
    Speed { tok_s: 1.0 / parts.total_s(), threads: speeds.threads, parts }
}

/// A prompt from an empty context on.
pub(super) fn prefill(shape: &Shape, setting: &Setting, speeds: &Speeds, streamed: f64) -> Speed {
    let (prompt, batch) = (setting.prompt.max(1), setting.batch.max(1));
    let layers = shape.config.layers.len() as f64;
    let mut all = Parts::default();
    for from in (0..prompt).step_by(batch) {
        let to = prompt.min(from + batch);
        let tokens = (to - from) as f64;
        let in_layers = shape.layers.iter().flat_map(|layer| &layer.matrices);
        let weights_s: f64 = in_layers
            .map(|matrix| {
                let speed = speeds.product(matrix.format);
                // Each expert is unpacked for the tokens that visit it: all are, once there are tokens enough.
                let met = (tokens * matrix.used as f64).min(matrix.count as f64) / matrix.used as f64;
                let many = matrix.macs() * (met * speed.weight + tokens * speed.mac) / MIXED;
                many.max(met * matrix.bytes_read() / speed.one_token)
            })
            .sum();
        // Only the prompt's last token has logits.
        let head = speeds.seconds(&shape.head, shape.weight_bytes());
        let macs = 2.0 * shape.config.query_width() as f64 * seen(shape, from, to);
        let parts = Parts {
            weights_s: weights_s + if to == prompt { head } else { 0.0 },
            attention_s: macs / speeds.attention(setting.kv_type, number_bytes(shape, setting.kv_type)).many,
            values_s: tokens
                * values(shape)
                * MACS_A_VALUE
                * ((1.0 - SHARED) / speeds.float + SHARED / speeds.float_of_one),
            phases_s: 3.0 * PHASES * layers * speeds.phase,
            storage_s: 0.0,
        };
        all.add(parts.beside(streamed));
    }
    Speed { tok_s: prompt as f64 / all.total_s(), threads: speeds.threads, parts: all }
}

/// Positions that the tokens at `from..to` see, in all layers together.
fn seen(shape: &Shape, from: usize, to: usize) -> f64 {
    let of_layer = |layer: &model::LayerConfig| {
        let window = layer.window.unwrap_or(usize::MAX);
        (from + 1..=to).map(|seen| seen.min(window) as f64).sum::<f64>()
    };
    shape.config.layers.iter().map(of_layer).sum()
}

/// Seconds of one token's attention in all layers: each span of positions of each head of keys and values is one thread's, so
/// that threads wait where these do not share out evenly.
fn attention_of_one(shape: &Shape, setting: &Setting, speeds: &Speeds) -> f64 {
    let config = &shape.config;
    let rate = speeds.attention(setting.kv_type, number_bytes(shape, setting.kv_type)).one_token;
    let of_layer = |layer: &model::LayerConfig| {
        let seen = layer.window.unwrap_or(usize::MAX).min(setting.at_context + 1) as f64;
        let pieces = config.kv_heads as f64 * (seen / SPAN).ceil();
        let rounds = (pieces / speeds.threads as f64).ceil();
        2.0 * config.kv_width() as f64 * seen / rate * rounds * speeds.threads as f64 / pieces
    };
    config.layers.iter().map(of_layer).sum()
}

/// Bytes of a number of the cache, scales included.
fn number_bytes(shape: &Shape, kv_type: KvType) -> f64 {
    /// A cache of so many positions has no padding that counts.
    const MANY: usize = 1 << 16;
    let numbers = 2 * shape.config.kv_width() * MANY * shape.config.layers.len();
    KvCache::bytes(&shape.config, MANY, kv_type) as f64 / numbers as f64
}

/// Values of a token that pass through anything but a product: read, changed, written, in all layers.
fn values(shape: &Shape) -> f64 {
    let config = &shape.config;
    let hidden = match &config.experts {
        Some(experts) => experts.used * experts.feed_forward,
        None => config.feed_forward,
    };
    let a_layer = 6 * config.width + 2 * config.query_width() + 2 * config.kv_width() + 3 * hidden;
    (config.layers.len() * a_layer) as f64
}

/// Seconds from starting the program to the first pass, the files in memory: mostly the tokenizer's tables.
pub(super) fn start_seconds(shape: &Shape, profile: &Profile) -> f64 {
    let one = Speeds::of(profile, 1)
        .or_else(|| Speeds::choices(profile).into_iter().find_map(|threads| Speeds::of(profile, threads)));
    let speed = one.map_or(1e9, |speeds| speeds.float_of_one) / 1e9;
    let entries = shape.vocabulary.tokens + shape.vocabulary.merges;
    (START + entries as f64 * ENTRY) / speed
}
