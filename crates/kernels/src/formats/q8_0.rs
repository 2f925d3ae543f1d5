//! Q8_0: 32 values of 8 bits with one scale, `value = d * q`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..34 | `q`, signed bytes; what is written uses -127..=127, files may hold -128 |
//!
//! Source: the `block_q8_0` of ggml.

use super::block::{self, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, step_bytes};
use super::rounding::{inverse, peak, stored};
use crate::simd::Simd;
use crate::trials::nearest_levels;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 34;
/// There are no integer scales.
pub(crate) const HALVES: &[usize] = &[];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: VALUES,
    levels: Levels::Range { lowest: -127, highest: 127 },
    scales: Scales::Half,
    minimums: Minimums::None,
};

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

/// Plain rounding: the largest magnitude becomes 127.
pub(crate) fn round(values: &[f32]) -> Codes {
    let d = peak(values).abs() / 127.0;
    let mut codes = Codes { d: stored(d), ..Codes::ZERO };
    nearest_levels(&GRID.levels.into(), values, inverse(d), 0.0, &mut codes.q[..VALUES]);
    codes
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    put_f16(block, 0, codes.d);
    for (byte, &q) in block[2..].iter_mut().zip(&codes.q) {
        *byte = q as u8;
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
