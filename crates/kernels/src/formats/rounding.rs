//! What the quantizers share: plain rounding to the nearest level, with no search for better scales.
//!
//! A block's scale maps its value of largest magnitude to the last level (symmetric formats) or its range to
//! the levels (formats with a minimum). Formats of 256 values quantize the scales of their groups in the same
//! way again.

use super::block::MOST_VALUES;
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use crate::half::{f16_to_f32, f32_to_f16};

/// The value of largest magnitude, with its sign: the first of them when several tie, 0 for no values.
pub(crate) fn peak(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |peak: f32, &x| if x.abs() > peak.abs() { x } else { peak })
}

/// Smallest and largest value.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
}

/// `1 / x`, and 0 for 0: a block of equal values has no step to divide by.
pub(crate) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The first place of `level` in `levels`.
pub(crate) fn index(levels: &[i8; 16], level: i8) -> u8 {
    let place = levels.iter().position(|&other| other == level);
    debug_assert!(place.is_some(), "{level} is no level");
    place.unwrap_or(0) as u8
}

/// `codes` with the nearest level for each of `values`: the first in the grid's table where several tie.
pub(crate) fn nearest(values: &[f32], mut codes: Codes, grid: &Grid) -> Codes {
    let Levels::Table(levels) = grid.levels else { unreachable!("a grid of equal steps") };
    for (i, &x) in values.iter().enumerate() {
        let scale = codes.scale_of(grid, i / grid.group);
        let mut best = (f32::INFINITY, levels[0]);
        for &level in levels {
            let error = (scale * f32::from(level) - x).abs();
            if error < best.0 {
                best = (error, level);
            }
        }
        codes.q[i] = best.1;
    }
    codes
}

/// Rounds to a grid of one scale and signed levels: the value of largest magnitude becomes the lowest level.
pub(crate) fn peaked(values: &[f32], grid: &Grid) -> Codes {
    let (lowest, highest) = grid.levels.ends();
    let d = peak(values) / f32::from(lowest);
    let mut codes = Codes { d: stored(d), ..Codes::ZERO };
    let (per_step, top, shift) =
        (inverse(d), f32::from(highest) - f32::from(lowest), 0.5 - f32::from(lowest));
    for (q, x) in codes.q.iter_mut().zip(values) {
        *q = (x * per_step + shift).clamp(0.0, top) as i8 + lowest;
    }
    codes
}

/// Rounds to a grid of one scale and one minimum: the values' range becomes that of the levels.
pub(crate) fn ranged(values: &[f32], grid: &Grid) -> Codes {
    let highest = f32::from(grid.levels.ends().1);
    let (low, high) = range(values);
    let d = (high - low) / highest;
    let mut codes = Codes { d: stored(d), dmin: stored(-low), ..Codes::ZERO };
    let per_step = inverse(d);
    for (q, x) in codes.q.iter_mut().zip(values) {
        *q = ((x - low) * per_step + 0.5).min(highest) as i8;
    }
    codes
}

/// Rounds to a grid of signed levels and signed scales. The peaks of the groups go to the lowest level, since a two's
/// complement field reaches one level further down than up; so does the peak of the scales.
pub(crate) fn symmetric(values: &[f32], grid: &Grid) -> Codes {
    let (Levels::Range { lowest, highest }, Scales::Integer { lowest: lowest_scale, highest: highest_scale }) =
        (grid.levels, grid.scales)
    else {
        unreachable!("a grid of another kind")
    };
    let [lowest, highest, lowest_scale, highest_scale] =
        [lowest, highest, lowest_scale, highest_scale].map(f32::from);
    let mut steps = [0.0; MOST_VALUES / 16];
    for (step, group) in steps.iter_mut().zip(values.chunks_exact(grid.group)) {
        *step = peak(group) / lowest;
    }
    let mut codes = Codes { d: stored(peak(&steps) / lowest_scale), ..Codes::ZERO };
    for (g, group) in values.chunks_exact(grid.group).enumerate() {
        let scale = (steps[g] * inverse(codes.d)).round().clamp(lowest_scale, highest_scale);
        codes.scale[g] = scale as i8;
        let per_step = inverse(codes.d * scale);
        for (q, x) in codes.q[g * grid.group..].iter_mut().zip(group) {
            *q = (x * per_step).round().clamp(lowest, highest) as i8;
        }
    }
    codes
}

/// Rounds to a grid with integer scales and minimums. A minimum above 0 cannot be stored and counts as 0.
pub(crate) fn affine(values: &[f32], grid: &Grid) -> Codes {
    let (Levels::Range { highest, .. }, Minimums::Integer { highest: highest_scale }) =
        (grid.levels, grid.minimums)
    else {
        unreachable!("a grid of another kind")
    };
    let (highest, highest_scale) = (f32::from(highest), f32::from(highest_scale));
    let (mut steps, mut mins) = ([0.0; MOST_VALUES / 16], [0.0; MOST_VALUES / 16]);
    for (g, group) in values.chunks_exact(grid.group).enumerate() {
        let (low, high) = range(group);
        mins[g] = -low.min(0.0);
        steps[g] = (high + mins[g]) / highest;
    }
    let (d, dmin) = (stored(peak(&steps) / highest_scale), stored(peak(&mins) / highest_scale));
    let mut codes = Codes { d, dmin, ..Codes::ZERO };
    for (g, group) in values.chunks_exact(grid.group).enumerate() {
        let scale = (steps[g] * inverse(d)).round().min(highest_scale);
        let min = (mins[g] * inverse(dmin)).round().min(highest_scale);
        (codes.scale[g], codes.min[g]) = (scale as i8, min as u8);
        let per_step = inverse(d * scale);
        for (q, x) in codes.q[g * grid.group..].iter_mut().zip(group) {
            *q = ((x + dmin * min) * per_step).round().clamp(0.0, highest) as i8;
        }
    }
    codes
}

/// What remains of a scale that is stored as a half: finite, for a scale of infinity would make NaN of level 0.
pub(crate) fn stored(scale: f32) -> f32 {
    f16_to_f32(f32_to_f16(scale.clamp(-65504.0, 65504.0)))
}
