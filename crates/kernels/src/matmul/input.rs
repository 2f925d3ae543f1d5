//! The activations of a product: rounded once to 8 bits in blocks of 32, laid out in tiles of a few tokens.
//!
//! Each block keeps its scale and the sums of its values, so that whatever a weight format adds to its bytes or
//! subtracts as a minimum is undone with one operation a block. A tile holds the blocks of its tokens side by side,
//! which is the order in which the products read them. All tokens of a batch of few are one tile, padded to a number
//! of tokens that the products know.

use std::ops::Range;

use crate::cpu;
use crate::matmul::{dispatch, with_floats};
use crate::simd::{Simd, per_tier};
use crate::team::{Shareable, Team};

/// Values that share an activation scale.
pub(crate) const BLOCK: usize = 32;

/// Blocks that a thread rounds at a time where tokens are few.
const BLOCKS_PER_CHUNK: usize = 16;

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
    /// Activations that there is room for.
    most: usize,
    /// `[token][column]`; empty until products with float weights want it.
    pub(crate) floats: Vec<f32>,
    /// The same of a few tokens, before they are rounded.
    few: Vec<f32>,
    /// `[tile][block][token of the tile][32]`, values in -127..=127.
    pub(crate) q: Vec<i8>,
    /// `[tile][block][token of the tile]`: value = scale * q.
    pub(crate) scale: Vec<f32>,
    /// Of each block: `[tile][block][token of the tile]`.
    whole: Sums,
    /// Of each half of a block: `[tile][block][half][token of the tile]`.
    halves: Sums,
}

/// Minus the sums of activations: what undoes a bias of the weights, and what a minimum is multiplied with.
#[derive(Debug)]
pub(crate) struct Sums {
    /// -sum of q.
    pub(crate) ints: Vec<i32>,
    /// -sum of values.
    pub(crate) floats: Vec<f32>,
}

impl Sums {
    fn new(count: usize) -> Sums {
        // The products of few tokens look one block ahead.
        Sums { ints: vec![0; count + 2 * dispatch::MOST_FEW], floats: vec![0.0; count] }
    }

    fn pointers(&mut self) -> (Shareable<i32>, Shareable<f32>) {
        (Shareable(self.ints.as_mut_ptr()), Shareable(self.floats.as_mut_ptr()))
    }
}

impl Input {
    /// Room for `max_tokens` rows of `max_columns` activations.
    pub fn new(max_tokens: usize, max_columns: usize) -> Input {
        let padded = dispatch::few(cpu::tier(), max_tokens).unwrap_or(max_tokens);
        let blocks = max_columns.div_ceil(BLOCK) * padded;
        Input {
            tokens: 0,
            columns: 0,
            keep: Keep::Both,
            most: max_tokens * max_columns,
            floats: Vec::new(),
            few: vec![0.0; max_tokens.min(dispatch::MOST_FEW) * max_columns],
            q: vec![0; blocks * BLOCK],
            scale: vec![0.0; blocks],
            whole: Sums::new(blocks),
            halves: Sums::new(2 * blocks),
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
        self.set_with(team, tokens, columns, keep, &|token, row| {
            row.copy_from_slice(&x[token * columns..(token + 1) * columns]);
        });
    }

    /// The same with rows that `make` writes, one after another on several threads: what it makes of a row is still in
    /// the nearest cache when it is rounded, and needs no buffer for all tokens.
    ///
    /// # Panics
    /// As [`Input::set`].
    pub fn set_with(
        &mut self,
        team: &Team,
        tokens: usize,
        columns: usize,
        keep: Keep,
        make: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        assert!(tokens * columns <= self.most, "more activations than room for them");
        assert!(!keep.ints() || columns.is_multiple_of(BLOCK), "activations in blocks of {BLOCK}");
        (self.tokens, self.columns, self.keep) = (tokens, columns, keep);
        if keep.floats() && self.floats.is_empty() {
            self.floats = vec![0.0; self.most];
        }
        let few = dispatch::few(cpu::tier(), tokens);
        let tile = few.unwrap_or_else(|| dispatch::tile_tokens(cpu::tier()));
        let blocks = columns / BLOCK;
        let rounded = Rounded {
            tokens,
            blocks,
            few,
            tile,
            q: Shareable(self.q.as_mut_ptr()),
            scale: Shareable(self.scale.as_mut_ptr()),
            whole: self.whole.pointers(),
            halves: self.halves.pointers(),
        };
        let apart = few.is_some() && tokens > 1;
        let rows = if keep.floats() { &mut self.floats } else { &mut self.few };
        let rows = Shareable(rows.as_mut_ptr());
        // SAFETY: there is room for all tokens of a batch in `floats`, checked above, and of a few in `few`; each token has its
        // own row, which is written before it is read.
        let row = |token: usize| unsafe {
            std::slice::from_raw_parts_mut(rows.pointer().add(token * columns), columns)
        };
        let of_token = |token: usize| {
            if keep.floats() || apart {
                make(token, row(token));
                if keep.ints() && !apart {
                    rounded.put(token, row(token), 0..blocks);
                }
            } else {
                with_floats(columns, |row| {
                    make(token, row);
                    rounded.put(token, row, 0..blocks);
                });
            }
        };
        // A tile's tokens lie side by side, block by block: two threads that rounded one each would wait for each other's
        // cache lines. Of many tokens a thread takes whole tiles; of a few it makes whole rows, then rounds whole blocks.
        let per_chunk = if few.is_some() { 1 } else { tile };
        team.run(tokens.div_ceil(per_chunk), &|chunk| {
            (chunk * per_chunk..tokens.min((chunk + 1) * per_chunk)).for_each(of_token);
        });
        if apart && keep.ints() {
            team.run(blocks.div_ceil(BLOCKS_PER_CHUNK), &|chunk| {
                let first = chunk * BLOCKS_PER_CHUNK;
                let range = first..blocks.min(first + BLOCKS_PER_CHUNK);
                (0..tokens).for_each(|token| rounded.put(token, row(token), range.clone()));
            });
        }
    }

    /// Bytes of all buffers, but for the rows of floats that only products with float weights read: they are made when
    /// first one comes.
    pub fn bytes(&self) -> usize {
        let sums = [&self.whole, &self.halves].map(|sums| sums.ints.len() + sums.floats.len());
        let words = self.few.len() + self.scale.len() + sums.iter().sum::<usize>();
        self.q.len() + words * size_of::<f32>()
    }

    /// Rows held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Activations of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The sums of blocks or of their halves.
    pub(crate) fn sums(&self, halves: bool) -> &Sums {
        if halves { &self.halves } else { &self.whole }
    }

    /// Whether the form that a format needs is there.
    pub(crate) fn serves(&self, float: bool) -> bool {
        if float { self.keep.floats() } else { self.keep.ints() }
    }
}

/// Where rounded rows of a batch go.
struct Rounded {
    tokens: usize,
    blocks: usize,
    few: Option<usize>,
    tile: usize,
    q: Shareable<i8>,
    scale: Shareable<f32>,
    whole: (Shareable<i32>, Shareable<f32>),
    halves: (Shareable<i32>, Shareable<f32>),
}

impl Rounded {
    /// Rounds these blocks of the row of `token` to their places.
    fn put(&self, token: usize, row: &[f32], blocks: Range<usize>) {
        let (first, within) = (token / self.tile * self.tile, token % self.tile);
        let in_tile = self.few.unwrap_or(self.tile.min(self.tokens - first));
        // The block of this token within its tile: `[block][token]`, after all blocks of earlier tiles.
        let start = first * self.blocks + blocks.start * in_tile + within;
        let start_of_halves = 2 * (start - within) + within;
        let row = &row[blocks.start * BLOCK..blocks.end * BLOCK];
        // SAFETY: `start + block * in_tile < tokens * blocks` (with the tokens of padding), for which there is room;
        // each token writes its own blocks, each by one thread; the tier is the detected one.
        unsafe {
            quantize(&Row {
                x: row.as_ptr(),
                blocks: blocks.len(),
                stride: in_tile,
                q: self.q.pointer().add(start * BLOCK),
                scale: self.scale.pointer().add(start),
                whole: (self.whole.0.pointer().add(start), self.whole.1.pointer().add(start)),
                halves: (
                    self.halves.0.pointer().add(start_of_halves),
                    self.halves.1.pointer().add(start_of_halves),
                ),
            });
        }
    }
}

/// So many blocks before one is written its place is asked for.
const WRITTEN_AHEAD: usize = 6;

/// A row to be rounded, and where its blocks go: block `b` to place `b * stride` of each output (`2 * b * stride` and
/// `stride` further for the halves).
struct Row {
    x: *const f32,
    blocks: usize,
    stride: usize,
    q: *mut i8,
    scale: *mut f32,
    whole: (*mut i32, *mut f32),
    halves: (*mut i32, *mut f32),
}

per_tier! {
    /// [`quantize_row`] on this process' tier.
    ///
    /// # Safety
    /// As for [`quantize_row`], but for the tier.
    fn quantize(row: &Row) = quantize_row
}

/// # Safety
/// `x` is readable for `32 * blocks` values and the outputs are writable at their places; the caller is compiled for
/// the tier of `S`.
#[inline(always)]
unsafe fn quantize_row<S: Simd>(row: &Row) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let sign = S::splat(0x7fff_ffff);
        for block in 0..row.blocks {
            let low = S::load_f32(row.x.add(block * BLOCK));
            let high = S::load_f32(row.x.add(block * BLOCK + 16));
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
            let at = block * row.stride;
            // Rows of a batch are more than the nearest caches hold, and a store to a line that is not there keeps others waiting.
            S::prefetch_write(row.q.wrapping_add((at + WRITTEN_AHEAD * row.stride) * BLOCK).cast());
            *row.scale.add(at) = d;
            let mut sums = [0; 2];
            for (half, x) in [low, high].into_iter().enumerate() {
                let ints = if usable { S::round_to_int(S::mul(x, inverse)) } else { S::splat(0) };
                sums[half] = -S::store_i8(row.q.add(at * BLOCK + half * 16), ints);
                *row.halves.0.add(2 * at + half * row.stride) = sums[half];
                *row.halves.1.add(2 * at + half * row.stride) = d * sums[half] as f32;
            }
            let sum = sums[0] + sums[1];
            *row.whole.0.add(at) = sum;
            *row.whole.1.add(at) = d * sum as f32;
        }
    }
}
