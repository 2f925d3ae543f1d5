use super::*;
use crate::FORMATS;
use crate::formats::Levels;
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
                assert!(error <= before[c] * 1.000_1 + slack, "{levels:?} {minimum:?}: {error} {before:?}");
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
