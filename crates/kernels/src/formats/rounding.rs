//! What the quantizers share: plain rounding to the nearest level, with no search for better scales.
//!
//! A block's scale maps its value of largest magnitude to the last level (symmetric formats) or its range to
//! the levels (formats with a minimum). Formats of 256 values quantize the scales of their groups in the same
//! way again.

use super::block::MOST_VALUES;
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

/// The entry of `levels` for which `scale * entry` is nearest to `value`: the first of them when several tie.
pub(crate) fn nearest(levels: &[i8; 16], scale: f32, value: f32) -> u8 {
    let mut best = (f32::INFINITY, 0);
    for (i, &level) in levels.iter().enumerate() {
        let error = (scale * f32::from(level) - value).abs();
        if error < best.0 {
            best = (error, i as u8);
        }
    }
    best.1
}

/// Two-level symmetric quantization: `value = d * scale[group] * q`.
pub(crate) struct Symmetric {
    pub(crate) d: f32,
    pub(crate) scale: [i8; MOST_VALUES / 16],
    pub(crate) q: [i8; MOST_VALUES],
}

/// Groups of 16 values; `q` in `lowest..-lowest` and scales in `lowest_scale..-lowest_scale`. The peaks go to
/// the lowest level, since a two's complement field reaches one level further down than up.
pub(crate) fn symmetric(values: &[f32], lowest: f32, lowest_scale: f32) -> Symmetric {
    let mut steps = [0.0; MOST_VALUES / 16];
    for (step, group) in steps.iter_mut().zip(values.chunks_exact(16)) {
        *step = peak(group) / lowest;
    }
    let d = stored(peak(&steps) / lowest_scale);
    let mut out = Symmetric { d, scale: [0; MOST_VALUES / 16], q: [0; MOST_VALUES] };
    for (g, step) in steps.iter().enumerate() {
        let scale = (step * inverse(d)).round().clamp(lowest_scale, -lowest_scale - 1.0);
        out.scale[g] = scale as i8;
        let per_step = inverse(d * scale);
        for (q, x) in out.q[16 * g..].iter_mut().zip(&values[16 * g..][..16]) {
            *q = (x * per_step).round().clamp(lowest, -lowest - 1.0) as i8;
        }
    }
    out
}

/// Two-level quantization with minimums: `value = d * scale[group] * q - dmin * min[group]`.
pub(crate) struct Affine {
    pub(crate) d: f32,
    pub(crate) dmin: f32,
    pub(crate) scale: [u8; MOST_VALUES / 16],
    pub(crate) min: [u8; MOST_VALUES / 16],
    pub(crate) q: [u8; MOST_VALUES],
}

/// Groups of `group` values; `q` in `0..=levels`, scales and minimums in `0..=scale_levels`. A minimum above
/// 0 cannot be stored and counts as 0.
pub(crate) fn affine(values: &[f32], group: usize, levels: f32, scale_levels: f32) -> Affine {
    let (mut steps, mut mins) = ([0.0; MOST_VALUES / 16], [0.0; MOST_VALUES / 16]);
    for (g, group) in values.chunks_exact(group).enumerate() {
        let (low, high) = range(group);
        mins[g] = -low.min(0.0);
        steps[g] = (high + mins[g]) / levels;
    }
    let d = stored(peak(&steps) / scale_levels);
    let dmin = stored(peak(&mins) / scale_levels);
    let empty = [0; MOST_VALUES / 16];
    let mut out = Affine { d, dmin, scale: empty, min: empty, q: [0; MOST_VALUES] };
    for g in 0..values.len() / group {
        let scale = (steps[g] * inverse(d)).round().min(scale_levels);
        let min = (mins[g] * inverse(dmin)).round().min(scale_levels);
        (out.scale[g], out.min[g]) = (scale as u8, min as u8);
        let per_step = inverse(d * scale);
        for (q, x) in out.q[group * g..].iter_mut().zip(&values[group * g..][..group]) {
            *q = ((x + dmin * min) * per_step).round().clamp(0.0, levels) as u8;
        }
    }
    out
}

/// What remains of a scale that is stored as a half.
fn stored(scale: f32) -> f32 {
    f16_to_f32(f32_to_f16(scale))
}
