//! What happens between products, against `f64`.

use kernels::ops::{
    add, gelu_mul, rms_norm, rms_norm_in_place, rope_adjacent, rope_halves, scale, silu_mul, softcap, softmax,
};

use crate::support::{Random, UNIT, bits};

const LENGTHS: [usize; 7] = [1, 7, 15, 16, 17, 31, 576];

#[track_caller]
fn close(got: f32, expected: f64, tolerance: f64, what: &str) {
    let error = (f64::from(got) - expected).abs();
    assert!(error <= tolerance, "{what}: {got}, expected {expected} within {tolerance:e}, off by {error:e}");
}

/// The mean of squares sums positive terms, each rounded once at most as often as there are: len + 3 half epsilons
/// with square, quotient and eps, of which the root halves the effect; root, reciprocal and two products add four.
#[test]
fn norms() {
    let mut random = Random::new(40);
    for len in LENGTHS {
        for magnitude in [1e-8, 1e-3, 1.0, 1e4] {
            for eps in [0.0f32, 1e-6, 1e-5] {
                let x: Vec<f32> = random.floats(len).iter().map(|x| x * magnitude).collect();
                let weight = random.floats(len);
                let mut out = vec![f32::NAN; len];
                rms_norm(&x, &weight, eps, &mut out);
                let mut in_place = x.clone();
                rms_norm_in_place(&mut in_place, &weight, eps);
                assert_eq!(bits(&in_place), bits(&out));
                let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
                let root = (squares / len as f64 + f64::from(eps)).sqrt();
                for (at, got) in out.into_iter().enumerate() {
                    let expected = f64::from(x[at]) / root * f64::from(weight[at]);
                    let tolerance = UNIT * (len as f64 / 2.0 + 6.0) * expected.abs();
                    close(got, expected, tolerance, &format!("norm of {len} at {magnitude:e}, eps {eps:e}"));
                }
            }
        }
    }
    let (mut zeros, weight) = ([0.0; 20], [1.0; 20]);
    rms_norm_in_place(&mut zeros, &weight, 1e-6);
    assert_eq!(zeros, [0.0; 20]);
}

/// Values around 0, where functions bend, and far out.
fn arguments(random: &mut Random, len: usize) -> Vec<f32> {
    let odd =
        [0.0, -0.0, 1e-30, -1e-30, 1e-42, -1e-42, 1e4, -1e4, 20.0, -20.0, 87.0, -87.0, 90.0, -90.0, 104.0];
    (0..len)
        .map(|at| if at % 3 == 2 { odd[random.bits() as usize % odd.len()] } else { 8.0 * random.float() })
        .collect()
}

/// The exponential is good to 2 units in the last place (4 half epsilons), then a sum, a quotient and two products:
/// 8. Exponentials are held to e^-87.3 and e^88, so that a weight that should be smaller is 2^-126: `limit`.
fn activation(apply: fn(&mut [f32], &[f32]), define: fn(f64) -> f64, slack: f64, what: &str) {
    let mut random = Random::new(41);
    for len in LENGTHS {
        for _ in 0..20 {
            let (x, up) = (arguments(&mut random, len), random.floats(len));
            let mut gate = x.clone();
            apply(&mut gate, &up);
            for ((got, x), up) in gate.into_iter().zip(x).zip(up) {
                let expected = define(f64::from(x)) * f64::from(up);
                let limit = f64::from(x).abs() * 2f64.powi(-126) + 2f64.powi(-149);
                let tolerance = UNIT * (8.0 + slack * f64::from(x).abs().min(10.0)) * expected.abs() + limit;
                close(got, expected, tolerance, &format!("{what} of {x} times {up}"));
            }
        }
    }
}

#[test]
fn silu() {
    activation(silu_mul, |x| x / (1.0 + (-x).exp()), 0.0, "silu");
}

/// The argument of the exponential, u = x * (a + b x^2), is rounded four times, which its exponential multiplies by
/// |u| <= |x| * (1.6 + 7.2) up to |x| = 10, past which the result is 0 or x: 36 half epsilons for each |x|. The
/// constants a and b are rounded too: 18 more.
#[test]
fn gelu() {
    let define = |x: f64| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        // 0.5 * (1 + tanh(u)) without the cancellation.
        x / (1.0 + (-2.0 * u).exp())
    };
    activation(gelu_mul, define, 54.0, "gelu");
}

#[test]
fn activations_of_infinity() {
    for apply in [silu_mul, gelu_mul] {
        let mut gate = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN];
        apply(&mut gate, &[1.0; 5]);
        assert_eq!(gate[0], f32::INFINITY);
        assert!(!gate[1].is_nan(), "the limit of the activation at minus infinity is 0, not NaN");
        assert!(gate[2].is_nan());
        assert_eq!(gate[3], f32::MAX);
        assert!(gate[4].abs() <= 4.0, "{}", gate[4]);
    }
}

/// Two products and a sum, three roundings of what is at most |a| + |b|.
#[test]
fn rotations() {
    let mut random = Random::new(42);
    for pairs in [1, 2, 16, 32, 64] {
        for rest in [0, 16] {
            let head = random.floats(2 * pairs + rest);
            let angles: Vec<f64> = (0..pairs).map(|_| 1000.0 * f64::from(random.float())).collect();
            let cos_sin: Vec<f32> =
                angles.iter().flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect();
            for style in 0..2 {
                let mut got = head.clone();
                if style == 0 {
                    rope_adjacent(&mut got, &cos_sin)
                } else {
                    rope_halves(&mut got, &cos_sin)
                }
                for pair in 0..pairs {
                    let (i, j) = if style == 0 { (2 * pair, 2 * pair + 1) } else { (pair, pairs + pair) };
                    let (a, b) = (f64::from(head[i]), f64::from(head[j]));
                    let (cos, sin) = (f64::from(cos_sin[2 * pair]), f64::from(cos_sin[2 * pair + 1]));
                    let tolerance = 3.0 * UNIT * (a.abs() + b.abs());
                    close(got[i], a * cos - b * sin, tolerance, "first of a pair");
                    close(got[j], a * sin + b * cos, tolerance, "second of a pair");
                }
                assert_eq!(got[2 * pairs..], head[2 * pairs..], "values past the last pair");
            }
        }
    }
}

/// The exponential of a difference: half an epsilon of the difference, which it multiplies, and two of its own; the
/// sum of positive terms rounds once a term; reciprocal and product add two.
#[test]
fn softmaxes() {
    let mut random = Random::new(43);
    for len in LENGTHS {
        for magnitude in [0.0, 1.0, 30.0, 1e4] {
            let x: Vec<f32> = random.floats(len).iter().map(|x| x * magnitude).collect();
            let mut got = x.clone();
            softmax(&mut got);
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |x: f32| (f64::from(x) - f64::from(largest)).exp();
            let sum: f64 = x.iter().map(|&x| weight(x)).sum();
            for (got, x) in got.iter().zip(&x) {
                let difference = f64::from(largest - x).min(104.0);
                let expected = weight(*x) / sum;
                let tolerance = UNIT * (2.0 * difference + len as f64 + 8.0) * expected + 2f64.powi(-149);
                close(*got, expected, tolerance, "softmax");
            }
        }
    }
    let mut masked = [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY, 3.0];
    softmax(&mut masked);
    assert_eq!(masked, [0.0, 0.5, 0.0, 0.5]);
    softmax(&mut []);
}

#[test]
fn plain_arithmetic() {
    let mut random = Random::new(44);
    for len in LENGTHS {
        let (x, y) = (random.floats(len), random.floats(len));
        let mut sum = x.clone();
        add(&mut sum, &y);
        assert!(sum.iter().zip(x.iter().zip(&y)).all(|(sum, (x, y))| *sum == x + y));
        let mut scaled = x.clone();
        scale(&mut scaled, 0.3);
        assert!(scaled.iter().zip(&x).all(|(scaled, x)| *scaled == x * 0.3));
        let mut capped: Vec<f32> = x.iter().map(|x| 100.0 * x).collect();
        softcap(&mut capped, 30.0);
        for (got, x) in capped.into_iter().zip(x) {
            let expected = 30.0 * (f64::from(100.0 * x) / 30.0).tanh();
            // Quotient, tangent (some units) and product.
            close(got, expected, 8.0 * UNIT * expected.abs(), "soft cap");
        }
    }
}
