//! What the inputs of a product were like on the calibration text: their second moments, and the factorisation that error
//! compensation walks along.

use faer::{Accum, Mat, Side};
use rayon::prelude::*;

use crate::error::Error;
use crate::float::{Fold, add_gram, check_finite, multiply, view, view_mut};
use crate::imatrix::Squares;

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

/// What is named where one is not finite.
const ACTIVATION: &str = "an activation";

/// What moments lean on: as many more tokens as a multiple of the columns, in which every column is by itself (shrinkage
/// towards a diagonal; Schäfer and Strimmer, 2005, section 2.4; Ledoit and Wolf, 2004). What seems to go together in few
/// tokens need not do so in the next, and error compensation would rely on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior<'a> {
    /// The columns' mean squares.
    pub(crate) squares: &'a [f32],
    /// Tokens for each column.
    pub(crate) weight: f32,
}

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

    /// Of the same inputs in other coordinates.
    pub(crate) fn folded(&self, fold: &Fold) -> Hessian {
        let n = self.columns;
        let mut folded = self.clone();
        for i in 0..n {
            for j in i + 1..n {
                folded.gram[i * n + j] = folded.gram[j * n + i];
            }
        }
        fold.values(&mut folded.gram);
        fold.rows(&mut folded.gram, n);
        folded
    }

    /// The squared error of a product whose weights are off by `errors`, `[rows][columns]`: summed over rows, a mean over tokens.
    pub(crate) fn error(&self, errors: &[f32]) -> f64 {
        let (columns, tokens) = (self.columns, self.tokens.max(1) as f64);
        let gram = view(&self.gram, columns);
        // A few rows at a time: the product is as large as they are.
        let of_rows = |errors: &[f32]| -> f64 {
            // With the lower triangle L and the diagonal D, `e G e^T` is twice `e L e^T` less `e D e^T`.
            let mut product = vec![0.0; errors.len()];
            multiply(view_mut(&mut product, columns), Accum::Replace, view(errors, columns), gram, 1.0);
            let rows = errors.chunks_exact(columns).zip(product.chunks_exact(columns));
            rows.map(|(errors, product)| {
                let terms = errors.iter().zip(product).enumerate();
                terms
                    .map(|(k, (e, p))| f64::from(2.0 * e * p - e * e * self.gram[k * columns + k]))
                    .sum::<f64>()
            })
            .sum()
        };
        errors.chunks(256 * columns).map(of_rows).sum::<f64>() / tokens
    }

    /// Factorises it beside a prior of its own diagonal, of so many tokens for each column.
    ///
    /// # Errors
    /// Those of [`Hessian::factor`].
    pub(crate) fn leaning(&self, weight: f32) -> Result<Factor, Error> {
        self.factor(Prior { squares: &self.diagonal(), weight })
    }

    /// Factorises what is left of it beside the prior; more damping is tried where rounding made the matrix indefinite.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the activations were not.
    pub(crate) fn factor(&self, prior: Prior<'_>) -> Result<Factor, Error> {
        let n = self.columns;
        let more = prior.weight * n as f32;
        let tokens = (self.tokens as f32 + more).max(1.0);
        let diagonal: Vec<f32> = (0..n)
            .map(|i| (self.gram[i * n + i] + if more > 0.0 { more * prior.squares[i] } else { 0.0 }) / tokens)
            .collect();
        let mean = diagonal.iter().sum::<f32>() / n as f32;
        if !mean.is_finite() {
            return Err(Error::NotFinite { what: ACTIVATION.to_owned() });
        }
        // Where nothing was seen every rounding is as good: plain rounding is what ones on the diagonal give.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut damping = DAMPING;
        loop {
            // The usual factorisation of the matrix turned by half a turn is the wanted one turned.
            let turned = Mat::from_fn(n, n, |i, j| {
                let (row, column) = if i >= j { (n - 1 - j, n - 1 - i) } else { (n - 1 - i, n - 1 - j) };
                if i == j { diagonal[row] + damping * mean } else { self.gram[row * n + column] / tokens }
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

/// What the inputs of a product were like.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    tokens: usize,
    /// Their mean squares, `[columns]`, in the coordinates of the original.
    pub(crate) squares: Vec<f32>,
    /// The coordinates that they are in.
    pub(crate) fold: Option<Fold>,
    /// What error compensation needs, where anything is rounded.
    pub(crate) moments: Option<Moments>,
}

/// How inputs go together.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    /// As they came.
    pub(crate) hessian: Hessian,
    /// With the prior that they lean on.
    pub(crate) factor: Factor,
}

impl Inputs {
    /// Of `input`, `[token][columns]`, which no product that is rounded reads.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the activations were not.
    pub(crate) fn seen(input: &[f32], columns: usize) -> Result<Inputs, Error> {
        let tokens = input.len() / columns;
        let squares = mean_squares(input, columns, tokens);
        check_finite(&squares, || ACTIVATION.to_owned())?;
        Ok(Inputs { tokens, squares, fold: None, moments: None })
    }

    /// Of `input`, `[token][columns]`, whose moments lean on the mean squares `common`, or else on their own, with so many
    /// tokens for each column. `fold` has brought them into the coordinates that they are in.
    ///
    /// # Errors
    /// Those of [`Hessian::factor`].
    pub(crate) fn of(
        input: &[f32],
        columns: usize,
        common: Option<&[f32]>,
        weight: f32,
        fold: Option<&Fold>,
    ) -> Result<Inputs, Error> {
        let mut hessian = Hessian::new(columns);
        hessian.add(input);
        let squares = hessian.diagonal();
        let factor = hessian.factor(Prior { squares: common.unwrap_or(&squares), weight })?;
        let squares = fold.map_or(squares.clone(), |fold| fold.unfolded_squares(input, &squares));
        let (fold, moments) = (fold.cloned(), Some(Moments { hessian, factor }));
        Ok(Inputs { tokens: input.len() / columns, squares, fold, moments })
    }

    /// As an importance file has them.
    pub(crate) fn squares(&self) -> Squares {
        let count = self.tokens as f32;
        let sums = self.squares.iter().map(|mean| mean * count).collect();
        Squares { columns: self.squares.len(), sums, counts: vec![count] }
    }
}

/// Adds the squares of the rows of `x` to those of the columns.
pub(crate) fn add_squares(to: &mut Vec<f32>, x: &[f32], columns: usize) {
    to.resize(columns, 0.0);
    for row in x.chunks_exact(columns) {
        to.iter_mut().zip(row).for_each(|(to, x)| *to += x * x);
    }
}

/// The squares of columns as a mean over so many tokens.
pub(crate) fn mean_squares(x: &[f32], columns: usize, tokens: usize) -> Vec<f32> {
    let mut squares = Vec::new();
    add_squares(&mut squares, x, columns);
    squares.iter_mut().for_each(|x| *x /= tokens.max(1) as f32);
    squares
}
