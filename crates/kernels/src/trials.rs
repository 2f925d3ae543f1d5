//! Trying scales: how well 16 candidates of scale and minimum fit a group of values, all at once.
//!
//! This is the inner loop of every search for good codes. A lane is a candidate, so the sums over the values need no
//! step across lanes, and groups of 16 and of 32 values are the same code.

use crate::formats::{Levels, Minimums};
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

/// The nearest levels of `values` by one scale and minimum.
///
/// # Panics
/// If there is not one level for each value, or their number is no multiple of 16.
pub fn levels(levels: &Nearest, values: &[f32], scale: f32, min: f32, out: &mut [i8]) {
    nearest_levels(levels, values, inverse(scale), min, out);
}

/// The levels nearest to `(value + min) * per_step`.
///
/// # Panics
/// As for [`levels`].
pub(crate) fn nearest_levels(levels: &Nearest, values: &[f32], per_step: f32, min: f32, out: &mut [i8]) {
    assert_eq!(values.len(), out.len(), "values and levels");
    assert!(values.len().is_multiple_of(LANES), "{} values, no multiple of {LANES}", values.len());
    // SAFETY: both are whole vectors of the same length.
    unsafe { round(values.as_ptr(), values.len(), levels, per_step, min, out.as_mut_ptr()) }
}

/// What a file makes of scales or minimums: the nearest halves, at most the largest that is finite.
pub fn as_halves(values: &PerCandidate) -> PerCandidate {
    let mut halves = [0.0; CANDIDATES];
    // SAFETY: both are a whole vector.
    unsafe { through_halves(values, &mut halves) }
    halves
}

/// Smallest and largest value, NaN left out; the ends of `f32` the other way round for no values.
pub fn range(values: &[f32]) -> (f32, f32) {
    let (vectors, rest) = values.as_chunks();
    let mut ends = (f32::INFINITY, f32::NEG_INFINITY);
    if !vectors.is_empty() {
        // SAFETY: whole vectors.
        unsafe { ends_of(vectors, &mut ends) }
    }
    for &x in rest {
        ends = (if x < ends.0 { x } else { ends.0 }, if x > ends.1 { x } else { ends.1 });
    }
    ends
}

/// `1 / scale`, and 0 for 0, so that all values get the level nearest to 0. Of a scale below the normal range it is the largest
/// number there is, for with an infinite one 0 would have no level.
#[inline(always)]
pub(crate) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (1.0 / scale).clamp(f32::MIN, f32::MAX) }
}

/// How the nearest level is found.
#[derive(Clone, Copy, Debug)]
pub struct Nearest(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
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

impl From<Levels> for Nearest {
    fn from(levels: Levels) -> Nearest {
        Nearest(match levels {
            Levels::Range { lowest, highest } => {
                Kind::Range { lowest: lowest.into(), highest: highest.into() }
            }
            Levels::Table(table) => {
                let (mut levels, mut middles) = ([0; 16], [f32::INFINITY; 15]);
                levels[..table.len()].copy_from_slice(table);
                for (middle, pair) in middles.iter_mut().zip(table.windows(2)) {
                    *middle = 0.5 * (f32::from(pair[0]) + f32::from(pair[1]));
                }
                Kind::Table { levels, middles }
            }
        })
    }
}

/// Finds the nearest level, as a number: one type for each [`Kind`], so that the choice is not made for each value.
trait Rounder {
    /// The levels nearest to the lanes of `x`.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F;
}

struct Range {
    lowest: f32,
    highest: f32,
}

impl Rounder for Range {
    #[inline(always)]
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F {
        // SAFETY: lane arithmetic; the tier is the caller's promise.
        unsafe { S::round(S::min(S::max(x, S::splat_f32(self.lowest)), S::splat_f32(self.highest))) }
    }
}

struct Table<'a> {
    levels: &'a [i8; 16],
    middles: &'a [f32; 15],
}

impl Rounder for Table<'_> {
    #[inline(always)]
    unsafe fn nearest<S: Simd>(&self, x: S::F) -> S::F {
        // SAFETY: lane arithmetic, and a table of 16 bytes; the tier is the caller's promise.
        unsafe {
            // How many middles are below: the sign of the difference is 1 for each.
            let mut index = S::splat(0);
            for &middle in self.middles {
                index = S::add_int(index, S::shr(S::f32_bits(S::sub(S::splat_f32(middle), x)), 31));
            }
            // The level is the lowest of the lane's four bytes.
            S::to_f32(S::sar(S::shl(S::table(self.levels.as_ptr().cast(), index), 24), 24))
        }
    }
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

per_tier! {
    /// [`find_ends`] on this process' tier.
    ///
    /// # Safety
    /// As for [`find_ends`], but for the tier.
    fn ends_of(vectors: &[PerCandidate], ends: &mut (f32, f32)) = find_ends
}

/// # Safety
/// The caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn find_ends<S: Simd>(vectors: &[PerCandidate], ends: &mut (f32, f32)) {
    // SAFETY: whole vectors.
    unsafe {
        // The smallest is the largest of the negatives. Of two, the second is kept where the first is NaN.
        let mut high = S::splat_f32(f32::NEG_INFINITY);
        let (mut minus_low, sign) = (high, S::splat(1 << 31));
        for vector in vectors {
            let x = S::load_f32(vector.as_ptr());
            let minus = S::bits_to_f32(S::xor(S::f32_bits(x), sign));
            (high, minus_low) = (S::max(x, high), S::max(minus, minus_low));
        }
        *ends = (-S::max_lane(minus_low), S::max_lane(high));
    }
}

per_tier! {
    /// [`to_halves`] on this process' tier.
    ///
    /// # Safety
    /// As for [`to_halves`], but for the tier.
    fn through_halves(values: &PerCandidate, halves: &mut PerCandidate) = to_halves
}

/// # Safety
/// The caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn to_halves<S: Simd>(values: &PerCandidate, halves: &mut PerCandidate) {
    // SAFETY: whole vectors, and 16 halves of two bytes.
    unsafe {
        let (x, most) = (S::load_f32(values.as_ptr()), 65504.0);
        let mut bytes = [0; 2 * LANES];
        S::store_f16(bytes.as_mut_ptr(), S::min(S::max(x, S::splat_f32(-most)), S::splat_f32(most)));
        S::store_f32(halves.as_mut_ptr(), S::load_f16(bytes.as_ptr()));
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
        match levels.0 {
            Kind::Range { lowest, highest } => {
                round_by::<S>(values, count, &Range { lowest, highest }, inverse, min, out);
            }
            Kind::Table { ref levels, ref middles } => {
                round_by::<S>(values, count, &Table { levels, middles }, inverse, min, out);
            }
        }
    }
}

/// # Safety
/// As for [`round_all`].
#[inline(always)]
unsafe fn round_by<S: Simd>(
    values: *const f32,
    count: usize,
    rounder: &impl Rounder,
    inverse: f32,
    min: f32,
    out: *mut i8,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let (min, inverse) = (S::splat_f32(min), S::splat_f32(inverse));
        for i in (0..count).step_by(LANES) {
            let x = S::mul(S::add(S::load_f32(values.add(i)), min), inverse);
            S::store_i8(out.add(i), S::round_to_int(rounder.nearest::<S>(x)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FORMATS;
    use crate::simd::scalar::Scalar;

    /// A value around 0, different for each `i`.
    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    /// Values, weights and candidates for a group; the first candidate's scale is 0.
    fn example(count: usize, highest: i8) -> (Vec<f32>, Vec<f32>, Candidates) {
        let values = (0..count).map(value).collect();
        let weights = (0..count).map(|i| value(i + 77).abs() + 0.01).collect();
        let scale = |c| value(c + 500) / f32::from(highest);
        let candidates = Candidates {
            scale: std::array::from_fn(|c| if c == 0 { 0.0 } else { scale(c) }),
            min: std::array::from_fn(|c| value(c + 900).abs()),
        };
        (values, weights, candidates)
    }

    /// All that a format can ask for, with groups that are no multiples of anything too.
    fn for_all(mut test: impl FnMut(Levels, Minimum, Group, &Candidates)) {
        for grid in FORMATS.iter().filter_map(|format| format.grid()) {
            let (_, highest) = grid.levels.ends();
            for count in [1, 7, 8, 16, 17, 32, 256] {
                let (values, weights, candidates) = example(count, highest);
                let group = Group { values: &values, weights: &weights, weight: weights.iter().sum() };
                for minimum in [Minimum::None, Minimum::Positive, Minimum::Any] {
                    test(grid.levels, minimum, group, &candidates);
                }
            }
        }
    }

    /// The sums of one candidate in `f64`: the error, then those of `w r`, `w r l`, `w l` and `w l l`.
    fn defined(group: Group, scale: f32, min: f32, level: impl Fn(usize) -> i8) -> [f64; 5] {
        let mut sums = [0.0; 5];
        for i in 0..group.values.len() {
            let (w, level) = (f64::from(group.weights[i]), f64::from(level(i)));
            let r = f64::from(group.values[i]) + f64::from(min) - f64::from(scale) * level;
            let terms = [w * r * r, w * r, w * r * level, w * level, w * level * level];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        sums
    }

    #[test]
    fn levels_are_the_nearest() {
        for grid in FORMATS.iter().filter_map(|format| format.grid()) {
            let (values, _, candidates) = example(64, grid.levels.ends().1);
            let nearest = Nearest::from(grid.levels);
            for (scale, min) in candidates.scale.into_iter().zip(candidates.min) {
                let mut q = [0; 64];
                levels(&nearest, &values, scale, min, &mut q);
                for (value, q) in values.iter().zip(q) {
                    let x = (value + min) * inverse(scale);
                    let distance = |level: i8| (x - f32::from(level)).abs();
                    let best = grid.levels.nearest(x);
                    assert!(distance(q) <= distance(best) * 1.000_01, "{:?} {x}: {q} {best}", grid.levels);
                }
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_levels() {
        for_all(|levels, minimum, group, candidates| {
            let nearest = Nearest::from(levels);
            let got = sums(&nearest, minimum, group, candidates);
            for c in 0..CANDIDATES {
                let with_minimum = minimum != Minimum::None;
                let (scale, min) = (candidates.scale[c], if with_minimum { candidates.min[c] } else { 0.0 });
                let mut values = group.values.to_vec();
                values.resize(values.len().next_multiple_of(LANES), 0.0);
                let mut q = vec![0; values.len()];
                super::levels(&nearest, &values, scale, min, &mut q);
                let [error, r, rl, l, ll] = defined(group, scale, min, |i| q[i]);
                let expected = if with_minimum { [error, r, rl, l, ll] } else { [error, 0.0, rl, 0.0, ll] };
                let got = [got.error[c], got.r[c], got.rl[c], got.l[c], got.ll[c]];
                // Each of the sums rounds a few times for each value, by what the terms may be.
                let (count, highest) = (group.values.len() as f64, f64::from(levels.ends().1));
                for (got, expected) in got.iter().zip(expected) {
                    let tolerance = 1e-6 * (count + 8.0) * expected.abs().max(highest);
                    let off = (f64::from(*got) - expected).abs();
                    assert!(off <= tolerance, "{levels:?} {minimum:?} {count}: {got} {expected}");
                }
            }
        });
    }

    #[test]
    fn candidates_settle_where_the_error_is_less() {
        for_all(|levels, minimum, group, candidates| {
            let nearest = Nearest::from(levels);
            let mut before = sums(&nearest, minimum, group, candidates).error;
            for rounds in 1..4 {
                let fitted = settle(&nearest, minimum, group, candidates, rounds);
                let anew = sums(&nearest, minimum, group, &fitted.at).error;
                for c in 0..CANDIDATES {
                    // What the sums round: weights are up to 2, values up to 2 away.
                    let slack = 1e-6 * (8.0 + group.values.len() as f32);
                    let (error, min) = (fitted.error[c], fitted.at.min[c]);
                    assert!(
                        error <= before[c] * 1.000_1 + slack,
                        "{levels:?} {minimum:?}: {error} {before:?}"
                    );
                    // The nearest levels are at least as good as those that the fit was made for.
                    assert!(anew[c] <= error * 1.000_1 + slack, "{levels:?} {minimum:?}: {error} {anew:?}");
                    assert!(minimum != Minimum::Positive || min >= 0.0, "{min}");
                }
                before = fitted.error;
            }
        });
    }

    /// The one-candidate step is the one that [`settle`] makes.
    #[test]
    fn a_round_is_a_step() {
        for_all(|levels, minimum, group, candidates| {
            let nearest = Nearest::from(levels);
            let (sums, fitted) =
                (sums(&nearest, minimum, group, candidates), settle(&nearest, minimum, group, candidates, 1));
            for c in 0..CANDIDATES {
                let step = sums.step(c, group.weight, candidates.min[c], minimum);
                assert_eq!(fitted.at.scale[c], candidates.scale[c] + step.scale);
                assert_eq!(fitted.at.min[c], candidates.min[c] + step.min);
                assert_eq!(fitted.error[c], step.error);
                assert_eq!(fitted.ll[c], sums.ll[c]);
            }
        });
    }

    /// This process' tier against plain Rust: they differ by how often sums are rounded. A value halfway between two levels
    /// may get the other one then, but its error is the same.
    #[test]
    fn tiers_agree() {
        for_all(|levels, minimum, group, candidates| {
            let nearest = Nearest::from(levels);
            let got = sums(&nearest, minimum, group, candidates);
            let mut plain = Sums::default();
            // SAFETY: the group's slices are as long as each other; plain Rust runs everywhere.
            unsafe { try_all::<Scalar>(&Trial::new(&nearest, minimum, &group), candidates, &mut plain) }
            for (got, plain) in got.error.iter().zip(plain.error) {
                let slack = 1e-6 * (plain + group.values.len() as f32);
                assert!((got - plain).abs() <= slack, "{levels:?} {minimum:?}: {got} {plain}");
            }
        });
    }

    #[test]
    fn halves_are_those_of_a_file() {
        let edges = [0.0, -0.0, 1.0, -1.0 / 3.0, 65504.0, 65519.0, 65520.0, -1e30, 1e-7, 3e-8, 2e-8, 6.1e-5];
        let values = std::array::from_fn(|i| edges.get(i).copied().unwrap_or(value(i)));
        let expected = values.map(crate::formats::stored);
        assert_eq!(as_halves(&values).map(f32::to_bits), expected.map(f32::to_bits));
    }

    #[test]
    fn ranges() {
        for count in [1, 7, 8, 9, 33] {
            let values: Vec<f32> = (0..count).map(value).collect();
            let sorted = {
                let mut sorted = values.clone();
                sorted.sort_by(f32::total_cmp);
                sorted
            };
            assert_eq!(range(&values), (sorted[0], sorted[count - 1]));
        }
        assert_eq!(range(&[]), (f32::INFINITY, f32::NEG_INFINITY));
    }
}
