//! Every way to scale rotary positions, each against the reference with the frequencies that its paper gives.

use gguf::{TensorSpec, Value};
use kernels::Team;
use model::{KvCache, KvType, Logits, Workspace};
use testkit::{F32, TinyModel, TinyOptions, tiny_model};

use crate::support::reference::Reference;
use crate::support::{logits, open, relative_error, tokens};

const TOKENS: usize = 40;
/// As for the architectures: rounding of `f32` sums and of keys and values to halves.
const TOLERANCE: f64 = 1e-4;
/// Pairs of a head of 16 values.
const PAIRS: usize = 8;

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn options(architecture: &str, extra: &[(&str, Value)]) -> TinyOptions {
    let extra = extra.iter().map(|(key, value)| (format!("{architecture}.{key}"), value.clone())).collect();
    TinyOptions { extra, ..TinyOptions::new(architecture) }
}

fn add_factors(tiny: &mut TinyModel, name: &str, factors: [f32; PAIRS]) {
    let spec = TensorSpec { name: name.to_owned(), shape: vec![PAIRS as u64], type_id: F32 };
    tiny.tensors.push((spec, factors.iter().flat_map(|factor| factor.to_le_bytes()).collect()));
}

/// The unscaled frequency of a pair of a plain model.
fn plain(pair: usize) -> f64 {
    1e4f64.powf(-(pair as f64) / PAIRS as f64)
}

/// Compares logits over a cache of `capacity` positions with those of the reference with this rotation.
fn check(
    options: &TinyOptions,
    tiny: &TinyModel,
    capacity: usize,
    frequency: impl Fn(bool, usize) -> f64,
    magnitude: f64,
) {
    let (_folder, model) = open(tiny).unwrap();
    let tokens = tokens(&model.config, TOKENS);
    let mut workspace = Workspace::new(&model.config, TOKENS);
    let mut cache = KvCache::new(&model.config, capacity, KvType::F16).unwrap();
    let got = model.forward(&Team::new(2), &mut workspace, &mut cache, &tokens, Logits::All).unwrap();
    let mut reference = Reference::new(options, tiny);
    reference.frequency = Box::new(frequency);
    reference.magnitude = magnitude;
    let error = relative_error(got, &reference.logits(&tokens));
    assert!(error < TOLERANCE, "{error}");
    // The scaling must matter, or the comparison shows nothing.
    let unscaled = Reference::new(options, tiny).logits(&tokens);
    assert!(relative_error(got, &unscaled) > 100.0 * TOLERANCE);
}

#[test]
fn linear_scaling_divides_positions() {
    let scaling = [("rope.scaling.type", text("linear")), ("rope.scaling.factor", Value::F32(4.0))];
    let options = options("llama", &scaling);
    check(&options, &tiny_model(&options), 64, |_, pair| plain(pair) / 4.0, 1.0);
}

#[test]
fn only_the_global_layers_of_gemma3_are_scaled() {
    let scaling = [("rope.scaling.type", text("linear")), ("rope.scaling.factor", Value::F32(8.0))];
    let options = options("gemma3", &scaling);
    let frequency = |local: bool, pair: usize| {
        if local { plain(pair) } else { 1e6f64.powf(-(pair as f64) / PAIRS as f64) / 8.0 }
    };
    check(&options, &tiny_model(&options), 64, frequency, 1.0);
}

#[test]
fn yarn_blends_by_wavelength() {
    let options = options(
        "qwen2",
        &[
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", Value::F32(4.0)),
            ("rope.scaling.original_context_length", Value::U32(128)),
        ],
    );
    // The pair whose wavelength fits `turns` times into 128 positions: base^(2 pair / 16) * tau * turns = 128.
    let pair_of = |turns: f64| 16.0 * (128.0 / (turns * std::f64::consts::TAU)).ln() / (2.0 * 1e4f64.ln());
    let (low, high) = (pair_of(32.0).floor().max(0.0), pair_of(1.0).ceil());
    assert!(low == 0.0 && high > low && high < PAIRS as f64);
    let frequency = |_, pair: usize| {
        let interpolated = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        plain(pair) * (1.0 - interpolated) + plain(pair) / 4.0 * interpolated
    };
    // Section 3.4 of the paper: 1 / sqrt(t) = 0.1 ln(s) + 1, here on queries and keys alike.
    check(&options, &tiny_model(&options), 64, frequency, 0.1 * 4f64.ln() + 1.0);
}

#[test]
fn factors_of_llama3_divide_frequencies() {
    let factors = [1.0, 1.0, 1.5, 2.0, 4.0, 8.0, 8.0, 8.0];
    let options = TinyOptions::new("llama");
    let mut tiny = tiny_model(&options);
    add_factors(&mut tiny, "rope_freqs.weight", factors);
    check(&options, &tiny, 64, |_, pair| plain(pair) / f64::from(factors[pair]), 1.0);
}

#[test]
fn longrope_chooses_factors_by_the_capacity() {
    let (short, long) = ([1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8], [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let options = options(
        "phi3",
        &[
            ("rope.scaling.type", text("longrope")),
            ("rope.scaling.attn_factor", Value::F32(1.25)),
            ("rope.scaling.original_context_length", Value::U32(64)),
        ],
    );
    let mut tiny = tiny_model(&options);
    add_factors(&mut tiny, "rope_factors_long.weight", long);
    add_factors(&mut tiny, "rope_factors_short.weight", short);
    check(&options, &tiny, 64, |_, pair| plain(pair) / f64::from(short[pair]), 1.25);
    check(&options, &tiny, 65, |_, pair| plain(pair) / f64::from(long[pair]), 1.25);
}

#[test]
fn a_part_of_each_head_can_stay_unturned() {
    let options = options("phi3", &[("rope.dimension_count", Value::U32(12))]);
    let tiny = tiny_model(&options);
    let (_folder, model) = open(&tiny).unwrap();
    let tokens = tokens(&model.config, TOKENS);
    let got = logits(&model, &Team::new(1), KvType::F16, &tokens, TOKENS);
    let mut reference = Reference::new(&options, &tiny);
    reference.rotated = 12;
    reference.frequency = Box::new(|_, pair| 1e4f64.powf(-2.0 * pair as f64 / 12.0));
    let error = relative_error(&got, &reference.logits(&tokens));
    assert!(error < TOLERANCE, "{error}");
}
