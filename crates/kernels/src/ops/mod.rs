//! What happens to activations between two matrix products, row by row.
//!
//! Every function's result depends on its arguments only, never on the tier's register width: sums run over 16
//! lanes in the same order everywhere (tiers differ in the rounding of fused multiplications alone).

pub mod attention;
mod rope;

pub use rope::{rope_adjacent, rope_halves};

use crate::simd::{LANES, Simd, exp, per_tier};

/// Root mean square norm: `out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]` (Zhang and Sennrich, 2019).
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(out, weight, eps);
}

/// [`rms_norm`] of a row in its own place.
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), weight.len(), "values and weights of a norm");
    // SAFETY: both are readable, the first writable, for their common length.
    unsafe { norm(x.as_mut_ptr(), weight.as_ptr(), x.len(), eps) }
}

per_tier! {
    fn norm(x: *mut f32, weight: *const f32, len: usize, eps: f32) = generic::norm
}

/// `gate[i] = silu(gate[i]) * up[i]`, where silu(x) = x / (1 + e^-x).
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    // SAFETY: both are readable, the first writable, for their common length.
    unsafe { silu(gate.as_mut_ptr(), up.as_ptr(), gate.len()) }
}

per_tier! {
    fn silu(gate: *mut f32, up: *const f32, len: usize) = generic::silu
}

/// `gate[i] = gelu(gate[i]) * up[i]`, with the tanh approximation (Hendrycks and Gimpel, 2016).
///
/// # Panics
/// If the lengths differ.
pub fn gelu_mul(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    // SAFETY: both are readable, the first writable, for their common length.
    unsafe { gelu(gate.as_mut_ptr(), up.as_ptr(), gate.len()) }
}

per_tier! {
    fn gelu(gate: *mut f32, up: *const f32, len: usize) = generic::gelu
}

/// `x[i] += y[i]`.
///
/// # Panics
/// If the lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "summands");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `x[i] *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

/// `x[i] = cap * tanh(x[i] / cap)`.
pub fn softcap(x: &mut [f32], cap: f32) {
    x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

/// `x[i] = e^x[i] / sum of e^x`, computed from the largest value down.
pub fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - largest).exp();
        sum += *x;
    }
    scale(x, 1.0 / sum);
}

/// Bodies of the functions above: whole vectors first, then a vector padded with zeros for the rest.
mod generic {
    use super::*;

    /// Applies `f` to two rows, vector by vector, into the first.
    ///
    /// # Safety
    /// `x` is readable and writable, `y` readable, for `len`; the caller is compiled for the tier of `S`.
    macro_rules! map {
        ($S:ident, $x:ident, $y:ident, $len:ident, |$a:ident, $b:ident| $body:expr) => {{
            let mut at = 0;
            while at + LANES <= $len {
                let ($a, $b) = ($S::load_f32($x.add(at)), $S::load_f32($y.add(at)));
                $S::store_f32($x.add(at), $body);
                at += LANES;
            }
            if at < $len {
                let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
                std::ptr::copy_nonoverlapping($x.add(at), first.as_mut_ptr(), $len - at);
                std::ptr::copy_nonoverlapping($y.add(at), second.as_mut_ptr(), $len - at);
                let ($a, $b) = ($S::load_f32(first.as_ptr()), $S::load_f32(second.as_ptr()));
                $S::store_f32(first.as_mut_ptr(), $body);
                std::ptr::copy_nonoverlapping(first.as_ptr(), $x.add(at), $len - at);
            }
        }};
    }

    #[inline(always)]
    pub(super) unsafe fn norm<S: Simd>(x: *mut f32, weight: *const f32, len: usize, eps: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut squares = S::splat_f32(0.0);
            let mut at = 0;
            while at + LANES <= len {
                let x = S::load_f32(x.add(at));
                squares = S::fma(x, x, squares);
                at += LANES;
            }
            let mut sum = S::sum(squares);
            while at < len {
                sum += *x.add(at) * *x.add(at);
                at += 1;
            }
            let factor = S::splat_f32(1.0 / (sum / len as f32 + eps).sqrt());
            map!(S, x, weight, len, |value, w| S::mul(S::mul(value, factor), w));
        }
    }

    #[inline(always)]
    pub(super) unsafe fn silu<S: Simd>(gate: *mut f32, up: *const f32, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { map!(S, gate, up, len, |g, u| S::mul(S::mul(g, sigmoid::<S>(g)), u)) }
    }

    /// 1 / (1 + e^-x)
    #[inline(always)]
    unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
        // SAFETY: lane arithmetic.
        unsafe {
            let one = S::splat_f32(1.0);
            S::div(one, S::add(one, exp::<S>(S::sub(S::splat_f32(0.0), x))))
        }
    }

    #[inline(always)]
    pub(super) unsafe fn gelu<S: Simd>(gate: *mut f32, up: *const f32, len: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // (1 + tanh(u)) / 2 = sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3)
            let (linear, cubic) = (S::splat_f32(1.595_769_2), S::splat_f32(0.071_354_814));
            map!(S, gate, up, len, |x, other| {
                let u = S::mul(x, S::fma(S::mul(x, x), cubic, linear));
                S::mul(S::mul(x, sigmoid::<S>(u)), other)
            });
        }
    }
}
