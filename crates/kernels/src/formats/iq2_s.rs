//! IQ2_S: 256 values in eights, each eight one of 1024 points of a grid of magnitudes, with signs; each group
//! of 16 has a 4-bit scale, `value = d * (0.5 + scale) / 4 * sign * magnitude`. 2.56 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..34 | low 8 bits of the grid index, one byte an eight |
//! | 34..66 | signs, one byte an eight: value `i` is negative when bit `i` is set |
//! | 66..74 | high 2 bits of the grid index: eight `k` in bits `2 * (k % 4)` of byte `k / 4` |
//! | 74..82 | scales: groups `2 * k` and `2 * k + 1` in the low and high half of byte `k` |
//!
//! Source: the `block_iq2_s` of ggml.

use super::block::{self, Fields, f16_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 82;

const INDEX_HIGH: Fields = Fields::new(2, 1);
const SCALE: Fields = Fields::new(4, 1);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` up to 43 in magnitude.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (k, eight) in q.chunks_exact_mut(8).enumerate() {
        let index = usize::from(block[2 + k]) | usize::from(INDEX_HIGH.get(&block[66..], k)) << 8;
        grids::signed(&grids::eight(grids::IQ2_S[index], &grids::IQ2_LEVELS), block[34 + k], eight);
    }
    let d = f16_at(block, 0);
    for (g, scale) in scale.iter_mut().enumerate() {
        *scale = d * (0.5 + f32::from(SCALE.get(&block[74..], g))) * 0.25;
    }
    min.fill(0.0);
}
