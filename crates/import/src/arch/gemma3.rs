//! Gemma 3, text only: four norms a layer stored as distances from 1, norms on Q and K, and layers that look back
//! over a window, every sixth over everything.

use super::Size::{FeedForward, Head, Hidden, KeyValue, Query};
use super::{Adjust, Architecture, matrix, vector};
use crate::Error;
use crate::config::Config;
use serde_json::Value;

/// Every this many-th layer attends to all positions, unless `config.json` says otherwise.
const PERIOD: u64 = 6;

pub(super) static GEMMA3: Architecture = Architecture {
    names: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    gguf: "gemma3",
    layer: &[
        vector("input_layernorm.weight", "attn_norm.weight", Hidden).add_one(),
        matrix("self_attn.q_proj.weight", "attn_q.weight", Query, Hidden),
        vector("self_attn.q_norm.weight", "attn_q_norm.weight", Head).add_one(),
        matrix("self_attn.k_proj.weight", "attn_k.weight", KeyValue, Hidden),
        vector("self_attn.k_norm.weight", "attn_k_norm.weight", Head).add_one(),
        matrix("self_attn.v_proj.weight", "attn_v.weight", KeyValue, Hidden),
        matrix("self_attn.o_proj.weight", "attn_output.weight", Hidden, Query),
        vector("post_attention_layernorm.weight", "post_attention_norm.weight", Hidden).add_one(),
        vector("pre_feedforward_layernorm.weight", "ffn_norm.weight", Hidden).add_one(),
        matrix("mlp.gate_proj.weight", "ffn_gate.weight", FeedForward, Hidden),
        matrix("mlp.up_proj.weight", "ffn_up.weight", FeedForward, Hidden),
        matrix("mlp.down_proj.weight", "ffn_down.weight", Hidden, FeedForward),
        vector("post_feedforward_layernorm.weight", "post_ffw_norm.weight", Hidden).add_one(),
    ],
    output_norm: Adjust::AddOne,
    // The values of the configuration class, which the larger models' files leave out.
    defaults: &[
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 131_072),
    ],
    activations: &["gelu_pytorch_tanh"],
    partial_rotation: false,
    describe: |config, dimensions, rope, keys| {
        if config.get("attn_logit_softcapping").is_some() {
            return Err(Error::Unsupported { what: "soft-capped attention scores".to_owned() });
        }
        if rope.base.is_none() {
            keys.set("rope.freq_base", 1_000_000.0_f32);
        }
        keys.set("rope.freq_base_swa", rope.sliding_base.unwrap_or(10_000.0) as f32);
        if let Some(cap) = config.number("final_logit_softcapping")? {
            keys.set("final_logit_softcapping", cap as f32);
        }
        let period = period(config)?;
        if period != 1 {
            keys.set("attention.sliding_window", config.required_size("sliding_window")? as u32);
        }
        if period != 1 && period != PERIOD {
            keys.set("attention.sliding_window_pattern", period as u32);
        }
        // Scores are divided by the root of this; readers take the head's size unless told.
        if let Some(scalar) = config.number("query_pre_attn_scalar")?
            && scalar > 0.0
            && scalar != dimensions.head as f64
        {
            keys.set("attention.scale", (1.0 / scalar.sqrt()) as f32);
        }
        Ok(())
    },
};

/// Layers from one that attends to everything to the next; 1 where all do.
fn period(config: &Config) -> Result<u64, Error> {
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        if let Some(period) = config.size(key)? {
            return Ok(period);
        }
    }
    let Some(layers) = config.get("layer_types").and_then(Value::as_array) else { return Ok(PERIOD) };
    let full = |layer: &Value| layer.as_str() == Some("full_attention");
    // A model shorter than its period has no full layer at all; any longer period describes it.
    let period = layers.iter().position(full).map_or(PERIOD.max(layers.len() as u64 + 1), |at| at as u64 + 1);
    let regular = layers.iter().zip(1..).all(|(layer, number)| full(layer) == (number % period == 0));
    if !regular {
        return Err(Error::Unsupported {
            what: "an irregular order of sliding and full attention".to_owned(),
        });
    }
    Ok(period)
}
