//! A model file as the source of f32 weights: only what is asked for is in memory.

use std::path::Path;

use gguf::File;
use kernels::Format;
use model::weights::{FeedForward, Layer, Projection, Weights};
use model::{Config, Stored};
use rayon::prelude::*;
use text::Tokenizer;

use super::block::{Block, Norms, Role, Setting, check_finite};
use super::linear::Linear;
use crate::error::Error;

/// An open model whose weights are read as f32.
pub struct Source {
    /// The file.
    pub file: File,
    /// Its configuration.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its weights by role.
    pub weights: Weights,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("paths", &self.file.paths()).finish_non_exhaustive()
    }
}

/// The angles of one length of text, for each of the model's rotations.
#[derive(Clone, Debug)]
pub struct Window {
    /// Tokens.
    pub length: usize,
    angles: Vec<Vec<f32>>,
}

impl Source {
    /// Opens a model file and checks it as the engine would.
    ///
    /// # Errors
    /// Whatever is wrong with the file.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let file = File::open(path)?;
        let config = model::arch::configure(file.metadata())?;
        let weights = Weights::of_file(&file, &config)?;
        let tokenizer = Tokenizer::from_metadata(file.metadata()).map_err(model::Error::from)?;
        Ok(Source { file, config, tokenizer, weights })
    }

    /// Windows of `length` tokens.
    pub fn window(&self, length: usize) -> Window {
        let fill = |rotation: &model::Rotation| {
            let mut angles = vec![0.0; length * rotation.dimensions];
            rotation.fill(length, 0, &mut angles);
            angles
        };
        Window { length, angles: self.weights.rotations.iter().map(fill).collect() }
    }

    /// What block `layer` needs beside its weights.
    pub fn setting<'a>(&'a self, window: &'a Window, layer: usize) -> Setting<'a> {
        let rope = self.config.layers[layer].rope;
        Setting {
            config: &self.config,
            layer,
            rotation: &self.weights.rotations[rope],
            angles: &window.angles[rope],
            length: window.length,
        }
    }

    /// The residual stream before the first block: `[token][width]`.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let (width, embedding) = (self.config.width, &self.weights.embedding);
        let info = &self.file.tensors()[embedding.tensor];
        let (table, row_bytes) = (self.file.data(info), embedding.format.row_bytes(width));
        let mut stream = vec![0.0; tokens.len() * width];
        stream.par_chunks_mut(width).zip(tokens).for_each(|(row, &token)| {
            embedding.format.dequantize_row(&table[token as usize * row_bytes..][..row_bytes], row);
            kernels::ops::scale(row, self.config.embedding_scale);
        });
        check_finite(&stream, || info.name.clone())?;
        Ok(stream)
    }

    /// The weights of one block.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a matrix with NaN or infinity, [`Error::Experts`].
    pub fn block(&self, layer: usize) -> Result<Block, Error> {
        let Layer {
            attention_norm,
            query,
            key,
            value,
            query_norm,
            key_norm,
            attention_output,
            post_attention_norm,
            feed_forward_norm,
            feed_forward,
            post_feed_forward_norm,
        } = &self.weights.layers[layer];
        let FeedForward::Dense { gate, up, down } = feed_forward else {
            return Err(Error::Experts { architecture: self.config.architecture.clone() });
        };
        let mut block = Block {
            norms: Norms {
                attention: attention_norm.clone(),
                query: query_norm.clone(),
                key: key_norm.clone(),
                post_attention: post_attention_norm.clone(),
                feed_forward: feed_forward_norm.clone(),
                post_feed_forward: post_feed_forward_norm.clone(),
            },
            ..Block::default()
        };
        let projections = [query, key, value, attention_output, gate, up, down];
        for (role, projection) in super::ROLES.into_iter().zip(projections) {
            *block.matrix_mut(role) = self.linear(projection)?;
        }
        Ok(block)
    }

    /// A product's weights.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn linear(&self, projection: &Projection) -> Result<Linear, Error> {
        let stored = &projection.matrix;
        let weight = dequantize(stored.format, stored.file_rows(&self.file), stored.columns);
        check_finite(&weight, || self.file.tensors()[stored.tensor].name.clone())?;
        let (rows, columns, bias) = (stored.rows, stored.columns, projection.bias.clone());
        Ok(Linear { rows, columns, weight, bias })
    }

    /// The block's matrix in this role, as it lies in the file.
    ///
    /// # Errors
    /// [`Error::Experts`].
    pub fn stored(&self, layer: usize, role: Role) -> Result<&Stored, Error> {
        let layer = &self.weights.layers[layer];
        let FeedForward::Dense { gate, up, down } = &layer.feed_forward else {
            return Err(Error::Experts { architecture: self.config.architecture.clone() });
        };
        let projection = match role {
            Role::Query => &layer.query,
            Role::Key => &layer.key,
            Role::Value => &layer.value,
            Role::AttentionOutput => &layer.attention_output,
            Role::Gate => gate,
            Role::Up => up,
            Role::Down => down,
        };
        Ok(&projection.matrix)
    }
}

/// Rows of a file as f32.
pub(crate) fn dequantize(format: &Format, rows: &[u8], columns: usize) -> Vec<f32> {
    let row_bytes = format.row_bytes(columns);
    let mut out = vec![0.0; rows.len() / row_bytes * columns];
    out.par_chunks_mut(columns)
        .zip(rows.par_chunks(row_bytes))
        .for_each(|(out, row)| format.dequantize_row(row, out));
    out
}
