//! Q2_K: 256 values of 2 bits; each group of 16 has a 4-bit scale and a 4-bit minimum,
//! `value = d * scale * q - dmin * min`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..16 | one byte a group: scale in the low half, minimum in the high half |
//! | 16..80 | `q` in 0..=3: two stripes of 32 bytes, value `32 * k + i` of a stripe's 128 in bits `2 * k` of byte `i` |
//! | 80..82 | `d`, half |
//! | 82..84 | `dmin`, half |
//!
//! Source: the `block_q2_K` of ggml.

use super::block::{self, Fields, f16_at, put_f16, reorder};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, bits, for_each_step, step_bytes};
use super::rounding::affine;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 84;
/// Where `d` and `dmin` stand.
pub(crate) const HALVES: &[usize] = &[80, 82];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 16,
    levels: Levels::Range { lowest: 0, highest: 3 },
    scales: Scales::Integer { lowest: 0, highest: 15 },
    minimums: Minimums::Integer { highest: 15 },
};

const Q: Fields = Fields::new(2, 32);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in 0..=3.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = Q.get(&block[16..], i) as i8;
    }
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (g, byte) in block[..16].iter().enumerate() {
        scale[g] = d * f32::from(byte & 15);
        min[g] = dmin * f32::from(byte >> 4);
    }
}

/// Plain rounding of each group's range.
pub(crate) fn round(values: &[f32]) -> Codes {
    affine(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    for (g, byte) in block[..16].iter_mut().enumerate() {
        *byte = codes.scale[g] as u8 | codes.min[g] << 4;
    }
    for (i, &q) in codes.q.iter().enumerate() {
        Q.put(&mut block[16..], i, q as u8);
    }
    put_f16(block, 80, codes.d);
    put_f16(block, 82, codes.dmin);
}

/// Orders a block as it is read: `d` and `dmin` first.
pub(crate) fn arrange(block: &mut [u8]) {
    reorder(block, [80..84, 0..80]);
}

/// 16 interleaved rows of blocks that [`arrange`] ordered: `d`, `dmin`, the scale bytes by fours, the value bytes by fours.
pub(crate) struct Q2K;

impl Lanes for Q2K {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const HALVES: bool = true;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let (d, dmin) = (S::load_f16(block), S::load_f16(block.add(32)));
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                for_each_step!(J in [0 1 2 3 4 5 6 7] {
                    let bytes = S::load(block.add(320 + 64 * (STEP / 4 * 8 + J)));
                    let two = S::shr(bytes, 2 * (STEP % 4) as u32);
                    sink.values(J, S::and(two, S::splat(0x0303_0303)));
                });
                let word = S::load(block.add(64 + 64 * (STEP / 2)));
                let shift = 16 * (STEP % 2) as u32;
                let (first, second) = (bits::<S>(word, shift, 15), bits::<S>(word, shift + 8, 15));
                let (low, high) = (bits::<S>(word, shift + 4, 15), bits::<S>(word, shift + 12, 15));
                sink.step([S::mul(d, first), S::mul(d, second)], [S::mul(dmin, low), S::mul(dmin, high)]);
            });
        }
    }
}
