//! Rounding with care: scales, minimums and levels of a block that minimise a weighted squared error.
//!
//! Plain rounding spreads the levels over the range of the values. A search does better for two reasons: most values
//! lie far from the ends, so it pays to clip a few; and not all errors cost the same (a column of a matrix weighs as
//! much as the mean square of the activation that it meets). Given the levels, the best scale and minimum are a weighted
//! least squares fit in closed form; given scale and minimum, the best level is the nearest. The two steps by turns
//! (Lloyd's algorithm) never get worse, and end in a local optimum that depends on the start, so many starts are tried.
//!
//! The formats with two levels of scales do this once more above: `d` and `dmin` are fitted to the scales and minimums
//! that the groups want, each group picks the integers that are best for its values, and `d` and `dmin` are fitted again.

mod group;
mod single;
mod two_level;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use kernels::trials::{Group, Minimum, Nearest, PerCandidate, as_halves, range};
use kernels::{Codes, Format, Grid, Scales, Team};

use group::Starts;

/// Most values of a block.
const MOST: usize = 256;

/// Most groups of a block.
const MOST_GROUPS: usize = 16;

/// Values that a thread rounds at a time: enough to be worth handing out, few enough to divide small matrices.
const PIECE: usize = 1 << 16;

/// How hard to look for good scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Few starts: for the formats' usual errors within a percent or so of what [`Search::Thorough`] reaches.
    Fast,
    /// Many starts.
    Thorough,
}

/// How the rows of a matrix are rounded.
#[derive(Clone, Copy, Debug)]
pub struct Rounding<'a> {
    /// The format, one with a grid or of floats.
    pub format: &'static Format,
    /// What a squared error costs in each column, 0 or more: by custom the mean square of what the column is multiplied
    /// with. `None`: all the same.
    pub importance: Option<&'a [f32]>,
    /// Whether large values count more, see [`weights`].
    pub by_magnitude: bool,
    /// How hard to look for good scales.
    pub search: Search,
}

impl Rounding<'_> {
    /// Rounds one row to `out`, in the file's layout.
    ///
    /// # Panics
    /// If a length is not what the format needs, or if the format cannot be written.
    pub fn row(&self, values: &[f32], out: &mut [u8]) {
        Rows::new(self).round(values, out);
    }

    /// Rounds a matrix of rows of `columns` values to `out`, in the file's layout. The result does not depend on the
    /// number of threads.
    ///
    /// # Panics
    /// As for [`Rounding::row`].
    pub fn matrix(&self, team: &Team, values: &[f32], columns: usize, out: &mut [u8]) {
        if values.is_empty() {
            return;
        }
        assert!(values.len().is_multiple_of(columns), "{} values, no rows of {columns}", values.len());
        let row_bytes = self.format.row_bytes(columns);
        assert_eq!(out.len(), values.len() / columns * row_bytes, "bytes of a matrix");
        team.for_rows(out, row_bytes, PIECE.div_ceil(columns), &|first, out| {
            let mut rows = Rows::new(self);
            let values = &values[first * columns..];
            for (values, out) in values.chunks_exact(columns).zip(out.chunks_exact_mut(row_bytes)) {
                rows.round(values, out);
            }
        });
    }

    /// The same for a matrix as a file of the format `from` holds it; `false` if a value is not finite. Values are in
    /// memory a row at a time.
    ///
    /// # Panics
    /// As for [`Rounding::row`].
    #[must_use]
    pub fn file_matrix(
        &self,
        team: &Team,
        from: &Format,
        matrix: &[u8],
        columns: usize,
        out: &mut [u8],
    ) -> bool {
        let (from_bytes, row_bytes) = (from.row_bytes(columns), self.format.row_bytes(columns));
        assert_eq!(matrix.len() / from_bytes.max(1) * row_bytes, out.len(), "bytes of a matrix");
        let finite = AtomicBool::new(true);
        team.for_rows(out, row_bytes, PIECE.div_ceil(columns.max(1)), &|first, out| {
            let (mut rows, mut values) = (Rows::new(self), vec![0.0; columns]);
            let matrix = &matrix[first * from_bytes..];
            for (row, out) in matrix.chunks_exact(from_bytes).zip(out.chunks_exact_mut(row_bytes)) {
                from.dequantize_row(row, &mut values);
                // All are looked at, for a loop that may end early is not vectorised.
                if !values.iter().fold(true, |finite, x| finite & x.is_finite()) {
                    finite.store(false, Ordering::Relaxed);
                }
                rows.round(&values, out);
            }
        });
        finite.into_inner()
    }
}

/// Rounds one row after another.
struct Rows<'a> {
    rounding: &'a Rounding<'a>,
    /// `None` for floats.
    searcher: Option<Searcher>,
    /// Of the block at hand.
    importance: [f32; MOST],
    codes: Codes,
}

impl<'a> Rows<'a> {
    fn new(rounding: &'a Rounding<'a>) -> Rows<'a> {
        let Rounding { format, search, .. } = *rounding;
        let searcher = (!format.is_float()).then(|| Searcher::new(format, search));
        Rows { rounding, searcher, importance: [1.0; MOST], codes: Codes::ZERO }
    }

    /// See [`Rounding::row`].
    fn round(&mut self, values: &[f32], out: &mut [u8]) {
        let Rounding { format, importance, by_magnitude, .. } = *self.rounding;
        assert_eq!(out.len(), format.row_bytes(values.len()), "bytes of a row");
        let Some(searcher) = &mut self.searcher else {
            let written = format.quantize_row(values, out);
            assert!(written, "{} cannot be written", format.name);
            return;
        };
        if let Some(importance) = importance {
            assert_eq!(importance.len(), values.len(), "columns and their importance");
        }
        let blocks = values.chunks_exact(format.values).zip(out.chunks_exact_mut(format.bytes)).enumerate();
        for (index, (values, block)) in blocks {
            let storage = &mut self.importance[..format.values];
            match importance {
                Some(importance) => {
                    storage.copy_from_slice(&importance[index * format.values..][..format.values])
                }
                None => storage.fill(1.0),
            }
            if by_magnitude {
                weights(values, storage);
            }
            searcher.fit(values, storage, &mut self.codes);
            format.encode(&self.codes, block);
        }
    }
}

/// Multiplies the importance of a block's values by `sqrt(2 * mean square + value^2)`.
///
/// The custom of the K-quants where only a mean square is known of each column: an error in a large weight tends to
/// meet larger products, for what makes a weight large is that its activation matters.
pub fn weights(values: &[f32], importance: &mut [f32]) {
    let twice = 2.0 * sum(values, |x| x * x) / values.len() as f32;
    for (importance, x) in importance.iter_mut().zip(values) {
        *importance *= (twice + x * x).sqrt();
    }
}

/// The sum of `term` over the values: eight sums side by side, for a single one would wait for itself at each step.
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += term(x));
    }
    sums.into_iter().sum::<f32>() + rest.iter().map(|&x| term(x)).sum::<f32>()
}

/// The codes of one block that minimise the sum of `importance * (value - rounded)^2`, as far as the search finds them;
/// never worse than plain rounding. Values that are not finite make any block.
///
/// # Panics
/// If the format has no grid, or there are not `format.values` values and importances.
pub fn fit(format: &'static Format, values: &[f32], importance: &[f32], search: Search) -> Codes {
    let mut codes = Codes::ZERO;
    Searcher::new(format, search).fit(values, importance, &mut codes);
    codes
}

/// What searches in one block after another share.
pub(crate) struct Searcher {
    format: &'static Format,
    grid: &'static Grid,
    nearest: Nearest,
    minimum: Minimum,
    search: Search,
    starts: Starts,
    values: [f32; MOST],
    weights: [f32; MOST],
}

impl Searcher {
    /// # Panics
    /// If the format has no grid.
    pub(crate) fn new(format: &'static Format, search: Search) -> Searcher {
        let Some(grid) = format.grid() else { panic!("{} has no grid", format.name) };
        Searcher {
            format,
            grid,
            nearest: grid.levels.into(),
            minimum: grid.minimums.into(),
            search,
            starts: Starts::new(grid, search),
            values: [0.0; MOST],
            weights: [0.0; MOST],
        }
    }

    /// See [`fit`]; what `codes` held before is of no effect.
    ///
    /// # Panics
    /// If there are not `format.values` values and importances.
    pub(crate) fn fit(&mut self, values: &[f32], importance: &[f32], codes: &mut Codes) {
        assert_eq!(importance.len(), values.len(), "values and their importance");
        let Some(plain) = self.format.round(values) else {
            unreachable!("formats with a grid can be written")
        };
        let grid = self.grid;
        let Some(block) = Block::new(self, values, importance) else {
            *codes = plain;
            return;
        };
        match grid.scales {
            Scales::Half | Scales::PowerOfTwo => single::fit(&block, codes),
            Scales::Integer { .. } => two_level::fit(&block, codes),
        }
        // The comparison is made in the same way that a reader sees the values, not by the sums of the search.
        if codes.error(grid, values, importance) > plain.error(grid, values, importance) {
            *codes = plain;
        }
    }
}

/// A block made ready for the search: values of about 1, weights up to 1, so that squares neither overflow nor vanish.
struct Block<'a> {
    searcher: &'a Searcher,
    values: &'a [f32],
    weights: &'a [f32],
    /// The sum of each group's weights.
    group_weights: [f32; MOST_GROUPS],
    /// The power of two that values were divided by.
    unit: f32,
}

impl<'a> Block<'a> {
    /// `None` if there is nothing to search for: all values are zero, or some not finite.
    fn new(searcher: &'a mut Searcher, values: &[f32], importance: &[f32]) -> Option<Block<'a>> {
        // Magnitudes are in the order of their bits, and what is not finite is above all others.
        let largest = values.iter().fold(0, |largest, x| largest.max(x.abs().to_bits() as i32)) as u32;
        if largest == 0 || largest >= f32::INFINITY.to_bits() {
            return None;
        }
        // The exponent of the largest value; powers of two this far from the ends of `f32` have an inverse.
        let unit = f32::from_bits((largest & 0x7f80_0000).clamp(2 << 23, 252 << 23));
        let per_unit = 1.0 / unit;
        searcher.values.iter_mut().zip(values).for_each(|(to, x)| *to = x * per_unit);
        let (_, heaviest) = range(importance);
        for (to, w) in searcher.weights.iter_mut().zip(importance) {
            // Values without weight still get the level that fits; and there is no division by zero.
            let w = w / heaviest;
            *to = if w > LEAST_WEIGHT { w.min(1.0) } else { LEAST_WEIGHT };
        }
        let searcher = &*searcher;
        let (values, weights) = (&searcher.values[..values.len()], &searcher.weights[..values.len()]);
        let mut group_weights = [0.0; MOST_GROUPS];
        for (to, weights) in group_weights.iter_mut().zip(weights.chunks_exact(searcher.grid.group)) {
            *to = sum(weights, |w| w);
        }
        Some(Block { searcher, values, weights, group_weights, unit })
    }

    /// How many groups there are.
    fn groups(&self) -> usize {
        self.values.len() / self.searcher.grid.group
    }

    fn group(&self, g: usize) -> Group<'_> {
        let (start, count) = (g * self.searcher.grid.group, self.searcher.grid.group);
        Group {
            values: &self.values[start..][..count],
            weights: &self.weights[start..][..count],
            weight: self.group_weights[g],
        }
    }

    /// The scales that a file holds for these, in this block's unit.
    fn stored(&self, d: &PerCandidate) -> PerCandidate {
        match self.searcher.grid.scales {
            Scales::PowerOfTwo => d.map(|d| self.stored_one(d)),
            _ => as_halves(&d.map(|d| d * self.unit)).map(|d| d / self.unit),
        }
    }

    /// The minimums that a file holds for these, in this block's unit.
    fn stored_min(&self, dmin: &PerCandidate) -> PerCandidate {
        match self.searcher.minimum {
            Minimum::None => *dmin,
            _ => as_halves(&dmin.map(|dmin| dmin * self.unit)).map(|dmin| dmin / self.unit),
        }
    }

    /// The scale that a file holds for `d`, in this block's unit.
    fn stored_one(&self, d: f32) -> f32 {
        self.searcher.grid.stored(d * self.unit) / self.unit
    }

    /// The scale of minimums that a file holds for `dmin`, in this block's unit.
    fn stored_one_min(&self, dmin: f32) -> f32 {
        self.searcher.grid.stored_min(dmin * self.unit) / self.unit
    }
}

/// The weight of a value that has none, beside the heaviest of the block.
const LEAST_WEIGHT: f32 = 1e-7;
