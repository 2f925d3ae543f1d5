//! IQ2_XXS: 256 values in eights, each eight one of 256 points of a grid of magnitudes, with signs; each
//! group of 32 has a 4-bit scale, `value = d * (0.5 + scale) / 4 * sign * magnitude`. 2.06 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..66 | 8 bytes a group of 32: four bytes index the grid, one an eight; then a little-endian word with 7 bits of signs an eight (see [`grids::signs`]), lowest first, and the scale in its top 4 bits |
//!
//! Source: the `block_iq2_xxs` of ggml.

use super::block::{self, f16_at, u32_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 66;

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` up to 43 in magnitude.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    let d = f16_at(block, 0);
    for g in 0..8 {
        let group = &block[2 + 8 * g..];
        let word = u32_at(group, 4);
        for k in 0..4 {
            let point = grids::eight(grids::IQ2_XXS[usize::from(group[k])], &grids::IQ2_LEVELS);
            let eight = &mut q[32 * g + 8 * k..][..8];
            grids::signed(&point, grids::signs(word >> (7 * k) & 127), eight);
        }
        scale[2 * g..][..2].fill(d * (0.5 + (word >> 28) as f32) * 0.25);
    }
    min.fill(0.0);
}
