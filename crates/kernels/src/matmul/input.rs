//! The activations of a product: rounded once to 8 bits in blocks of 32, laid out in tiles of a few tokens.
//!
//! Each block keeps its scale and the sums of its values, so that whatever a weight format adds to its bytes or
//! subtracts as a minimum is undone with one operation a block. A tile holds the blocks of its tokens side by side,
//! which is the order in which the products read them. All tokens of a batch of few are one tile, padded to a number
//! of tokens that the products know.

use crate::cpu;
use crate::matmul::{dispatch, with_floats};
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
    /// Activations that there is room for.
    most: usize,
    /// `[token][column]`; empty until products with float weights want it.
    pub(crate) floats: Vec<f32>,
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
        let rounded = Rounded {
            tokens,
            blocks: columns / BLOCK,
            few,
            tile,
            q: Shareable(self.q.as_mut_ptr()),
            scale: Shareable(self.scale.as_mut_ptr()),
            whole: self.whole.pointers(),
            halves: self.halves.pointers(),
        };
        let floats = Shareable(self.floats.as_mut_ptr());
        let row = |token: usize| {
            if keep.floats() {
                // SAFETY: the room was checked above, and each token has its own row.
                let row =
                    unsafe { std::slice::from_raw_parts_mut(floats.pointer().add(token * columns), columns) };
                make(token, row);
                if keep.ints() {
                    rounded.put(token, row);
                }
            } else {
                with_floats(columns, |row| {
                    make(token, row);
                    rounded.put(token, row);
                });
            }
        };
        // A tile's tokens lie side by side: two threads in one would wait for each other's cache lines.
        let per_chunk = if few.is_some() { 1 } else { tile };
        team.run(tokens.div_ceil(per_chunk), &|chunk| {
            (chunk * per_chunk..tokens.min((chunk + 1) * per_chunk)).for_each(&row);
        });
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
    /// Rounds the row of `token` to its place.
    fn put(&self, token: usize, row: &[f32]) {
        let (first, within) = (token / self.tile * self.tile, token % self.tile);
        let in_tile = self.few.unwrap_or(self.tile.min(self.tokens - first));
        // The block of this token within its tile: `[block][token]`, after all blocks of earlier tiles.
        let start = first * self.blocks + within;
        let start_of_halves = 2 * first * self.blocks + within;
        // SAFETY: `start + block * in_tile < tokens * blocks` (with the tokens of padding), for which there is room;
        // each token writes its own blocks; the tier is the detected one.
        unsafe {
            quantize(&Row {
                x: row.as_ptr(),
                blocks: self.blocks,
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
