//! Q5_K: 256 values of 5 bits; each group of 32 has a 6-bit scale and a 6-bit minimum,
//! `value = d * scale * q - dmin * min`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..4 | `dmin`, half |
//! | 4..16 | the 8 scales and 8 minimums, packed as in Q4_K |
//! | 16..48 | fifth bit of `q`: value `32 * k + i` in bit `k` of byte `i` |
//! | 48..176 | low 4 bits of `q`: four stripes of 32 bytes, value `i` of a stripe's 64 in the low half of byte `i`, value `32 + i` in the high half |
//!
//! Source: the `block_q5_K` of ggml.

use std::iter;

use super::block::{self, Fields, by_turns, f16_at, put_f16, reorder};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{
    Lanes, Sink, bit_as_fifth, for_each_step, forget_loads, high_nibble, low_nibble, six_bit_pair, step_bytes,
};
use super::q4_k::{put_scale_and_min, scale_and_min};
use super::rounding::affine;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 176;
/// Where `d` and `dmin` stand.
pub(crate) const HALVES: &[usize] = &[0, 2];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 32,
    levels: Levels::Range { lowest: 0, highest: 31 },
    scales: Scales::Integer { lowest: 0, highest: 63 },
    minimums: Minimums::Integer { highest: 63 },
};

const HIGH: Fields = Fields::new(1, 32);
const LOW: Fields = Fields::new(4, 32);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in 0..=31.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = (LOW.get(&block[48..], i) | HIGH.get(&block[16..], i) << 4) as i8;
    }
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for g in 0..16 {
        let (packed_scale, packed_min) = scale_and_min(&block[4..16], g / 2);
        scale[g] = d * f32::from(packed_scale);
        min[g] = dmin * f32::from(packed_min);
    }
}

/// Plain rounding of each group's range.
pub(crate) fn round(values: &[f32]) -> Codes {
    affine(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    put_f16(block, 2, codes.dmin);
    for g in 0..8 {
        put_scale_and_min(&mut block[4..16], g, codes.scale[g] as u8, codes.min[g]);
    }
    for (i, &q) in codes.q.iter().enumerate() {
        LOW.put(&mut block[48..], i, q as u8);
        HIGH.put(&mut block[16..], i, q as u8 >> 4);
    }
}

/// Orders a block as it is read: the fifth bits by turns with the bytes that they are first needed with.
pub(crate) fn arrange(block: &mut [u8]) {
    reorder(block, iter::once(0..16).chain(by_turns(16, 48)).chain(iter::once(80..176)));
}

/// 16 interleaved rows of blocks that [`arrange`] ordered: `d`, `dmin`, the three words of scales and minimums, bytes.
pub(crate) struct Q5K;

impl Lanes for Q5K {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let (d, dmin) = (S::load_f16(block), S::load_f16(block.add(32)));
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                for_each_step!(J in [0 1 2 3 4 5 6 7] {
                    let at = if STEP < 2 { 320 + 128 * J } else { 768 + 64 * (STEP / 2 * 8 + J) };
                    let bytes = S::load(block.add(at));
                    let low = if STEP.is_multiple_of(2) { low_nibble::<S>(bytes) } else { high_nibble::<S>(bytes) };
                    let fifth = bit_as_fifth::<S>(S::load(block.add(256 + 128 * J)), STEP);
                    sink.values(J, S::or(low, fifth));
                });
                let (scale, min) = six_bit_pair::<S>(block.add(64), STEP);
                sink.step([S::mul(d, scale); 2], [S::mul(dmin, min); 2]);
                forget_loads();
            });
        }
    }
}
