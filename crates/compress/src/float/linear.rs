//! Products in f32, forward and backward, on the linear-algebra library's kernels.
//!
//! Every matrix is row-major: a weight is `[rows][columns]`, activations are `[token][columns]`.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};

/// A weight matrix in f32, and what is added to its product.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// Values that the product yields.
    pub rows: usize,
    /// Values that it takes.
    pub columns: usize,
    /// `[rows][columns]`.
    pub weight: Vec<f32>,
    /// `[rows]`.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// `x W^T + bias` for `x` of `[token][columns]`: `[token][rows]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.columns * self.rows];
        if let Some(bias) = &self.bias {
            out.chunks_exact_mut(self.rows).for_each(|row| row.copy_from_slice(bias));
        }
        let weight = view(&self.weight, self.columns);
        multiply(view_mut(&mut out, self.rows), Accum::Add, view(x, self.columns), weight.transpose(), 1.0);
        out
    }

    /// Adds the gradient of the input, `dy W`, to `dx`; `dy` is `[token][rows]`, `dx` is `[token][columns]`.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        let weight = view(&self.weight, self.columns);
        multiply(view_mut(dx, self.columns), Accum::Add, view(dy, self.rows), weight, 1.0);
    }
}

/// A row-major matrix of `columns` columns.
pub(crate) fn view(values: &[f32], columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, values.len() / columns, columns)
}

/// The same, to be written.
pub(crate) fn view_mut(values: &mut [f32], columns: usize) -> MatMut<'_, f32> {
    let rows = values.len() / columns;
    MatMut::from_row_major_slice_mut(values, rows, columns)
}

/// `to (+)= alpha * a b` on all threads of the pool.
pub(crate) fn multiply(
    to: MatMut<'_, f32>,
    accumulate: Accum,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    alpha: f32,
) {
    faer::linalg::matmul::matmul(to, accumulate, a, b, alpha, Par::rayon(0));
}

/// The same on the calling thread, where the caller works in parallel itself.
pub(crate) fn multiply_here(
    to: MatMut<'_, f32>,
    accumulate: Accum,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    alpha: f32,
) {
    faer::linalg::matmul::matmul(to, accumulate, a, b, alpha, Par::Seq);
}

/// Adds `x^T x` to the lower triangle of `gram`, `[columns][columns]`; `x` is `[token][columns]`.
pub(crate) fn add_gram(gram: &mut [f32], x: &[f32], columns: usize) {
    let x = view(x, columns);
    triangular::matmul(
        view_mut(gram, columns),
        BlockStructure::TriangularLower,
        Accum::Add,
        x.transpose(),
        BlockStructure::Rectangular,
        x,
        BlockStructure::Rectangular,
        1.0,
        Par::rayon(0),
    );
}

/// Adds the gradient of a weight, `dy^T x`, to `to`, `[rows][columns]`.
pub fn add_weight_gradient(to: &mut [f32], dy: &[f32], rows: usize, x: &[f32], columns: usize) {
    multiply(view_mut(to, columns), Accum::Add, view(dy, rows).transpose(), view(x, columns), 1.0);
}
