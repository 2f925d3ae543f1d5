//! Every format with a grid, every search.

use kernels::{FORMATS, Minimums};
use proptest::prelude::*;

use super::*;

/// Every format that codes are chosen for, with both searches.
fn cases() -> impl Iterator<Item = (&'static Format, &'static Grid, Search)> {
    FORMATS
        .iter()
        .filter_map(|format| Some((format, format.grid()?)))
        .flat_map(|(format, grid)| [(format, grid, Search::Fast), (format, grid, Search::Thorough)])
}

/// Values around zero as weights have them, a few of them far out.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = testkit::Random::new(seed);
    let mut uniform = || random.signed();
    (0..count).map(|i| (uniform() + uniform() + uniform()) * if i % 61 == 5 { 4.0 } else { 1.0 }).collect()
}

/// Importance as activations have it: most columns alike, a few a hundred times as heavy, some without any.
fn importance(count: usize, seed: u64) -> Vec<f32> {
    let mut random = testkit::Random::new(seed);
    (0..count)
        .map(|i| match i % 16 {
            3 => 0.0,
            7 => 100.0 * random.signed().abs(),
            _ => 1.5 + random.signed(),
        })
        .collect()
}

fn error(grid: &Grid, codes: &Codes, values: &[f32], importance: &[f32]) -> f64 {
    codes.error(grid, values, importance)
}

fn dequantized(format: &Format, codes: &Codes) -> Vec<f32> {
    let (mut block, mut out) = (vec![0; format.bytes], vec![0.0; format.values]);
    format.encode(codes, &mut block);
    format.dequantize_row(&block, &mut out);
    out
}

#[test]
fn a_search_gains_over_plain_rounding() {
    for (format, grid, search) in cases() {
        let (mut found, mut plain) = (0.0, 0.0);
        for seed in 0..16 {
            let (values, weights) = (values(format.values, seed), importance(format.values, seed + 100));
            found += error(grid, &fit(format, &values, &weights, search), &values, &weights);
            plain += error(grid, &format.round(&values).unwrap(), &values, &weights);
        }
        // Powers of two leave little to search for.
        let bound = if format.name == "MXFP4" { 1.0 } else { 0.85 };
        assert!(found <= bound * plain, "{format:?} {search:?}: {found} of {plain}");
    }
}

#[test]
fn thorough_is_better_than_fast() {
    for (format, grid) in FORMATS.iter().filter_map(|format| Some((format, format.grid()?))) {
        let total = |search| {
            (0..16)
                .map(|seed| {
                    let (values, weights) =
                        (values(format.values, seed), importance(format.values, seed + 9));
                    error(grid, &fit(format, &values, &weights, search), &values, &weights)
                })
                .sum::<f64>()
        };
        assert!(total(Search::Thorough) <= total(Search::Fast), "{format:?}");
    }
}

/// What was rounded before lies on the grid, and stays where it is.
#[test]
fn values_on_the_grid_are_found_again() {
    for (format, grid, search) in cases() {
        let (mut lost, mut whole) = (0.0, 0.0);
        for seed in 0..16 {
            let weights = importance(format.values, seed + 50);
            let first = fit(format, &values(format.values, seed), &weights, Search::Fast);
            let values = dequantized(format, &first);
            let again = fit(format, &values, &weights, search);
            lost += error(grid, &again, &values, &weights);
            whole += error(grid, &Codes { d: 0.0, dmin: 0.0, ..first }, &values, &weights);
        }
        // At most a hundredth of what is lost where values lie anywhere; nothing at all in most formats.
        let bound = match (search, grid.minimums) {
            (Search::Fast, _) => 2e-4,
            (Search::Thorough, Minimums::None) => 1e-12,
            (Search::Thorough, _) => 5e-5,
        };
        assert!(lost <= bound * whole, "{format:?} {search:?}: {lost} of {whole}");
    }
}

#[test]
fn rows_and_matrices_are_their_blocks() {
    let format = kernels::format(12).unwrap();
    let (columns, rows) = (512, 300);
    let (values, importance) = (values(columns * rows, 3), importance(columns, 4));
    let rounding =
        Rounding { format, importance: Some(&importance), by_magnitude: true, search: Search::Fast };
    let bytes = |threads| {
        let mut out = vec![0; rows * format.row_bytes(columns)];
        rounding.matrix(&Team::new(threads), &values, columns, &mut out);
        out
    };
    let one = bytes(1);
    assert_eq!(one, bytes(3));
    let mut weights = importance[256..].to_vec();
    super::weights(&values[columns + 256..2 * columns], &mut weights);
    let mut block = vec![0; format.bytes];
    format.encode(&fit(format, &values[columns + 256..2 * columns], &weights, Search::Fast), &mut block);
    assert_eq!(one[3 * format.bytes..4 * format.bytes], block);
}

#[test]
fn odd_blocks_end_in_codes() {
    for (format, grid, search) in cases() {
        let count = format.values;
        let ones = vec![1.0; count];
        let zeros = fit(format, &vec![0.0; count], &ones, search);
        assert!(dequantized(format, &zeros).iter().all(|&x| x == 0.0), "{format:?}");
        for odd in [1.0, -1.0, 1e-6, 1e-30, f32::from_bits(1), f32::MIN_POSITIVE, 65504.0, 1e30, f32::MAX] {
            for values in [vec![odd; count], [values(count - 1, 1), vec![odd]].concat()] {
                for weights in [&ones, &vec![0.0; count], &vec![f32::MAX; count], &vec![f32::NAN; count]] {
                    let codes = fit(format, &values, weights, search);
                    assert!(codes.d.is_finite() && codes.dmin.is_finite(), "{format:?} {odd}");
                    let plain = format.round(&values).unwrap();
                    let errors = [&codes, &plain].map(|codes| error(grid, codes, &values, &ones));
                    if weights == &ones && errors.iter().all(|error| error.is_finite()) {
                        assert!(errors[0] <= errors[1], "{format:?} {odd}: {errors:?}");
                    }
                    dequantized(format, &codes);
                }
            }
        }
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            dequantized(format, &fit(format, &[values(count - 1, 1), vec![odd]].concat(), &ones, search));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_worse_than_plain_rounding(
        values in prop::collection::vec(-1e3f32..1e3, 256),
        weights in prop::collection::vec(0f32..10.0, 256),
        exponent in -12i32..12,
    ) {
        let values: Vec<f32> = values.iter().map(|x| x * 2f32.powi(exponent)).collect();
        for (format, grid, search) in cases() {
            let (values, weights) = (&values[..format.values], &weights[..format.values]);
            let found = fit(format, values, weights, search);
            let plain = format.round(values).unwrap();
            prop_assert!(error(grid, &found, values, weights) <= error(grid, &plain, values, weights));
            let read = dequantized(format, &found);
            for (i, x) in read.iter().enumerate() {
                prop_assert_eq!(x.to_bits(), found.value(grid, i).to_bits());
            }
        }
    }
}
