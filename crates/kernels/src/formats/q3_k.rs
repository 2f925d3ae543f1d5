//! Q3_K: 256 values of 3 bits; each group of 16 has a signed 6-bit scale, `value = d * (scale - 32) * (q -
//! 4)`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | third bit of `q`: value `32 * k + i` in bit `k` of byte `i` |
//! | 32..96 | low 2 bits of `q`: two stripes of 32 bytes, value `32 * k + i` of a stripe's 128 in bits `2 * k` of byte `i` |
//! | 96..104 | low 4 bits of the scales: group `g` in the low half of byte `g`, group `8 + g` in the high half |
//! | 104..108 | high 2 bits of the scales: group `4 * k + g` in bits `2 * k` of byte `g` |
//! | 108..110 | `d`, half |
//!
//! Source: the `block_q3_K` of ggml.

use std::iter;

use super::block::{self, Fields, by_turns, f16_at, put_f16, reorder};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, bits, for_each_step, forget_loads, step_bytes};
use super::rounding::symmetric;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 110;
/// Where `d` stands.
pub(crate) const HALVES: &[usize] = &[108];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 16,
    levels: Levels::Range { lowest: -4, highest: 3 },
    scales: Scales::Integer { lowest: -32, highest: 31 },
    minimums: Minimums::None,
};

const HIGH: Fields = Fields::new(1, 32);
const LOW: Fields = Fields::new(2, 32);
const SCALE_LOW: Fields = Fields::new(4, 8);
const SCALE_HIGH: Fields = Fields::new(2, 4);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -4..=3.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = (LOW.get(&block[32..], i) | HIGH.get(block, i) << 2) as i8 - 4;
    }
    let d = f16_at(block, 108);
    for (g, scale) in scale.iter_mut().enumerate() {
        let packed = SCALE_LOW.get(&block[96..], g) | SCALE_HIGH.get(&block[104..], g) << 4;
        *scale = d * f32::from(packed as i8 - 32);
    }
    min.fill(0.0);
}

/// Plain rounding: each group's value of largest magnitude becomes level -4.
pub(crate) fn round(values: &[f32]) -> Codes {
    symmetric(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    for (i, q) in codes.q.iter().enumerate() {
        let q = (q + 4) as u8;
        LOW.put(&mut block[32..], i, q);
        HIGH.put(block, i, q >> 2);
    }
    for (g, scale) in codes.scale.iter().enumerate() {
        let packed = (scale + 32) as u8;
        SCALE_LOW.put(&mut block[96..], g, packed);
        SCALE_HIGH.put(&mut block[104..], g, packed >> 4);
    }
    put_f16(block, 108, codes.d);
}

/// Orders a block as it is read: `d`, the three words of scales, then the high bits by turns with the low bits that they
/// are first needed with, then the other low bits.
pub(crate) fn arrange(block: &mut [u8]) {
    reorder(block, [108..110, 96..108].into_iter().chain(by_turns(0, 32)).chain(iter::once(64..96)));
}

/// 16 interleaved rows of blocks that [`arrange`] ordered.
pub(crate) struct Q3K;

impl Lanes for Q3K {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const HALVES: bool = true;
    const BIAS: Option<u32> = Some(2);

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let d = S::load_f16(block);
            let (four, two) = (S::splat(0x0f0f_0f0f), S::splat(0x0303_0303));
            let packed = [S::load(block.add(32)), S::load(block.add(96)), S::load(block.add(160))];
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                for_each_step!(J in [0 1 2 3 4 5 6 7] {
                    let at = if STEP < 4 { 288 + 128 * J } else { 1248 + 64 * J };
                    let bytes = S::load(block.add(at));
                    let low = S::and(S::shr(bytes, 2 * (STEP % 4) as u32), two);
                    let high = S::shl(S::and(S::shr(S::load(block.add(224 + 128 * J)), STEP as u32), S::splat(0x0101_0101)), 2);
                    sink.values(J, S::or(low, high));
                });
                // Scales 4w .. 4w + 4: four low bits from the first two words, two high bits from the third.
                const WORD: usize = STEP / 2;
                let low = S::and(S::shr(packed[WORD % 2], 4 * (WORD as u32 / 2)), four);
                let high = S::shl(S::and(S::shr(packed[2], 2 * WORD as u32), two), 4);
                let word = S::or(low, high);
                let shift = 16 * (STEP % 2) as u32;
                let zero = S::splat_f32(32.0);
                let first = S::mul(d, S::sub(bits::<S>(word, shift, 63), zero));
                let second = S::mul(d, S::sub(bits::<S>(word, shift + 8, 63), zero));
                sink.step([first, second], [S::splat_f32(0.0); 2]);
                forget_loads();
            });
        }
    }
}
