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

use kernels::{Codes, Format, Grid, Scales, Team};

/// Most values of a block.
const MOST: usize = 256;

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
        let format = self.format;
        assert_eq!(out.len(), format.row_bytes(values.len()), "bytes of a row");
        if format.is_float() {
            let written = format.quantize_row(values, out);
            assert!(written, "{} cannot be written", format.name);
            return;
        }
        if let Some(importance) = self.importance {
            assert_eq!(importance.len(), values.len(), "columns and their importance");
        }
        let mut storage = [1.0; MOST];
        let blocks = values.chunks_exact(format.values).zip(out.chunks_exact_mut(format.bytes)).enumerate();
        for (index, (values, block)) in blocks {
            let storage = &mut storage[..format.values];
            match self.importance {
                Some(importance) => {
                    storage.copy_from_slice(&importance[index * format.values..][..format.values])
                }
                None => storage.fill(1.0),
            }
            if self.by_magnitude {
                weights(values, storage);
            }
            format.encode(&fit(format, values, storage, self.search), block);
        }
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
            let values = &values[first * columns..];
            for (values, out) in values.chunks_exact(columns).zip(out.chunks_exact_mut(row_bytes)) {
                self.row(values, out);
            }
        });
    }
}

/// Multiplies the importance of a block's values by `sqrt(mean square + value^2)`.
///
/// The custom of the K-quants where only a mean square is known of each column: an error in a large weight tends to
/// meet larger products, for what makes a weight large is that its activation matters.
pub fn weights(values: &[f32], importance: &mut [f32]) {
    let mean = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
    for (importance, x) in importance.iter_mut().zip(values) {
        *importance *= (mean + x * x).sqrt();
    }
}

/// The codes of one block that minimise the sum of `importance * (value - rounded)^2`, as far as the search finds them;
/// never worse than plain rounding. Values that are not finite make any block.
///
/// # Panics
/// If the format has no grid, or there are not `format.values` values and importances.
pub fn fit(format: &Format, values: &[f32], importance: &[f32], search: Search) -> Codes {
    assert_eq!(importance.len(), values.len(), "values and their importance");
    let (Some(grid), Some(plain)) = (format.grid(), format.round(values)) else {
        panic!("{} has no grid", format.name)
    };
    let Some(block) = Block::new(grid, values, importance) else { return plain };
    let found = match grid.scales {
        Scales::Half | Scales::PowerOfTwo => single::fit(&block, search),
        Scales::Integer { .. } => two_level::fit(&block, search),
    };
    // The comparison is made in the same way that a reader sees the values, not by the sums of the search.
    if error(grid, &found, values, importance) <= error(grid, &plain, values, importance) {
        found
    } else {
        plain
    }
}

/// The sum of `importance * (value - rounded)^2` over a block.
pub fn error(grid: &Grid, codes: &Codes, values: &[f32], importance: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (g, (values, importance)) in values.chunks(grid.group).zip(importance.chunks(grid.group)).enumerate()
    {
        let (scale, min) = (codes.scale_of(grid, g), codes.min_of(grid, g));
        for ((x, w), q) in values.iter().zip(importance).zip(&codes.q[g * grid.group..]) {
            let off = f64::from(x - (scale * f32::from(*q) - min));
            sum += f64::from(*w) * off * off;
        }
    }
    sum
}

/// A block made ready for the search: values of about 1, weights up to 1, so that squares neither overflow nor vanish.
struct Block<'a> {
    grid: &'a Grid,
    count: usize,
    values: [f32; MOST],
    weights: [f32; MOST],
    /// The power of two that values were divided by.
    unit: f32,
}

impl Block<'_> {
    /// `None` if there is nothing to search for: all values are zero, or some not finite.
    fn new<'a>(grid: &'a Grid, values: &[f32], importance: &[f32]) -> Option<Block<'a>> {
        let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        if largest == 0.0 || !values.iter().all(|x| x.is_finite()) {
            return None;
        }
        // The exponent of the largest value; powers of two this far from the ends of `f32` have an inverse.
        let unit = f32::from_bits((largest.to_bits() & 0x7f80_0000).clamp(2 << 23, 252 << 23));
        let mut block = Block { grid, count: values.len(), values: [0.0; MOST], weights: [0.0; MOST], unit };
        block.values.iter_mut().zip(values).for_each(|(to, x)| *to = x / unit);
        let heaviest = importance.iter().fold(0f32, |heaviest, w| heaviest.max(*w));
        for (to, w) in block.weights.iter_mut().zip(importance) {
            // Values without weight still get the level that fits; and there is no division by zero.
            let w = w / heaviest;
            *to = if w > LEAST_WEIGHT { w.min(1.0) } else { LEAST_WEIGHT };
        }
        Some(block)
    }

    fn groups(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        let group = self.grid.group;
        self.values[..self.count].chunks_exact(group).zip(self.weights[..self.count].chunks_exact(group))
    }

    /// The scale that a file holds for `d`, in this block's unit.
    fn stored(&self, d: f32) -> f32 {
        self.grid.stored(d * self.unit) / self.unit
    }

    /// The scale of minimums that a file holds for `dmin`, in this block's unit.
    fn stored_min(&self, dmin: f32) -> f32 {
        self.grid.stored_min(dmin * self.unit) / self.unit
    }
}

/// The weight of a value that has none, beside the heaviest of the block.
const LEAST_WEIGHT: f32 = 1e-7;
