//! What the blocks of all formats share: reading halves and small bit fields, and going from the integer view
//! to values.
//!
//! All formats pack their small integers in stripes (see [`Fields`]), so a format's file only says which bits
//! and runs, and what the integers mean.

use std::ops::Range;

use crate::half::{f16_to_f32, f32_to_f16};

/// The most values a block of any format holds.
pub(crate) const MOST_VALUES: usize = 256;

/// The most bytes of a block that is reordered before interleaving.
pub(crate) const MOST_BYTES: usize = 210;

/// Unsigned fields of `bits` bits (1, 2 or 4), packed into bytes in stripes: a stripe is `run` consecutive
/// bytes, whose lowest bits hold the first `run` fields, the next bits the next `run` fields, and so on; then
/// comes the next stripe. With `run` 1 this is plain little-endian packing.
#[derive(Clone, Copy)]
pub(crate) struct Fields {
    bits: usize,
    run: usize,
}

impl Fields {
    pub(crate) const fn new(bits: usize, run: usize) -> Fields {
        assert!(matches!(bits, 1 | 2 | 4) && run > 0);
        Fields { bits, run }
    }

    /// The byte that holds field `index`, and how far up in it.
    #[inline(always)]
    fn place(self, index: usize) -> (usize, usize) {
        let in_byte = 8 / self.bits;
        let byte = index / (self.run * in_byte) * self.run + index % self.run;
        (byte, index / self.run % in_byte * self.bits)
    }

    /// Field `index` of `bytes`.
    #[inline(always)]
    pub(crate) fn get(self, bytes: &[u8], index: usize) -> u8 {
        let (byte, shift) = self.place(index);
        bytes[byte] >> shift & ((1 << self.bits) - 1)
    }

    /// Writes field `index`, which must be zero before; the bits of `value` above the field are dropped.
    #[inline(always)]
    pub(crate) fn put(self, bytes: &mut [u8], index: usize, value: u8) {
        let (byte, shift) = self.place(index);
        bytes[byte] |= (value & ((1 << self.bits) - 1)) << shift;
    }
}

#[inline(always)]
pub(crate) fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([block[offset], block[offset + 1]])
}

#[inline(always)]
pub(crate) fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([block[offset], block[offset + 1], block[offset + 2], block[offset + 3]])
}

/// The half at byte `offset`.
#[inline(always)]
pub(crate) fn f16_at(block: &[u8], offset: usize) -> f32 {
    f16_to_f32(u16_at(block, offset))
}

/// Stores `value` as a half at byte `offset`, and returns what a reader will see.
pub(crate) fn put_f16(block: &mut [u8], offset: usize, value: f32) -> f32 {
    let half = f32_to_f16(value);
    block[offset..offset + 2].copy_from_slice(&half.to_le_bytes());
    f16_to_f32(half)
}

/// A format's `integers` function: block, then q, scale and minimum such that
/// `value[i] = scale[i / 16] * q[i] - min[i / 16]`.
pub(crate) type Integers = fn(&[u8], &mut [i8], &mut [f32], &mut [f32]);

/// The values of a block from its integer view. In every format this is the arithmetic of the format
/// description to the bit: `d * scale * q` needs at most 23 of the 24 bits of an `f32` (11 + 7 + 5 in Q6_K,
/// 11 + 5 + 7 in IQ4_XS), so it is exact in any order and the subtraction is the only rounding.
#[inline(always)]
pub(crate) fn dequantize(integers: Integers, block: &[u8], out: &mut [f32]) {
    let mut q = [0; MOST_VALUES];
    let (mut scale, mut min) = ([0.0; MOST_VALUES / 16], [0.0; MOST_VALUES / 16]);
    let (values, groups) = (out.len(), out.len() / 16);
    integers(block, &mut q[..values], &mut scale[..groups], &mut min[..groups]);
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale[i / 16] * f32::from(q[i]) - min[i / 16];
    }
}

/// Puts the `runs` of a block, which cover it, one after another.
pub(crate) fn reorder(block: &mut [u8], runs: impl IntoIterator<Item = Range<usize>>) {
    let mut file = [0; MOST_BYTES];
    let file = &mut file[..block.len()];
    file.copy_from_slice(block);
    let mut at = 0;
    for run in runs {
        let count = run.len();
        block[at..at + count].copy_from_slice(&file[run]);
        at += count;
    }
    debug_assert_eq!(at, block.len(), "runs that cover the block");
}

/// Runs of four bytes, from `first` and from `second` by turns, 32 bytes of each.
pub(crate) fn by_turns(first: usize, second: usize) -> impl Iterator<Item = Range<usize>> {
    (0..32).step_by(4).flat_map(move |at| [first + at..first + at + 4, second + at..second + at + 4])
}
