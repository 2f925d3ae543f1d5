//! Q4_K: 256 values of 4 bits; each group of 32 has a 6-bit scale and a 6-bit minimum,
//! `value = d * scale * q - dmin * min`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, half |
//! | 2..4 | `dmin`, half |
//! | 4..16 | the 8 scales and 8 minimums, see [`scale_and_min`] |
//! | 16..144 | `q` in 0..=15: four stripes of 32 bytes, value `i` of a stripe's 64 in the low half of byte `i`, value `32 + i` in the high half |
//!
//! Source: the `block_q4_K` of ggml.

use super::block::{self, Fields, f16_at, put_f16};
use super::codes::{Codes, Grid, Levels, Minimums, Scales};
use super::lanes::{Lanes, Sink, for_each_step, high_nibble, low_nibble, six_bit_pair, step_bytes};
use super::rounding::affine;
use crate::simd::Simd;

/// Values in a block.
pub(crate) const VALUES: usize = 256;
/// Bytes of a block.
pub(crate) const BYTES: usize = 144;
/// Where `d` and `dmin` stand.
pub(crate) const HALVES: &[usize] = &[0, 2];
/// What a block can say.
pub(crate) const GRID: Grid = Grid {
    group: 32,
    levels: Levels::Range { lowest: 0, highest: 15 },
    scales: Scales::Integer { lowest: 0, highest: 63 },
    minimums: Minimums::Integer { highest: 63 },
};

const Q: Fields = Fields::new(4, 32);

/// One block of the file as `f32` values: the oracle.
pub(crate) fn dequantize(block: &[u8], out: &mut [f32]) {
    block::dequantize(integers, block, out);
}

/// The integer view of a block: `value[i] = scale[i / 16] * q[i] - min[i / 16]`, `q` in 0..=15.
pub(crate) fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
    for (i, q) in q.iter_mut().enumerate() {
        *q = Q.get(&block[16..], i) as i8;
    }
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for g in 0..16 {
        let (packed_scale, packed_min) = scale_and_min(&block[4..16], g / 2);
        scale[g] = d * f32::from(packed_scale);
        min[g] = dmin * f32::from(packed_min);
    }
}

/// Plain rounding of each group's range.
pub(crate) fn round(values: &[f32]) -> Codes {
    affine(values, &GRID)
}

/// The block of these codes.
pub(crate) fn encode(codes: &Codes, block: &mut [u8]) {
    block.fill(0);
    put_f16(block, 0, codes.d);
    put_f16(block, 2, codes.dmin);
    for g in 0..8 {
        put_scale_and_min(&mut block[4..16], g, codes.scale[g] as u8, codes.min[g]);
    }
    for (i, &q) in codes.q.iter().enumerate() {
        Q.put(&mut block[16..], i, q as u8);
    }
}

/// The 6-bit scale and minimum of `group` (0..8) from the 12 bytes that Q4_K and Q5_K pack them in.
///
/// Groups 0..4 lie in the low 6 bits: scale in byte `group`, minimum in byte `4 + group`. Of group `4 + k`,
/// byte `8 + k` holds the low 4 bits of both (scale in the low half), and the high 2 bits fill up bytes `k`
/// and `4 + k`.
#[inline(always)]
pub(crate) fn scale_and_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
    }
}

/// The inverse of [`scale_and_min`], for fields that are zero before.
pub(crate) fn put_scale_and_min(packed: &mut [u8], group: usize, scale: u8, min: u8) {
    if group < 4 {
        packed[group] |= scale;
        packed[group + 4] |= min;
    } else {
        packed[group + 4] |= scale & 15 | min << 4;
        packed[group - 4] |= scale >> 4 << 6;
        packed[group] |= min >> 4 << 6;
    }
}

/// 16 interleaved rows: `d`, `dmin`, the three words of scales and minimums, then the bytes by fours.
pub(crate) struct Q4K;

impl Lanes for Q4K {
    const STEP_BYTES: usize = step_bytes(VALUES, BYTES);
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: offsets lie within 16 blocks; the tier is the caller's promise.
        unsafe {
            let (d, dmin) = (S::load_f16(block), S::load_f16(block.add(32)));
            for_each_step!(STEP in [0 1 2 3 4 5 6 7] {
                for j in 0..8 {
                    let bytes = S::load(block.add(256 + 64 * (STEP / 2 * 8 + j)));
                    sink.values(j, if STEP.is_multiple_of(2) { low_nibble::<S>(bytes) } else { high_nibble::<S>(bytes) });
                }
                let (scale, min) = six_bit_pair::<S>(block.add(64), STEP);
                sink.step([S::mul(d, scale); 2], [S::mul(dmin, min); 2]);
            });
        }
    }
}
