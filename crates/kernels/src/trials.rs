//! Trying scales: how well 16 candidates of scale and minimum fit a group of values, all at once.
//!
//! This is the inner loop of every search for good codes. A lane is a candidate, so the sums over the values need no
//! step across lanes, and groups of 16 and of 32 values are the same code.

use crate::formats::Levels;
use crate::simd::{LANES, Simd, per_tier};

/// Candidates that are tried at once.
pub const CANDIDATES: usize = LANES;

/// A number for each candidate.
pub type PerCandidate = [f32; CANDIDATES];

/// Pairs of scale and minimum: `value = scale * level - min`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates {
    /// The distance of levels that differ by 1.
    pub scale: PerCandidate,
    /// What is subtracted.
    pub min: PerCandidate,
}

/// Sums over the values of a group, for each candidate: with weight `w`, the nearest level `l`, and the residual `r =
/// value + min - scale * l`. With the levels kept, the error is a quadratic function of scale and minimum, and these
/// are all its coefficients but the sum of the weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// The sum of `w * r * r`: the weighted squared error.
    pub error: PerCandidate,
    /// The sum of `w * r`.
    pub r: PerCandidate,
    /// The sum of `w * r * l`.
    pub rl: PerCandidate,
    /// The sum of `w * l`.
    pub l: PerCandidate,
    /// The sum of `w * l * l`.
    pub ll: PerCandidate,
}

/// Rounds `values` by each candidate.
///
/// # Panics
/// If there are not as many weights as values.
pub fn sums(levels: Levels, values: &[f32], weights: &[f32], candidates: &Candidates) -> Sums {
    assert_eq!(values.len(), weights.len(), "values and weights");
    let mut sums = Sums::default();
    let mut inverses = [0.0; CANDIDATES];
    for (to, scale) in inverses.iter_mut().zip(candidates.scale) {
        *to = inverse(scale);
    }
    let trial = Trial {
        values: values.as_ptr(),
        weights: weights.as_ptr(),
        count: values.len(),
        levels: Nearest::new(levels),
        candidates,
        inverse: inverses,
        sums: &raw mut sums,
    };
    // SAFETY: the pointers are those of slices of `count` values and of whole structures.
    unsafe { run(&trial) }
    sums
}

/// The nearest levels of `values` by one scale and minimum.
///
/// # Panics
/// If there is not one level for each value, or their number is no multiple of 16.
pub fn levels(levels: Levels, values: &[f32], scale: f32, min: f32, out: &mut [i8]) {
    assert_eq!(values.len(), out.len(), "values and levels");
    assert!(values.len().is_multiple_of(LANES), "{} values, no multiple of {LANES}", values.len());
    // SAFETY: both are whole vectors of the same length.
    unsafe {
        round(values.as_ptr(), values.len(), &Nearest::new(levels), inverse(scale), min, out.as_mut_ptr())
    }
}

/// `1 / scale`, and 0 for 0, so that all values get the level nearest to 0.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// How the nearest level is found.
#[derive(Clone, Copy)]
enum Nearest {
    Range {
        lowest: f32,
        highest: f32,
    },
    /// Levels and the middles between them; those past the last level are at infinity.
    Table {
        levels: [i8; 16],
        middles: [f32; 15],
    },
}

impl Nearest {
    fn new(levels: Levels) -> Nearest {
        match levels {
            Levels::Range { lowest, highest } => {
                Nearest::Range { lowest: lowest.into(), highest: highest.into() }
            }
            Levels::Table(table) => {
                let (mut levels, mut middles) = ([0; 16], [f32::INFINITY; 15]);
                levels[..table.len()].copy_from_slice(table);
                for (middle, pair) in middles.iter_mut().zip(table.windows(2)) {
                    *middle = 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
                }
                Nearest::Table { levels, middles }
            }
        }
    }

    /// The levels nearest to the lanes of `x`.
    ///
    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    unsafe fn levels<S: Simd>(&self, x: S::F) -> S::V {
        // SAFETY: lane arithmetic, and a table of 16 bytes; the tier is the caller's promise.
        unsafe {
            match self {
                Nearest::Range { lowest, highest } => {
                    S::round_to_int(S::min(S::max(x, S::splat_f32(*lowest)), S::splat_f32(*highest)))
                }
                Nearest::Table { levels, middles } => {
                    // How many middles are below: the sign of the difference is 1 for each.
                    let mut index = S::splat(0);
                    for &middle in middles {
                        index = S::add_int(index, S::shr(S::f32_bits(S::sub(S::splat_f32(middle), x)), 31));
                    }
                    // The level is the lowest of the lane's four bytes.
                    S::sar(S::shl(S::table(levels.as_ptr().cast(), index), 24), 24)
                }
            }
        }
    }
}

/// The arguments of [`try_all`].
struct Trial<'a> {
    values: *const f32,
    weights: *const f32,
    count: usize,
    levels: Nearest,
    candidates: &'a Candidates,
    inverse: PerCandidate,
    sums: *mut Sums,
}

per_tier! {
    /// [`try_all`] on this process' tier.
    ///
    /// # Safety
    /// As for [`try_all`], but for the tier.
    fn run(trial: &Trial) = try_all
}

/// # Safety
/// `count` values and weights are readable, `sums` is writable; the caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn try_all<S: Simd>(trial: &Trial) {
    // SAFETY: the caller's promise.
    unsafe {
        // One copy of the loop for each kind, so that the choice is not made again for each value.
        match trial.levels {
            Nearest::Range { lowest, highest } => try_levels::<S>(trial, Nearest::Range { lowest, highest }),
            Nearest::Table { levels, middles } => try_levels::<S>(trial, Nearest::Table { levels, middles }),
        }
    }
}

/// # Safety
/// As for [`try_all`].
#[inline(always)]
unsafe fn try_levels<S: Simd>(trial: &Trial, levels: Nearest) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let scale = S::load_f32(trial.candidates.scale.as_ptr());
        let min = S::load_f32(trial.candidates.min.as_ptr());
        let inverse = S::load_f32(trial.inverse.as_ptr());
        let zero = S::splat_f32(0.0);
        let (mut error, mut r, mut rl, mut l, mut ll) = (zero, zero, zero, zero, zero);
        for i in 0..trial.count {
            let x = S::add(S::splat_f32(*trial.values.add(i)), min);
            let weight = S::splat_f32(*trial.weights.add(i));
            let level = S::to_f32(levels.levels::<S>(S::mul(x, inverse)));
            let residual = S::sub(x, S::mul(scale, level));
            let (weighted, heavy) = (S::mul(weight, residual), S::mul(weight, level));
            error = S::fma(weighted, residual, error);
            r = S::add(r, weighted);
            rl = S::fma(weighted, level, rl);
            l = S::add(l, heavy);
            ll = S::fma(heavy, level, ll);
        }
        let sums = trial.sums;
        S::store_f32((&raw mut (*sums).error).cast(), error);
        S::store_f32((&raw mut (*sums).r).cast(), r);
        S::store_f32((&raw mut (*sums).rl).cast(), rl);
        S::store_f32((&raw mut (*sums).l).cast(), l);
        S::store_f32((&raw mut (*sums).ll).cast(), ll);
    }
}

per_tier! {
    /// [`round_all`] on this process' tier.
    ///
    /// # Safety
    /// As for [`round_all`], but for the tier.
    fn round(values: *const f32, count: usize, levels: &Nearest, inverse: f32, min: f32, out: *mut i8) = round_all
}

/// # Safety
/// `count`, a multiple of 16, values are readable and levels writable; the caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn round_all<S: Simd>(
    values: *const f32,
    count: usize,
    levels: &Nearest,
    inverse: f32,
    min: f32,
    out: *mut i8,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let (min, inverse) = (S::splat_f32(min), S::splat_f32(inverse));
        for i in (0..count).step_by(LANES) {
            let x = S::mul(S::add(S::load_f32(values.add(i)), min), inverse);
            S::store_i8(out.add(i), levels.levels::<S>(x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FORMATS;

    /// A value around 0, different for each `i`.
    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    #[test]
    fn sums_are_those_of_the_levels() {
        for (format, grid) in FORMATS.iter().filter_map(|format| Some((format, format.grid()?))) {
            let (_, highest) = grid.levels.ends();
            for count in [16, 32] {
                let values: Vec<f32> = (0..count).map(value).collect();
                let weights: Vec<f32> = (0..count).map(|i| value(i + 77).abs()).collect();
                let candidates = Candidates {
                    scale: std::array::from_fn(|c| match c {
                        0 => 0.0,
                        _ => value(c + 500) / f32::from(highest),
                    }),
                    min: std::array::from_fn(|c| value(c + 900)),
                };
                let got = sums(grid.levels, &values, &weights, &candidates);
                for c in 0..CANDIDATES {
                    let (scale, min) = (candidates.scale[c], candidates.min[c]);
                    let mut q = vec![0; count];
                    levels(grid.levels, &values, scale, min, &mut q);
                    let mut expected = [0f64; 5];
                    for i in 0..count {
                        let x = (values[i] + min) * inverse(scale);
                        let best = grid.levels.nearest(x);
                        let distance = |level: i8| (x - f32::from(level)).abs();
                        assert!(
                            distance(q[i]) <= distance(best) * 1.000_01,
                            "{format:?} {x}: {} {best}",
                            q[i]
                        );
                        let (w, level) = (f64::from(weights[i]), f64::from(q[i]));
                        let r = f64::from(values[i]) + f64::from(min) - f64::from(scale) * level;
                        let terms = [w * r * r, w * r, w * r * level, w * level, w * level * level];
                        expected.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                    }
                    let got = [got.error[c], got.r[c], got.rl[c], got.l[c], got.ll[c]];
                    // Terms are below 4 * 128^2; each of their sums of 32 rounds a few times.
                    for (got, expected) in got.iter().zip(expected) {
                        let tolerance = 1e-5 * expected.abs().max(f64::from(highest));
                        assert!(
                            (f64::from(*got) - expected).abs() <= tolerance,
                            "{format:?}: {got} {expected}"
                        );
                    }
                }
            }
        }
    }
}
