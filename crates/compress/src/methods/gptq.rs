//! Rounding column by column, each column making good what the earlier ones did wrong.
//!
//! GPTQ (Frantar et al., 2022, arXiv 2210.17323) in the form that needs no inverse (LDLQ; Chee et al., 2023, arXiv
//! 2307.13304): with `H = U D U^T` the error of a row is the sum of `D[k] * (e U)[k]^2`, so the target of column `k` is its
//! weight plus what `U` says of the errors before it. The grids are those of the file's formats: a block's scales are
//! searched when its turn comes, for the targets as they then are, weighted by `D`.

use faer::Accum;
use kernels::{Format, Grid};
use rayon::prelude::*;

use crate::float::{multiply, view, view_mut};
use crate::hessian::Factor;
use crate::rounding::{self, Search};

/// Columns whose errors are passed on together: whole blocks of every format.
const PANEL: usize = 256;

/// A rounded matrix.
#[derive(Clone, Debug)]
pub(crate) struct Rounded {
    /// In the file's layout.
    pub(crate) bytes: Vec<u8>,
    /// What they mean, `[rows][columns]`.
    pub(crate) values: Vec<f32>,
}

/// Rounds `weight`, `[rows][factor.columns]`, to `format`, whose blocks must divide the columns.
pub(crate) fn compensate(
    format: &'static Format,
    grid: &Grid,
    weight: &[f32],
    factor: &Factor,
    search: Search,
) -> Rounded {
    let columns = factor.columns;
    let rows = weight.len() / columns;
    let row_bytes = format.row_bytes(columns);
    let mut bytes = vec![0; rows * row_bytes];
    let mut values = vec![0.0; weight.len()];
    let mut errors = vec![0.0; weight.len()];
    for first in (0..columns).step_by(PANEL) {
        let width = PANEL.min(columns - first);
        let mut targets = vec![0.0; rows * width];
        for (target, row) in targets.chunks_exact_mut(width).zip(weight.chunks_exact(columns)) {
            target.copy_from_slice(&row[first..first + width]);
        }
        if first > 0 {
            let errors = view(&errors, columns).subcols(0, first);
            let unit = view(&factor.unit, columns).submatrix(0, first, first, width);
            multiply(view_mut(&mut targets, width), Accum::Add, errors, unit, 1.0);
        }
        let panel = Panel { format, grid, factor, search, first };
        targets
            .par_chunks_mut(width)
            .zip(weight.par_chunks(columns))
            .zip(values.par_chunks_mut(columns).zip(errors.par_chunks_mut(columns)))
            .zip(bytes.par_chunks_mut(row_bytes))
            .for_each(|(((targets, weight), (values, errors)), bytes)| {
                let span = first..first + width;
                let block_bytes = format.row_bytes(first)..format.row_bytes(first + width);
                panel.row(
                    targets,
                    &weight[span.clone()],
                    &mut values[span.clone()],
                    &mut errors[span],
                    &mut bytes[block_bytes],
                );
            });
    }
    Rounded { bytes, values }
}

/// Some columns of all rows.
struct Panel<'a> {
    format: &'static Format,
    grid: &'a Grid,
    factor: &'a Factor,
    search: Search,
    first: usize,
}

impl Panel<'_> {
    /// Rounds one row's share; `targets` hold the weights and what the columns before the panel ask of them.
    fn row(
        &self,
        targets: &mut [f32],
        weight: &[f32],
        values: &mut [f32],
        errors: &mut [f32],
        bytes: &mut [u8],
    ) {
        let (columns, size) = (self.factor.columns, self.format.values);
        for (block, bytes) in bytes.chunks_exact_mut(self.format.bytes).enumerate() {
            let start = block * size;
            let at = self.first + start;
            let pivots = &self.factor.pivots[at..at + size];
            let mut codes = rounding::fit(self.format, &targets[start..start + size], pivots, self.search);
            for i in 0..size {
                let k = start + i;
                let target = targets[k];
                codes.q[i] = codes.nearest(self.grid, i, target);
                values[k] = codes.value(self.grid, i);
                let error = weight[k] - values[k];
                errors[k] = error;
                let later =
                    &self.factor.unit[(at + i) * columns..][self.first + k + 1..][..targets.len() - k - 1];
                targets[k + 1..].iter_mut().zip(later).for_each(|(target, unit)| *target += error * unit);
            }
            self.format.encode(&codes, bytes);
        }
    }
}

/// What rounding to `values` costs: the squared error of the product, summed over rows, a mean over tokens.
pub(crate) fn loss(weight: &[f32], values: &[f32], factor: &Factor) -> f64 {
    let columns = factor.columns;
    let errors: Vec<f32> = weight.iter().zip(values).map(|(weight, value)| weight - value).collect();
    // A few rows at a time: the product is as large as they are.
    errors
        .chunks(256 * columns)
        .map(|errors| {
            let mut product = vec![0.0; errors.len()];
            let unit = view(&factor.unit, columns);
            multiply(view_mut(&mut product, columns), Accum::Replace, view(errors, columns), unit, 1.0);
            product
                .chunks_exact(columns)
                .map(|row| row.iter().zip(&factor.pivots).map(|(x, d)| f64::from(x * x * d)).sum::<f64>())
                .sum::<f64>()
        })
        .sum()
}
