//! IQ2_XS: 256 values in eights, each eight one of 512 points of a grid of magnitudes, with signs; each group
//! of 16 has a 4-bit scale, `value = d * (0.5 + scale) / 4 * sign * magnitude`. 2.31 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..66 | one little-endian 16-bit word an eight: grid index in its low 9 bits, 7 bits of signs above (see [`grids::signs`]) |
//! | 66..74 | scales: groups `2 * k` and `2 * k + 1` in the low and high half of byte `k` |
//!
//! Source: the `block_iq2_xs` of ggml.

use super::block::{self, Fields, f16_at, u16_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 74;

const SCALE: Fields = Fields::new(4, 1);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` up to 43 in magnitude.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (k, eight) in q.chunks_exact_mut(8).enumerate() {
        let word = u16_at(block, 2 + 2 * k);
        let point = grids::eight(grids::IQ2_XS[usize::from(word & 511)], &grids::IQ2_LEVELS);
        grids::signed(&point, grids::signs(u32::from(word >> 9)), eight);
    }
    let d = f16_at(block, 0);
    for (g, scale) in scale.iter_mut().enumerate() {
        *scale = d * (0.5 + f32::from(SCALE.get(&block[66..], g))) * 0.25;
    }
    min.fill(0.0);
}
