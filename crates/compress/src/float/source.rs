//! A model file as the source of f32 weights: only what is asked for is in memory.

use std::path::Path;
use std::sync::Arc;

use gguf::File;
use kernels::Format;
use model::weights::{FeedForward, Layer, Projection, Weights};
use model::{Config, Stored};
use rayon::prelude::*;
use text::Tokenizer;

use super::block::{Block, Norms, ROLES, Role, Setting, check_finite};
use super::fold::{Folds, PLACES};
use super::linear::Linear;
use super::mixture::Mixture;
use crate::error::Error;

/// An open model whose weights are read as f32.
pub struct Source {
    /// The file; experts are read from it as long as their block is in use.
    pub file: Arc<File>,
    /// Its configuration.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its weights by role.
    pub weights: Weights,
    /// What is folded in its blocks when they are read, by layer; none beyond the end.
    pub folds: Vec<Folds>,
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
        let file = Arc::new(File::open(path)?);
        let config = model::arch::configure(file.metadata())?;
        let weights = Weights::of_file(&file, &config)?;
        let tokenizer = Tokenizer::from_metadata(file.metadata()).map_err(model::Error::from)?;
        Ok(Source { file, config, tokenizer, weights, folds: Vec::new() })
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

    /// The weights of one block; experts stay in the file, but are looked at.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a matrix with NaN or infinity.
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
        let mut projections = vec![query, key, value, attention_output];
        match feed_forward {
            FeedForward::Dense { gate, up, down } => projections.extend([gate, up, down]),
            FeedForward::Experts { router, gate, up, down } => {
                block.mixture = self.mixture(router, [gate, up, down])?;
            }
        }
        for (role, projection) in ROLES.into_iter().zip(projections) {
            *block.matrix_mut(role) = self.linear(projection)?;
        }
        for (place, fold) in PLACES.into_iter().zip(self.folds.get(layer).into_iter().flatten()) {
            if let Some(fold) = fold {
                fold.apply(place, &self.config, &mut block);
            }
        }
        Ok(block)
    }

    /// The weights of one block without experts.
    ///
    /// # Errors
    /// Those of [`Source::block`]; [`Error::Experts`].
    pub fn dense_block(&self, layer: usize) -> Result<Block, Error> {
        let block = self.block(layer)?;
        match block.mixture {
            None => Ok(block),
            Some(_) => Err(Error::Experts { architecture: self.config.architecture.clone() }),
        }
    }

    fn mixture(&self, router: &Stored, [gate, up, down]: [&[Stored]; 3]) -> Result<Option<Mixture>, Error> {
        gate.iter().chain(up).chain(down).try_for_each(|stored| self.look_at(stored))?;
        let router = self.stored_linear(router, None)?;
        Ok(self.config.experts.clone().map(|config| Mixture {
            file: self.file.clone(),
            config,
            router,
            matrices: (0..gate.len()).map(|expert| [gate[expert], up[expert], down[expert]]).collect(),
        }))
    }

    /// Refuses rows with NaN or infinity without keeping them.
    fn look_at(&self, stored: &Stored) -> Result<(), Error> {
        let rows = stored.file_rows(&self.file).par_chunks(stored.format.row_bytes(stored.columns));
        rows.try_for_each_init(
            || vec![0.0; stored.columns],
            |values, row| {
                stored.format.dequantize_row(row, values);
                check_finite(values, || self.file.tensors()[stored.tensor].name.clone())
            },
        )
    }

    /// A product's weights.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn linear(&self, projection: &Projection) -> Result<Linear, Error> {
        self.stored_linear(&projection.matrix, projection.bias.clone())
    }

    fn stored_linear(&self, stored: &Stored, bias: Option<Vec<f32>>) -> Result<Linear, Error> {
        let weight = dequantize(stored.format, stored.file_rows(&self.file), stored.columns);
        check_finite(&weight, || self.file.tensors()[stored.tensor].name.clone())?;
        Ok(Linear { rows: stored.rows, columns: stored.columns, weight, bias })
    }

    /// The block's matrix in this role, as it lies in the file; of `expert`, where it has experts.
    pub fn stored(&self, layer: usize, role: Role, expert: usize) -> &Stored {
        let layer = &self.weights.layers[layer];
        let feed_forward = |place: usize| match &layer.feed_forward {
            FeedForward::Dense { gate, up, down } => &[gate, up, down][place].matrix,
            FeedForward::Experts { gate, up, down, .. } => &[gate, up, down][place][expert],
        };
        match role {
            Role::Query => &layer.query.matrix,
            Role::Key => &layer.key.matrix,
            Role::Value => &layer.value.matrix,
            Role::AttentionOutput => &layer.attention_output.matrix,
            Role::Gate => feed_forward(0),
            Role::Up => feed_forward(1),
            Role::Down => feed_forward(2),
        }
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
