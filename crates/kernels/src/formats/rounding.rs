//! What the quantizers share: plain rounding to the nearest level, with no search for better scales.
//!
//! A block's scale maps its value of largest magnitude to the last level (symmetric formats) or its range to
//! the levels (formats with a minimum). Formats of 256 values quantize the scales of their groups in the same
//! way again.

use super::block::MOST_VALUES;
use super::codes::{Codes, Grid, Minimums, Scales};
use crate::half::{f16_to_f32, f32_to_f16};
use crate::trials::{Nearest, nearest_levels};

pub(crate) use crate::trials::{inverse, range};

/// The value of largest magnitude, with its sign: the first of them when several tie, 0 for no values.
pub(crate) fn peak(values: &[f32]) -> f32 {
    let (low, high) = range(values);
    match -low == high {
        true => values.iter().copied().find(|x| x.abs() == high).unwrap_or(0.0),
        false if -low > high => low,
        false => high,
    }
}

/// The first place of `level` in `levels`.
pub(crate) fn index(levels: &[i8; 16], level: i8) -> u8 {
    let place = levels.iter().position(|&other| other == level);
    debug_assert!(place.is_some(), "{level} is no level");
    place.unwrap_or(0) as u8
}

/// `codes` with the nearest level for each of `values`: the lower one where two tie.
pub(crate) fn nearest(values: &[f32], codes: Codes, grid: &Grid) -> Codes {
    let levels = Nearest::from(grid.levels);
    let mut q = codes.q;
    for (g, (values, q)) in values.chunks_exact(grid.group).zip(q.chunks_exact_mut(grid.group)).enumerate() {
        nearest_levels(&levels, values, inverse(codes.scale_of(grid, g)), 0.0, q);
    }
    Codes { q, ..codes }
}

/// Rounds to a grid of one scale and signed levels: the value of largest magnitude becomes the lowest level.
pub(crate) fn peaked(values: &[f32], grid: &Grid) -> Codes {
    let d = peak(values) / f32::from(grid.levels.ends().0);
    let mut codes = Codes { d: stored(d), ..Codes::ZERO };
    nearest_levels(&grid.levels.into(), values, inverse(d), 0.0, &mut codes.q[..values.len()]);
    codes
}

/// Rounds to a grid of one scale and one minimum: the values' range becomes that of the levels.
pub(crate) fn ranged(values: &[f32], grid: &Grid) -> Codes {
    let highest = f32::from(grid.levels.ends().1);
    let (low, high) = range(values);
    let d = (high - low) / highest;
    let mut codes = Codes { d: stored(d), dmin: stored(-low), ..Codes::ZERO };
    nearest_levels(&grid.levels.into(), values, inverse(d), -low, &mut codes.q[..values.len()]);
    codes
}

/// Rounds to a grid of signed levels and signed scales. The peaks of the groups go to the lowest level, since a two's
/// complement field reaches one level further down than up; so does the peak of the scales.
pub(crate) fn symmetric(values: &[f32], grid: &Grid) -> Codes {
    let Scales::Integer { lowest: lowest_scale, highest: highest_scale } = grid.scales else {
        unreachable!("a grid of another kind")
    };
    let (lowest, levels) = (f32::from(grid.levels.ends().0), Nearest::from(grid.levels));
    let [lowest_scale, highest_scale] = [lowest_scale, highest_scale].map(f32::from);
    let mut steps = [0.0; MOST_VALUES / 16];
    for (step, group) in steps.iter_mut().zip(values.chunks_exact(grid.group)) {
        *step = peak(group) / lowest;
    }
    let mut codes = Codes { d: stored(peak(&steps) / lowest_scale), ..Codes::ZERO };
    let per_scale = inverse(codes.d);
    let groups = values.chunks_exact(grid.group).zip(codes.q.chunks_exact_mut(grid.group));
    for (g, (group, q)) in groups.enumerate() {
        let scale = whole(steps[g] * per_scale).clamp(lowest_scale, highest_scale);
        codes.scale[g] = scale as i8;
        nearest_levels(&levels, group, inverse(codes.d * scale), 0.0, q);
    }
    codes
}

/// Rounds to a grid with integer scales and minimums. A minimum above 0 cannot be stored and counts as 0.
pub(crate) fn affine(values: &[f32], grid: &Grid) -> Codes {
    let Minimums::Integer { highest: highest_scale } = grid.minimums else {
        unreachable!("a grid of another kind")
    };
    let (highest, levels) = (f32::from(grid.levels.ends().1), Nearest::from(grid.levels));
    let highest_scale = f32::from(highest_scale);
    let (mut steps, mut mins) = ([0.0; MOST_VALUES / 16], [0.0; MOST_VALUES / 16]);
    for (g, group) in values.chunks_exact(grid.group).enumerate() {
        let (low, high) = range(group);
        mins[g] = -low.min(0.0);
        steps[g] = (high + mins[g]) / highest;
    }
    let (d, dmin) = (stored(peak(&steps) / highest_scale), stored(peak(&mins) / highest_scale));
    let mut codes = Codes { d, dmin, ..Codes::ZERO };
    let (per_scale, per_min) = (inverse(d), inverse(dmin));
    let groups = values.chunks_exact(grid.group).zip(codes.q.chunks_exact_mut(grid.group));
    for (g, (group, q)) in groups.enumerate() {
        let scale = whole(steps[g] * per_scale).min(highest_scale);
        let min = whole(mins[g] * per_min).min(highest_scale);
        (codes.scale[g], codes.min[g]) = (scale as i8, min as u8);
        nearest_levels(&levels, group, inverse(d * scale), dmin * min, q);
    }
    codes
}

/// The integer nearest to `x`, ties to even, of magnitudes below 2^22; others are somewhere beyond.
fn whole(x: f32) -> f32 {
    // At this size the last place of an `f32` is 1. `round` would be a library call on processors of old.
    const MAGIC: f32 = 12_582_912.0;
    x + MAGIC - MAGIC
}

/// What remains of a scale that is stored as a half: finite, for a scale of infinity would make NaN of level 0.
pub(crate) fn stored(scale: f32) -> f32 {
    f16_to_f32(f32_to_f16(scale.clamp(-65504.0, 65504.0)))
}
