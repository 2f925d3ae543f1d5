//! Formats whose groups have integer scales, and some integer minimums, in units of the block's `d` and `dmin`.

use kernels::trials::{CANDIDATES, Candidates, Group, Minimum, Nearest, levels, settle, sums};
use kernels::{Codes, Levels, Minimums, Scales};

use super::group::{Optimum, best};
use super::{Block, MOST_GROUPS, Search};

/// Something of each group of a block.
type PerGroup<T> = [T; MOST_GROUPS];

/// A choice for the whole block; integers as floats, for they are multiplied with floats.
#[derive(Clone)]
struct Choice {
    d: f32,
    dmin: f32,
    scale: PerGroup<f32>,
    min: PerGroup<f32>,
    error: f32,
}

/// The integers that groups may choose from.
#[derive(Clone, Copy)]
struct Integers {
    lowest: f32,
    highest: f32,
}

impl Integers {
    fn new(lowest: impl Into<f32>, highest: impl Into<f32>) -> Integers {
        Integers { lowest: lowest.into(), highest: highest.into() }
    }

    /// The nearest to `x`.
    fn nearest(self, x: f32) -> f32 {
        // At this size the last place of an `f32` is 1, so the sum is rounded.
        const MAGIC: f32 = 12_582_912.0;
        self.clamp(x) + MAGIC - MAGIC
    }

    fn clamp(self, x: f32) -> f32 {
        let x = if x > self.lowest { x } else { self.lowest };
        if x < self.highest { x } else { self.highest }
    }

    /// The one that reaches furthest.
    fn furthest(self) -> f32 {
        if self.lowest < 0.0 { self.lowest } else { self.highest }
    }
}

/// What a format offers its groups.
struct Offer {
    scales: Integers,
    /// `None` without minimums.
    mins: Option<Integers>,
}

/// Finds the codes of a block.
pub(super) fn fit(block: &Block, codes: &mut Codes) {
    let grid = block.searcher.grid;
    let Scales::Integer { lowest, highest } = grid.scales else { unreachable!("one scale a block") };
    let mins = match grid.minimums {
        Minimums::Integer { highest } => Some(Integers::new(0.0, highest)),
        _ => None,
    };
    let offer = Offer { scales: Integers::new(lowest, highest), mins };
    let (rounds, tried, refined) = match block.searcher.search {
        Search::Fast => (2, 1, 2),
        Search::Thorough => (4, 6, 4),
    };
    let mut groups = [Optimum::default(); MOST_GROUPS];
    let groups = &mut groups[..block.groups()];
    for (g, optimum) in groups.iter_mut().enumerate() {
        *optimum = Optimum::find(block.searcher, block.group(g), rounds);
    }
    let mut best: Option<Choice> = None;
    for (d, dmin) in units(groups, &offer, tried) {
        let choice = refine(block, groups, &offer, d, dmin, refined);
        if best.as_ref().is_none_or(|best| choice.error < best.error) {
            best = Some(choice);
        }
    }
    if let Some(choice) = best {
        write(block, &choice, codes);
    }
}

/// Pairs of `d` and `dmin` worth trying, the most promising first: those for which the groups' optima come nearest to
/// integers.
fn units(groups: &[Optimum], offer: &Offer, count: usize) -> Vec<(f32, f32)> {
    let (mut targets, mut weights) = ([0.0; MOST_GROUPS], [0.0; MOST_GROUPS]);
    for (g, group) in groups.iter().enumerate() {
        // A minimum that follows the scale makes up for a part of the scale's error.
        let follows = if offer.mins.is_some() { group.l * group.l / group.w } else { 0.0 };
        (targets[g], weights[g]) = (group.scale, (group.ll - follows).max(LEAST_CURVATURE));
    }
    let count_of = groups.len();
    let scales = ladder(&targets[..count_of], &weights[..count_of], offer.scales, count);
    let Some(mins) = offer.mins else { return scales.into_iter().map(|d| (d, 0.0)).collect() };
    let mut pairs = Vec::new();
    for (rank, &d) in scales.iter().enumerate() {
        let inverse = inverse(d);
        for (g, group) in groups.iter().enumerate() {
            let scale = offer.scales.nearest(group.scale * inverse) * d;
            (targets[g], weights[g]) = (min_for(group, scale), group.w);
        }
        let dmin = ladder(&targets[..count_of], &weights[..count_of], mins, count.div_ceil(2 + rank));
        pairs.extend(dmin.into_iter().map(|dmin| (d, dmin)));
    }
    pairs
}

/// What the error of a scale costs where it costs nothing: a group at one level.
const LEAST_CURVATURE: f32 = 1e-12;

/// The best minimum of a group whose scale is not its optimum, with the levels kept.
fn min_for(group: &Optimum, scale: f32) -> f32 {
    (group.min + group.l / group.w * (scale - group.scale)).max(0.0)
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The `count` best units for targets that become integers: the largest target is put at each of the furthest integers,
/// and the unit fitted to the integers that follow. To the targets, the unit is a scale and the integers are levels.
fn ladder(targets: &[f32], weights: &[f32], integers: Integers, count: usize) -> Vec<f32> {
    let peak = targets.iter().fold(0.0, |peak: f32, &x| if x.abs() > peak.abs() { x } else { peak });
    if peak == 0.0 {
        return vec![0.0];
    }
    let group = Group { values: targets, weights, weight: weights.iter().sum() };
    let nearest =
        Nearest::from(Levels::Range { lowest: integers.lowest as i8, highest: integers.highest as i8 });
    let furthest = integers.furthest();
    // A single unit is wanted where time is short; then it also need not be looked for far.
    let steps = if count == 1 { CANDIDATES } else { furthest.abs() as usize / 2 + 1 };
    let mut found: Vec<(f32, f32)> = Vec::new();
    for first in (0..steps).step_by(CANDIDATES) {
        let mut start = Candidates::default();
        for (lane, scale) in start.scale.iter_mut().enumerate() {
            let magnitude = (furthest.abs() - (first + lane) as f32).max(1.0);
            *scale = peak / (magnitude * furthest.signum());
        }
        let fitted = settle(&nearest, Minimum::None, group, &start, 2);
        if count == 1 {
            return vec![fitted.at.scale[best(&fitted.error)]];
        }
        found.extend(fitted.error.into_iter().zip(fitted.at.scale));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.dedup_by_key(|(_, unit)| *unit);
    found.truncate(count);
    found.into_iter().map(|(_, unit)| unit).collect()
}

/// Each group picks its integers, then `d` and `dmin` are fitted to all levels; and again.
fn refine(block: &Block, groups: &[Optimum], offer: &Offer, d: f32, dmin: f32, rounds: usize) -> Choice {
    let mut optima = [Optimum::default(); MOST_GROUPS];
    let optima = &mut optima[..groups.len()];
    optima.copy_from_slice(groups);
    let (mut d, mut dmin) = (block.stored_one(d), block.stored_one_min(dmin));
    let mut best: Option<Choice> = None;
    for _ in 0..rounds {
        let (choice, fit) = pick(block, optima, offer, d, dmin);
        let (next_d, next_dmin) = fit.solve(&choice);
        let improved = best.as_ref().is_none_or(|best| choice.error < best.error);
        if improved {
            best = Some(choice);
        }
        let next = (block.stored_one(next_d), block.stored_one_min(next_dmin));
        if !improved || next == (d, dmin) {
            break;
        }
        (d, dmin) = next;
    }
    best.unwrap_or(Choice {
        d,
        dmin,
        scale: [0.0; MOST_GROUPS],
        min: [0.0; MOST_GROUPS],
        error: f32::INFINITY,
    })
}

/// The coefficients of the error as a quadratic function of `d` and `dmin`, with levels and integers kept.
#[derive(Default)]
struct Quadratic {
    scale_scale: f64,
    scale_min: f64,
    min_min: f64,
    scale_r: f64,
    min_r: f64,
}

impl Quadratic {
    fn solve(&self, at: &Choice) -> (f32, f32) {
        let determinant = self.scale_scale * self.min_min - self.scale_min * self.scale_min;
        let (up, upmin) = if determinant > 1e-9 * self.scale_scale * self.min_min {
            (
                (self.scale_r * self.min_min - self.scale_min * self.min_r) / determinant,
                (self.scale_r * self.scale_min - self.scale_scale * self.min_r) / determinant,
            )
        } else if self.scale_scale > 0.0 {
            (self.scale_r / self.scale_scale, 0.0)
        } else {
            (0.0, 0.0)
        };
        (at.d + up as f32, (at.dmin + upmin as f32).max(0.0))
    }
}

/// The best integers of each group near its optimum, judged by its values rounded anew; the optima follow the levels.
fn pick(block: &Block, groups: &mut [Optimum], offer: &Offer, d: f32, dmin: f32) -> (Choice, Quadratic) {
    let searcher = block.searcher;
    let mut choice = Choice { d, dmin, scale: [0.0; MOST_GROUPS], min: [0.0; MOST_GROUPS], error: 0.0 };
    let mut quadratic = Quadratic::default();
    for (g, optimum) in groups.iter_mut().enumerate() {
        let near = neighbours(optimum, offer, d, dmin);
        let mut candidates = near;
        for lane in 0..CANDIDATES {
            candidates.scale[lane] *= d;
            candidates.min[lane] *= dmin;
        }
        let sums = sums(&searcher.nearest, searcher.minimum, block.group(g), &candidates);
        let lane = best(&sums.error);
        (choice.scale[g], choice.min[g]) = (near.scale[lane], near.min[lane]);
        choice.error += sums.error[lane];
        let (k, n) = (f64::from(near.scale[lane]), f64::from(near.min[lane]));
        quadratic.scale_scale += k * k * f64::from(sums.ll[lane]);
        quadratic.scale_min += k * n * f64::from(sums.l[lane]);
        quadratic.min_min += n * n * f64::from(optimum.w);
        quadratic.scale_r += k * f64::from(sums.rl[lane]);
        quadratic.min_r += n * f64::from(sums.r[lane]);
        let (scale, min) = (candidates.scale[lane], candidates.min[lane]);
        let step = sums.step(lane, optimum.w, min, searcher.minimum);
        *optimum = Optimum {
            scale: scale + step.scale,
            min: min + step.min,
            error: step.error,
            w: optimum.w,
            l: sums.l[lane],
            ll: sums.ll[lane],
        };
    }
    (choice, quadratic)
}

/// Integers near a group's optimum.
fn neighbours(group: &Optimum, offer: &Offer, d: f32, dmin: f32) -> Candidates {
    let (at, per_dmin) = (group.scale * inverse(d), inverse(dmin));
    let mut near = Candidates::default();
    let Some(mins) = offer.mins else {
        let first = offer.scales.nearest(at) - (CANDIDATES / 2) as f32;
        for lane in 0..CANDIDATES {
            near.scale[lane] = offer.scales.clamp(first + lane as f32);
        }
        return near;
    };
    // Two scales on either side of the optimum; for each of them two minimums on either side of what is then best.
    let first = offer.scales.nearest(at - 0.5) - 1.0;
    for step in 0..4 {
        let scale = offer.scales.clamp(first + step as f32);
        let first = mins.nearest(min_for(group, scale * d) * per_dmin - 0.5) - 1.0;
        for lane in 0..4 {
            near.scale[4 * step + lane] = scale;
            near.min[4 * step + lane] = mins.clamp(first + lane as f32);
        }
    }
    near
}

/// Puts a choice into the codes of the block.
fn write(block: &Block, choice: &Choice, codes: &mut Codes) {
    let searcher = block.searcher;
    (codes.d, codes.dmin) = (choice.d * block.unit, choice.dmin * block.unit);
    for (g, q) in codes.q.chunks_exact_mut(searcher.grid.group).take(block.groups()).enumerate() {
        (codes.scale[g], codes.min[g]) = (choice.scale[g] as i8, choice.min[g] as u8);
        let (scale, min) = (choice.scale[g] * choice.d, choice.min[g] * choice.dmin);
        levels(&searcher.nearest, block.group(g).values, scale, min, q);
    }
}
