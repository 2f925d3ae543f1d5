//! Values that share one scale and minimum: where to start, and the way to a local optimum.

use kernels::trials::{CANDIDATES, Candidates, PerCandidate, Sums, sums};
use kernels::{Levels, Minimums};

use super::Search;

/// Which minimums a group may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Minimum {
    None,
    /// 0 or more.
    Positive,
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

/// The best scale and minimum found for a group, free of what a file can hold, and how the error grows around them.
#[derive(Clone, Copy, Default)]
pub(super) struct Optimum {
    pub(super) scale: f32,
    pub(super) min: f32,
    pub(super) error: f32,
    /// The sums of `w`, `w * level` and `w * level^2`: the error is
    /// `error + ll * ds^2 - 2 * l * ds * dm + w * dm^2` at `(scale + ds, min + dm)`.
    pub(super) w: f32,
    pub(super) l: f32,
    pub(super) ll: f32,
}

/// Candidates that were moved to the weighted least squares fit of their levels, and the error there.
pub(super) struct Fitted {
    pub(super) at: Candidates,
    pub(super) error: PerCandidate,
}

/// Moves each candidate to the optimum, given its levels.
///
/// Written without branches, for the compiler to do several lanes at once.
pub(super) fn least_squares(from: &Candidates, sums: &Sums, w: f32, minimum: Minimum) -> Fitted {
    let mut fitted = Fitted { at: *from, error: sums.error };
    if minimum == Minimum::None {
        for lane in 0..CANDIDATES {
            let (rl, ll) = (sums.rl[lane], sums.ll[lane]);
            let ds = if ll > 0.0 { rl / ll } else { 0.0 };
            fitted.at.scale[lane] += ds;
            fitted.error[lane] = (sums.error[lane] - ds * rl).max(0.0);
        }
        return fitted;
    }
    // A minimum may sink to this.
    let floor = if minimum == Minimum::Positive { 0.0 } else { f32::NEG_INFINITY };
    for lane in 0..CANDIDATES {
        let (r, rl, l, ll) = (sums.r[lane], sums.rl[lane], sums.l[lane], sums.ll[lane]);
        let determinant = w * ll - l * l;
        // All values at one level: what the scale is makes no difference.
        let free = if determinant > 1e-6 * w * ll { (w * rl - l * r) / determinant } else { 0.0 };
        let held = from.min[lane] + (free * l - r) / w < floor;
        let pinned = if ll > 0.0 { (rl - l * from.min[lane]) / ll } else { 0.0 };
        let ds = if held { pinned } else { free };
        let dm = if held { -from.min[lane] } else { (free * l - r) / w };
        fitted.at.scale[lane] += ds;
        fitted.at.min[lane] += dm;
        let change = 2.0 * (dm * r - ds * rl - ds * dm * l) + ds * ds * ll + dm * dm * w;
        fitted.error[lane] = (sums.error[lane] + change).max(0.0);
    }
    fitted
}

/// The lane with the least error.
pub(super) fn best(error: &PerCandidate) -> usize {
    (1..CANDIDATES).fold(0, |best, lane| if error[lane] < error[best] { lane } else { best })
}

impl Fitted {
    /// The optimum of one lane; `sums` are those that the fit was made from.
    pub(super) fn optimum(&self, lane: usize, sums: &Sums, w: f32) -> Optimum {
        Optimum {
            scale: self.at.scale[lane],
            min: self.at.min[lane],
            error: self.error[lane],
            w,
            l: sums.l[lane],
            ll: sums.ll[lane],
        }
    }
}

/// Follows all candidates for some rounds of Lloyd's algorithm; gives where they end, and the sums of the last round.
pub(super) fn settle(
    levels: Levels,
    values: &[f32],
    weights: &[f32],
    start: Candidates,
    minimum: Minimum,
    rounds: usize,
) -> (Fitted, Sums) {
    let w = weights.iter().sum();
    let mut sums = sums(levels, values, weights, &start);
    let mut fitted = least_squares(&start, &sums, w, minimum);
    for _ in 1..rounds {
        sums = kernels::trials::sums(levels, values, weights, &fitted.at);
        fitted = least_squares(&fitted.at, &sums, w, minimum);
    }
    (fitted, sums)
}

/// The candidates to start from: each batch of 16 is rounded at once.
pub(super) fn starts(levels: Levels, values: &[f32], minimum: Minimum, search: Search) -> Vec<Candidates> {
    let (lowest, highest) = levels.ends();
    let (lowest, highest) = (f32::from(lowest), f32::from(highest));
    let pairs = match minimum {
        Minimum::None => symmetric(lowest, highest, values, levels, search),
        _ => affine(highest, values, minimum, search),
    };
    pairs
        .chunks(CANDIDATES)
        .map(|pairs| {
            let mut start = Candidates::default();
            for lane in 0..CANDIDATES {
                (start.scale[lane], start.min[lane]) = pairs[lane.min(pairs.len() - 1)];
            }
            start
        })
        .collect()
}

/// Scales that put the value of largest magnitude at or a little beyond either end of the levels, or a little within.
fn symmetric(lowest: f32, highest: f32, values: &[f32], levels: Levels, search: Search) -> Vec<(f32, f32)> {
    let peak = values.iter().fold(0.0, |peak: f32, &x| if x.abs() > peak.abs() { x } else { peak });
    let steps = |count: usize, from: f32, to: f32| {
        (0..count).map(move |i| from + (to - from) * i as f32 / (count - 1) as f32)
    };
    // Coarse levels gain from clipping further than fine ones.
    let beyond = 1.0 + 1.2 / lowest.abs().sqrt();
    let within = 1.0 - 1.0 / lowest.abs().sqrt();
    let mut spans: Vec<f32> = Vec::new();
    match search {
        Search::Fast => {
            spans.extend(steps(10, 1.0, beyond).chain([0.97, 0.94]).map(|f| f * lowest));
            spans.extend([0.95, 1.0, 1.1, 1.2].map(|f| f * highest));
        }
        Search::Thorough => {
            spans.extend(steps(20, 1.0, beyond).chain(steps(9, within, 0.99)).map(|f| f * lowest));
            spans.extend(steps(12, 1.0, beyond).chain(steps(7, within, 0.99)).map(|f| f * highest));
            // Values that are multiples of a scale, as in a file that was rounded before: the peak at each level.
            match levels {
                Levels::Table(levels) => {
                    spans.extend(levels.iter().filter(|&&l| l != 0).map(|&l| f32::from(l)))
                }
                Levels::Range { lowest, highest } => {
                    let outer = i8::max(highest - 24, highest / 4).max(1)..=highest;
                    spans.extend(outer.flat_map(|level| [f32::from(level), -f32::from(level)]));
                    spans.push(lowest.into());
                }
            }
        }
    }
    spans.iter().map(|span| (peak / span, 0.0)).collect()
}

/// Scales and minimums that spread the levels over all of the range, or over most of it, the rest clipped below, above
/// or both.
fn affine(highest: f32, values: &[f32], minimum: Minimum, search: Search) -> Vec<(f32, f32)> {
    let (mut low, mut high) =
        values.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    if minimum == Minimum::Positive {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    let range = high - low;
    // The part of the range that levels cover, and the part of what they do not cover that is clipped below. Coarse
    // levels gain from clipping further than fine ones.
    let mut pairs: Vec<(f32, f32)> = vec![(1.0, 0.0)];
    let clip = 0.8 / highest.sqrt();
    match search {
        Search::Fast => {
            for (part, places) in [(0.25, 3), (0.5, 3), (0.75, 4), (1.0, 3)] {
                pairs.extend((0..places).map(|i| (1.0 - clip * part, i as f32 / (places - 1) as f32)));
            }
            pairs.extend([(highest / (highest - 1.0), 0.0), (highest / (highest - 0.5), 0.5)]);
        }
        Search::Thorough => {
            for part in 1..=8 {
                pairs.extend((0..6).map(|i| (1.0 - clip * part as f32 / 6.0, i as f32 / 5.0)));
            }
            // Not all levels used, from below, as after rounding before: exactly fits when those were.
            for fewer in 1..=(highest as usize / 2).min(14) {
                let part = highest / (highest - fewer as f32);
                pairs.push((part, 0.0));
                pairs.push((part, 1.0));
            }
            pairs.push((highest / (highest - 0.5), 0.5));
        }
    }
    pairs
        .iter()
        .map(|(part, below)| {
            let low = low + range * (1.0 - part) * below;
            let low = if minimum == Minimum::Positive { low.min(0.0) } else { low };
            (range * part / highest, -low)
        })
        .collect()
}
