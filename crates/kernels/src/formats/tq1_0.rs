//! TQ1_0: 256 ternary values with one scale, `value = d * (digit - 1)`, five digits a byte. 1.69 bits a
//! value.
//!
//! A byte holds its base-3 digits as a fraction of 256, rounded up: multiplying it by a power of 3 modulo 256
//! brings a digit to the front, where a further multiplication by 3 carries it out. This needs no division.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | digit `k` of byte `i` is value `32 * k + i`, for `k` in 0..5 |
//! | 32..48 | digit `k` of byte `32 + i` is value `160 + 16 * k + i`, for `k` in 0..5 |
//! | 48..52 | digit `k` of byte `48 + i` is value `240 + 4 * k + i`, for `k` in 0..4 |
//! | 52..54 | `d`, half |
//!
//! Source: the `block_tq1_0` of ggml.

use super::block::{self, f16_at};

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 54;

/// First byte, bytes, first value and digits a byte of the three stretches.
const STRETCHES: [(usize, usize, usize, usize); 3] = [(0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)];
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -1..=1.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (first_byte, bytes, first_value, digits) in STRETCHES {
        for (k, power) in POWERS[..digits].iter().enumerate() {
            for i in 0..bytes {
                let front = block[first_byte + i].wrapping_mul(*power);
                q[first_value + bytes * k + i] = ((u16::from(front) * 3) >> 8) as i8 - 1;
            }
        }
    }
    scale.fill(f16_at(block, 52));
    min.fill(0.0);
}
