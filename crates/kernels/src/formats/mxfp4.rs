//! MXFP4: 32 values of 4-bit floats (E2M1) with one power of two as the scale, `value = d * LEVELS[index]`.
//!
//! The levels are twice the E2M1 values, to be integers; `d` is half the E8M0 scale in return.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | `e`: the scale is 2^(e - 127), so `d` = 2^(e - 128) |
//! | 1..17 | index: value `i` in the low half of byte `i`, value `16 + i` in the high half |
//!
//! Source: OCP Microscaling Formats (MX) Specification 1.0; the `block_mxfp4` of ggml, which differs in the
//! order of the values, and in that 255 is a scale like the others, not NaN.

use super::block::{self, Fields};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, high_nibble, low_nibble, step_bytes};
use super::rounding::{index, nearest, peak};
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 17;
/// There are no integer scales.
pub(crate) const HALVES: &[usize] = &[];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: VALUES,
    levels: Levels::Table(&ASCENDING),
    scales: Scales::PowerOfTwo,
    minimums: Minimums::None,
};

/// Twice the E2M1 values: sign, two bits of exponent, one of mantissa.
pub(crate) const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The different levels, ascending.
const ASCENDING: [i8; 15] = [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12];

const INDEX: Fields = Fields::new(4, 16);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` one of [`LEVELS`].
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = LEVELS[usize::from(INDEX.get(&block[1..], i))];
    }
    scale.fill(half_scale(block[0]));
    min.fill(0.0);
}

/// Plain rounding, as the specification says: `d` takes the power of two of the largest magnitude, less 2, the
/// exponent of the largest E2M1 value. That is 6 = 1.5 * 2^2, so magnitudes between 6 and 8 scales become 6.
pub(crate) fn round(values: &[f32]) -> Codes {
    // An `f32`'s exponent field is floor(log2) + 127 already.
    let exponent = peak(values).abs().to_bits() >> 23;
    nearest(values, Codes { d: half_scale(exponent.saturating_sub(2) as u8), ..Codes::ZERO }, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    block[0] = byte_of(codes.d);
    for (i, &q) in codes.q[..VALUES].iter().enumerate() {
        INDEX.put(&mut block[1..], i, index(&LEVELS, q));
    }
}

/// The scale byte `e` for which [`half_scale`] is nearest to `d`.
fn byte_of(d: f32) -> u8 {
    // The exponent of the power of two at or below, which for d = 2^(e - 128) is e - 1 from e = 2 on.
    let below = ((d.abs().to_bits() >> 23) + 1).min(255) as u8;
    let below = if d.abs() < half_scale(1) { 0 } else { below.max(1) };
    // Nearest by ratio would be the other choice; errors of values are what is minimised, so it is by difference.
    if below < 255 && d.abs() - half_scale(below) > half_scale(below + 1) - d.abs() {
        below + 1
    } else {
        below
    }
}

/// The power of two nearest to `d`.
pub(crate) fn stored(d: f32) -> f32 {
    half_scale(byte_of(d))
}

/// 2^(e - 128) for the scale byte `e`: half the E8M0 scale.
pub(crate) fn half_scale(e: u8) -> f32 {
    match e {
        // Below the normal range of `f32`.
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}

/// The doubled values with 16 added.
const RAISED: [i8; 16] = {
    let mut raised = LEVELS;
    let mut i = 0;
    while i < 16 {
        raised[i] += 16;
        i += 1;
    }
    raised
};

/// 16 interleaved rows: the exponents, then the bytes.
pub(crate) struct Mxfp4;

impl Lanes for Mxfp4 {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const BIAS: Option<u32> = Some(4);

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            for u in 0..4 {
                let bytes = S::load(block.add(16 + 64 * u));
                let table = RAISED.as_ptr().cast();
                sink.values(u, S::table(table, low_nibble::<S>(bytes)));
                sink.values(u + 4, S::table(table, high_nibble::<S>(bytes)));
            }
            // Half of 2^(e - 127), for the table holds doubled values; e = 0 stands for zero (it is 2^-128).
            let power = S::bits_to_f32(S::shl(S::widen_u8(block), 23));
            sink.step([S::mul(power, S::splat_f32(0.5)); 2], [S::splat_f32(0.0); 2]);
        }
    }
}
