//! TQ2_0: 256 ternary values in 2 bits each with one scale, `value = d * (q - 1)`. 2.06 bits a value.
//!
//! | bytes | content |
//! |---|---|
//! | 0..64 | `q` in 0..=2: two stripes of 32 bytes, value `32 * k + i` of a stripe's 128 in bits `2 * k` of byte `i` |
//! | 64..66 | `d`, half |
//!
//! Source: the `block_tq2_0` of ggml.

use super::block::{self, Fields, f16_at};

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 66;

const Q: Fields = Fields::new(2, 32);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -1..=1
/// (2 for the pattern 3, which no quantizer writes).
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = Q.get(block, i) as i8 - 1;
    }
    scale.fill(f16_at(block, 64));
    min.fill(0.0);
}
