//! Qwen3: norms on each head of Q and K instead of Qwen2's biases.

use super::Size::{FeedForward, Head, Hidden, KeyValue, Query};
use super::{Adjust, Architecture, matrix, qwen2, vector};

pub(super) static QWEN3: Architecture = Architecture {
    names: &["Qwen3ForCausalLM"],
    gguf: "qwen3",
    layer: &[
        vector("input_layernorm.weight", "attn_norm.weight", Hidden),
        matrix("self_attn.q_proj.weight", "attn_q.weight", Query, Hidden),
        vector("self_attn.q_norm.weight", "attn_q_norm.weight", Head),
        matrix("self_attn.k_proj.weight", "attn_k.weight", KeyValue, Hidden),
        vector("self_attn.k_norm.weight", "attn_k_norm.weight", Head),
        matrix("self_attn.v_proj.weight", "attn_v.weight", KeyValue, Hidden),
        matrix("self_attn.o_proj.weight", "attn_output.weight", Hidden, Query),
        vector("post_attention_layernorm.weight", "ffn_norm.weight", Hidden),
        matrix("mlp.gate_proj.weight", "ffn_gate.weight", FeedForward, Hidden),
        matrix("mlp.up_proj.weight", "ffn_up.weight", FeedForward, Hidden),
        matrix("mlp.down_proj.weight", "ffn_down.weight", Hidden, FeedForward),
    ],
    output_norm: Adjust::Keep,
    defaults: &[("head_dim", 128)],
    activations: &["silu", "swish"],
    partial_rotation: false,
    describe: |config, _, _, _| qwen2::no_sliding_window(config),
};
