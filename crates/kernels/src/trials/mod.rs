//! Trying scales: how well 16 candidates of scale and minimum fit a group of values, all at once.
//!
//! This is the inner loop of every search for good codes. A lane is a candidate, so the sums over the values need no
//! step across lanes, and groups of 16 and of 32 values are the same code.

mod nearest;
mod spread;

pub use nearest::{Nearest, levels};
pub(crate) use nearest::{inverse, nearest_levels};
pub use spread::{as_halves, range};

use crate::formats::Minimums;
use crate::simd::{LANES, Simd, per_tier};
use nearest::{Kind, Range, Rounder, Table};

/// Candidates that are tried at once.
pub const CANDIDATES: usize = LANES;

/// A number for each candidate.
pub type PerCandidate = [f32; CANDIDATES];

/// Pairs of scale and minimum: `value = scale * level - min`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates {
    /// The distance of levels that differ by 1.
    pub scale: PerCandidate,
    /// What is subtracted; without effect where there are no minimums.
    pub min: PerCandidate,
}

/// Which minimums a group may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minimum {
    /// None: what candidates have is not looked at.
    None,
    /// 0 or more.
    Positive,
    /// Any.
    Any,
}

impl From<Minimums> for Minimum {
    fn from(minimums: Minimums) -> Minimum {
        match minimums {
            Minimums::None => Minimum::None,
            Minimums::Half => Minimum::Any,
            Minimums::Integer { .. } => Minimum::Positive,
        }
    }
}

/// Sums over the values of a group, for each candidate: with weight `w`, the nearest level `l`, and the residual `r =
/// value + min - scale * l`. With the levels kept, the error is a quadratic function of scale and minimum, and these
/// are all its coefficients but the sum of the weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// The sum of `w * r * r`: the weighted squared error.
    pub error: PerCandidate,
    /// The sum of `w * r * l`.
    pub rl: PerCandidate,
    /// The sum of `w * l * l`.
    pub ll: PerCandidate,
    /// The sum of `w * r`; 0 without minimums.
    pub r: PerCandidate,
    /// The sum of `w * l`; 0 without minimums.
    pub l: PerCandidate,
}

/// A group of values that share a scale and a minimum.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The values.
    pub values: &'a [f32],
    /// What a squared error costs in each of them, above 0.
    pub weights: &'a [f32],
    /// The sum of the weights.
    pub weight: f32,
}

/// Candidates at the weighted least squares fit of the levels that they led to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fitted {
    /// Where the fits lie.
    pub at: Candidates,
    /// The weighted squared error there.
    pub error: PerCandidate,
    /// The sum of `w * l`; 0 without minimums.
    pub l: PerCandidate,
    /// The sum of `w * l * l`.
    pub ll: PerCandidate,
}

/// Rounds the values by each candidate.
///
/// # Panics
/// If there are not as many weights as values.
pub fn sums(levels: &Nearest, minimum: Minimum, group: Group, candidates: &Candidates) -> Sums {
    let mut sums = Sums::default();
    // SAFETY: the group's slices are as long as each other.
    unsafe { run(&Trial::new(levels, minimum, &group), candidates, &mut sums) }
    sums
}

/// Follows all candidates for some rounds of Lloyd's algorithm: each value gets the nearest level, then scale and
/// minimum are fitted to the levels.
///
/// # Panics
/// If there are not as many weights as values.
pub fn settle(levels: &Nearest, minimum: Minimum, group: Group, start: &Candidates, rounds: usize) -> Fitted {
    let mut fitted = Fitted { at: *start, ..Fitted::default() };
    // SAFETY: the group's slices are as long as each other.
    unsafe { run_rounds(&Trial::new(levels, minimum, &group), rounds, &mut fitted) }
    fitted
}

/// The values that candidates are tried on, and how.
struct Trial<'a> {
    values: *const f32,
    weights: *const f32,
    count: usize,
    weight: f32,
    levels: &'a Nearest,
    minimum: Minimum,
}

impl<'a> Trial<'a> {
    fn new(levels: &'a Nearest, minimum: Minimum, group: &Group<'a>) -> Trial<'a> {
        assert_eq!(group.values.len(), group.weights.len(), "values and weights");
        Trial {
            values: group.values.as_ptr(),
            weights: group.weights.as_ptr(),
            count: group.values.len(),
            weight: group.weight,
            levels,
            minimum,
        }
    }
}

/// Calls `$function::<S, MINIMUMS>(trial, rounder, ...)` with what the trial asks for.
macro_rules! by_kind {
    ($function:ident::<$simd:ident>($trial:ident, $($argument:expr),*)) => {
        match ($trial.levels.0, $trial.minimum) {
            (Kind::Range { lowest, highest }, Minimum::None) => {
                $function::<$simd, false>($trial, &Range { lowest, highest }, $($argument),*)
            }
            (Kind::Range { lowest, highest }, _) => {
                $function::<$simd, true>($trial, &Range { lowest, highest }, $($argument),*)
            }
            (Kind::Table { ref levels, ref middles }, Minimum::None) => {
                $function::<$simd, false>($trial, &Table { levels, middles }, $($argument),*)
            }
            (Kind::Table { ref levels, ref middles }, _) => {
                $function::<$simd, true>($trial, &Table { levels, middles }, $($argument),*)
            }
        }
    };
}

per_tier! {
    /// [`try_all`] on this process' tier.
    ///
    /// # Safety
    /// As for [`try_all`], but for the tier.
    fn run(trial: &Trial, candidates: &Candidates, sums: &mut Sums) = try_all
}

/// # Safety
/// `count` values and weights are readable; the caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn try_all<S: Simd>(trial: &Trial, candidates: &Candidates, sums: &mut Sums) {
    // SAFETY: the caller's promise.
    unsafe { by_kind!(pass::<S>(trial, candidates, sums)) }
}

per_tier! {
    /// [`settle_all`] on this process' tier.
    ///
    /// # Safety
    /// As for [`settle_all`], but for the tier.
    fn run_rounds(trial: &Trial, rounds: usize, fitted: &mut Fitted) = settle_all
}

/// # Safety
/// As for [`try_all`].
#[inline(always)]
unsafe fn settle_all<S: Simd>(trial: &Trial, rounds: usize, fitted: &mut Fitted) {
    // SAFETY: the caller's promise.
    unsafe { by_kind!(follow::<S>(trial, rounds, fitted)) }
}

/// # Safety
/// As for [`try_all`].
#[inline(always)]
unsafe fn follow<S: Simd, const MINIMUMS: bool>(
    trial: &Trial,
    rounder: &impl Rounder,
    rounds: usize,
    fitted: &mut Fitted,
) {
    let mut sums = Sums::default();
    for _ in 0..rounds {
        // SAFETY: the caller's promise.
        unsafe { pass::<S, MINIMUMS>(trial, rounder, &fitted.at, &mut sums) }
        // Without branches, for the compiler to do all lanes at once.
        for lane in 0..CANDIDATES {
            let step = if MINIMUMS {
                affine_step(&sums, lane, trial.weight, fitted.at.min[lane], trial.minimum)
            } else {
                scale_step(&sums, lane)
            };
            fitted.at.scale[lane] += step.scale;
            fitted.at.min[lane] += step.min;
            fitted.error[lane] = step.error;
        }
    }
    (fitted.l, fitted.ll) = (sums.l, sums.ll);
}

/// The way from a candidate to the optimum of its levels, and the error there.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// To be added to the scale.
    pub scale: f32,
    /// To be added to the minimum.
    pub min: f32,
    /// The weighted squared error then.
    pub error: f32,
}

impl Sums {
    /// The step of one candidate whose minimum is `min`, where the weights' sum is `weight`.
    pub fn step(&self, lane: usize, weight: f32, min: f32, minimum: Minimum) -> Step {
        match minimum {
            Minimum::None => scale_step(self, lane),
            _ => affine_step(self, lane, weight, min, minimum),
        }
    }
}

#[inline(always)]
fn scale_step(sums: &Sums, lane: usize) -> Step {
    let (rl, ll) = (sums.rl[lane], sums.ll[lane]);
    let scale = if ll > 0.0 { rl / ll } else { 0.0 };
    Step { scale, min: 0.0, error: (sums.error[lane] - scale * rl).max(0.0) }
}

#[inline(always)]
fn affine_step(sums: &Sums, lane: usize, w: f32, min: f32, minimum: Minimum) -> Step {
    // A minimum may sink to this.
    let floor = if minimum == Minimum::Positive { 0.0 } else { f32::NEG_INFINITY };
    let (r, rl, l, ll) = (sums.r[lane], sums.rl[lane], sums.l[lane], sums.ll[lane]);
    let determinant = w * ll - l * l;
    // All values at one level: what the scale is makes no difference.
    let free = if determinant > 1e-6 * w * ll { (w * rl - l * r) / determinant } else { 0.0 };
    let rise = (free * l - r) / w;
    let held = min + rise < floor;
    let pinned = if ll > 0.0 { (rl - l * min) / ll } else { 0.0 };
    let (ds, dm) = (if held { pinned } else { free }, if held { -min } else { rise });
    let change = 2.0 * (dm * r - ds * rl - ds * dm * l) + ds * ds * ll + dm * dm * w;
    Step { scale: ds, min: dm, error: (sums.error[lane] + change).max(0.0) }
}

/// # Safety
/// As for [`try_all`].
#[inline(always)]
unsafe fn pass<S: Simd, const MINIMUMS: bool>(
    trial: &Trial,
    rounder: &impl Rounder,
    candidates: &Candidates,
    sums: &mut Sums,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let mut inverses = [0.0; CANDIDATES];
        for lane in 0..CANDIDATES {
            inverses[lane] = inverse(candidates.scale[lane]);
        }
        let (inverse, min) = (S::load_f32(inverses.as_ptr()), S::load_f32(candidates.min.as_ptr()));
        let zero = S::splat_f32(0.0);
        // Subtracted by a product with a sum, which rounds once.
        let minus_scale = S::sub(zero, S::load_f32(candidates.scale.as_ptr()));
        let (mut error, mut r, mut rl, mut l, mut ll) = (zero, zero, zero, zero, zero);
        for i in 0..trial.count {
            let mut x = S::splat_f32(*trial.values.add(i));
            if MINIMUMS {
                x = S::add(x, min);
            }
            let weight = S::splat_f32(*trial.weights.add(i));
            let level = rounder.nearest::<S>(S::mul(x, inverse));
            let residual = S::fma(minus_scale, level, x);
            let (weighted, heavy) = (S::mul(weight, residual), S::mul(weight, level));
            error = S::fma(weighted, residual, error);
            rl = S::fma(weighted, level, rl);
            ll = S::fma(heavy, level, ll);
            if MINIMUMS {
                r = S::add(r, weighted);
                l = S::add(l, heavy);
            }
        }
        S::store_f32(sums.error.as_mut_ptr(), error);
        S::store_f32(sums.rl.as_mut_ptr(), rl);
        S::store_f32(sums.ll.as_mut_ptr(), ll);
        if MINIMUMS {
            S::store_f32(sums.r.as_mut_ptr(), r);
            S::store_f32(sums.l.as_mut_ptr(), l);
        }
    }
}

#[cfg(test)]
mod tests;
