//! Q6_K: 256 values of 6 bits; each group of 16 has a signed 8-bit scale, `value = d * scale * (q - 32)`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..128 | low 4 bits of `q`: two stripes of 64 bytes, value `i` of a stripe's 128 in the low half of byte `i`, value `64 + i` in the high half |
//! | 128..192 | high 2 bits of `q`: two stripes of 32 bytes, value `32 * k + i` of a stripe's 128 in bits `2 * k` of byte `i` |
//! | 192..208 | one signed scale a group |
//! | 208..210 | `d`, half |
//!
//! Source: the `block_q6_K` of ggml.

use std::iter;

use super::block::{self, Fields, by_turns, f16_at, put_f16, reorder};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, for_each_step, high_nibble, low_nibble, step_bytes};
use super::rounding::symmetric;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 210;
/// Where `d` stands.
pub(crate) const HALVES: &[usize] = &[208];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 16,
    levels: Levels::Range { lowest: -32, highest: 31 },
    scales: Scales::Integer { lowest: -128, highest: 127 },
    minimums: Minimums::None,
};

const LOW: Fields = Fields::new(4, 64);
const HIGH: Fields = Fields::new(2, 32);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -32..=31.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = (LOW.get(block, i) | HIGH.get(&block[128..], i) << 4) as i8 - 32;
    }
    let d = f16_at(block, 208);
    for (scale, byte) in scale.iter_mut().zip(&block[192..208]) {
        *scale = d * f32::from(*byte as i8);
    }
    min.fill(0.0);
}

/// Plain rounding: each group's value of largest magnitude becomes level -32.
pub(crate) fn round(values: &[f32]) -> Codes {
    symmetric(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    for (i, q) in codes.q.iter().enumerate() {
        let q = (q + 32) as u8;
        LOW.put(block, i, q);
        HIGH.put(&mut block[128..], i, q >> 4);
    }
    for (byte, &scale) in block[192..208].iter_mut().zip(&codes.scale) {
        *byte = scale as u8;
    }
    put_f16(block, 208, codes.d);
}

/// Orders a block as it is read: `d`, the scales, then for each half of the values the 32 bytes of high bits by turns
/// with the low bits that they are first needed with, then the other low bits.
pub(crate) fn arrange(block: &mut [u8]) {
    let half = |high, low| by_turns(high, low).chain(iter::once(low + 32..low + 64));
    reorder(block, [208..210, 192..208].into_iter().chain(half(128, 0)).chain(half(160, 64)));
}

/// 16 interleaved rows of blocks that [`arrange`] ordered.
pub(crate) struct Q6K;

impl Lanes for Q6K {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const HALVES: bool = true;
    const BIAS: Option<u32> = Some(5);

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let d = S::load_f16(block);
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                const PART: usize = STEP % 4;
                let half = block.add(288 + STEP / 4 * 24 * 64);
                for_each_step!(J in [0 1 2 3 4 5 6 7] {
                    let high = S::load(half.add(128 * J));
                    let bytes = S::load(half.add(if PART.is_multiple_of(2) { 128 * J + 64 } else { 1024 + 64 * J }));
                    let low = if PART < 2 { low_nibble::<S>(bytes) } else { high_nibble::<S>(bytes) };
                    let moved = if PART < 2 {
                        S::shl(high, 4 - 2 * PART as u32)
                    } else {
                        S::shr(high, 2 * PART as u32 - 4)
                    };
                    sink.values(J, S::or(low, S::and(moved, S::splat(0x3030_3030))));
                });
                let word = S::load(block.add(32 + 64 * (STEP / 2)));
                let shift = 16 * (STEP as u32 % 2);
                let first = S::to_f32(S::sar(S::shl(word, 24 - shift), 24));
                let second = S::to_f32(S::sar(S::shl(word, 16 - shift), 24));
                sink.step([S::mul(d, first), S::mul(d, second)], [S::splat_f32(0.0); 2]);
            });
        }
    }
}
