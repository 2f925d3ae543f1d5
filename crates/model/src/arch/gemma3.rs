//! Gemma 3: local layers with a sliding window between global ones, each kind with its own rotation; norms on both
//! sides of attention and feed-forward, scaled embeddings, GELU.

use crate::config::{Activation, Config};
use crate::error::Error;
use crate::keys::Keys;
use crate::rope::Rope;

/// Every sixth layer is global.
const PATTERN: usize = 6;

/// The one size whose attention scale follows the width of the model instead of the head.
const LAYERS_OF_27B: usize = 62;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = Config::common_halves(keys)?;
    config.embedding_scale = (config.width as f32).sqrt();
    config.activation = Activation::Gelu;
    config.query_key_norm = true;
    config.post_norms = true;
    if config.layers.len() == LAYERS_OF_27B {
        config.attention_scale = 1.0 / ((config.width / config.heads) as f32).sqrt();
    }
    let window = keys.count_or_zero("attention.sliding_window", usize::MAX)?;
    if window > 0 {
        // The context was extended in the global layers alone: the local ones never see far positions.
        let base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
        keys.check("rope.freq_base_swa", base > 1.0, base, || "more than 1".into())?;
        let local = Rope { base, interpolation: 1.0, magnitude: 1.0, ..config.ropes[0].clone() };
        config.ropes.push(local);
        let global = global_layers(keys, config.layers.len())?;
        for (layer, global) in config.layers.iter_mut().zip(global) {
            if !global {
                layer.window = Some(window);
                layer.rope = 1;
            }
        }
    }
    Ok(config)
}

/// `sliding_window_pattern` is a period, whose last layer is global, or one truth value a layer, true for local.
fn global_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, Error> {
    let key = "attention.sliding_window_pattern";
    if let Some(gguf::Value::Array(gguf::Array::Bool(local))) = keys.metadata().get(&keys.name(key)) {
        keys.check(key, local.len() == layers, local.len(), || {
            format!("one value for each of {layers} layers")
        })?;
        return Ok(local.iter().map(|local| !local).collect());
    }
    let period = keys.count_or(key, PATTERN, usize::MAX)?;
    Ok((0..layers).map(|layer| layer % period == period - 1).collect())
}
