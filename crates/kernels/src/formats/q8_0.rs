//! Q8_0: 32 values of 8 bits with one scale, `value = d * q`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..34 | `q`, signed bytes; the quantizer uses -127..=127, files may hold -128 |
//!
//! Source: the `block_q8_0` of ggml.

use super::block::{self, f16_at, put_f16};
use super::lanes::{Lanes, Sink, step_bytes};
use super::rounding::{inverse, peak};
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 34;

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -128..=127.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (q, byte) in q.iter_mut().zip(&block[2..]) {
        *q = *byte as i8;
    }
    scale.fill(f16_at(block, 0));
    min.fill(0.0);
}

/// The block nearest to `values` by plain rounding: the largest magnitude becomes 127.
pub(crate) fn quantize(values: &[f32], block: &mut [u8]) {
    let d = peak(values).abs() / 127.0;
    put_f16(block, 0, d);
    let per_step = inverse(d);
    for (byte, x) in block[2..].iter_mut().zip(values) {
        *byte = (x * per_step).round() as i8 as u8;
    }
}

/// 16 interleaved rows: `d`, then the bytes.
pub(crate) struct Q8_0;

impl Lanes for Q8_0 {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            for j in 0..8 {
                sink.values(j, S::ready_i8(S::load(block.add(32 + 64 * j))));
            }
            sink.step([S::load_f16(block); 2], [S::splat_f32(0.0); 2]);
        }
    }
}
