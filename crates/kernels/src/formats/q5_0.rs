//! Q5_0: 32 values of 5 bits with one scale, `value = d * (q - 16)`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..6 | fifth bit of `q`: value `i` in bit `i` of a little-endian word |
//! | 6..22 | low 4 bits of `q`: value `i` in the low half of byte `i`, value `16 + i` in the high half |
//!
//! Source: the `block_q5_0` of ggml.

use super::block::{self, Fields, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{
    Lanes, Sink, arrange_fifth_bits, bit_as_fifth, for_each_step, high_nibble, low_nibble, step_bytes,
};
use super::rounding;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 32;
/// Bytes of a block.
pub(crate) const BYTES: usize = 22;
/// There are no integer scales.
pub(crate) const HALVES: &[usize] = &[];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: VALUES,
    levels: Levels::Range { lowest: -16, highest: 15 },
    scales: Scales::Half,
    minimums: Minimums::None,
};

const HIGH: Fields = Fields::new(1, 1);
const LOW: Fields = Fields::new(4, 16);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in -16..=15.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = (LOW.get(&block[6..], i) | HIGH.get(&block[2..], i) << 4) as i8 - 16;
    }
    scale.fill(f16_at(block, 0));
    min.fill(0.0);
}

/// Plain rounding: the value of largest magnitude becomes level -16.
pub(crate) fn round(values: &[f32]) -> Codes {
    rounding::peaked(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    for (i, q) in codes.q[..VALUES].iter().enumerate() {
        let q = (q + 16) as u8;
        LOW.put(&mut block[6..], i, q);
        HIGH.put(&mut block[2..], i, q >> 4);
    }
}

/// 16 interleaved rows: `d`, the fifth bits as [`arrange`] orders them, then the bytes.
pub(crate) struct Q5_0;

impl Lanes for Q5_0 {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const BIAS: Option<u32> = Some(4);

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let high = S::load(block.add(32));
            for_each_step!(U in [0 1 2 3] {
                let bytes = S::load(block.add(96 + 64 * U));
                sink.values(U, S::or(low_nibble::<S>(bytes), bit_as_fifth::<S>(high, U)));
                sink.values(U + 4, S::or(high_nibble::<S>(bytes), bit_as_fifth::<S>(high, U + 4)));
            });
            sink.step([S::load_f16(block); 2], [S::splat_f32(0.0); 2]);
        }
    }
}

/// Orders the fifth bits for interleaving: bit `j` of byte `c` is that of value `4 * j + c`, so that one shift brings
/// those of four neighbours to the same bit of four bytes.
pub(crate) fn arrange(block: &mut [u8]) {
    arrange_fifth_bits(&mut block[2..6]);
}
