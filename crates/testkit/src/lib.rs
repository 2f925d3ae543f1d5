//! Random models: tiny ones for tests, of any supported architecture in any number format, and ones in the shape of
//! real models for measuring. The same seed gives the same bytes.
//!
//! Tiny ones say nothing sensible but exercise everything: a model of each architecture is a few hundred kilobytes, has a working
//! tokenizer and a chat template, and takes milliseconds to write. Nothing here depends on the code under test except the
//! file writer.
//!
//! ```
//! let folder = std::env::temp_dir();
//! let path = folder.join("testkit-doc.gguf");
//! testkit::tiny_model(&testkit::TinyOptions::new("llama")).write(&path);
//! assert!(gguf::File::open(&path).unwrap().tensor("token_embd.weight").is_some());
//! # std::fs::remove_file(path).unwrap();
//! ```

mod large;
mod random;
pub mod server;
mod tensors;
mod tokenizer;

pub use gguf::types::F32;
pub use large::{SHAPES, Shape, Types, contents, write_large};
pub use random::Random;
pub use tensors::{random_row, tensor_data};
pub use tokenizer::{TokenizerKind, tokenizer_metadata};

use std::path::Path;

use gguf::{Metadata, TensorSpec, Value, Writer};

/// The ChatML template that tiny models carry.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
     + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// What a tiny model is like. [`TinyOptions::new`] has good values for every architecture; change what a test is about.
#[derive(Debug, Clone)]
pub struct TinyOptions {
    /// `llama`, `qwen2`, `qwen3`, `gemma3`, `phi3` or `qwen3moe`.
    pub architecture: String,
    /// Layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub width: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u64,
    /// Values in one head.
    pub head_dim: u64,
    /// Width of the feed-forward layer; of one expert where there are experts.
    pub feed_forward: u64,
    /// Experts and how many of them each token uses; only for architectures that have them.
    pub experts: Option<(u64, u64)>,
    /// Positions the model claims to be trained for.
    pub context: u64,
    /// Sliding window in positions; only for architectures that have one.
    pub window: Option<u64>,
    /// ggml id of the format of all matrices and the embedding.
    pub type_id: u32,
    /// Whether the embedding also serves as the output matrix.
    pub tied: bool,
    /// The tokenizer in the file.
    pub tokenizer: TokenizerKind,
    /// The chat template in the file.
    pub chat_template: Option<String>,
    /// Whether control tokens have no chance against text: greedy answers are then text and never end. Needs an output
    /// matrix of its own.
    pub endless: bool,
    /// Same seed, same bytes.
    pub seed: u64,
    /// Metadata added at the end, or put in place of what would be there.
    pub extra: Vec<(String, Value)>,
}

impl TinyOptions {
    /// A model of two layers and F32 matrices; gemma3 has seven, so that one of them is global.
    pub fn new(architecture: &str) -> TinyOptions {
        let sentence_pieces = matches!(architecture, "gemma3" | "phi3");
        TinyOptions {
            architecture: architecture.to_owned(),
            layers: if architecture == "gemma3" { 7 } else { 2 },
            width: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            feed_forward: 96,
            experts: (architecture == "qwen3moe").then_some((8, 2)),
            context: 512,
            window: (architecture == "gemma3").then_some(16),
            type_id: F32,
            tied: matches!(architecture, "gemma3"),
            tokenizer: if sentence_pieces { TokenizerKind::SentencePiece } else { TokenizerKind::Bytes },
            chat_template: Some(CHAT_TEMPLATE.to_owned()),
            endless: false,
            seed: 1,
            extra: Vec::new(),
        }
    }

    /// The same with matrices in another format (a ggml id), widened where its blocks need it.
    pub fn with_type(mut self, type_id: u32) -> TinyOptions {
        let block = gguf::types::type_info(type_id).map_or(1, |info| info.values);
        let whole = |value: u64| value.next_multiple_of(block);
        self.width = whole(self.width);
        self.feed_forward = whole(self.feed_forward);
        self.head_dim = whole(self.head_dim * self.heads) / self.heads;
        self.type_id = type_id;
        self
    }

    /// The same from another seed.
    pub fn with_seed(mut self, seed: u64) -> TinyOptions {
        self.seed = seed;
        self
    }
}

/// A model in memory: what its file will hold.
#[derive(Debug, Clone)]
pub struct TinyModel {
    /// Everything the file says about itself.
    pub metadata: Metadata,
    /// Each tensor with its data, in the order of the file.
    pub tensors: Vec<(TensorSpec, Vec<u8>)>,
}

impl TinyModel {
    /// Writes the file.
    ///
    /// # Panics
    /// Where it cannot be written: a test has no use for the error.
    pub fn write(&self, path: &Path) {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut writer = Writer::create(path, &self.metadata, &specs).expect("a tiny model is valid");
        for (spec, data) in &self.tensors {
            writer.write_tensor(&spec.name, data).expect("its data has the announced size");
        }
        writer.finish().expect("its file can be written");
    }

    /// A tensor's data, for tests that look at or change it.
    pub fn data_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.tensors.iter_mut().find(|(spec, _)| spec.name == name).map(|(_, data)| data)
    }
}

/// Makes the model.
pub fn tiny_model(options: &TinyOptions) -> TinyModel {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", Value::String(options.architecture.clone()));
    metadata.insert("general.name", Value::String(format!("tiny {}", options.architecture)));
    for (key, value) in architecture_metadata(options) {
        metadata.insert(format!("{}.{key}", options.architecture), value);
    }
    let vocabulary = tokenizer_metadata(options.tokenizer, &mut metadata);
    if let Some(template) = &options.chat_template {
        metadata.insert("tokenizer.chat_template", Value::String(template.clone()));
    }
    for (key, value) in &options.extra {
        metadata.insert(key.clone(), value.clone());
    }
    let mut random = Random::new(options.seed);
    let tensors = tensors::specs(options, vocabulary);
    let tensors = tensors.into_iter().map(|spec| {
        let mut data = tensor_data(&spec, &mut random);
        if options.endless && spec.name == "output.weight" {
            // Zero bytes are zeros in every format, and some other token's logit is always above zero.
            let row = data.len() / vocabulary as usize;
            data[..row * options.tokenizer.leading_control_tokens()].fill(0);
        }
        (spec, data)
    });
    TinyModel { metadata, tensors: tensors.collect() }
}

/// The keys under the architecture's own prefix.
fn architecture_metadata(options: &TinyOptions) -> Vec<(&'static str, Value)> {
    let number = |value: u64| Value::U32(u32::try_from(value).expect("tiny"));
    let mut keys = vec![
        ("block_count", number(options.layers)),
        ("context_length", number(options.context)),
        ("embedding_length", number(options.width)),
        ("feed_forward_length", number(options.feed_forward)),
        ("attention.head_count", number(options.heads)),
        ("attention.head_count_kv", number(options.kv_heads)),
        ("attention.key_length", number(options.head_dim)),
        ("attention.value_length", number(options.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("rope.dimension_count", number(options.head_dim)),
        ("rope.freq_base", Value::F32(if options.architecture == "gemma3" { 1e6 } else { 1e4 })),
    ];
    if let Some(window) = options.window {
        keys.push(("attention.sliding_window", number(window)));
    }
    if let Some((experts, used)) = options.experts {
        keys.push(("expert_count", number(experts)));
        keys.push(("expert_used_count", number(used)));
        keys.push(("expert_feed_forward_length", number(options.feed_forward)));
    }
    keys
}
