//! How far the calibration text's moments are believed: tried on windows that are set aside for it.
//!
//! Error compensation makes good a column's error by columns that go together with it. On the text that this was learned from
//! the error of the product always falls; on another, where columns are many and tokens few, it may rise to twice that of
//! rounding by importance alone. What helps is a prior ([`Prior`](crate::hessian::Prior)), and how much of it differs from model to model
//! and from matrix to matrix. So a small copy of the problem, with as many columns for each token, is solved with several.

use kernels::{Format, Grid};

use crate::error::Error;
use crate::hessian::{Factor, Hessian};
use crate::methods::gptq::{PANEL, compensate};
use crate::rounding::Search;

/// The weights that are tried, in tokens for each column.
const WEIGHTS: [f32; 7] = [0.0, 0.25, 1.0, 2.5, 5.0, 10.0, 25.0];

/// Columns and rows of the small copy at most.
const COLUMNS: usize = 8 * PANEL;
const ROWS: usize = 64;

/// The calibration text as one matrix sees it.
#[derive(Clone, Copy)]
pub(crate) struct Sample<'a> {
    /// `[token][columns]`.
    pub(crate) input: &'a [f32],
    /// Width of a row.
    pub(crate) columns: usize,
    /// Tokens in a window.
    pub(crate) window: usize,
}

impl Sample<'_> {
    /// The best weight for rounding `matrix`, `[rows][columns]`, to `format`; 0 for a format of floats, in which nothing is
    /// compensated.
    ///
    /// # Errors
    /// Those of [`Hessian::factor`].
    pub(crate) fn best_weight(&self, matrix: &[f32], format: &'static Format) -> Result<f32, Error> {
        let Some(grid) = format.grid() else { return Ok(0.0) };
        let kept = self.kept_columns();
        let weight = some_rows(matrix, self.columns, &kept);
        let [seen, unseen] = self.halves(&kept, self.taken(&kept));
        let (best, _) = least(|tried| {
            let factor = seen.leaning(tried)?;
            Ok(unseen.error(&errors(weight.clone(), format, grid, &factor)))
        })?;
        Ok(best)
    }

    /// All columns, or whole panels evenly from all over.
    pub(crate) fn kept_columns(&self) -> Vec<usize> {
        if self.columns <= COLUMNS {
            return (0..self.columns).collect();
        }
        let (panels, taken) = (self.columns / PANEL, COLUMNS / PANEL);
        (0..taken).flat_map(|i| (0..PANEL).map(move |column| i * panels / taken * PANEL + column)).collect()
    }

    /// As many windows as leave as many columns for each token, half of all at most.
    pub(crate) fn taken(&self, kept: &[usize]) -> usize {
        taken(self.windows(), kept.len(), self.columns)
    }

    /// Some windows from all over: as many as both halves would have were there so many columns.
    pub(crate) fn tried(&self, columns: usize) -> Vec<f32> {
        let kept = Sample { input: &[], columns, window: self.window }.kept_columns();
        let (windows, size) = (self.windows(), self.window * self.columns);
        let tried = 2 * taken(windows, kept.len(), columns);
        (0..tried).flat_map(|i| &self.input[i * windows / tried * size..][..size]).copied().collect()
    }

    /// Windows, two at least.
    pub(crate) fn windows(&self) -> usize {
        (self.input.len() / self.columns / self.window).max(2)
    }

    /// Moments of so many windows, and of as many others between them.
    pub(crate) fn halves(&self, kept: &[usize], taken: usize) -> [Hessian; 2] {
        let stride = self.windows() / taken;
        [0, stride / 2].map(|offset| {
            let mut hessian = Hessian::new(kept.len());
            for index in 0..taken {
                let first = (index * stride + offset) * self.window;
                let tokens = first..(first + self.window).min(self.input.len() / self.columns);
                let input: Vec<f32> =
                    tokens.flat_map(|token| of_row(self.input, self.columns, token, kept)).collect();
                hessian.add(&input);
            }
            hessian
        })
    }
}

/// The weight with which `error` is least, and that error.
///
/// # Errors
/// Those of `error`.
pub(crate) fn least(mut error: impl FnMut(f32) -> Result<f64, Error>) -> Result<(f32, f64), Error> {
    let mut best = (0.0, f64::INFINITY);
    for tried in WEIGHTS {
        let found = error(tried)?;
        if found < best.1 {
            best = (tried, found);
        }
    }
    Ok(best)
}

/// What rounding `weight`, `[rows][factor.columns]`, takes from it.
pub(crate) fn errors(
    mut weight: Vec<f32>,
    format: &'static Format,
    grid: &Grid,
    factor: &Factor,
) -> Vec<f32> {
    let rounded = compensate(format, grid, &weight, factor, Search::Fast);
    weight.iter_mut().zip(&rounded.values).for_each(|(weight, value)| *weight -= value);
    weight
}

/// Windows of a half, where so many of so many columns are kept.
fn taken(windows: usize, kept: usize, columns: usize) -> usize {
    (windows * kept / columns).clamp(1, windows / 2)
}

/// Rows of a matrix from all over, `ROWS` at most, of which some columns are kept.
pub(crate) fn some_rows(matrix: &[f32], columns: usize, kept: &[usize]) -> Vec<f32> {
    let rows = matrix.len() / columns;
    let rows = (0..rows.min(ROWS)).map(|i| i * rows / rows.min(ROWS));
    rows.flat_map(|row| of_row(matrix, columns, row, kept)).collect()
}

/// Some columns of a row.
fn of_row<'a>(
    values: &'a [f32],
    columns: usize,
    row: usize,
    kept: &'a [usize],
) -> impl Iterator<Item = f32> + 'a {
    let row = &values[row * columns..][..columns];
    kept.iter().map(|&column| row[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of which columns go together through `common` sources.
    fn inputs(tokens: usize, columns: usize, common: usize, noise: f32) -> Vec<f32> {
        let mut random = testkit::Random::new(5);
        let mixing: Vec<f32> = (0..columns * common).map(|_| random.signed()).collect();
        let mut out = Vec::new();
        for _ in 0..tokens {
            let sources: Vec<f32> = (0..common).map(|_| random.signed()).collect();
            out.extend(mixing.chunks_exact(common).map(|mixing| {
                mixing.iter().zip(&sources).map(|(a, b)| a * b).sum::<f32>() + noise * random.signed()
            }));
        }
        out
    }

    /// What few tokens say of independent columns is chance; what many say of columns that go together is not.
    #[test]
    fn chance_is_told_from_what_goes_together() {
        let (columns, window) = (256, 32);
        let mut random = testkit::Random::new(9);
        let matrix: Vec<f32> = (0..40 * columns).map(|_| random.signed() * 0.1).collect();
        let format = kernels::FORMATS.iter().find(|format| format.name == "Q2_K").unwrap();
        let weight = |input: &[f32]| Sample { input, columns, window }.best_weight(&matrix, format).unwrap();
        let chance = weight(&inputs(128, columns, 1, 100.0));
        let together = weight(&inputs(4096, columns, 24, 0.1));
        assert!(chance >= 10.0 && together <= 1.0, "{chance} {together}");
    }

    #[test]
    fn wide_inputs_are_tried_on_some_of_their_columns() {
        let (columns, window) = (9 * PANEL, 8);
        let input = inputs(64, columns, 1, 1.0);
        let sample = Sample { input: &input, columns, window };
        let kept = sample.kept_columns();
        assert_eq!((kept.len(), kept[0], kept[COLUMNS - 1]), (COLUMNS, 0, 8 * PANEL - 1));
        let [seen, unseen] = sample.halves(&kept, sample.taken(&kept));
        // Four of eight windows each.
        assert_ne!(seen.diagonal(), unseen.diagonal());
        let mean = |column: usize, first: usize| {
            let tokens = (first..8).step_by(2).flat_map(|index| index * window..(index + 1) * window);
            tokens.map(|token| input[token * columns + column].powi(2)).sum::<f32>() / 32.0
        };
        assert!(
            (seen.diagonal()[5] - mean(5, 0)).abs() < 1e-4
                && (unseen.diagonal()[5] - mean(5, 1)).abs() < 1e-4
        );
    }
}
