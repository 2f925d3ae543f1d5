//! What the one forward pass needs to know of a model. Differences between models are data here, so that no code
//! past this file asks which architecture it runs.

use crate::error::Error;
use crate::keys::Keys;
use crate::rope::{Rope, RopeStyle};

/// The largest count or width accepted from a file: products of a few of them stay far from overflow.
const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 12;
/// The widest head that the attention kernels take in every cache type.
const MOST_HEAD_DIM: usize = 512;

/// The nonlinearity of the feed-forward gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU in its tanh approximation.
    Gelu,
}

/// The mixture of experts that replaces the feed-forward block.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Experts in each layer.
    pub count: usize,
    /// Experts that each token visits.
    pub used: usize,
    /// Hidden width of one expert.
    pub feed_forward: usize,
    /// Whether the weights of the chosen experts are scaled to sum to one.
    pub normalise: bool,
    /// Factor on the weights.
    pub scale: f32,
}

/// What differs between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Index into [`Config::ropes`].
    pub rope: usize,
    /// A token attends to itself and the `window - 1` tokens before it; to all if `None`.
    pub window: Option<usize>,
}

/// A transformer decoder, as the forward pass sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// One entry a layer.
    pub layers: Vec<LayerConfig>,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, the same for queries, keys and values.
    pub head_dim: usize,
    /// Hidden width of the dense feed-forward block.
    pub feed_forward: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Positions that the model was trained for.
    pub context: usize,
    /// Added to the mean square in every norm.
    pub norm_epsilon: f32,
    /// Factor on the embeddings.
    pub embedding_scale: f32,
    /// Factor on query times key.
    pub attention_scale: f32,
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_softcap: Option<f32>,
    /// The same on logits.
    pub logit_softcap: Option<f32>,
    /// The feed-forward gate's nonlinearity.
    pub activation: Activation,
    /// Whether each query and key head is normalised before it is rotated.
    pub query_key_norm: bool,
    /// Whether the outputs of attention and feed-forward are normalised before they join the residual stream.
    pub post_norms: bool,
    /// The rotations in use: one, or one for global and one for local layers.
    pub ropes: Vec<Rope>,
    /// A mixture of experts instead of the dense feed-forward block.
    pub experts: Option<Experts>,
}

impl Config {
    /// Reads what most architectures share: pre-norm, SiLU, full attention, one rotation. An architecture's file
    /// changes what differs.
    ///
    /// # Errors
    /// [`Error::MissingKey`] and [`Error::BadValue`] for metadata that makes no model.
    pub fn common(keys: &Keys<'_>) -> Result<Config, Error> {
        let layers = keys.count("block_count", MOST_LAYERS)?;
        let width = keys.count("embedding_length", MOST)?;
        let heads = keys.count("attention.head_count", MOST)?;
        let kv_heads = keys.count_or("attention.head_count_kv", heads, MOST)?;
        let head_dim = keys.count_or("attention.key_length", (width / heads).max(1), MOST_HEAD_DIM)?;
        let value_dim = keys.count_or("attention.value_length", head_dim, MOST_HEAD_DIM)?;
        keys.check("attention.value_length", value_dim == head_dim, value_dim, || {
            format!("the key length {head_dim}")
        })?;
        keys.check("attention.head_count_kv", heads.is_multiple_of(kv_heads), kv_heads, || {
            format!("a divisor of {heads} heads")
        })?;
        let epsilon = keys
            .f32("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| Error::MissingKey { key: keys.name("attention.layer_norm_rms_epsilon") })?;
        keys.check(
            "attention.layer_norm_rms_epsilon",
            epsilon.is_finite() && epsilon >= 0.0,
            epsilon,
            || "a small positive number".into(),
        )?;
        let context = keys.count("context_length", usize::MAX >> 8)?;
        let rope = Rope::from_keys(keys, head_dim, context)?;
        Ok(Config {
            architecture: keys.architecture().to_owned(),
            name: keys.metadata().string("general.name")?.map(str::to_owned),
            layers: vec![LayerConfig { rope: 0, window: None }; layers],
            width,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.count_or("feed_forward_length", 1, MOST)?,
            vocabulary: vocabulary(keys)?,
            context,
            norm_epsilon: epsilon,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: keys.positive("attn_logit_softcapping")?,
            logit_softcap: keys.positive("final_logit_softcapping")?,
            activation: Activation::Silu,
            query_key_norm: false,
            post_norms: false,
            ropes: vec![rope],
            experts: experts(keys)?,
        })
    }

    /// The same, for models whose rotation pairs a value with the one half a head further.
    ///
    /// # Errors
    /// As [`Config::common`].
    pub fn common_halves(keys: &Keys<'_>) -> Result<Config, Error> {
        let mut config = Config::common(keys)?;
        config.ropes[0].style = RopeStyle::Halves;
        Ok(config)
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Tokens in the tokenizer's list, or what the file says where it has no list.
fn vocabulary(keys: &Keys<'_>) -> Result<usize, Error> {
    match keys.metadata().strings("tokenizer.ggml.tokens")? {
        Some(tokens) if !tokens.is_empty() => Ok(tokens.len()),
        _ => keys.count("vocab_size", MOST),
    }
}

fn experts(keys: &Keys<'_>) -> Result<Option<Experts>, Error> {
    let count = keys.count_or_zero("expert_count", MOST)?;
    if count == 0 {
        return Ok(None);
    }
    let used = keys.count("expert_used_count", MOST)?;
    keys.check("expert_used_count", used <= count, used, || format!("at most {count} experts"))?;
    let feed_forward = match keys.count_or_zero("expert_feed_forward_length", MOST)? {
        0 => keys.count("feed_forward_length", MOST)?,
        width => width,
    };
    Ok(Some(Experts {
        count,
        used,
        feed_forward,
        normalise: keys.bool("expert_weights_norm")?.unwrap_or(true),
        scale: keys.positive("expert_weights_scale")?.unwrap_or(1.0),
    }))
}
