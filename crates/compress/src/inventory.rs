//! Every tensor of a model file by what becomes of it.

use std::ops::Range;

use gguf::TensorInfo;
use model::Stored;
use model::weights::FeedForward;

use crate::float::{ROLES, Role, Source};

/// Some rows of a tensor that are a product's matrix: most tensors are one, a merged one has several, and one of
/// experts has one for each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// The block.
    pub(crate) layer: usize,
    /// The matrix.
    pub(crate) role: Role,
    /// Whose it is, where there are experts.
    pub(crate) expert: usize,
    /// Its rows in the tensor.
    pub(crate) rows: Range<usize>,
}

/// What a tensor is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Norms, biases, factors: kept exactly.
    Exact,
    /// Matrices of a block.
    Matrix(Vec<Part>),
    /// The output matrix.
    Output {
        /// Whether it is the embedding table as well.
        tied: bool,
    },
    /// The embedding table, where the output matrix is another one.
    Embedding,
}

/// The kinds of all tensors of `source`, in the order of the file.
pub(crate) fn kinds(source: &Source) -> Vec<Kind> {
    let tensors = source.file.tensors();
    let mut kinds = vec![Kind::Exact; tensors.len()];
    let (output, embedding) = (source.weights.output.matrix.tensor, source.weights.embedding.tensor);
    kinds[embedding] = Kind::Embedding;
    kinds[output] = Kind::Output { tied: output == embedding };
    for (layer, weights) in source.weights.layers.iter().enumerate() {
        let mut put = |stored: &Stored, role: Role, expert: usize| {
            let rows = stored.first_row..stored.first_row + stored.rows;
            let part = Part { layer, role, expert, rows };
            match &mut kinds[stored.tensor] {
                Kind::Matrix(parts) => parts.push(part),
                other => *other = Kind::Matrix(vec![part]),
            }
        };
        let attention = [&weights.query, &weights.key, &weights.value, &weights.attention_output];
        for (projection, role) in attention.into_iter().zip(ROLES) {
            put(&projection.matrix, role, 0);
        }
        let roles = [Role::Gate, Role::Up, Role::Down];
        match &weights.feed_forward {
            FeedForward::Dense { gate, up, down } => {
                for (projection, role) in [gate, up, down].into_iter().zip(roles) {
                    put(&projection.matrix, role, 0);
                }
            }
            FeedForward::Experts { gate, up, down, .. } => {
                for (matrices, role) in [gate, up, down].into_iter().zip(roles) {
                    matrices.iter().enumerate().for_each(|(expert, stored)| put(stored, role, expert));
                }
            }
        }
    }
    kinds
}

/// Matrices of a tensor: its experts', or one.
pub(crate) fn matrices(info: &TensorInfo) -> usize {
    info.shape.get(2).map_or(1, |&count| count as usize)
}

/// Values of a tensor.
pub(crate) fn values(info: &TensorInfo) -> u64 {
    info.shape.iter().product()
}
