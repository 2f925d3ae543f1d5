//! All weights of a model in memory, and the file they come from and go to.

use std::path::Path;

use gguf::types::F32;
use gguf::{Metadata, TensorSpec, Value, Writer};

use super::vocabulary;
use crate::bytes::bytes_of;
use crate::error::Error;
use crate::float::{Block, Head, Linear, Norms, ROLES, Source};
use crate::random::Random;

/// What a model from nothing is like. Its architecture is `llama`, its output matrix is not its embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads, each of `width / heads` values.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward blocks.
    pub feed_forward: usize,
    /// Tokens that it can look back on.
    pub context: usize,
    /// Tokens of its vocabulary, at most.
    pub vocabulary: usize,
}

/// The weights of a model, or their slopes.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// `[vocabulary][width]`.
    pub embedding: Vec<f32>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The output side.
    pub head: Head,
}

impl Parameters {
    /// Reads a model whose output matrix is not its embedding table.
    ///
    /// # Errors
    /// Those of [`Source::dense_block`].
    pub fn read(source: &Source) -> Result<Parameters, Error> {
        let tokens: Vec<u32> = (0..source.config.vocabulary as u32).collect();
        let blocks = (0..source.config.layers.len()).map(|layer| source.dense_block(layer));
        Ok(Parameters {
            embedding: source.embed(&tokens)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            head: source.head()?,
        })
    }

    /// The same with all values 0.
    pub fn zeros(&self) -> Parameters {
        let mut zeros = self.clone();
        zeros.tensors_mut().into_iter().for_each(|tensor| tensor.fill(0.0));
        zeros
    }

    /// All tensors in the order of the file.
    pub fn tensors(&self) -> Vec<&Vec<f32>> {
        let mut tensors = vec![&self.embedding];
        for block in &self.blocks {
            tensors.extend([&block.norms.attention, &block.norms.feed_forward]);
            tensors.extend(block.matrices.iter().map(|linear| &linear.weight));
        }
        tensors.extend([&self.head.norm, &self.head.output.weight]);
        tensors
    }

    /// The same, to be changed.
    pub fn tensors_mut(&mut self) -> Vec<&mut Vec<f32>> {
        let mut tensors = vec![&mut self.embedding];
        for block in &mut self.blocks {
            tensors.extend([&mut block.norms.attention, &mut block.norms.feed_forward]);
            tensors.extend(block.matrices.iter_mut().map(|linear| &mut linear.weight));
        }
        tensors.extend([&mut self.head.norm, &mut self.head.output.weight]);
        tensors
    }
}

/// Writes a model with random weights and a vocabulary learned from `text`: what training starts from.
///
/// # Errors
/// Those of [`Writer`], and of a shape that is no model.
pub fn start(path: &Path, shape: &Shape, text: &str, seed: u64) -> Result<(), Error> {
    let mut metadata = metadata(shape);
    vocabulary::learn(text, shape.vocabulary, &mut metadata);
    let vocabulary = metadata.strings("tokenizer.ggml.tokens")?.map_or(0, <[String]>::len);
    metadata.insert("llama.vocab_size", Value::U32(vocabulary as u32));
    let config = model::arch::configure(&metadata)?;
    let mut random = Random::new(seed);
    let mut matrix = |rows: usize, columns: usize, share: f32| {
        let size = share / (columns as f32).sqrt();
        let weight = (0..rows * columns).map(|_| size * random.normal()).collect();
        Linear { rows, columns, weight, bias: None }
    };
    let (width, narrow) = (shape.width, shape.width / shape.heads * shape.kv_heads);
    // What every block adds to the stream begins small, the smaller the more there are (Radford et al., 2019).
    let small = 1.0 / (2.0 * shape.layers as f32).sqrt();
    let embedding = matrix(vocabulary, width, 1.0).weight;
    let blocks = (0..shape.layers).map(|_| Block {
        norms: Norms { attention: vec![1.0; width], feed_forward: vec![1.0; width], ..Norms::default() },
        matrices: [
            matrix(width, width, 1.0),
            matrix(narrow, width, 1.0),
            matrix(narrow, width, 1.0),
            matrix(width, width, small),
            matrix(shape.feed_forward, width, 1.0),
            matrix(shape.feed_forward, width, 1.0),
            matrix(width, shape.feed_forward, small),
        ],
        mixture: None,
    });
    let blocks = blocks.collect();
    let head = Head::new(&config, vec![1.0; width], matrix(vocabulary, width, small));
    write(path, &metadata, &Parameters { embedding, blocks, head })
}

fn metadata(shape: &Shape) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", Value::String("llama".to_owned()));
    metadata.insert("general.name", Value::String("trained from scratch".to_owned()));
    let mut put = |key: &str, value: Value| metadata.insert(format!("llama.{key}"), value);
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    put("block_count", number(shape.layers));
    put("context_length", number(shape.context));
    put("embedding_length", number(shape.width));
    put("feed_forward_length", number(shape.feed_forward));
    put("attention.head_count", number(shape.heads));
    put("attention.head_count_kv", number(shape.kv_heads));
    put("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    put("rope.dimension_count", number(shape.width / shape.heads));
    put("rope.freq_base", Value::F32(1e4));
    metadata
}

/// Writes weights as a model file.
///
/// # Errors
/// Those of [`Writer`].
pub fn write(path: &Path, metadata: &Metadata, parameters: &Parameters) -> Result<(), Error> {
    let specs = specs(parameters);
    let mut writer = Writer::create(path, metadata, &specs)?;
    for (spec, tensor) in specs.iter().zip(parameters.tensors()) {
        writer.write_tensor(&spec.name, &bytes_of(tensor))?;
    }
    Ok(writer.finish()?)
}

/// Names and shapes, in the order of [`Parameters::tensors`].
fn specs(parameters: &Parameters) -> Vec<TensorSpec> {
    let spec = |name: String, shape: &[usize]| {
        let shape = shape.iter().map(|&size| size as u64).collect();
        TensorSpec { name, shape, type_id: F32 }
    };
    let (head, width) = (&parameters.head, parameters.head.norm.len());
    let table = [width, head.output.rows];
    let mut specs = vec![spec("token_embd.weight".to_owned(), &table)];
    for (layer, block) in parameters.blocks.iter().enumerate() {
        let name = |name: &str| format!("blk.{layer}.{name}.weight");
        specs.extend([spec(name("attn_norm"), &[width]), spec(name("ffn_norm"), &[width])]);
        for (role, matrix) in ROLES.iter().zip(NAMES) {
            let linear = block.matrix(*role);
            specs.push(spec(name(matrix), &[linear.columns, linear.rows]));
        }
    }
    specs.push(spec("output_norm.weight".to_owned(), &[width]));
    specs.push(spec("output.weight".to_owned(), &table));
    specs
}

/// The matrices of a block as files name them, in the order of [`ROLES`].
const NAMES: [&str; ROLES.len()] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
