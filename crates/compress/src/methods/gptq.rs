//! Rounding column by column, each column making good what the earlier ones did wrong.
//!
//! GPTQ (Frantar et al., 2022, arXiv 2210.17323) in the form that needs no inverse (LDLQ; Chee et al., 2023, arXiv
//! 2307.13304): with `H = U D U^T` the error of a row is the sum of `D[k] * (e U)[k]^2`, so the target of column `k` is its
//! weight plus what `U` says of the errors before it. The grids are those of the file's formats: a block's scales are
//! searched when its turn comes, for the targets as they then are, weighted by `D`.

use faer::Accum;
use kernels::{Codes, Format, Grid};
use rayon::prelude::*;

use crate::float::{multiply, view, view_mut};
use crate::hessian::Factor;
use crate::rounding::{Search, Searcher};

/// Columns whose errors are passed on together: whole blocks of every format.
pub(crate) const PANEL: usize = 256;

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
        let (mut searcher, mut codes) = (Searcher::new(self.format, self.search), Codes::ZERO);
        for (block, bytes) in bytes.chunks_exact_mut(self.format.bytes).enumerate() {
            let start = block * size;
            let at = self.first + start;
            let pivots = &self.factor.pivots[at..at + size];
            searcher.fit(&targets[start..start + size], pivots, &mut codes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hessian::{Hessian, Prior};
    use crate::rounding::Rounding;
    use kernels::FORMATS;

    /// Inputs whose columns follow one another, as activations do: `[token][columns]`.
    fn inputs(tokens: usize, columns: usize, seed: u64) -> Vec<f32> {
        let mut random = testkit::Random::new(seed);
        let mut out = Vec::with_capacity(tokens * columns);
        for _ in 0..tokens {
            let (mut last, common) = (0.0, random.signed());
            for column in 0..columns {
                last = 0.8 * last + random.signed() + 0.5 * common;
                out.push(last * if column % 37 == 5 { 4.0 } else { 1.0 });
            }
        }
        out
    }

    fn weights(rows: usize, columns: usize) -> Vec<f32> {
        let mut random = testkit::Random::new(3);
        (0..rows * columns).map(|_| random.signed() * 0.1).collect()
    }

    /// The mean squared error of the product, computed the long way.
    fn product_error(weight: &[f32], values: &[f32], inputs: &[f32], columns: usize) -> f64 {
        let mut sum = 0.0;
        for token in inputs.chunks_exact(columns) {
            for (weight, values) in weight.chunks_exact(columns).zip(values.chunks_exact(columns)) {
                let error: f64 =
                    (0..columns).map(|j| f64::from(weight[j] - values[j]) * f64::from(token[j])).sum();
                sum += error * error;
            }
        }
        sum / (inputs.len() / columns) as f64
    }

    /// For every format: the error on the very inputs is well below that of rounding each value by itself, the bytes mean
    /// the values, and [`Hessian::error`] is the error.
    #[test]
    fn compensation_beats_rounding_by_importance() {
        let (rows, columns) = (24, 512);
        let (weight, inputs) = (weights(rows, columns), inputs(700, columns, 7));
        let mut hessian = Hessian::new(columns);
        inputs.chunks(100 * columns).for_each(|piece| hessian.add(piece));
        let squares = hessian.diagonal();
        let factor = hessian.factor(Prior { squares: &squares, weight: 0.0 }).unwrap();
        for format in FORMATS {
            let Some(grid) = format.grid() else { continue };
            let rounded = compensate(format, grid, &weight, &factor, Search::Fast);
            let mut meant = vec![0.0; weight.len()];
            let row_bytes = format.row_bytes(columns);
            for (bytes, out) in rounded.bytes.chunks_exact(row_bytes).zip(meant.chunks_exact_mut(columns)) {
                format.dequantize_row(bytes, out);
            }
            assert_eq!(meant, rounded.values, "{}", format.name);

            let mut plain_bytes = vec![0; rows * row_bytes];
            let mut plain = vec![0.0; weight.len()];
            let rounding =
                Rounding { format, importance: Some(&squares), by_magnitude: false, search: Search::Fast };
            for (row, bytes) in weight.chunks_exact(columns).zip(plain_bytes.chunks_exact_mut(row_bytes)) {
                rounding.row(row, bytes);
            }
            for (bytes, out) in plain_bytes.chunks_exact(row_bytes).zip(plain.chunks_exact_mut(columns)) {
                format.dequantize_row(bytes, out);
            }
            let error = product_error(&weight, &rounded.values, &inputs, columns);
            let plain_error = product_error(&weight, &plain, &inputs, columns);
            assert!(error < 0.8 * plain_error, "{}: {error} and plainly {plain_error}", format.name);
            let errors: Vec<f32> = weight.iter().zip(&rounded.values).map(|(a, b)| a - b).collect();
            let by_moments = hessian.error(&errors);
            assert!((by_moments - error).abs() < 0.01 * error, "{}: {by_moments} {error}", format.name);
        }
    }

    /// The factor gives the matrix back: `U D U^T` is the mean of `x x^T`, the damping aside.
    #[test]
    fn the_factor_is_one() {
        let columns = 48;
        let inputs = inputs(200, columns, 11);
        let mut hessian = Hessian::new(columns);
        hessian.add(&inputs);
        let factor = hessian.factor(Prior { squares: &[], weight: 0.0 }).unwrap();
        let mean: f32 = hessian.diagonal().iter().sum::<f32>() / columns as f32;
        for i in 0..columns {
            for j in 0..columns {
                let direct: f32 = inputs.chunks_exact(columns).map(|x| x[i] * x[j]).sum::<f32>() / 200.0;
                let got: f32 = (0..columns)
                    .map(|k| factor.unit[i * columns + k] * factor.pivots[k] * factor.unit[j * columns + k])
                    .sum();
                let damped = direct + if i == j { 0.01 * mean } else { 0.0 };
                assert!((got - damped).abs() < 1e-3 * mean, "{i} {j}: {got} for {damped}");
                assert!(i <= j || factor.unit[i * columns + j] == 0.0);
            }
        }
    }

    /// Columns that nothing ever reached are rounded all the same.
    #[test]
    fn inputs_that_never_came() {
        let columns = 64;
        let mut hessian = Hessian::new(columns);
        hessian.add(&vec![0.0; 3 * columns]);
        let factor = hessian.factor(Prior { squares: &[], weight: 0.0 }).unwrap();
        let format = kernels::format(8).unwrap();
        let weight = weights(2, columns);
        let rounded = compensate(format, format.grid().unwrap(), &weight, &factor, Search::Fast);
        for (value, weight) in rounded.values.iter().zip(&weight) {
            assert!((value - weight).abs() < 1e-3);
        }
        hessian.add(&vec![f32::NAN; columns]);
        let factor = hessian.factor(Prior { squares: &[], weight: 0.0 });
        assert!(matches!(factor, Err(crate::Error::NotFinite { .. })));
    }
}
