//! IQ3_S: 256 values in fours, each four one of 512 points of a grid of magnitudes, with signs; each group of
//! 32 has a 4-bit scale, `value = d * (1 + 2 * scale) * sign * magnitude`. 3.44 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..66 | low 8 bits of the grid index, one byte a four |
//! | 66..74 | ninth bit of the grid index: four `k` in bit `k % 8` of byte `k / 8` |
//! | 74..106 | signs: value `i` is negative when bit `i % 8` of byte `i / 8` is set |
//! | 106..110 | scales: groups `2 * k` and `2 * k + 1` in the low and high half of byte `k` |
//!
//! Source: the `block_iq3_s` of ggml.

use super::block::{self, Fields, f16_at};
use super::grids;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 110;

const INDEX_HIGH: Fields = Fields::new(1, 1);
const SIGNS: Fields = Fields::new(4, 1);
const SCALE: Fields = Fields::new(4, 1);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` up to 15 in magnitude.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (k, four) in q.chunks_exact_mut(4).enumerate() {
        let index = usize::from(block[2 + k]) | usize::from(INDEX_HIGH.get(&block[66..], k)) << 8;
        let point = grids::four(grids::IQ3_S[index], &grids::IQ3_S_LEVELS);
        grids::signed(&point, SIGNS.get(&block[74..], k), four);
    }
    let d = f16_at(block, 0);
    for (i, scale) in scale.iter_mut().enumerate() {
        *scale = d * (1.0 + 2.0 * f32::from(SCALE.get(&block[106..], i / 2)));
    }
    min.fill(0.0);
}
