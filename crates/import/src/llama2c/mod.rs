//! llama2.c checkpoints: a header of seven integers and all weights in F32, in a fixed order.
//!
//! Source: `model.py` and `run.c` of <https://github.com/karpathy/llama2.c>, export version 0. Rows of Q and K are
//! already in the order that GGUF's `llama` architecture rotates, so nothing changes places.

mod vocabulary;

use crate::float::Stored;
use crate::input::Input;
use crate::plan::{Change, Plan, StoredTensor};
use crate::{Error, Options, Summary};
use gguf::Metadata;
use std::path::Path;

/// Bytes of the header.
const HEADER_BYTES: u64 = 7 * 4;
/// The first bytes of later export versions, which have another header.
const LATER_VERSIONS: i32 = 0x616b_3432;

/// The seven numbers of the header.
#[derive(Debug, Clone, Copy)]
struct Header {
    hidden: u64,
    feed_forward: u64,
    layers: u64,
    heads: u64,
    key_value_heads: u64,
    vocabulary: u64,
    /// Whether the output matrix is the embedding.
    tied: bool,
    context: u64,
}

pub(crate) fn import(source: &Path, target: &Path, options: &Options<'_>) -> Result<Summary, Error> {
    let input = Input::open(source, "it holds the weights")?;
    let header = Header::read(&input)?;
    let head = header.hidden / header.heads;
    let plan = header.plan(&input, options)?;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("general.type", "model");
    let name = source.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    metadata.insert("general.name", name);
    for (key, value) in [
        ("llama.block_count", header.layers),
        ("llama.context_length", header.context),
        ("llama.embedding_length", header.hidden),
        ("llama.feed_forward_length", header.feed_forward),
        ("llama.attention.head_count", header.heads),
        ("llama.attention.head_count_kv", header.key_value_heads),
        ("llama.attention.key_length", head),
        ("llama.attention.value_length", head),
        ("llama.rope.dimension_count", head),
        ("llama.vocab_size", header.vocabulary),
    ] {
        metadata.insert(key, value as u32); // each was an i32 in the header
    }
    // Constants of run.c.
    metadata.insert("llama.rope.freq_base", 10_000.0_f32);
    metadata.insert("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    metadata.insert("general.file_type", plan.file_type());
    metadata.insert("general.quantization_version", 2_u32);
    let vocabulary = vocabulary::find(source, header.vocabulary)?;
    vocabulary::read(&vocabulary, header.vocabulary)?.describe(&mut metadata);
    vocabulary::describe_special(&mut metadata);

    let bytes = plan.write(&metadata, std::slice::from_ref(&input), target, options)?;
    Ok(Summary {
        architecture: "llama".to_owned(),
        sources: vec![source.to_path_buf(), vocabulary],
        tensors: plan.len(),
        parameters: plan.parameters,
        bytes,
        warnings: Vec::new(),
    })
}

impl Header {
    fn read(input: &Input) -> Result<Header, Error> {
        let mut bytes = [0; HEADER_BYTES as usize];
        input.read(0, &mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let number = |index: usize| i32::from_le_bytes(numbers[index]);
        let wrong =
            |field, got: i32| Error::Checkpoint { path: input.path.clone(), field, got: i64::from(got) };
        if number(0) == LATER_VERSIONS {
            return Err(wrong("the version mark of a later export", number(0)));
        }
        let positive = |index: usize, field| match number(index) {
            value if value > 0 => Ok(value as u64),
            value => Err(wrong(field, value)),
        };
        if number(5) == 0 {
            return Err(wrong("the vocabulary size", 0));
        }
        let header = Header {
            hidden: positive(0, "the embedding length")?,
            feed_forward: positive(1, "the feed-forward length")?,
            layers: positive(2, "the number of layers")?,
            heads: positive(3, "the number of heads")?,
            key_value_heads: positive(4, "the number of key-value heads")?,
            vocabulary: u64::from(number(5).unsigned_abs()),
            tied: number(5) > 0, // a negative size marks an output matrix of its own
            context: positive(6, "the context length")?,
        };
        if !header.hidden.is_multiple_of(2 * header.heads) {
            return Err(wrong("the embedding length, no multiple of twice the heads,", number(0)));
        }
        if !header.heads.is_multiple_of(header.key_value_heads) {
            return Err(wrong("the number of key-value heads, no divisor of the heads,", number(4)));
        }
        Ok(header)
    }

    /// The weights in the order of the file: each kind for all layers, then the next kind.
    fn plan(&self, input: &Input, options: &Options<'_>) -> Result<Plan, Error> {
        let head = self.hidden / self.heads;
        let key_value = self.key_value_heads * head;
        let hidden = self.hidden;
        let kinds: [(&str, &[u64]); 9] = [
            ("attn_norm", &[hidden]),
            ("attn_q", &[hidden, hidden]),
            ("attn_k", &[key_value, hidden]),
            ("attn_v", &[key_value, hidden]),
            ("attn_output", &[hidden, hidden]),
            ("ffn_norm", &[hidden]),
            ("ffn_gate", &[self.feed_forward, hidden]),
            ("ffn_down", &[hidden, self.feed_forward]),
            ("ffn_up", &[self.feed_forward, hidden]),
        ];
        let values = |shape: &[u64]| shape.iter().product::<u64>(); // two sizes below 2^31
        let table = [self.vocabulary, hidden];
        // Sines and cosines of every position stand before the output matrix; they follow from the header.
        let rotations = u128::from(self.context) * u128::from(head);
        let per_layer: u128 = kinds.iter().map(|(_, shape)| u128::from(values(shape))).sum();
        let output = if self.tied { 0 } else { u128::from(values(&table)) };
        let all = u128::from(values(&table))
            + u128::from(self.layers) * per_layer
            + u128::from(hidden)
            + rotations
            + output;
        let expected = u64::try_from(u128::from(HEADER_BYTES) + 4 * all).unwrap_or(u64::MAX);
        if expected != input.bytes {
            return Err(Error::Length { path: input.path.clone(), expected, actual: input.bytes });
        }
        // From here on every offset lies in the file, so nothing overflows and the lists stay small.
        let mut offset = HEADER_BYTES;
        let mut take = |shape: &[u64]| {
            let tensor = StoredTensor { input: 0, offset, stored: Stored::F32, shape: shape.to_vec() };
            offset += 4 * values(shape);
            tensor
        };
        let embedding = take(&table);
        let mut layers = Vec::new();
        for (kind, shape) in kinds {
            for layer in 0..self.layers {
                layers.push((layer, format!("blk.{layer}.{kind}.weight"), take(shape)));
            }
        }
        let norm = take(&[hidden]);
        take(&[self.context, head]);
        let output = (!self.tied).then(|| take(&table));

        let mut plan = Plan::default();
        let mut add =
            |name: &str, tensor| plan.add_stored(name.to_owned(), tensor, Change::Keep, options.float);
        add("token_embd.weight", embedding);
        add("output_norm.weight", norm);
        if let Some(output) = output {
            add("output.weight", output);
        }
        layers.sort_by_key(|(layer, ..)| *layer); // stable: kinds keep their order
        for (_, name, tensor) in layers {
            add(&name, tensor);
        }
        Ok(plan)
    }
}
