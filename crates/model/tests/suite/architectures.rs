//! Every architecture of the table against the reference in straight loops, and against itself: the bits may depend
//! neither on the number of threads nor on how the tokens are cut into batches.

use kernels::Team;
use model::KvType;
use testkit::{TinyOptions, tiny_model};

use crate::support::reference::Reference;
use crate::support::{architectures, logits, open, open_default, relative_error, tokens};

/// Sums of at most 96 `f32` products over seven layers stay within 2^-24 * 96 * 7 = 4e-5 of the reference. Keys and
/// values are halves in both; one that lies between two halves may fall to the other side, 2^-11 of its size, but
/// there are at least hundreds for each logit.
const FLOAT_TOLERANCE: f64 = 1e-4;

/// Activations are rounded to a 127th of the largest of 32, which for near-normal values is twice their root mean
/// square: 2 / 127 / sqrt(12) = 0.5 % a product. Nine products stand in a row in two layers and the logits, and
/// independent errors add up as squares: 1.5 %; twice that for luck.
const QUANTIZED_TOLERANCE: f64 = 0.03;

/// Longer than the sliding window of the tiny models, 16.
const TOKENS: usize = 40;

fn check_floats(options: &TinyOptions) {
    let tiny = tiny_model(options);
    let (_folder, model) = open(&tiny).unwrap();
    let tokens = tokens(&model.config, TOKENS);
    let got = logits(&model, &Team::new(2), KvType::F16, &tokens, TOKENS);
    let error = relative_error(&got, &Reference::new(options, &tiny).logits(&tokens));
    assert!(error < FLOAT_TOLERANCE, "{error} with {options:?}");
}

#[test]
fn float_models_agree_with_the_reference() {
    architectures().for_each(|architecture| check_floats(&TinyOptions::new(architecture)));
}

#[test]
fn variants_agree_with_the_reference() {
    let llama = || TinyOptions::new("llama");
    let variants = [
        TinyOptions { tied: true, ..llama() },
        // Mixtral's shape.
        TinyOptions { experts: Some((4, 2)), ..llama() },
        // All experts used, more than share a phase.
        TinyOptions { experts: Some((12, 12)), ..TinyOptions::new("qwen3moe") },
        // One head of keys and values for all; one for each; heads wider than the model.
        TinyOptions { kv_heads: 1, ..llama() },
        TinyOptions { kv_heads: 4, ..llama() },
        TinyOptions { head_dim: 48, ..TinyOptions::new("qwen3") },
        // Nothing is a multiple of 16.
        TinyOptions { width: 60, heads: 3, kv_heads: 3, head_dim: 20, feed_forward: 90, ..llama() },
        // A window in every layer.
        TinyOptions { window: Some(8), ..TinyOptions::new("phi3") },
        TinyOptions { tied: false, window: None, layers: 2, ..TinyOptions::new("gemma3") },
    ];
    variants.iter().for_each(check_floats);
}

#[test]
fn quantized_models_agree_with_the_reference() {
    let plain = kernels::FORMATS.iter().map(|format| TinyOptions::new("llama").with_type(format.id));
    // Merged tensors, tied embeddings and experts take rows out of quantized tensors. Every expert is used: which of
    // two is the better may turn on the last bit.
    let others = ["gemma3", "phi3", "qwen3moe"].map(|architecture| {
        let options =
            TinyOptions { layers: 2, ..TinyOptions::new(architecture).with_type(kernels::FORMATS[3].id) };
        TinyOptions { experts: options.experts.map(|(count, _)| (count, count)), ..options }
    });
    for options in plain.chain(others) {
        let tiny = tiny_model(&options);
        let (_folder, model) = open(&tiny).unwrap();
        let tokens = tokens(&model.config, TOKENS);
        let got = logits(&model, &Team::new(2), KvType::F16, &tokens, TOKENS);
        let error = relative_error(&got, &Reference::new(&options, &tiny).logits(&tokens));
        assert!(error < QUANTIZED_TOLERANCE, "{} {}: {error}", options.architecture, options.type_id);
    }
}

#[test]
fn threads_and_batches_change_no_bit() {
    for architecture in architectures() {
        let (_folder, model) = open_default(architecture);
        let tokens = tokens(&model.config, TOKENS);
        let expected = logits(&model, &Team::new(1), KvType::F16, &tokens, TOKENS);
        for (threads, batch) in [(3, TOKENS), (2, 1), (1, 7), (4, 16), (2, 9)] {
            let got = logits(&model, &Team::new(threads), KvType::F16, &tokens, batch);
            assert!(got == expected, "{architecture}: {threads} threads, batches of {batch}");
        }
    }
}
