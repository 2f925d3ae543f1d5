//! What a group spans, and what a file keeps of a scale.

use super::{CANDIDATES, PerCandidate};
use crate::simd::{LANES, Simd, per_tier};

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
