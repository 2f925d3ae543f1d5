//! The activations of a product: rounded once to 8 bits in blocks of 32, laid out in tiles of a few tokens.
//!
//! Each block keeps its scale and the sums of its values, so that whatever a weight format adds to its bytes or
//! subtracts as a minimum is undone with one multiplication a block. A tile holds the blocks of its tokens side by
//! side, which is the order in which the products read them.

use crate::cpu;
use crate::matmul::dispatch;
use crate::simd::{Simd, per_tier};
use crate::team::{Shareable, Team};

/// Values that share an activation scale.
pub(crate) const BLOCK: usize = 32;

/// Which forms of the activations the products of a phase read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// 8-bit blocks, for quantized weights.
    Int8,
    /// `f32`, for float weights.
    Float,
    /// Both.
    Both,
}

impl Keep {
    fn ints(self) -> bool {
        self != Keep::Float
    }
    fn floats(self) -> bool {
        self != Keep::Int8
    }
}

/// Activations made ready for [`multiply`](crate::multiply); allocated once, set before each product.
#[derive(Debug)]
pub struct Input {
    tokens: usize,
    columns: usize,
    keep: Keep,
    /// `[token][column]`
    pub(crate) floats: Vec<f32>,
    /// `[tile][block][token of the tile][32]`, values in -127..=127.
    pub(crate) q: Vec<i8>,
    /// `[tile][block][token of the tile]`: value = scale * q.
    pub(crate) scale: Vec<f32>,
    /// `[tile][block][token of the tile][half]`: sums of q over each 16 values.
    pub(crate) sums: Vec<[i32; 2]>,
}

impl Input {
    /// Room for `max_tokens` rows of `max_columns` activations.
    pub fn new(max_tokens: usize, max_columns: usize) -> Input {
        let blocks = max_columns.div_ceil(BLOCK) * max_tokens;
        Input {
            tokens: 0,
            columns: 0,
            keep: Keep::Both,
            floats: vec![0.0; max_tokens * max_columns],
            q: vec![0; blocks * BLOCK],
            scale: vec![0.0; blocks],
            // One more than there are blocks: the one-token product looks ahead.
            sums: vec![[0; 2]; blocks + 1],
        }
    }

    /// Takes over `tokens` rows of `columns` activations from `x`, rounding them to 8 bits if `keep` says so:
    /// to the nearest multiple of a 127th of the block's largest magnitude.
    ///
    /// # Panics
    /// If `x` is not `tokens * columns` long, there is no room for it, or 8-bit blocks are asked for and `columns`
    /// is not a multiple of 32.
    pub fn set(&mut self, team: &Team, x: &[f32], tokens: usize, columns: usize, keep: Keep) {
        assert_eq!(x.len(), tokens * columns, "activations of {tokens} tokens");
        assert!(x.len() <= self.floats.len(), "more activations than room for them");
        (self.tokens, self.columns, self.keep) = (tokens, columns, keep);
        if keep.floats() {
            self.floats[..x.len()].copy_from_slice(x);
        }
        if !keep.ints() {
            return;
        }
        assert_eq!(columns % BLOCK, 0, "activations in blocks of {BLOCK}");
        let blocks = columns / BLOCK;
        let tile = dispatch::tile_tokens(cpu::tier());
        let q = Shareable(self.q.as_mut_ptr());
        let scale = Shareable(self.scale.as_mut_ptr());
        let sums = Shareable(self.sums.as_mut_ptr());
        let row = |token: usize| {
            let (first, within) = (token / tile * tile, token % tile);
            let in_tile = tile.min(tokens - first);
            // The block of this token within its tile: `[block][token]`, after all blocks of earlier tiles.
            let start = first * blocks + within;
            // SAFETY: `start + block * in_tile < tokens * blocks`, the room checked above; each token writes its own
            // blocks; the tier is the detected one.
            unsafe {
                quantize(
                    x.as_ptr().add(token * columns),
                    blocks,
                    in_tile,
                    q.pointer().add(start * BLOCK),
                    scale.pointer().add(start),
                    sums.pointer().add(start),
                );
            }
        };
        if tokens == 1 {
            row(0);
        } else {
            let per_chunk = 8;
            team.run(tokens.div_ceil(per_chunk), &|chunk| {
                (chunk * per_chunk..tokens.min((chunk + 1) * per_chunk)).for_each(&row);
            });
        }
    }

    /// Rows held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Activations of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether the form that a format needs is there.
    pub(crate) fn serves(&self, float: bool) -> bool {
        if float { self.keep.floats() } else { self.keep.ints() }
    }
}

per_tier! {
    /// [`quantize_row`] on this process' tier.
    ///
    /// # Safety
    /// As for [`quantize_row`], but for the tier.
    pub(crate) fn quantize(
        x: *const f32, blocks: usize, stride: usize, q: *mut i8, scale: *mut f32, sums: *mut [i32; 2],
    ) = quantize_row
}

/// Rounds one row of `32 * blocks` activations; block `b` goes to place `b * stride` of each output.
///
/// # Safety
/// `x` is readable and the outputs are writable at those places; the caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn quantize_row<S: Simd>(
    x: *const f32,
    blocks: usize,
    stride: usize,
    q: *mut i8,
    scale: *mut f32,
    sums: *mut [i32; 2],
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let sign = S::splat(0x7fff_ffff);
        for block in 0..blocks {
            let low = S::load_f32(x.add(block * BLOCK));
            let high = S::load_f32(x.add(block * BLOCK + 16));
            let largest = {
                let low = S::bits_to_f32(S::and(S::f32_bits(low), sign));
                let high = S::bits_to_f32(S::and(S::f32_bits(high), sign));
                S::max_lane(S::max(low, high))
            };
            // A block that holds an infinity or NaN cannot be represented; a scale of NaN says so in the result.
            // Maximums may lose a NaN, products with zero do not.
            let zero = S::splat_f32(0.0);
            let poison = S::sum(S::fma(low, zero, S::mul(high, zero)));
            let d = largest / 127.0 + poison;
            // A step below the normal range has no reciprocal: such blocks are zeros, as are those of NaN.
            let usable = d >= f32::MIN_POSITIVE;
            let inverse = S::splat_f32(if usable { 1.0 / d } else { 0.0 });
            let at = block * stride;
            *scale.add(at) = d;
            let halves = [low, high];
            for half in 0..2 {
                let ints = if usable { S::round_to_int(S::mul(halves[half], inverse)) } else { S::splat(0) };
                (*sums.add(at))[half] = S::store_i8(q.add(at * BLOCK + half * 16), ints);
            }
        }
    }
}
