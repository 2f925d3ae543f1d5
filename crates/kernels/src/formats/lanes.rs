//! How a format looks to the products: 16 rows side by side, one a lane.
//!
//! The file stores a row's blocks one after another; here the same blocks of 16 rows are interleaved field by field
//! (see [`Field`](super::Field)), so that one load brings the same four values of 16 rows, scales come as vectors
//! and nothing is summed across lanes. A format says how a block's bytes become values and scales, once, over
//! [`Simd`]; the one-token product and the unpacking of panels are both sinks for what it says.

use crate::simd::{LANES, Simd};

/// Where a block's values go: `step` by step of 32 values.
///
/// # Safety
/// Methods are for callers compiled for the tier of `S` only.
pub(crate) trait Sink<S: Simd> {
    /// Values `4 * j .. 4 * j + 4` of this step, j in 0..8: bytes 0..=127, or for a signed format bytes made ready
    /// by [`Simd::ready_i8`]. An odd j comes after the even one before it.
    unsafe fn values(&mut self, j: usize, values: S::V);
    /// Ends the step: value = scale * byte - min, for the first and the second 16 values (the second of each pair
    /// is looked at only if the format has [`Lanes::HALVES`], the minimums only if [`Lanes::MINS`]).
    unsafe fn step(&mut self, scale: [S::F; 2], min: [S::F; 2]);
}

/// A quantized format over interleaved rows.
pub(crate) trait Lanes: 'static {
    /// Bytes that 32 values of 16 rows take.
    const STEP_BYTES: usize;
    /// Scales cover 16 values rather than 32.
    const HALVES: bool = false;
    /// There are minimums to subtract.
    const MINS: bool = false;
    /// Log2 of what was added to each value so that none is negative; none is added to signed formats.
    const BIAS: Option<u32> = None;
    /// Bytes are signed and use their whole range.
    const SIGNED: bool = false;

    /// Tells `sink` one block of 16 interleaved rows at `block`.
    ///
    /// # Safety
    /// `block` is readable for 16 blocks; the caller is compiled for the tier of `S`.
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K);
}

/// [`Lanes::STEP_BYTES`] of a format with such blocks.
pub(crate) const fn step_bytes(values: usize, bytes: usize) -> usize {
    LANES * bytes * 32 / values
}

/// What to multiply the sum of activations with to undo the bias of the bytes, as a shift; none if there is none.
pub(crate) const fn bias_shift<S: Simd, L: Lanes>() -> Option<u32> {
    if L::SIGNED { if S::BIASED { Some(7) } else { None } } else { L::BIAS }
}

/// A float format over interleaved rows: value by value, 16 rows at a time.
pub(crate) trait FloatLanes: 'static {
    /// Bytes of a value.
    const BYTES: usize;

    /// 16 rows' values at `from`.
    ///
    /// # Safety
    /// `from` is readable for `16 * BYTES`; the caller is compiled for the tier of `S`.
    unsafe fn load<S: Simd>(from: *const u8) -> S::F;
}

/// Repeats a body with a constant, so that shifts become immediates and sums stay in registers whatever the optimiser's
/// unrolling limit.
macro_rules! for_each_step {
    ($step:ident in [$($value:literal)*] $body:block) => {
        $({
            const $step: usize = $value;
            $body
        })*
    };
}
pub(crate) use for_each_step;

/// Keeps the compiler from holding what earlier steps of a block loaded. For formats with a plane of high bits that
/// each step looks at again: held in registers it pushes out the sums (Q5_K of one token with AVX-512: 8.4 GB/s
/// without, 15.5 GB/s with this).
#[inline(always)]
pub(crate) fn forget_loads() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// The low four bits of each byte.
///
/// # Safety
/// This and the following: the caller is compiled for the tier of `S`, and pointers reach as far as is said.
#[inline(always)]
pub(crate) unsafe fn low_nibble<S: Simd>(bytes: S::V) -> S::V {
    // SAFETY: lane arithmetic.
    unsafe { S::and(bytes, S::splat(0x0f0f_0f0f)) }
}

/// The high four bits of each byte.
#[inline(always)]
pub(crate) unsafe fn high_nibble<S: Simd>(bytes: S::V) -> S::V {
    // SAFETY: lane arithmetic.
    unsafe { S::shr_bytes(bytes, 4) }
}

/// The 16 bytes a row at `from` as 32 values: low halves first, then high halves.
#[inline(always)]
pub(crate) unsafe fn nibbles<S: Simd, K: Sink<S>>(from: *const u8, sink: &mut K) {
    for u in 0..4 {
        // SAFETY: 4 units of 16 rows.
        unsafe {
            let bytes = S::load(from.add(64 * u));
            sink.values(u, low_nibble::<S>(bytes));
            sink.values(u + 4, high_nibble::<S>(bytes));
        }
    }
}

/// The same, each value replaced by its entry of a table of signed bytes.
#[inline(always)]
pub(crate) unsafe fn looked_up_nibbles<S: Simd, K: Sink<S>>(
    from: *const u8,
    levels: &[i8; 16],
    sink: &mut K,
) {
    for u in 0..4 {
        // SAFETY: 4 units of 16 rows.
        unsafe {
            let bytes = S::load(from.add(64 * u));
            let table = levels.as_ptr().cast();
            sink.values(u, S::ready_i8(S::table(table, low_nibble::<S>(bytes))));
            sink.values(u + 4, S::ready_i8(S::table(table, high_nibble::<S>(bytes))));
        }
    }
}

/// Bit `bit` of each byte, moved to bit 4.
#[inline(always)]
pub(crate) unsafe fn bit_as_fifth<S: Simd>(bytes: S::V, bit: usize) -> S::V {
    // SAFETY: lane arithmetic.
    unsafe {
        let moved = if bit < 4 { S::shl(bytes, 4 - bit as u32) } else { S::shr(bytes, bit as u32 - 4) };
        S::and(moved, S::splat(0x1010_1010))
    }
}

/// The bits of `mask` at `shift` of each lane, as a float.
#[inline(always)]
pub(crate) unsafe fn bits<S: Simd>(word: S::V, shift: u32, mask: u32) -> S::F {
    // SAFETY: lane arithmetic.
    unsafe { S::to_f32(S::and(S::shr(word, shift), S::splat(mask))) }
}

/// Scale and minimum `step` (0..8) of the 6-bit pairs that Q4_K and Q5_K pack into three words at `from`.
#[inline(always)]
pub(crate) unsafe fn six_bit_pair<S: Simd>(from: *const u8, step: usize) -> (S::F, S::F) {
    // SAFETY: three words of 16 rows.
    unsafe {
        let (scales, mins, rest) = (S::load(from), S::load(from.add(64)), S::load(from.add(128)));
        let shift = 8 * (step % 4) as u32;
        if step < 4 {
            (bits::<S>(scales, shift, 63), bits::<S>(mins, shift, 63))
        } else {
            // The low four bits stand in the third word, the high two on top of the first four pairs.
            let (low, high) = (S::splat(15), S::splat(48));
            let (scale_top, min_top) = (S::shr(scales, shift + 2), S::shr(mins, shift + 2));
            let scale = S::or(S::and(S::shr(rest, shift), low), S::and(scale_top, high));
            let min = S::or(S::and(S::shr(rest, shift + 4), low), S::and(min_top, high));
            (S::to_f32(scale), S::to_f32(min))
        }
    }
}

/// Orders 32 bits so that bit `j` of byte `c` is bit `4 * j + c` of what was there.
pub(crate) fn arrange_fifth_bits(bytes: &mut [u8]) {
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (c, byte) in bytes.iter_mut().enumerate() {
        // Every fourth bit, pushed together in three steps.
        let bits = (word >> c) & 0x1111_1111;
        let bits = (bits | bits >> 3) & 0x0303_0303;
        let bits = (bits | bits >> 6) & 0x000f_000f;
        *byte = (bits | bits >> 12) as u8;
    }
}
