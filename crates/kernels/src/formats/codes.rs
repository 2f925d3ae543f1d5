//! What a block of a format can say: the grid that its values lie on, and the codes that pick one point of it.
//!
//! Who searches for good codes needs neither the bits of a format nor their order: [`Grid`] says what may be chosen,
//! [`Codes`] holds the choice, and [`Format::encode`](super::Format::encode) packs it.

use super::block::MOST_VALUES;
use super::rounding::stored;
use crate::simd::{Simd, per_tier};

/// The most groups of a block.
const MOST_GROUPS: usize = MOST_VALUES / 16;

/// The values that a block can hold: `value[i] = d * scale[g] * level[i] - dmin * min[g]` with `g = i / group`.
#[derive(Debug)]
pub struct Grid {
    /// Values that share a scale and a minimum: 16, 32, or all of a block of one scale.
    pub group: usize,
    /// What a value's own bits choose from.
    pub levels: Levels,
    /// How `d` and `scale[g]` may be chosen.
    pub scales: Scales,
    /// How `dmin` and `min[g]` may be chosen.
    pub minimums: Minimums,
}

/// The levels of a value.
#[derive(Clone, Copy, Debug)]
pub enum Levels {
    /// Every integer of `lowest..=highest`.
    Range {
        /// The lowest level.
        lowest: i8,
        /// The highest level.
        highest: i8,
    },
    /// These, ascending.
    Table(&'static [i8]),
}

/// The scales of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// `d`, a half of any sign, is the block's only scale.
    Half,
    /// `d`, a power of two from 2^-128 to 2^127, is the block's only scale.
    PowerOfTwo,
    /// `d`, a half of any sign, times an integer of each group.
    Integer {
        /// The lowest integer.
        lowest: i8,
        /// The highest integer.
        highest: i8,
    },
}

/// The minimums of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minimums {
    /// There are none: level 0 is the value 0.
    None,
    /// `dmin`, a half of any sign, is the block's only minimum.
    Half,
    /// `dmin`, a half of any sign, times an integer of each group, 0 or more.
    Integer {
        /// The highest integer.
        highest: u8,
    },
}

/// One point of a [`Grid`]: what a block stores.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// The block's scale, as [`Grid::stored`] rounds it.
    pub d: f32,
    /// The block's scale of minimums, as the file stores it: a half. Without effect where there are no minimums.
    pub dmin: f32,
    /// The scale of each group. Without effect where `d` is the only scale.
    pub scale: [i8; MOST_GROUPS],
    /// The minimum of each group. Without effect where `dmin` is the only minimum, or where there are none.
    pub min: [u8; MOST_GROUPS],
    /// The level of each value: -8..=7 in Q4_0, 0..=15 in Q4_K, one of the table's in IQ4_NL.
    pub q: [i8; MOST_VALUES],
}

impl Levels {
    /// The lowest and the highest level.
    pub fn ends(&self) -> (i8, i8) {
        match *self {
            Levels::Range { lowest, highest } => (lowest, highest),
            Levels::Table(levels) => (levels[0], levels[levels.len() - 1]),
        }
    }

    /// The level nearest to `x`, the lower one where two are equally near. That of NaN is some level.
    #[inline]
    pub fn nearest(&self, x: f32) -> i8 {
        match *self {
            Levels::Range { lowest, highest } => {
                x.round_ties_even().clamp(f32::from(lowest), f32::from(highest)) as i8
            }
            Levels::Table(levels) => {
                let above = |pair: &&[i8]| x > 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
                levels[levels.windows(2).take_while(above).count()]
            }
        }
    }
}

impl Grid {
    /// What a file makes of the scale `d`: the nearest half or power of two, at most the largest that is finite.
    pub fn stored(&self, d: f32) -> f32 {
        match self.scales {
            Scales::PowerOfTwo => super::mxfp4::stored(d),
            _ => stored(d),
        }
    }

    /// What a file makes of the scale of minimums `dmin`: the nearest half, at most the largest that is finite.
    pub fn stored_min(&self, dmin: f32) -> f32 {
        match self.minimums {
            Minimums::None => 0.0,
            _ => stored(dmin),
        }
    }
}

impl Codes {
    /// A block of zeros.
    pub const ZERO: Codes =
        Codes { d: 0.0, dmin: 0.0, scale: [0; MOST_GROUPS], min: [0; MOST_GROUPS], q: [0; MOST_VALUES] };

    /// The distance of two levels that differ by 1 in group `g`.
    #[inline]
    pub fn scale_of(&self, grid: &Grid, g: usize) -> f32 {
        match grid.scales {
            Scales::Integer { .. } => self.d * f32::from(self.scale[g]),
            _ => self.d,
        }
    }

    /// What is subtracted from all values of group `g`.
    #[inline]
    pub fn min_of(&self, grid: &Grid, g: usize) -> f32 {
        match grid.minimums {
            Minimums::None => 0.0,
            Minimums::Half => self.dmin,
            Minimums::Integer { .. } => self.dmin * f32::from(self.min[g]),
        }
    }

    /// Value `i`, to the bit what a reader of the encoded block sees.
    #[inline]
    pub fn value(&self, grid: &Grid, i: usize) -> f32 {
        let g = i / grid.group;
        self.scale_of(grid, g) * f32::from(self.q[i]) - self.min_of(grid, g)
    }

    /// The sum of `importance * (value - rounded)^2` over a block of `values`.
    ///
    /// # Panics
    /// If there are not as many importances as values.
    pub fn error(&self, grid: &Grid, values: &[f32], importance: &[f32]) -> f64 {
        assert_eq!(values.len(), importance.len(), "values and their importance");
        // SAFETY: nothing but the tier is to be promised.
        unsafe { squared_error(self, grid, values, importance) }
    }

    /// The level that brings value `i` nearest to `value`, by the scale and minimum that it has.
    #[inline]
    pub fn nearest(&self, grid: &Grid, i: usize, value: f32) -> i8 {
        let g = i / grid.group;
        match self.scale_of(grid, g) {
            // All levels mean the same; one must be chosen that the format has.
            0.0 => grid.levels.nearest(0.0),
            scale => grid.levels.nearest((value + self.min_of(grid, g)) / scale),
        }
    }
}

per_tier! {
    /// [`sum_of_squares`] on this process' tier.
    ///
    /// # Safety
    /// As for [`sum_of_squares`], but for the tier.
    fn squared_error(codes: &Codes, grid: &Grid, values: &[f32], importance: &[f32]) -> f64 = sum_of_squares
}

/// Eight sums side by side, which the compiler makes vectors of: the same bits on every tier.
///
/// # Safety
/// The caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn sum_of_squares<S: Simd>(codes: &Codes, grid: &Grid, values: &[f32], importance: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let groups = values.chunks(grid.group).zip(importance.chunks(grid.group)).zip(codes.q.chunks(grid.group));
    for (g, ((values, importance), q)) in groups.enumerate() {
        let (scale, min) = (codes.scale_of(grid, g), codes.min_of(grid, g));
        let values = values.as_chunks::<8>().0.iter().zip(importance.as_chunks::<8>().0);
        for ((x, w), q) in values.zip(q.as_chunks::<8>().0) {
            for i in 0..8 {
                let off = f64::from(x[i] - (scale * f32::from(q[i]) - min));
                sums[i] += f64::from(w[i]) * off * off;
            }
        }
    }
    sums.into_iter().sum()
}
