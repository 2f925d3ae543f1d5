//! Llama 2 and 3, Mistral 7B, SmolLM and their kin: the `llama` architecture.
//!
//! GGUF's `llama` rotates neighbouring values, the safetensors checkpoints rotate halves: rows of Q and K change
//! places.

use super::Size::{FeedForward, Hidden, KeyValue, Query};
use super::{Adjust, Architecture, matrix, vector};

pub(super) static LLAMA: Architecture = Architecture {
    names: &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM"],
    gguf: "llama",
    layer: &[
        vector("input_layernorm.weight", "attn_norm.weight", Hidden),
        matrix("self_attn.q_proj.weight", "attn_q.weight", Query, Hidden).pair_halves(),
        vector("self_attn.q_proj.bias", "attn_q.bias", Query).pair_halves().optional(),
        matrix("self_attn.k_proj.weight", "attn_k.weight", KeyValue, Hidden).pair_halves(),
        vector("self_attn.k_proj.bias", "attn_k.bias", KeyValue).pair_halves().optional(),
        matrix("self_attn.v_proj.weight", "attn_v.weight", KeyValue, Hidden),
        vector("self_attn.v_proj.bias", "attn_v.bias", KeyValue).optional(),
        matrix("self_attn.o_proj.weight", "attn_output.weight", Hidden, Query),
        vector("self_attn.o_proj.bias", "attn_output.bias", Hidden).optional(),
        vector("post_attention_layernorm.weight", "ffn_norm.weight", Hidden),
        matrix("mlp.gate_proj.weight", "ffn_gate.weight", FeedForward, Hidden),
        vector("mlp.gate_proj.bias", "ffn_gate.bias", FeedForward).optional(),
        matrix("mlp.up_proj.weight", "ffn_up.weight", FeedForward, Hidden),
        vector("mlp.up_proj.bias", "ffn_up.bias", FeedForward).optional(),
        matrix("mlp.down_proj.weight", "ffn_down.weight", Hidden, FeedForward),
        vector("mlp.down_proj.bias", "ffn_down.bias", Hidden).optional(),
    ],
    output_norm: Adjust::Keep,
    defaults: &[],
    activations: &["silu", "swish"],
    partial_rotation: false,
    describe: |config, dimensions, rope, keys| {
        keys.set("vocab_size", dimensions.vocabulary as u32);
        if rope.base.is_none() {
            keys.set("rope.freq_base", 10_000.0_f32);
        }
        // Mistral 7B v0.1 looks back over a window; later ones say null.
        if let Some(window) = config.size("sliding_window")? {
            keys.set("attention.sliding_window", window as u32);
        }
        Ok(())
    },
};
