//! Qwen2 and Qwen2.5: like Llama with biases on Q, K and V, and rotated halves.

use super::Size::{FeedForward, Hidden, KeyValue, Query};
use super::{Adjust, Architecture, matrix, vector};
use crate::Error;

pub(super) static QWEN2: Architecture = Architecture {
    names: &["Qwen2ForCausalLM"],
    gguf: "qwen2",
    layer: &[
        vector("input_layernorm.weight", "attn_norm.weight", Hidden),
        matrix("self_attn.q_proj.weight", "attn_q.weight", Query, Hidden),
        vector("self_attn.q_proj.bias", "attn_q.bias", Query),
        matrix("self_attn.k_proj.weight", "attn_k.weight", KeyValue, Hidden),
        vector("self_attn.k_proj.bias", "attn_k.bias", KeyValue),
        matrix("self_attn.v_proj.weight", "attn_v.weight", KeyValue, Hidden),
        vector("self_attn.v_proj.bias", "attn_v.bias", KeyValue),
        matrix("self_attn.o_proj.weight", "attn_output.weight", Hidden, Query),
        vector("post_attention_layernorm.weight", "ffn_norm.weight", Hidden),
        matrix("mlp.gate_proj.weight", "ffn_gate.weight", FeedForward, Hidden),
        matrix("mlp.up_proj.weight", "ffn_up.weight", FeedForward, Hidden),
        matrix("mlp.down_proj.weight", "ffn_down.weight", Hidden, FeedForward),
    ],
    output_norm: Adjust::Keep,
    defaults: &[],
    activations: &["silu", "swish"],
    partial_rotation: false,
    describe: |config, _, _, _| no_sliding_window(config),
};

/// The family's configurations name a window that no released model uses; GGUF readers ignore it.
pub(super) fn no_sliding_window(config: &crate::config::Config) -> Result<(), Error> {
    if config.truth("use_sliding_window")? == Some(true) {
        return Err(Error::Unsupported { what: "a sliding window in some layers".to_owned() });
    }
    Ok(())
}
