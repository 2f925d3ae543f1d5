//! IQ1_M: 256 values in eights, each eight one of 2048 points of a grid of -1, 0 and 1, shifted by 1/8 up or
//! down; each group of 16 has a 3-bit scale, `value = d * (1 + 2 * scale) * (point + shift)`. 1.75 bits a
//! value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | low 8 bits of the grid index, one byte an eight |
//! | 32..48 | 4 bits an eight, even eights in the low half: the high 3 bits of the grid index; then a bit that is set when the shift is -1/8 |
//! | 48..56 | four little-endian 16-bit words: the scales of four groups each in the low 12 bits, lowest first; `d`, a half, in the top 4 bits of all words, its lowest bits in the first |
//!
//! Source: the `block_iq1_m` of ggml.

use super::block::{self, Fields, u16_at};
use super::grids;
use crate::half::f16_to_f32;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 56;

const HIGH: Fields = Fields::new(4, 1);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`: eight times `point + shift`
/// as `q`, -9..=9, and an eighth of the scale.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (k, eight) in q.chunks_exact_mut(8).enumerate() {
        let high = HIGH.get(&block[32..], k);
        let shift = if high & 8 == 0 { 1 } else { -1 };
        let index = usize::from(block[k]) | usize::from(high & 7) << 8;
        for (q, level) in eight.iter_mut().zip(grids::eight(grids::IQ1[index], &grids::IQ1_LEVELS)) {
            *q = level + shift;
        }
    }
    let words: [u16; 4] = std::array::from_fn(|w| u16_at(block, 48 + 2 * w));
    let d = f16_to_f32(words.iter().rev().fold(0, |half, word| half << 4 | word >> 12));
    for (g, scale) in scale.iter_mut().enumerate() {
        *scale = d * f32::from(2 * (words[g / 4] >> (3 * (g % 4)) & 7) + 1) * 0.125;
    }
    min.fill(0.0);
}
