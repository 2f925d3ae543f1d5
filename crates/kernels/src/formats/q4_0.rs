//! Q4_0: 32 values of 4 bits with one scale, `value = d * (q - 8)`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..18 | `q` in 0..=15: value `i` in the low half of byte `i`, value `16 + i` in the high half |
//!
//! Source: the `block_q4_0` of ggml.

use super::block::{self, Fields, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, nibbles, step_bytes};
use super::rounding;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 18;
/// There are no integer scales.
pub(crate) const HALVES: &[usize] = &[];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: VALUES,
    levels: Levels::Range { lowest: -8, highest: 7 },
    scales: Scales::Half,
    minimums: Minimums::None,
};

const Q: Fields = Fields::new(4, 16);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -8..=7.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = Q.get(&block[2..], i) as i8 - 8;
    }
    scale.fill(f16_at(block, 0));
    min.fill(0.0);
}

/// Plain rounding: the value of largest magnitude becomes level -8.
pub(crate) fn round(values: &[f32]) -> Codes {
    rounding::peaked(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    for (i, q) in codes.q[..VALUES].iter().enumerate() {
        Q.put(&mut block[2..], i, (q + 8) as u8);
    }
}

/// 16 interleaved rows: `d`, then the bytes.
pub(crate) struct Q4_0;

impl Lanes for Q4_0 {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const BIAS: Option<u32> = Some(3);

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            nibbles::<S, K>(block.add(32), sink);
            sink.step([S::load_f16(block); 2], [S::splat_f32(0.0); 2]);
        }
    }
}
