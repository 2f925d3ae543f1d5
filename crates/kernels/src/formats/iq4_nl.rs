//! IQ4_NL: 32 values of 4 bits that index a table of uneven levels, with one scale, `value = d *
//! LEVELS[index]`.
//!
//! The levels stand denser around zero, where most weights are.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..18 | index: value `i` in the low half of byte `i`, value `16 + i` in the high half |
//!
//! Source: the `block_iq4_nl` and `kvalues_iq4nl` of ggml.

use super::block::{self, Fields, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, looked_up_nibbles, step_bytes};
use super::rounding::{index, nearest, peak, stored};
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 18;
/// There are no integer scales.
pub(crate) const HALVES: &[usize] = &[];
/// What a block can say.
pub(crate) const GRID: Grid =
    Grid { group: VALUES, levels: Levels::Table(&LEVELS), scales: Scales::Half, minimums: Minimums::None };

/// What an index means; IQ4_XS uses the same levels.
pub(crate) const LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

const INDEX: Fields = Fields::new(4, 16);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` one of [`LEVELS`].
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = LEVELS[usize::from(INDEX.get(&block[2..], i))];
    }
    scale.fill(f16_at(block, 0));
    min.fill(0.0);
}

/// Plain rounding to the levels: the value of largest magnitude becomes level -127.
pub(crate) fn round(values: &[f32]) -> Codes {
    nearest(values, Codes { d: stored(peak(values) / f32::from(LEVELS[0])), ..Codes::ZERO }, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    for (i, &q) in codes.q[..VALUES].iter().enumerate() {
        INDEX.put(&mut block[2..], i, index(&LEVELS, q));
    }
}

/// 16 interleaved rows: `d`, then the bytes.
pub(crate) struct Iq4Nl;

impl Lanes for Iq4Nl {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            looked_up_nibbles::<S, K>(block.add(32), &LEVELS, sink);
            sink.step([S::load_f16(block); 2], [S::splat_f32(0.0); 2]);
        }
    }
}
