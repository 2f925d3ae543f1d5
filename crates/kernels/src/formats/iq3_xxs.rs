//! IQ3_XXS: 256 values in fours, each four one of 256 points of a grid of magnitudes, with signs; each group
//! of 32 has a 4-bit scale, `value = d * (0.5 + scale) / 2 * sign * magnitude`. 3.06 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..66 | grid index, one byte a four |
//! | 66..98 | one little-endian word a group of 32: 7 bits of signs an eight (see [`grids::signs`]), lowest first, and the scale in its top 4 bits |
//!
//! Source: the `block_iq3_xxs` of ggml.

use super::block::{self, f16_at, u32_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 98;

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` up to 62 in magnitude.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    let d = f16_at(block, 0);
    for g in 0..8 {
        let word = u32_at(block, 66 + 4 * g);
        for k in 0..4 {
            let signs = grids::signs(word >> (7 * k) & 127);
            for half in 0..2 {
                let index = usize::from(block[2 + 8 * g + 2 * k + half]);
                let point = grids::four(grids::IQ3_XXS[index], &grids::IQ3_XXS_LEVELS);
                let four = &mut q[32 * g + 8 * k + 4 * half..][..4];
                grids::signed(&point, signs >> (4 * half), four);
            }
        }
        scale[2 * g..][..2].fill(d * (0.5 + (word >> 28) as f32) * 0.5);
    }
    min.fill(0.0);
}
