//! Every tensor of a model file by what becomes of it.

use std::ops::Range;

use gguf::TensorInfo;
use model::Stored;
use model::weights::FeedForward;

use crate::float::{ROLES, Role, Source};

/// Some rows of a tensor that are a product's matrix: most tensors are one, a merged one has several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// The block.
    pub(crate) layer: usize,
    /// The matrix.
    pub(crate) role: Role,
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
    /// Matrices of experts, which are rounded without calibration.
    Experts,
}

/// The kinds of all tensors of `source`, in the order of the file.
pub(crate) fn kinds(source: &Source) -> Vec<Kind> {
    let tensors = source.file.tensors();
    let mut kinds = vec![Kind::Exact; tensors.len()];
    let (output, embedding) = (source.weights.output.matrix.tensor, source.weights.embedding.tensor);
    kinds[embedding] = Kind::Embedding;
    kinds[output] = Kind::Output { tied: output == embedding };
    for (layer, weights) in source.weights.layers.iter().enumerate() {
        let mut put = |stored: &Stored, role: Role| {
            let rows = stored.first_row..stored.first_row + stored.rows;
            let part = Part { layer, role, rows };
            match &mut kinds[stored.tensor] {
                Kind::Matrix(parts) => parts.push(part),
                other => *other = Kind::Matrix(vec![part]),
            }
        };
        let attention = [&weights.query, &weights.key, &weights.value, &weights.attention_output];
        match &weights.feed_forward {
            FeedForward::Dense { gate, up, down } => {
                for (projection, role) in attention.into_iter().chain([gate, up, down]).zip(ROLES) {
                    put(&projection.matrix, role);
                }
            }
            FeedForward::Experts { gate, up, down, .. } => {
                for (projection, role) in attention.into_iter().zip(ROLES) {
                    put(&projection.matrix, role);
                }
                for stored in gate.iter().chain(up).chain(down) {
                    kinds[stored.tensor] = Kind::Experts;
                }
            }
        }
    }
    kinds
}

/// Values of a tensor.
pub(crate) fn values(info: &TensorInfo) -> u64 {
    info.shape.iter().product()
}
