//! Values that share one scale and minimum: where to start, and the way to a local optimum.

use kernels::trials::{CANDIDATES, Candidates, Fitted, Group, Minimum, PerCandidate, range, settle};
use kernels::{Grid, Levels};

use super::{Search, Searcher};

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

/// The lane with the least error, the first of several.
pub(super) fn best(error: &PerCandidate) -> usize {
    first_within(error, 0.0)
}

/// The first lane whose error is at most `slack` above the least.
fn first_within(error: &PerCandidate, slack: f32) -> usize {
    // The least first, by halves that are compared side by side; then where it was.
    let mut least = *error;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
        }
    }
    let most = least[0] + slack;
    error.iter().position(|&x| x <= most).unwrap_or(0)
}

/// A mean squared error that is none, where values are about 1.
const EXACT: f32 = 1e-11;

impl Optimum {
    /// The best of `fitted`, of a group whose weights have the sum `w`.
    pub(super) fn of(fitted: &Fitted, w: f32) -> Optimum {
        // Values that were rounded before often fit at several places, with all levels one higher at a minimum that is a
        // step further down. Blocks are more alike at the earlier starts, so those are not given up for what sums round.
        let lane = first_within(&fitted.error, EXACT * w);
        Optimum {
            scale: fitted.at.scale[lane],
            min: fitted.at.min[lane],
            error: fitted.error[lane],
            w,
            l: fitted.l[lane],
            ll: fitted.ll[lane],
        }
    }

    /// The best that is found from all starts.
    pub(super) fn find(searcher: &Searcher, group: Group, rounds: usize) -> Optimum {
        let mut best = Optimum { error: f32::INFINITY, w: group.weight, ..Optimum::default() };
        for start in searcher.starts.of(group.values) {
            let fitted = settle(&searcher.nearest, searcher.minimum, group, &start, rounds);
            let found = Optimum::of(&fitted, group.weight);
            if found.error < best.error {
                best = found;
            }
        }
        best
    }
}

/// Where searches in the groups of a format start.
pub(super) struct Starts {
    minimum: Minimum,
    /// For a group whose peak is 1, or whose values reach from 0 to 1.
    shapes: Vec<Candidates>,
}

impl Starts {
    pub(super) fn new(grid: &Grid, search: Search) -> Starts {
        let (lowest, highest) = grid.levels.ends();
        let (lowest, highest) = (f32::from(lowest), f32::from(highest));
        let minimum = Minimum::from(grid.minimums);
        let pairs = match minimum {
            Minimum::None => symmetric(lowest, highest, grid.levels, search),
            _ => affine(highest, search),
        };
        let batch = |pairs: &[(f32, f32)]| {
            let mut batch = Candidates::default();
            for lane in 0..CANDIDATES {
                (batch.scale[lane], batch.min[lane]) = pairs[lane.min(pairs.len() - 1)];
            }
            batch
        };
        Starts { minimum, shapes: pairs.chunks(CANDIDATES).map(batch).collect() }
    }

    /// Those of a group.
    pub(super) fn of(&self, values: &[f32]) -> impl Iterator<Item = Candidates> {
        let (low, high) = range(values);
        let (low, extent) = match self.minimum {
            Minimum::None => (0.0, if -low > high { low } else { high }),
            Minimum::Positive => (low.min(0.0), high.max(0.0) - low.min(0.0)),
            Minimum::Any => (low, high - low),
        };
        let floor = if self.minimum == Minimum::Positive { 0.0 } else { f32::NEG_INFINITY };
        self.shapes.iter().map(move |shape| Candidates {
            scale: shape.scale.map(|scale| scale * extent),
            min: shape.min.map(|min| (min * extent - low).max(floor)),
        })
    }
}

/// Scales that put the value of largest magnitude at or a little beyond either end of the levels, or a little within.
fn symmetric(lowest: f32, highest: f32, levels: Levels, search: Search) -> Vec<(f32, f32)> {
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
    spans.iter().map(|span| (1.0 / span, 0.0)).collect()
}

/// Scales and minimums that spread the levels over all of the range, or over most of it, the rest clipped below, above
/// or both.
fn affine(highest: f32, search: Search) -> Vec<(f32, f32)> {
    // The part of the range that levels cover, and the part of what they do not cover that is clipped below. Coarse
    // levels gain from clipping further than fine ones.
    let mut pairs: Vec<(f32, f32)> =
        vec![(1.0, 0.0), (highest / (highest - 1.0), 0.0), (highest / (highest - 2.0), 0.0)];
    let clip = 0.8 / highest.sqrt();
    match search {
        Search::Fast => {
            for (part, places) in [(0.25, 3), (0.5, 3), (0.75, 3), (1.0, 3)] {
                pairs.extend((0..places).map(|i| (1.0 - clip * part, i as f32 / (places - 1) as f32)));
            }
            pairs.push((highest / (highest - 0.5), 0.5));
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
    pairs.iter().map(|(part, below)| (part / highest, (part - 1.0) * below)).collect()
}
