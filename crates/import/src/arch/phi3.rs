//! Phi-3, Phi-3.5 mini and Phi-4 mini: fused Q/K/V and gate/up matrices, LongRoPE, partial rotation.

use super::Size::{FeedForward, FeedForwardTwice, Hidden, Query, QueryKeyValue};
use super::{Adjust, Architecture, matrix, vector};

pub(super) static PHI3: Architecture = Architecture {
    names: &["Phi3ForCausalLM"],
    gguf: "phi3",
    layer: &[
        vector("input_layernorm.weight", "attn_norm.weight", Hidden),
        matrix("self_attn.qkv_proj.weight", "attn_qkv.weight", QueryKeyValue, Hidden),
        matrix("self_attn.o_proj.weight", "attn_output.weight", Hidden, Query),
        vector("post_attention_layernorm.weight", "ffn_norm.weight", Hidden),
        matrix("mlp.gate_up_proj.weight", "ffn_up.weight", FeedForwardTwice, Hidden),
        matrix("mlp.down_proj.weight", "ffn_down.weight", Hidden, FeedForward),
    ],
    output_norm: Adjust::Keep,
    defaults: &[],
    activations: &["silu", "swish"],
    partial_rotation: true,
    describe: |config, dimensions, rope, keys| {
        if rope.base.is_none() {
            keys.set("rope.freq_base", 10_000.0_f32);
        }
        // Readers require the original context even without scaling, and take a window of 0 for "none": an absent
        // key would mean the window of the first Phi-3.
        let original = config.size("original_max_position_embeddings")?.unwrap_or(dimensions.context);
        keys.set_if_absent("rope.scaling.original_context_length", original as u32);
        let window = config.size("sliding_window")?.unwrap_or(0);
        keys.set("attention.sliding_window", window as u32);
        Ok(())
    },
};
