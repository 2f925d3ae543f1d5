//! Models in the shape of real ones with random weights, for measuring speed and memory where the real file is not at
//! hand. Their answers are noise, and the file says so.
//!
//! A file is written row by row, so that one of many gigabytes takes no memory.

use std::path::Path;

use gguf::types::{by_name, type_info};
use gguf::{Array, Error, Metadata, TensorSpec, Value, Writer};

use crate::{Random, TinyOptions, TokenizerKind, architecture_metadata, tensors, tokenizer};

/// The measures of a published model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the shape is asked for by.
    pub name: &'static str,
    architecture: &'static str,
    layers: u64,
    width: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    feed_forward: u64,
    experts: Option<(u64, u64)>,
    vocabulary: u64,
    context: u64,
    rope_base: f32,
    tied: bool,
}

impl Shape {
    /// The same with so many layers: where a disk has no room for all of them.
    #[must_use]
    pub fn with_layers(&self, layers: u64) -> Shape {
        Shape { layers, ..self.clone() }
    }
}

/// The shapes there are; figures from the models' `config.json`.
#[rustfmt::skip]
pub const SHAPES: &[Shape] = &[
    Shape { name: "smollm2-135m",  architecture: "llama",    layers: 30, width:  576, heads:  9, kv_heads: 3, head_dim:  64, feed_forward:  1536, experts: None,           vocabulary:  49_152, context:   8192, rope_base: 1e5, tied: true },
    Shape { name: "qwen2.5-0.5b",  architecture: "qwen2",    layers: 24, width:  896, heads: 14, kv_heads: 2, head_dim:  64, feed_forward:  4864, experts: None,           vocabulary: 151_936, context: 32_768, rope_base: 1e6, tied: true },
    Shape { name: "qwen3-0.6b",    architecture: "qwen3",    layers: 28, width: 1024, heads: 16, kv_heads: 8, head_dim: 128, feed_forward:  3072, experts: None,           vocabulary: 151_936, context: 40_960, rope_base: 1e6, tied: true },
    Shape { name: "gemma3-1b",     architecture: "gemma3",   layers: 26, width: 1152, heads:  4, kv_heads: 1, head_dim: 256, feed_forward:  6912, experts: None,           vocabulary: 262_144, context: 32_768, rope_base: 1e6, tied: true },
    Shape { name: "llama-3.2-1b",  architecture: "llama",    layers: 16, width: 2048, heads: 32, kv_heads: 8, head_dim:  64, feed_forward:  8192, experts: None,           vocabulary: 128_256, context: 131_072, rope_base: 5e5, tied: true },
    Shape { name: "qwen2.5-1.5b",  architecture: "qwen2",    layers: 28, width: 1536, heads: 12, kv_heads: 2, head_dim: 128, feed_forward:  8960, experts: None,           vocabulary: 151_936, context: 32_768, rope_base: 1e6, tied: true },
    Shape { name: "llama-3.2-3b",  architecture: "llama",    layers: 28, width: 3072, heads: 24, kv_heads: 8, head_dim: 128, feed_forward:  8192, experts: None,           vocabulary: 128_256, context: 131_072, rope_base: 5e5, tied: true },
    Shape { name: "qwen3-8b",      architecture: "qwen3",    layers: 36, width: 4096, heads: 32, kv_heads: 8, head_dim: 128, feed_forward: 12288, experts: None,           vocabulary: 151_936, context: 40_960, rope_base: 1e6, tied: false },
    Shape { name: "qwen3-14b",     architecture: "qwen3",    layers: 40, width: 5120, heads: 40, kv_heads: 8, head_dim: 128, feed_forward: 17408, experts: None,           vocabulary: 151_936, context: 40_960, rope_base: 1e6, tied: false },
    Shape { name: "llama-3.1-8b",  architecture: "llama",    layers: 32, width: 4096, heads: 32, kv_heads: 8, head_dim: 128, feed_forward: 14336, experts: None,           vocabulary: 128_256, context: 131_072, rope_base: 5e5, tied: false },
    Shape { name: "qwen3-30b-a3b", architecture: "qwen3moe", layers: 48, width: 2048, heads: 32, kv_heads: 4, head_dim: 128, feed_forward:   768, experts: Some((128, 8)), vocabulary: 151_936, context: 40_960, rope_base: 1e6, tied: false },
];

/// The number format of each matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// The same for all: a ggml id.
    Uniform(u32),
    /// llama.cpp's mix of this name: Q4_K, with Q6_K for the logits and for half of the values and down projections.
    Q4KM,
}

impl Types {
    /// A format's name in any case, or `q4_k_m`; `None` for what holds no weights here.
    pub fn parse(name: &str) -> Option<Types> {
        if name.eq_ignore_ascii_case("q4_k_m") {
            return Some(Types::Q4KM);
        }
        by_name(name).map(|info| info.id).filter(|&id| tensors::holds_weights(id)).map(Types::Uniform)
    }

    /// The format of a matrix of `layers` layers. Source: llama.cpp, `llama-quant.cpp`, `llama_tensor_get_type_impl`
    /// and, for rows that are no whole number of blocks, `tensor_type_fallback`.
    fn of(self, spec: &TensorSpec, layers: u64, tied: bool) -> u32 {
        let id = |name: &str| by_name(name).expect("a name of the table").id;
        let wanted = match self {
            Types::Uniform(wanted) => wanted,
            Types::Q4KM => {
                let layer =
                    spec.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
                let more_bits = layer.is_some_and(|layer: u64| {
                    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
                });
                let part = |name: &str| spec.name.contains(name);
                let logits = part("output.weight") && layer.is_none() || tied && part("token_embd");
                id(match () {
                    _ if logits => "Q6_K",
                    _ if (part("attn_v.") || part("ffn_down")) && more_bits => "Q6_K",
                    _ if part("attn_qkv.") => "Q5_K",
                    _ => "Q4_K",
                })
            }
        };
        let fits = |id: u32| type_info(id).is_some_and(|info| info.row_bytes(spec.shape[0]).is_some());
        let narrower = match type_info(wanted).map(|info| info.name) {
            Some("Q4_K") => "Q5_0",
            Some("Q5_K") => "Q5_1",
            Some("Q2_K" | "Q3_K" | "IQ4_XS") => "IQ4_NL",
            _ => "Q8_0",
        };
        [wanted, id(narrower)].into_iter().find(|&id| fits(id)).unwrap_or(id("F16"))
    }
}

/// Writes a model. `tokenizer_from` is the metadata of a model whose tokenizer it gets; without one it gets a
/// vocabulary of single bytes, filled up to the shape's size. In a mixture of experts, `routing_skew` makes some of them
/// visited more often than others: the router's rows shrink by that power of their rank, which differs from layer to
/// layer; with 0 all are as likely. `progress` is told bytes done and bytes in all.
///
/// # Errors
/// Those of the writer: the disk.
pub fn write_large(
    path: &Path,
    shape: &Shape,
    types: Types,
    tokenizer_from: Option<&Metadata>,
    routing_skew: f32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let (metadata, specs) = contents(shape, types, tokenizer_from);
    let all = specs.iter().map(TensorSpec::bytes).sum::<Result<u64, Error>>()?;
    let mut writer = Writer::create(path, &metadata, &specs)?;
    let (mut random, mut done) = (Random::new(1), 0);
    for spec in &specs {
        let ranks = spec.name.contains("ffn_gate_inp").then(|| random.permutation(spec.shape[1] as usize));
        for (index, mut row) in tensors::tensor_rows(spec, &mut random).enumerate() {
            if let Some(ranks) = &ranks {
                shrink(&mut row, (1.0 + ranks[index] as f32).powf(-routing_skew));
            }
            writer.write(&row)?;
            done += row.len() as u64;
        }
        progress(done, all);
    }
    writer.finish()
}

/// Multiplies a row of plain floats.
fn shrink(row: &mut [u8], factor: f32) {
    for bytes in row.as_chunks_mut().0 {
        *bytes = (f32::from_le_bytes(*bytes) * factor).to_le_bytes();
    }
}

/// Metadata and tensors of such a model, as [`write_large`] writes them: enough to know what it asks of a device.
pub fn contents(
    shape: &Shape,
    types: Types,
    tokenizer_from: Option<&Metadata>,
) -> (Metadata, Vec<TensorSpec>) {
    let options = TinyOptions {
        layers: shape.layers,
        width: shape.width,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        feed_forward: shape.feed_forward,
        experts: shape.experts,
        context: shape.context,
        tied: shape.tied,
        ..TinyOptions::new(shape.architecture)
    };
    let what = match types {
        Types::Q4KM => "Q4_K_M",
        Types::Uniform(id) => type_info(id).map_or("", |info| info.name),
    };
    let mut metadata = Metadata::new();
    let text = |text: String| Value::String(text);
    metadata.insert("general.architecture", text(shape.architecture.to_owned()));
    metadata.insert("general.name", text(format!("Random weights in the shape of {}, {what}", shape.name)));
    metadata.insert(
        "general.description",
        text(
            "Random weights, never trained: for measuring speed and memory. Its answers are noise."
                .to_owned(),
        ),
    );
    metadata.insert("general.quantization_version", Value::U32(2));
    for (key, value) in architecture_metadata(&options) {
        metadata.insert(format!("{}.{key}", shape.architecture), value);
    }
    metadata.insert(format!("{}.rope.freq_base", shape.architecture), Value::F32(shape.rope_base));
    let vocabulary = match tokenizer_from {
        Some(other) => copy_tokenizer(other, &mut metadata),
        None => {
            tokenizer::tokenizer_metadata(TokenizerKind::Bytes, &mut metadata);
            tokenizer::fill_up(&mut metadata, shape.vocabulary)
        }
    };
    let mut specs = tensors::specs(&options, vocabulary);
    // A router has plain floats, as in the files that llama.cpp writes.
    let matrices =
        specs.iter_mut().filter(|spec| spec.shape.len() > 1 && !spec.name.contains("ffn_gate_inp"));
    for spec in matrices {
        spec.type_id = types.of(spec, shape.layers, shape.tied);
    }
    (metadata, specs)
}

/// Takes over all keys of a tokenizer; returns the size of its vocabulary.
fn copy_tokenizer(from: &Metadata, to: &mut Metadata) -> u64 {
    for (key, value) in from.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        to.insert(key, value.clone());
    }
    match from.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => tokens.len() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str) -> &'static Shape {
        SHAPES.iter().find(|shape| shape.name == name).unwrap()
    }

    /// The names of the formats of the tensors whose name holds `part`.
    fn formats(shape: &Shape, types: Types, part: &str) -> Vec<&'static str> {
        let (_, specs) = contents(shape, types, None);
        let chosen = specs.iter().filter(|spec| spec.name.contains(part));
        chosen.map(|spec| type_info(spec.type_id).unwrap().name).collect()
    }

    #[test]
    fn the_mix_is_that_of_the_published_file() {
        let types = |part| formats(shape("qwen3-8b"), Types::Q4KM, part);
        let of_llama_cpp = |layer: usize| !(4..31).contains(&layer) || (layer - 4) % 3 == 2;
        for part in ["attn_v.", "ffn_down."] {
            let expected: Vec<&str> =
                (0..36).map(|layer| if of_llama_cpp(layer) { "Q6_K" } else { "Q4_K" }).collect();
            assert_eq!(types(part), expected, "{part}");
        }
        assert_eq!(types("attn_k."), ["Q4_K"; 36]);
        assert_eq!((types("token_embd"), types("output.weight")[36]), (vec!["Q4_K"], "Q6_K"));
        let (_, specs) = contents(shape("qwen3-8b"), Types::Q4KM, None);
        let bytes: u64 = specs.iter().map(|spec| spec.bytes().unwrap()).sum();
        // The published file has 5.03 GB, of which some megabytes are the vocabulary.
        assert!((5_000_000_000..5_035_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        assert_eq!(formats(shape("qwen2.5-0.5b"), Types::Q4KM, "blk.10.attn_q.weight"), ["Q5_0"]);
        assert_eq!(formats(shape("qwen2.5-0.5b"), Types::Q4KM, "token_embd"), ["Q8_0"]);
        let q6_k = Types::parse("q6_k").unwrap();
        assert_eq!(formats(shape("qwen2.5-0.5b"), q6_k, "blk.0.ffn_down"), ["Q6_K"]);
        assert_eq!(formats(shape("qwen2.5-0.5b"), q6_k, "blk.0.ffn_up"), ["Q8_0"]);
        assert_eq!(formats(shape("qwen3-30b-a3b"), q6_k, "blk.0.ffn_gate_inp"), ["F32"]);
        assert_eq!((Types::parse("Q8_K"), Types::parse("q9_9")), (None, None));
    }

    #[test]
    fn every_shape_has_a_vocabulary_and_says_what_it_is() {
        for shape in SHAPES {
            let (metadata, specs) = contents(shape, Types::Q4KM, None);
            assert_eq!(specs[0].shape, [shape.width, shape.vocabulary], "{}", shape.name);
            let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
            assert_eq!(tokens.len() as u64, shape.vocabulary);
            let name = metadata.string("general.name").unwrap().unwrap();
            assert!(name.starts_with("Random weights") && name.contains(shape.name), "{name}");
        }
    }
}
