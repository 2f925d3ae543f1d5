//! IQ1_S: 256 values in eights, each eight one of 2048 points of a grid of -1, 0 and 1; each group of 32 has
//! a 3-bit scale and shifts all its values by 1/8 up or down, `value = d * (1 + 2 * scale) * (point +
//! shift)`. 1.56 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..34 | low 8 bits of the grid index, one byte an eight |
//! | 34..50 | one little-endian 16-bit word a group of 32: the high 3 bits of its four grid indices, lowest first; the scale in bits 12..15; bit 15 set when the shift is -1/8 |
//!
//! Source: the `block_iq1_s` of ggml.

use super::block::{self, f16_at, u16_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 50;

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`: eight times `point + shift`
/// as `q`, -9..=9, and an eighth of the scale.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    let d = f16_at(block, 0);
    for g in 0..8 {
        let word = u16_at(block, 34 + 2 * g);
        let shift = if word & 0x8000 == 0 { 1 } else { -1 };
        for k in 0..4 {
            let index = usize::from(block[2 + 4 * g + k]) | usize::from(word >> (3 * k) & 7) << 8;
            let point = grids::eight(grids::IQ1[index], &grids::IQ1_LEVELS);
            for (q, level) in q[32 * g + 8 * k..][..8].iter_mut().zip(point) {
                *q = level + shift;
            }
        }
        scale[2 * g..][..2].fill(d * f32::from(2 * (word >> 12 & 7) + 1) * 0.125);
    }
    min.fill(0.0);
}
