//! Matrix products of every format against an oracle in `f64`, and what rounding the activations costs.

use kernels::{FORMATS, Format, Team};

use crate::support::{Kind, Random, UNIT, Weights, product};

/// Fewer where an emulator is likely to run this: `f64` is what it does slowest.
const TOKENS: usize = if cfg!(target_arch = "aarch64") { 9 } else { 33 };

/// Rows and columns; a block of the format divides the columns.
fn shapes(format: &Format) -> &'static [(usize, usize)] {
    match format.values {
        1 => &[(17, 1), (100, 50), (48, 576), (33, 896)],
        2..=32 => &[(17, 32), (100, 64), (48, 576), (33, 896), (17, 4864)],
        _ => &[(100, 256), (48, 512), (33, 1024), (17, 4864)],
    }
}

/// One block of 32 activations as the documentation of `Input` says they are rounded: a 127th of the largest
/// magnitude as the step, nearest multiples, ties to even.
fn round_block(x: &[f32]) -> (f32, Vec<i32>) {
    let step = x.iter().fold(0f32, |largest, x| largest.max(x.abs())) / 127.0;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    (step, x.iter().map(|x| (x * inverse).round_ties_even() as i32).collect())
}

/// The activations that a product of `format` really multiplies with.
fn seen_by(format: &Format, x: &[f32], columns: usize) -> Vec<f64> {
    if format.is_float() {
        return x.iter().map(|&x| f64::from(x)).collect();
    }
    assert_eq!(columns % 32, 0);
    x.chunks_exact(32)
        .flat_map(|block| {
            let (step, q) = round_block(block);
            q.into_iter().map(move |q| f64::from(step) * f64::from(q))
        })
        .collect()
}

/// One output: its value, and how far rounding alone can take the kernels from it.
///
/// The kernels sum a group of 16 or 32 products exactly, as integers, and turn it into a float term: activation
/// scale times sum, times weight scale, and the same for the minimum. Be T the sum of magnitudes in a group, each
/// product with scale and minimum apart. Rounding the two products and the two scales costs at most 4 T half
/// epsilons, and the oracle's weights are rounded once themselves: 5 T. Then one fused addition for the scale and one
/// for the minimum round the running sum P, which lies within T of the sum before and after: |P before| + T + |P
/// after|. (Tiers without fused multiplication round the two products once more: 2 T.) The hundredth on top covers
/// errors of errors.
///
/// T knows only weights, not scale and minimum: `value = scale * q - min` with q from 0 to Q. Random values of a
/// group spread over at least half of that, so that with R the largest magnitude, scale * Q / 2 <= 2 R, whence
/// scale * q <= 4 R and min <= 5 R: 9 R.
///
/// Float formats add products one by one, with T the product's magnitude.
fn oracle(format: &Format, w: &[f32], x: &[f64]) -> (f64, f64) {
    let group = if format.is_float() { 1 } else { 16 };
    let (mut sum, mut error) = (0f64, 0f64);
    for (w, x) in w.chunks_exact(group).zip(x.chunks_exact(group)) {
        let before = sum.abs();
        let (mut largest, mut activations) = (0f64, 0f64);
        for (&w, &x) in w.iter().zip(x) {
            sum += f64::from(w) * x;
            largest = largest.max(f64::from(w).abs());
            activations += x.abs();
        }
        let magnitude = if group == 1 { largest * activations } else { 9.0 * largest * activations };
        error += before + sum.abs() + 8.0 * magnitude;
    }
    (sum, 1.01 * UNIT * error)
}

#[test]
fn every_format_against_the_oracle() {
    let team = Team::new(2);
    let mut random = Random::new(1);
    for format in FORMATS {
        for &kind in Kind::of(format) {
            for &(rows, columns) in shapes(format) {
                let weights = Weights::new(format, rows, columns, kind, &mut random);
                let x = random.activations(TOKENS, columns);
                let seen = seen_by(format, &x, columns);
                let got = product(&team, weights.matrix(), &x, TOKENS);
                let values = weights.values();
                for token in 0..TOKENS {
                    for (row, w) in values.chunks_exact(columns).enumerate() {
                        let (expected, tolerance) = oracle(format, w, &seen[token * columns..][..columns]);
                        let got = f64::from(got[token * rows + row]);
                        assert!(
                            (got - expected).abs() <= tolerance,
                            "{format:?} {kind:?} {rows} x {columns}, token {token}, row {row}: {got}, \
                             expected {expected} within {tolerance:e}"
                        );
                    }
                }
            }
        }
    }
}

/// A rounded activation is off by at most half a step of its block. The kernels' reciprocal of the step and the
/// product with it are rounded, 127 steps at most by three half epsilons: some thousandths of a thousandth.
#[test]
fn rounded_activations_are_off_by_half_a_step() {
    let team = Team::new(1);
    let mut random = Random::new(2);
    for format in FORMATS.iter().filter(|format| !format.is_float()) {
        let (rows, tokens, columns) = (16, 8, 2 * format.values.max(32));
        let weights = Weights::new(format, rows, columns, Kind::of(format)[0], &mut random);
        let x = random.activations(tokens, columns);
        let got = product(&team, weights.matrix(), &x, tokens);
        let (values, seen) = (weights.values(), seen_by(format, &x, columns));
        for token in 0..tokens {
            let x = &x[token * columns..][..columns];
            for (row, w) in values.chunks_exact(columns).enumerate() {
                let exact: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                let half_steps: f64 = (w.chunks_exact(32).zip(x.chunks_exact(32)))
                    .map(|(w, x)| {
                        let step = f64::from(round_block(x).0);
                        w.iter().map(|&w| f64::from(w).abs()).sum::<f64>() * step * (0.5 + 127.0 * 3.0 * UNIT)
                    })
                    .sum();
                let (_, rounding) = oracle(format, w, &seen[token * columns..][..columns]);
                let error = (f64::from(got[token * rows + row]) - exact).abs();
                assert!(
                    error <= half_steps + rounding,
                    "{format:?} token {token}, row {row}: off by {error}"
                );
            }
        }
    }
}

/// Weights that are not near 1: the smallest and largest scales that a half can hold go through as they are.
#[test]
fn small_and_large_scales() {
    let team = Team::new(1);
    let mut random = Random::new(3);
    for format in FORMATS {
        if !Kind::of(format).contains(&Kind::Rounded) {
            continue;
        }
        let columns = 2 * format.values.max(32);
        for magnitude in [1e-6, 1e-3, 1e3] {
            let mut file = vec![0; 16 * format.row_bytes(columns)];
            for row in file.chunks_exact_mut(format.row_bytes(columns)) {
                let values: Vec<f32> = random.floats(columns).iter().map(|value| value * magnitude).collect();
                assert!(format.quantize_row(&values, row));
            }
            let interleaved = crate::support::interleave(format, 16, columns, &file);
            let weights = Weights { format, rows: 16, columns, file, interleaved };
            let x = random.activations(2, columns);
            let got = product(&team, weights.matrix(), &x, 2);
            let (values, seen) = (weights.values(), seen_by(format, &x, columns));
            for (at, got) in got.into_iter().enumerate() {
                let w = &values[at % 16 * columns..][..columns];
                let (expected, tolerance) = oracle(format, w, &seen[at / 16 * columns..][..columns]);
                let error = (f64::from(got) - expected).abs();
                assert!(error <= tolerance, "{format:?} of {magnitude:e}: {got}, expected {expected}");
            }
        }
    }
}

/// Activations that 8-bit blocks cannot hold must not come out as ordinary numbers, and must not spread to other
/// tokens.
#[test]
fn a_token_that_is_not_finite_says_so_and_others_do_not_care() {
    let team = Team::new(1);
    let mut random = Random::new(4);
    for format in FORMATS {
        let (rows, tokens, columns) = (17, 9, format.values.max(64));
        let weights = Weights::new(format, rows, columns, Kind::of(format)[0], &mut random);
        let x = random.activations(tokens, columns);
        let expected = product(&team, weights.matrix(), &x, tokens);
        for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for column in [0, 15, 16, 31, 32, columns - 1] {
                for token in [0, 4, 8] {
                    let mut x = x.clone();
                    x[token * columns + column] = odd;
                    let got = product(&team, weights.matrix(), &x, tokens);
                    let alone = product(&team, weights.matrix(), &x[token * columns..][..columns], 1);
                    for other in (0..tokens).filter(|other| *other != token) {
                        let range = other * rows..(other + 1) * rows;
                        assert_eq!(got[range.clone()], expected[range], "{format:?} {odd} in another token");
                    }
                    // A weight of zero hides an infinity from a float format's sum as NaN: not finite either way.
                    for got in [&got[token * rows..][..rows], &alone] {
                        assert!(
                            got.iter().all(|got| !got.is_finite()),
                            "{format:?}: {odd} at column {column} of token {token} gave {got:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Blocks of activations so small that the reciprocal of their step overflows count as zeros.
#[test]
fn activations_below_the_range_of_steps_vanish() {
    let team = Team::new(1);
    let mut random = Random::new(5);
    for format in FORMATS.iter().filter(|format| !format.is_float()) {
        let (rows, columns) = (16, format.values.max(64));
        let weights = Weights::new(format, rows, columns, Kind::of(format)[0], &mut random);
        for tiny in [f32::from_bits(1), 1e-42, 1e-40, 1e-37, 3e-37, 1e-36] {
            for tokens in [1, 3] {
                let x: Vec<f32> = random.floats(tokens * columns).iter().map(|x| x * tiny).collect();
                let got = product(&team, weights.matrix(), &x, tokens);
                // No weight is larger than 4, no activation than `tiny`; twice that for the rounding of both.
                let most = 8.0 * tiny.max(f32::MIN_POSITIVE) * columns as f32;
                assert!(got.iter().all(|got| got.abs() <= most), "{format:?} of {tiny:e}: {got:?}");
            }
        }
    }
}
