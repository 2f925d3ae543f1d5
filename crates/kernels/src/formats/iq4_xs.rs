//! IQ4_XS: 256 values of 4 bits that index the uneven levels of IQ4_NL; each group of 32 has a signed 6-bit
//! scale, `value = d * (scale - 32) * LEVELS[index]`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..4 | high 2 bits of the scales: group `g` in bits `2 * g` of a little-endian word |
//! | 4..8 | low 4 bits of the scales: groups `2 * k` and `2 * k + 1` in the low and high half of byte `k` |
//! | 8..136 | index, 16 bytes a group: value `i` of the group in the low half of byte `i`, value `16 + i` in the high half |
//!
//! Source: the `block_iq4_xs` of ggml.

use super::block::{self, Fields, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::iq4_nl::LEVELS;
use super::lanes::{Lanes, Sink, for_each_step, looked_up_nibbles, step_bytes};
use super::rounding::{index, inverse, nearest, peak, stored};
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 136;
/// Where `d` stands.
pub(crate) const HALVES: &[usize] = &[0];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 32,
    levels: Levels::Table(&LEVELS),
    scales: Scales::Integer { lowest: -32, highest: 31 },
    minimums: Minimums::None,
};

const INDEX: Fields = Fields::new(4, 16);
const SCALE_LOW: Fields = Fields::new(4, 1);
const SCALE_HIGH: Fields = Fields::new(2, 1);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` one of [`LEVELS`].
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = LEVELS[usize::from(INDEX.get(&block[8..], i))];
    }
    let d = f16_at(block, 0);
    for (g, scale) in scale.iter_mut().enumerate() {
        let packed = SCALE_LOW.get(&block[4..], g / 2) | SCALE_HIGH.get(&block[2..], g / 2) << 4;
        *scale = d * f32::from(packed as i8 - 32);
    }
    min.fill(0.0);
}

/// Plain rounding to the levels: each group's value of largest magnitude becomes level -127.
pub(crate) fn round(values: &[f32]) -> Codes {
    let mut steps = [0.0; VALUES / 32];
    for (step, group) in steps.iter_mut().zip(values.chunks_exact(32)) {
        *step = peak(group) / f32::from(LEVELS[0]);
    }
    let mut codes = Codes { d: stored(peak(&steps) / -32.0), ..Codes::ZERO };
    for (scale, step) in codes.scale.iter_mut().zip(steps) {
        *scale = (step * inverse(codes.d)).round().clamp(-32.0, 31.0) as i8;
    }
    nearest(values, codes, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    for (g, scale) in codes.scale[..VALUES / 32].iter().enumerate() {
        let packed = (scale + 32) as u8;
        SCALE_LOW.put(&mut block[4..], g, packed);
        SCALE_HIGH.put(&mut block[2..], g, packed >> 4);
    }
    for (i, &q) in codes.q.iter().enumerate() {
        INDEX.put(&mut block[8..], i, index(&LEVELS, q));
    }
}

/// 16 interleaved rows: `d`, the high bits of the scales, their low bits, then the bytes by fours.
pub(crate) struct Iq4Xs;

impl Lanes for Iq4Xs {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let d = S::load_f16(block);
            let (high, low) = (S::widen_u16(block.add(32)), S::load(block.add(64)));
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                looked_up_nibbles::<S, K>(block.add(128 + 256 * STEP), &LEVELS, sink);
                let four = S::and(S::shr(low, 4 * STEP as u32), S::splat(15));
                let two = S::shl(S::and(S::shr(high, 2 * STEP as u32), S::splat(3)), 4);
                let scale = S::sub(S::to_f32(S::or(four, two)), S::splat_f32(32.0));
                sink.step([S::mul(d, scale); 2], [S::splat_f32(0.0); 2]);
            });
        }
    }
}
