//! The tensors of each architecture and random contents for them in any number format.

use gguf::TensorSpec;
use gguf::types::type_info;

use crate::{F32, Random, TinyOptions};

/// Where the scales of a packed format stand in its block, so that random bytes can be given sane ones.
struct Scales {
    type_id: u32,
    /// Offset of the f16 scale.
    scale: usize,
    /// Offset of the f16 that is subtracted (in K-quants) or added, and how many scales it should be.
    minimum: Option<(usize, f32)>,
    /// Root mean square of what the scale multiplies when the other bytes are random.
    typical: f32,
}

/// Every packed format whose scales are f16; layouts as in ggml's `ggml-common.h`.
#[rustfmt::skip]
const SCALES: &[Scales] = &[
    Scales { type_id:  2, scale:   0, minimum: None,                typical:    4.6 }, // Q4_0
    Scales { type_id:  3, scale:   0, minimum: Some((2, -7.5)),     typical:    4.6 }, // Q4_1
    Scales { type_id:  6, scale:   0, minimum: None,                typical:    9.2 }, // Q5_0
    Scales { type_id:  7, scale:   0, minimum: Some((2, -15.5)),    typical:    9.2 }, // Q5_1
    Scales { type_id:  8, scale:   0, minimum: None,                typical:   74.0 }, // Q8_0
    Scales { type_id: 10, scale:  80, minimum: Some((82, 1.5)),     typical:   12.0 }, // Q2_K
    Scales { type_id: 11, scale: 108, minimum: None,                typical:   43.0 }, // Q3_K
    Scales { type_id: 12, scale:   0, minimum: Some((2, 7.5)),      typical:  250.0 }, // Q4_K
    Scales { type_id: 13, scale:   0, minimum: Some((2, 15.5)),     typical:  500.0 }, // Q5_K
    Scales { type_id: 14, scale: 208, minimum: None,                typical: 1350.0 }, // Q6_K
    Scales { type_id: 16, scale:   0, minimum: None,                typical:   80.0 }, // IQ2_XXS
    Scales { type_id: 17, scale:   0, minimum: None,                typical:   80.0 }, // IQ2_XS
    Scales { type_id: 18, scale:   0, minimum: None,                typical:  120.0 }, // IQ3_XXS
    Scales { type_id: 19, scale:   0, minimum: None,                typical:    8.0 }, // IQ1_S
    Scales { type_id: 20, scale:   0, minimum: None,                typical:   70.0 }, // IQ4_NL
    Scales { type_id: 21, scale:   0, minimum: None,                typical:  140.0 }, // IQ3_S
    Scales { type_id: 22, scale:   0, minimum: None,                typical:   80.0 }, // IQ2_S
    Scales { type_id: 23, scale:   0, minimum: None,                typical: 1300.0 }, // IQ4_XS
    Scales { type_id: 34, scale:  52, minimum: None,                typical:    0.8 }, // TQ1_0
    Scales { type_id: 35, scale:  64, minimum: None,                typical:    0.8 }, // TQ2_0
];

const F16: u32 = 1;
const BF16: u32 = 30;
const IQ1_M: u32 = 29;
const MXFP4: u32 = 39;

/// One row of `columns` random values in a format, with a root mean square near `size`.
///
/// # Panics
/// For a format without an entry here, or a row that is no whole number of its blocks.
pub fn random_row(type_id: u32, columns: u64, size: f32, random: &mut Random) -> Vec<u8> {
    let info = type_info(type_id).expect("a known format");
    let bytes = info.row_bytes(columns).expect("a row of whole blocks") as usize;
    // Evenly from -a to a has a root mean square of a / sqrt(3).
    let value = |random: &mut Random| random.signed() * size * 3_f32.sqrt();
    match type_id {
        F32 => (0..columns).flat_map(|_| value(random).to_le_bytes()).collect(),
        F16 => (0..columns).flat_map(|_| f16(value(random)).to_le_bytes()).collect(),
        BF16 => (0..columns).flat_map(|_| ((value(random).to_bits() >> 16) as u16).to_le_bytes()).collect(),
        MXFP4 => {
            let mut row: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            // A power of two with a bias of 127; the 4-bit values have a root mean square of 2.9.
            let exponent = 127 + (size / 2.9).log2().round() as i32;
            row.chunks_exact_mut(info.bytes as usize)
                .for_each(|block| block[0] = exponent.clamp(1, 254) as u8);
            row
        }
        IQ1_M => {
            let mut row: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            for block in row.chunks_exact_mut(info.bytes as usize) {
                // The f16 scale lies spread over the high nibbles of the four last 16-bit words.
                let scale = f16(size / 8.0);
                for word in 0..4 {
                    let byte = &mut block[49 + 2 * word];
                    *byte = (*byte & 0x0f) | (((scale >> (4 * word)) & 0xf) as u8) << 4;
                }
            }
            row
        }
        _ => {
            let scales = SCALES.iter().find(|entry| entry.type_id == type_id).expect("a format of weights");
            let mut row: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            for block in row.chunks_exact_mut(info.bytes as usize) {
                let scale = size / scales.typical * (1.0 + 0.5 * random.signed());
                block[scales.scale..scales.scale + 2].copy_from_slice(&f16(scale).to_le_bytes());
                if let Some((at, factor)) = scales.minimum {
                    block[at..at + 2].copy_from_slice(&f16(scale * factor).to_le_bytes());
                }
            }
            row
        }
    }
}

/// Random contents for a tensor: norms near one, biases near zero, matrices so that a product keeps its input's size.
pub fn tensor_data(spec: &TensorSpec, random: &mut Random) -> Vec<u8> {
    tensor_rows(spec, random).flatten().collect()
}

/// The same row by row.
pub(crate) fn tensor_rows(spec: &TensorSpec, random: &mut Random) -> impl Iterator<Item = Vec<u8>> {
    let columns = spec.shape[0];
    let rows: u64 = spec.shape[1..].iter().product();
    (0..rows).map(move |_| {
        if spec.shape.len() == 1 {
            let (middle, spread) = if spec.name.ends_with("norm.weight") { (1.0, 0.5) } else { (0.0, 0.2) };
            return (0..columns).flat_map(|_| (middle + spread * random.signed()).to_le_bytes()).collect();
        }
        let size = match spec.name.as_str() {
            "token_embd.weight" => 1.0,
            _ => 1.0 / (columns as f32).sqrt(),
        };
        random_row(spec.type_id, columns, size, random)
    })
}

/// Whether [`random_row`] knows the format.
pub(crate) fn holds_weights(type_id: u32) -> bool {
    matches!(type_id, F32 | F16 | BF16 | IQ1_M | MXFP4) || SCALES.iter().any(|entry| entry.type_id == type_id)
}

/// The tensors an architecture's file has.
///
/// # Panics
/// For an architecture without an entry here.
pub(crate) fn specs(options: &TinyOptions, vocabulary: u64) -> Vec<TensorSpec> {
    let mut out = Vec::new();
    let (width, head_dim, feed_forward) = (options.width, options.head_dim, options.feed_forward);
    let (queries, keys) = (options.heads * head_dim, options.kv_heads * head_dim);
    let matrix =
        |name: String, shape: &[u64]| TensorSpec { name, shape: shape.to_vec(), type_id: options.type_id };
    let float = |name: String, shape: &[u64]| TensorSpec { name, shape: shape.to_vec(), type_id: F32 };

    out.push(matrix("token_embd.weight".to_owned(), &[width, vocabulary]));
    for layer in 0..options.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        out.push(float(name("attn_norm.weight"), &[width]));
        if options.architecture == "phi3" {
            out.push(matrix(name("attn_qkv.weight"), &[width, queries + 2 * keys]));
        } else {
            out.push(matrix(name("attn_q.weight"), &[width, queries]));
            out.push(matrix(name("attn_k.weight"), &[width, keys]));
            out.push(matrix(name("attn_v.weight"), &[width, keys]));
        }
        out.push(matrix(name("attn_output.weight"), &[queries, width]));
        out.push(float(name("ffn_norm.weight"), &[width]));
        match options.architecture.as_str() {
            "llama" => {}
            "qwen2" => {
                out.push(float(name("attn_q.bias"), &[queries]));
                out.push(float(name("attn_k.bias"), &[keys]));
                out.push(float(name("attn_v.bias"), &[keys]));
            }
            "qwen3" | "qwen3moe" | "gemma3" => {
                out.push(float(name("attn_q_norm.weight"), &[head_dim]));
                out.push(float(name("attn_k_norm.weight"), &[head_dim]));
            }
            "phi3" => {}
            other => panic!("no tensors are known for the architecture {other}"),
        }
        if options.architecture == "gemma3" {
            out.push(float(name("post_attention_norm.weight"), &[width]));
            out.push(float(name("post_ffw_norm.weight"), &[width]));
        }
        match options.experts {
            Some((experts, _)) => {
                out.push(float(name("ffn_gate_inp.weight"), &[width, experts]));
                out.push(matrix(name("ffn_gate_exps.weight"), &[width, feed_forward, experts]));
                out.push(matrix(name("ffn_up_exps.weight"), &[width, feed_forward, experts]));
                out.push(matrix(name("ffn_down_exps.weight"), &[feed_forward, width, experts]));
            }
            None if options.architecture == "phi3" => {
                out.push(matrix(name("ffn_up.weight"), &[width, 2 * feed_forward]));
                out.push(matrix(name("ffn_down.weight"), &[feed_forward, width]));
            }
            None => {
                out.push(matrix(name("ffn_gate.weight"), &[width, feed_forward]));
                out.push(matrix(name("ffn_up.weight"), &[width, feed_forward]));
                out.push(matrix(name("ffn_down.weight"), &[feed_forward, width]));
            }
        }
    }
    out.push(float("output_norm.weight".to_owned(), &[width]));
    if !options.tied {
        out.push(matrix("output.weight".to_owned(), &[width, vocabulary]));
    }
    out
}

/// The half float at or just below a value's magnitude; too small becomes zero. Exact rounding is of no use here.
fn f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    match exponent {
        1..=30 => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
        31.. => sign | 0x7bff,
        // Subnormal: the mantissa with its leading one, shifted to units of 2^-24.
        -10..=0 => sign | ((bits & 0x7f_ffff | 0x80_0000) >> (14 - exponent)) as u16,
        _ => sign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_come_out_right() {
        for (value, bits) in [(1.0, 0x3c00), (-2.0, 0xc000), (0.5, 0x3800), (65504.0, 0x7bff), (1e9, 0x7bff)]
        {
            assert_eq!(f16(value), bits);
        }
        assert_eq!(f16(2_f32.powi(-24)), 1);
        assert_eq!(f16(2_f32.powi(-14)), 0x400);
        assert_eq!(f16(0.0), 0);
    }

    #[test]
    fn every_format_of_weights_gives_whole_rows() {
        for info in gguf::types::TYPES {
            // Formats of activations, integers and the newest two hold no weights of a tiny model.
            let others = ["Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4", "Q1_0"];
            assert_eq!(holds_weights(info.id), !others.contains(&info.name), "{}", info.name);
            if !holds_weights(info.id) {
                continue;
            }
            let row = random_row(info.id, 512, 1.0, &mut Random::new(3));
            assert_eq!(row.len() as u64, info.row_bytes(512).unwrap(), "{}", info.name);
        }
    }
}
