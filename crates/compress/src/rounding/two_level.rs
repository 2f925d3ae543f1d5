//! Formats whose groups have integer scales, and some integer minimums, in units of the block's `d` and `dmin`.

use kernels::trials::{CANDIDATES, Candidates, levels, sums};
use kernels::{Codes, Minimums, Scales};

use super::group::{Minimum, Optimum, best, least_squares, settle, starts};
use super::{Block, Search};

/// Most groups of a block.
const GROUPS: usize = 16;

/// A choice for the whole block.
#[derive(Clone)]
struct Choice {
    d: f32,
    dmin: f32,
    scale: [i32; GROUPS],
    min: [i32; GROUPS],
    error: f32,
}

/// The integers that a group may choose.
struct Integers {
    lowest: i32,
    highest: i32,
    /// 0 without minimums.
    highest_min: i32,
}

/// The codes of a block.
pub(super) fn fit(block: &Block, search: Search) -> Codes {
    let grid = block.grid;
    let Scales::Integer { lowest, highest } = grid.scales else { unreachable!("one scale a block") };
    let highest_min = match grid.minimums {
        Minimums::Integer { highest } => highest.into(),
        _ => 0,
    };
    let integers = Integers { lowest: lowest.into(), highest: highest.into(), highest_min };
    let groups = optima(block, search);

    let (tried, rounds) = match search {
        Search::Fast => (1, 2),
        Search::Thorough => (6, 4),
    };
    let mut best: Option<Choice> = None;
    for (d, dmin) in units(&groups, &integers, tried) {
        let choice = refine(block, groups.clone(), &integers, d, dmin, rounds);
        if best.as_ref().is_none_or(|best| choice.error < best.error) {
            best = Some(choice);
        }
    }
    best.map_or(Codes::ZERO, |choice| codes(block, &choice))
}

/// The free optimum of each group.
fn optima(block: &Block, search: Search) -> Vec<Optimum> {
    let (grid, minimum) = (block.grid, Minimum::from(block.grid.minimums));
    let rounds = match search {
        Search::Fast => 2,
        Search::Thorough => 4,
    };
    let optimum = |(values, weights): (&[f32], &[f32])| {
        let w = weights.iter().sum();
        let ends = starts(grid.levels, values, minimum, search).into_iter().map(|start| {
            let (fitted, sums) = settle(grid.levels, values, weights, start, minimum, rounds);
            fitted.optimum(best(&fitted.error), &sums, w)
        });
        ends.min_by(|a, b| a.error.total_cmp(&b.error)).unwrap_or_default()
    };
    block.groups().map(optimum).collect()
}

/// Pairs of `d` and `dmin` worth trying, the most promising first: those for which the groups' optima come nearest to
/// integers.
fn units(groups: &[Optimum], integers: &Integers, count: usize) -> Vec<(f32, f32)> {
    // A minimum that follows the scale makes up for a part of the scale's error.
    let scales = groups.iter().map(|group| {
        let follows = if integers.highest_min > 0 { group.l * group.l / group.w } else { 0.0 };
        (group.scale, (group.ll - follows).max(0.0))
    });
    let largest = if integers.lowest < 0 { integers.lowest } else { integers.highest };
    let d = ladder(scales.collect(), largest, integers.lowest, integers.highest, count);
    if integers.highest_min == 0 {
        return d.into_iter().map(|d| (d, 0.0)).collect();
    }
    let mut pairs = Vec::new();
    for (rank, &d) in d.iter().enumerate() {
        let inverse = inverse(d);
        let mins = groups.iter().map(|group| {
            let scale = integer(group.scale * inverse, integers.lowest, integers.highest) as f32 * d;
            (min_for(group, scale), group.w)
        });
        let dmin =
            ladder(mins.collect(), integers.highest_min, 0, integers.highest_min, count.div_ceil(2 + rank));
        pairs.extend(dmin.into_iter().map(|dmin| (d, dmin)));
    }
    pairs
}

/// The best minimum of a group whose scale is not its optimum, with the levels kept.
fn min_for(group: &Optimum, scale: f32) -> f32 {
    (group.min + group.l / group.w * (scale - group.scale)).max(0.0)
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// The integer nearest to `x` in `lowest..=highest`.
fn integer(x: f32, lowest: i32, highest: i32) -> i32 {
    ((x.clamp(-1000.0, 1000.0) + 1000.5) as i32 - 1000).clamp(lowest, highest)
}

/// The `count` best units for targets `(x, weight)` that become integers: the largest target is put at each integer from
/// `largest` some way down to 0, and the unit fitted to the integers that follow.
fn ladder(targets: Vec<(f32, f32)>, largest: i32, lowest: i32, highest: i32, count: usize) -> Vec<f32> {
    let peak = targets.iter().fold(0.0, |peak: f32, &(x, _)| if x.abs() > peak.abs() { x } else { peak });
    if peak == 0.0 {
        return vec![0.0];
    }
    // A single unit is wanted where time is short; then it also need not be looked for far.
    let most = largest.abs();
    let least = if count == 1 { most - (most / 4).min(8) } else { most / 2 };
    let mut found: Vec<(f32, f32)> = (least.max(1)..=most)
        .map(|integer| {
            let start = peak / (integer * largest.signum()) as f32;
            let fitted = fitted(&targets, start, lowest, highest);
            let cost = |unit: f32| {
                let inverse = inverse(unit);
                let off = |x: f32| x - unit * self::integer(x * inverse, lowest, highest) as f32;
                targets.iter().map(|&(x, weight)| weight * off(x) * off(x)).sum::<f32>()
            };
            let (from_start, from_fit) = (cost(start), cost(fitted));
            if from_fit < from_start { (from_fit, fitted) } else { (from_start, start) }
        })
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.truncate(count.max(1));
    found.into_iter().map(|(_, unit)| unit).collect()
}

/// The least squares unit for the integers that `unit` leads to.
fn fitted(targets: &[(f32, f32)], unit: f32, lowest: i32, highest: i32) -> f32 {
    let inverse = inverse(unit);
    let (mut product, mut square) = (0.0, 0.0);
    for &(x, weight) in targets {
        let k = integer(x * inverse, lowest, highest) as f32;
        product += weight * k * x;
        square += weight * k * k;
    }
    if square > 0.0 { product / square } else { unit }
}

/// Each group picks its integers, then `d` and `dmin` are fitted to all levels; and again.
fn refine(
    block: &Block,
    mut groups: Vec<Optimum>,
    integers: &Integers,
    d: f32,
    dmin: f32,
    rounds: usize,
) -> Choice {
    let (mut d, mut dmin) = (block.stored(d), block.stored_min(dmin));
    let mut best: Option<Choice> = None;
    for _ in 0..rounds {
        let (choice, fit) = pick(block, &mut groups, integers, d, dmin);
        let (next_d, next_dmin) = fit.solve(&choice);
        let improved = best.as_ref().is_none_or(|best| choice.error < best.error);
        if improved {
            best = Some(choice);
        }
        let next = (block.stored(next_d), block.stored_min(next_dmin));
        if !improved || next == (d, dmin) {
            break;
        }
        (d, dmin) = next;
    }
    best.unwrap_or(Choice { d, dmin, scale: [0; GROUPS], min: [0; GROUPS], error: f32::INFINITY })
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
fn pick(
    block: &Block,
    groups: &mut [Optimum],
    integers: &Integers,
    d: f32,
    dmin: f32,
) -> (Choice, Quadratic) {
    let minimum = Minimum::from(block.grid.minimums);
    let mut choice = Choice { d, dmin, scale: [0; GROUPS], min: [0; GROUPS], error: 0.0 };
    let mut quadratic = Quadratic::default();
    for (g, (values, weights)) in block.groups().enumerate() {
        let near = neighbours(&groups[g], integers, d, dmin);
        let mut candidates = Candidates::default();
        for (lane, &(scale, min)) in near.iter().enumerate() {
            candidates.scale[lane] = scale as f32 * d;
            candidates.min[lane] = min as f32 * dmin;
        }
        let sums = sums(block.grid.levels, values, weights, &candidates);
        let lane = (1..CANDIDATES)
            .fold(0, |best, lane| if sums.error[lane] < sums.error[best] { lane } else { best });
        (choice.scale[g], choice.min[g]) = near[lane];
        choice.error += sums.error[lane];
        let (k, n) = (f64::from(near[lane].0), f64::from(near[lane].1));
        quadratic.scale_scale += k * k * f64::from(sums.ll[lane]);
        quadratic.scale_min += k * n * f64::from(sums.l[lane]);
        quadratic.min_min += n * n * f64::from(groups[g].w);
        quadratic.scale_r += k * f64::from(sums.rl[lane]);
        quadratic.min_r += n * f64::from(sums.r[lane]);
        let w = groups[g].w;
        groups[g] = least_squares(&candidates, &sums, w, minimum).optimum(lane, &sums, w);
    }
    (choice, quadratic)
}

/// Integers near a group's optimum.
fn neighbours(group: &Optimum, integers: &Integers, d: f32, dmin: f32) -> [(i32, i32); CANDIDATES] {
    let (at, per_dmin) = (group.scale * inverse(d), inverse(dmin));
    let mut near = [(0, 0); CANDIDATES];
    if integers.highest_min == 0 {
        let first = integer(at, integers.lowest, integers.highest) - CANDIDATES as i32 / 2;
        for (scale, near) in (first..).zip(&mut near) {
            near.0 = scale.clamp(integers.lowest, integers.highest);
        }
        return near;
    }
    // Two scales on either side of the optimum; for each of them two minimums on either side of what is then best.
    let first = integer(at - 0.5, integers.lowest, integers.highest) - 1;
    for (scale, near) in (first..).zip(near.chunks_exact_mut(4)) {
        let scale = scale.clamp(integers.lowest, integers.highest);
        let first = integer(min_for(group, scale as f32 * d) * per_dmin - 0.5, 0, integers.highest_min) - 1;
        for (min, near) in (first..).zip(near) {
            *near = (scale, min.clamp(0, integers.highest_min));
        }
    }
    near
}

fn codes(block: &Block, choice: &Choice) -> Codes {
    let mut codes = Codes { d: choice.d * block.unit, dmin: choice.dmin * block.unit, ..Codes::ZERO };
    let group = block.grid.group;
    for (g, (values, _)) in block.groups().enumerate() {
        (codes.scale[g], codes.min[g]) = (choice.scale[g] as i8, choice.min[g] as u8);
        let (scale, min) = (choice.scale[g] as f32 * choice.d, choice.min[g] as f32 * choice.dmin);
        levels(block.grid.levels, values, scale, min, &mut codes.q[g * group..][..group]);
    }
    codes
}
