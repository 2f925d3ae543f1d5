//! What the inputs of a product were like on the calibration text: their second moments, and the factorisation that error
//! compensation walks along.

use faer::{Mat, Side};
use rayon::prelude::*;

use crate::error::Error;
use crate::float::add_gram;

/// The sum of `x x^T` over the tokens seen. Twice this is the Hessian of a product's squared error in any row of its weights.
#[derive(Clone, Debug)]
pub(crate) struct Hessian {
    columns: usize,
    tokens: usize,
    /// `[columns][columns]`, of which the lower triangle counts.
    gram: Vec<f32>,
}

/// `H = U D U^T` with `U` upper triangular with ones on the diagonal.
///
/// The squared error of a row with error `e` is then the sum of `D[k] * (e U)[k]^2`, and `(e U)[k]` is `e[k]` plus what the
/// columns before `k` say: a column that is rounded later can make good what the earlier ones did.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    /// Width of the product's input.
    pub(crate) columns: usize,
    /// `U`, `[columns][columns]`.
    pub(crate) unit: Vec<f32>,
    /// `D`, `[columns]`, a mean over tokens.
    pub(crate) pivots: Vec<f32>,
}

/// The share of the mean diagonal that is added to it, so that directions never seen cannot take any value.
const DAMPING: f32 = 0.01;

impl Hessian {
    /// Of nothing seen yet.
    pub(crate) fn new(columns: usize) -> Hessian {
        Hessian { columns, tokens: 0, gram: vec![0.0; columns * columns] }
    }

    /// Takes in the inputs `[token][columns]`.
    pub(crate) fn add(&mut self, inputs: &[f32]) {
        add_gram(&mut self.gram, inputs, self.columns);
        self.tokens += inputs.len() / self.columns;
    }

    /// The mean square of each column.
    pub(crate) fn diagonal(&self) -> Vec<f32> {
        let tokens = self.tokens.max(1) as f32;
        (0..self.columns).map(|i| self.gram[i * self.columns + i] / tokens).collect()
    }

    /// Factorises; more damping is tried where rounding made the matrix indefinite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the activations were not.
    pub(crate) fn factor(&self) -> Result<Factor, Error> {
        let (n, tokens) = (self.columns, self.tokens.max(1) as f32);
        let diagonal = self.diagonal();
        let mean = diagonal.iter().sum::<f32>() / n as f32;
        if !mean.is_finite() {
            return Err(Error::NotFinite { what: "an activation".to_owned() });
        }
        // Where nothing was seen every rounding is as good: plain rounding is what ones on the diagonal give.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = DAMPING;
        loop {
            // The usual factorisation of the matrix turned by half a turn is the wanted one turned.
            let turned = Mat::from_fn(n, n, |i, j| {
                let (row, column) = if i >= j { (n - 1 - j, n - 1 - i) } else { (n - 1 - i, n - 1 - j) };
                self.gram[row * n + column] / tokens + if i == j { damping * mean } else { 0.0 }
            });
            if let Ok(factor) = turned.llt(Side::Lower) {
                return Ok(unit(factor.L(), n));
            }
            damping *= 10.0;
        }
    }
}

/// Turns the factor back and divides it by its diagonal.
fn unit(lower: faer::MatRef<'_, f32>, n: usize) -> Factor {
    let pivots: Vec<f32> = (0..n).map(|k| lower[(n - 1 - k, n - 1 - k)]).collect();
    let mut unit = vec![0.0; n * n];
    unit.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        for j in i..n {
            row[j] = lower[(n - 1 - i, n - 1 - j)] / pivots[j];
        }
    });
    Factor { columns: n, unit, pivots: pivots.into_iter().map(|pivot| pivot * pivot).collect() }
}
