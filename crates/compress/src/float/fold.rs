//! Other coordinates for what passes between two products, undone where it is read: the model computes the same, but
//! its matrices may round better.
//!
//! Factors by channel give channels with large activations finer steps (AWQ: Lin et al., 2023, arXiv 2306.00978; SmoothQuant:
//! Xiao et al., 2022, arXiv 2211.10438). A Hadamard transform with random signs makes values of one size out of large and
//! small ones (QuIP#: Tseng et al., 2024, arXiv 2402.04396; QuaRot: Ashkboos et al., 2024, arXiv 2404.00456). Neither leaves
//! a trace in the graph: who writes the channels and who reads them take it up.

use model::Config;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::backward::Norm;
use super::block::{Block, Role};
use super::linear::Linear;
use crate::hessian::mean_squares;

/// Where a block can be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From the norm before attention to query, key and value.
    Attention,
    /// From value to the output of attention, which passes on averages of it.
    Value,
    /// From the norm before the feed-forward block to gate and up.
    FeedForward,
    /// From up, by which the activated gate is multiplied, to down.
    Hidden,
}

/// All places, in the order in which a token meets them.
pub const PLACES: [Place; 4] = [Place::Attention, Place::Value, Place::FeedForward, Place::Hidden];

/// Who writes the channels of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A norm by its weight.
    Norm(Norm),
    /// A product by its rows and its bias.
    Product(Role),
}

impl Place {
    /// Who writes its channels.
    pub fn writer(self) -> Writer {
        match self {
            Place::Attention => Writer::Norm(Norm::Attention),
            Place::Value => Writer::Product(Role::Value),
            Place::FeedForward => Writer::Norm(Norm::FeedForward),
            Place::Hidden => Writer::Product(Role::Up),
        }
    }

    /// Who reads them.
    pub fn readers(self) -> &'static [Role] {
        match self {
            Place::Attention => &[Role::Query, Role::Key, Role::Value],
            Place::Value => &[Role::AttentionOutput],
            Place::FeedForward => &[Role::Gate, Role::Up],
            Place::Hidden => &[Role::Down],
        }
    }
}

/// Other coordinates of the channels of a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fold {
    /// Every channel is divided by its factor.
    Scale(Vec<f32>),
    /// Whole blocks of so many channels, a power of two, are multiplied by their signs and go through a Hadamard
    /// transform.
    Rotation {
        /// `[channels]`, 1 or -1.
        signs: Vec<f32>,
        /// Channels of a transform.
        block: usize,
    },
}

/// What is folded in a block, one for each of [`PLACES`]. At [`Place::Value`] it is told for the heads of keys and values.
pub type Folds = [Option<Fold>; PLACES.len()];

impl Fold {
    /// Brings values of the channels, `[..][channels]`, into the new coordinates.
    pub fn values(&self, x: &mut [f32]) {
        self.each_row(x, |fold, x| match fold {
            Fold::Scale(factors) => x.iter_mut().zip(factors).for_each(|(x, factor)| *x /= factor),
            Fold::Rotation { signs, block } => rotate(x, signs, *block, 1),
        });
    }

    /// Brings values back from the new coordinates.
    pub fn unfold_values(&self, x: &mut [f32]) {
        self.each_row(x, |fold, x| match fold {
            Fold::Scale(factors) => x.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor),
            Fold::Rotation { signs, block } => rotate_back(x, signs, *block, 1),
        });
    }

    /// Changes weights that multiply values of the channels, `[..][channels]`, so that they give the same with the new
    /// coordinates.
    pub fn weights(&self, weights: &mut [f32]) {
        match self {
            Fold::Scale(_) => self.unfold_values(weights),
            // The inverse of a rotation is its transpose.
            Fold::Rotation { .. } => self.values(weights),
        }
    }

    /// Undoes [`Fold::weights`].
    pub fn unfold_weights(&self, weights: &mut [f32]) {
        match self {
            Fold::Scale(_) => self.values(weights),
            Fold::Rotation { .. } => self.unfold_values(weights),
        }
    }

    /// Brings the rows of a matrix, `[channels][columns]`, into the new coordinates: what they are multiplied with gives
    /// values in them.
    pub fn rows(&self, matrix: &mut [f32], columns: usize) {
        match self {
            Fold::Scale(factors) => {
                let rows = matrix.par_chunks_mut(columns).zip(factors);
                rows.for_each(|(row, factor)| row.iter_mut().for_each(|x| *x /= factor));
            }
            Fold::Rotation { signs, block } => {
                let blocks = matrix.par_chunks_mut(block * columns).zip(signs.par_chunks(*block));
                blocks.for_each(|(rows, signs)| rotate(rows, signs, *block, columns));
            }
        }
    }

    /// Undoes [`Fold::rows`].
    pub(crate) fn unfold_rows(&self, matrix: &mut [f32], columns: usize) {
        match self {
            Fold::Scale(factors) => {
                let rows = matrix.par_chunks_mut(columns).zip(factors);
                rows.for_each(|(row, factor)| row.iter_mut().for_each(|x| *x *= factor));
            }
            Fold::Rotation { signs, block } => {
                let blocks = matrix.par_chunks_mut(block * columns).zip(signs.par_chunks(*block));
                blocks.for_each(|(rows, signs)| rotate_back(rows, signs, *block, columns));
            }
        }
    }

    /// Changes a block so that it computes the same with the channels of `place` in the new coordinates.
    pub fn apply(&self, place: Place, config: &Config, block: &mut Block) {
        match place.writer() {
            Writer::Norm(norm) => {
                if let Some(norm) = block.norms.get_mut(norm) {
                    self.values(norm);
                }
            }
            Writer::Product(role) => {
                let Linear { columns, weight, bias, .. } = block.matrix_mut(role);
                self.rows(weight, *columns);
                if let Some(bias) = bias {
                    self.values(bias);
                }
            }
        }
        let read = self.as_read(place, config);
        for &role in place.readers() {
            read.weights(&mut block.matrix_mut(role).weight);
        }
    }

    /// As the readers of `place` see it: all query heads that share a value head share its coordinates.
    pub(crate) fn as_read(&self, place: Place, config: &Config) -> Fold {
        let group = if place == Place::Value { config.heads / config.kv_heads } else { 1 };
        let repeated = |channels: &[f32]| {
            let heads = channels.chunks(config.head_dim);
            heads.flat_map(|head| std::iter::repeat_n(head, group)).flatten().copied().collect()
        };
        match self {
            _ if group == 1 => self.clone(),
            Fold::Scale(factors) => Fold::Scale(repeated(factors)),
            Fold::Rotation { signs, block } => Fold::Rotation { signs: repeated(signs), block: *block },
        }
    }

    /// The mean squares of the channels before folding, given values `x` in the new coordinates and their mean squares.
    pub(crate) fn unfolded_squares(&self, x: &[f32], squares: &[f32]) -> Vec<f32> {
        match self {
            Fold::Scale(factors) => {
                squares.iter().zip(factors).map(|(x, factor)| x * factor * factor).collect()
            }
            Fold::Rotation { signs, .. } => {
                let mut before = x.to_vec();
                self.unfold_values(&mut before);
                mean_squares(&before, signs.len(), x.len() / signs.len())
            }
        }
    }

    /// What is done to the channels.
    pub(crate) fn in_words(&self) -> &'static str {
        match self {
            Fold::Scale(_) => "scaled",
            Fold::Rotation { .. } => "rotated",
        }
    }

    /// Of some channels: for rotations whole blocks.
    pub(crate) fn of_channels(&self, kept: &[usize]) -> Fold {
        let pick = |channels: &[f32]| kept.iter().map(|&channel| channels[channel]).collect();
        match self {
            Fold::Scale(factors) => Fold::Scale(pick(factors)),
            Fold::Rotation { signs, block } => Fold::Rotation { signs: pick(signs), block: *block },
        }
    }

    fn each_row(&self, x: &mut [f32], change: impl Fn(&Fold, &mut [f32]) + Sync) {
        let (Fold::Scale(channels) | Fold::Rotation { signs: channels, .. }) = self;
        x.par_chunks_mut(channels.len()).for_each(|row| change(self, row));
    }
}

/// Multiplies values by their signs and transforms blocks of them; each of them is `stride` floats.
fn rotate(x: &mut [f32], signs: &[f32], block: usize, stride: usize) {
    for (x, sign) in x.chunks_exact_mut(stride).zip(signs) {
        x.iter_mut().for_each(|x| *x *= sign);
    }
    x.chunks_exact_mut(block * stride).for_each(|x| hadamard(x, stride));
}

/// Undoes [`rotate`].
fn rotate_back(x: &mut [f32], signs: &[f32], block: usize, stride: usize) {
    x.chunks_exact_mut(block * stride).for_each(|x| hadamard(x, stride));
    for (x, sign) in x.chunks_exact_mut(stride).zip(signs) {
        x.iter_mut().for_each(|x| *x *= sign);
    }
}

/// The Hadamard transform of a power of two of values, each of `stride` floats, scaled so that it is its own inverse.
fn hadamard(x: &mut [f32], stride: usize) {
    let count = x.len() / stride;
    let mut half = stride;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (first, second) = pair.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (count as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
}
