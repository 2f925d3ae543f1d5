//! One token, or a few, times 16 interleaved rows: the bytes are unpacked in registers and multiplied at once.
//!
//! One token is decode: bound by the bandwidth of the weights, so the only aim is few instructions a weight. A few
//! are drafted tokens being verified, or sessions that decode together: they share what is read and unpacked.

use std::marker::PhantomData;

use super::input::BLOCK;
use crate::formats::{FloatLanes, Lanes, Sink, bias_shift};
use crate::simd::{LANES, Simd};

/// How far ahead of the multiplication the weights are asked for, in bytes: for the nearest cache, so that what a step reads
/// is there.
const AHEAD: usize = 512;

/// The arguments of a product of `T` tokens with `groups` groups of 16 rows.
#[derive(Clone, Copy)]
pub(crate) struct Gemv {
    /// Interleaved rows.
    pub(crate) weights: *const u8,
    pub(crate) group_bytes: usize,
    /// Bytes of a block of 16 rows, and blocks (for floats: values) of a row.
    pub(crate) block_bytes: usize,
    pub(crate) blocks: usize,
    /// `[block][token][32]`
    pub(crate) q: *const i8,
    /// `[block][token]`
    pub(crate) scale: *const f32,
    /// `[block][half][token]`, halves if the format has them, and readable for one block more: what the integer sums start
    /// with to undo the bias of the weights' bytes. Not looked at if there is none.
    pub(crate) start: *const i32,
    /// In the same order, but not readable for more: minus the sums of the activations.
    pub(crate) float_sums: *const f32,
    /// One token's activations, for float weights.
    pub(crate) floats: *const f32,
    /// 16 values for each group and token: groups one after another, tokens at this distance.
    pub(crate) out: *mut f32,
    pub(crate) token_stride: usize,
    pub(crate) groups: usize,
    /// Tokens whose outcome is stored, at most those that are computed.
    pub(crate) tokens: usize,
}

/// Sums up what a format tells it: the order of operations is that of [`super::tile`], so that a token's result does
/// not depend on how many others are computed with it.
struct Dot<S: Simd, L: Lanes, const T: usize> {
    totals: [S::F; T],
    ints: [[S::V; T]; 2],
    q: *const i8,
    scale: *const f32,
    start: *const i32,
    float_sums: *const f32,
    /// The weights that will be wanted in a while; a few lines are asked for in each step, for a burst of them would
    /// hold up everything else.
    ahead: *const u8,
    marker: PhantomData<L>,
}

impl<S: Simd, L: Lanes, const T: usize> Dot<S, L, T> {
    const HALVES: usize = if L::HALVES { 2 } else { 1 };

    /// The integer sums of a step start with what undoes the bias of its bytes.
    #[inline(always)]
    unsafe fn begin(&mut self) {
        // SAFETY: those of a further block are there whenever a step begins.
        unsafe {
            self.ints = [[S::splat(0); T]; 2];
            if bias_shift::<S, L>().is_some() {
                for half in 0..Self::HALVES {
                    for t in 0..T {
                        self.ints[half][t] = S::splat(*self.start.add(half * T + t) as u32);
                    }
                }
            }
        }
    }
}

impl<S: Simd, L: Lanes, const T: usize> Sink<S> for Dot<S, L, T> {
    #[inline(always)]
    unsafe fn values(&mut self, j: usize, values: S::V) {
        // SAFETY: j < 8, so four bytes of each block's 32.
        unsafe {
            let half = if L::HALVES { j / 4 } else { 0 };
            for t in 0..T {
                let x = self.q.add(t * BLOCK + 4 * j);
                let sum = self.ints[half][t];
                self.ints[half][t] =
                    if L::SIGNED { S::dot_i8(sum, values, x) } else { S::dot_u7(sum, values, x) };
            }
        }
    }

    #[inline(always)]
    unsafe fn step(&mut self, scale: [S::F; 2], min: [S::F; 2]) {
        // SAFETY: this step's activations are there.
        unsafe {
            for t in 0..T {
                let mut scaled = S::mul(S::to_f32(self.ints[0][t]), scale[0]);
                if L::HALVES {
                    if L::MINS {
                        self.totals[t] =
                            S::fma(S::splat_f32(*self.float_sums.add(t)), min[0], self.totals[t]);
                    }
                    scaled = S::fma(S::to_f32(self.ints[1][t]), scale[1], scaled);
                }
                self.totals[t] = S::fma(scaled, S::splat_f32(*self.scale.add(t)), self.totals[t]);
                if L::MINS {
                    let last = Self::HALVES - 1;
                    let sum = S::splat_f32(*self.float_sums.add(last * T + t));
                    self.totals[t] = S::fma(sum, min[last], self.totals[t]);
                }
            }
            for line in 0..L::STEP_BYTES.div_ceil(64) {
                let line = self.ahead.wrapping_add(64 * line);
                S::prefetch(line);
                // Whole bytes are multiplied as fast as they come (Q8_0 39 GB/s without this, 37 with it).
                if S::FURTHER > 0 && L::STEP_BYTES < LANES * BLOCK {
                    S::prefetch_far(line.wrapping_add(S::FURTHER));
                }
            }
            self.ahead = self.ahead.wrapping_add(L::STEP_BYTES);
            self.q = self.q.add(T * BLOCK);
            self.scale = self.scale.add(T);
            self.start = self.start.wrapping_add(Self::HALVES * T);
            self.float_sums = self.float_sums.add(Self::HALVES * T);
            if T > 2 || L::HALVES {
                // Else the steps of a block would be mixed: there are no registers for the sums of two, and what is asked for
                // would be asked for in one burst at the block's end.
                S::fence();
            }
            self.begin();
            for total in &mut self.totals {
                *total = S::wall(*total);
            }
        }
    }
}

/// # Safety
/// Pointers as [`Gemv`] says; compiled for the tier of `S`.
#[inline(always)]
pub(crate) unsafe fn gemv<S: Simd, L: Lanes, const T: usize>(args: &Gemv) {
    // SAFETY: places are the caller's promise; prefetches may point anywhere.
    unsafe {
        for group in 0..args.groups {
            let weights = args.weights.add(group * args.group_bytes);
            let mut sink = Dot::<S, L, T> {
                totals: [S::splat_f32(0.0); T],
                ints: [[S::splat(0); T]; 2],
                q: args.q,
                scale: args.scale,
                start: args.start,
                float_sums: args.float_sums,
                ahead: weights.wrapping_add(AHEAD),
                marker: PhantomData,
            };
            sink.begin();
            for block in 0..args.blocks {
                let at = weights.add(block * args.block_bytes);
                L::block::<S, _>(at, &mut sink);
            }
            for t in 0..T {
                // The last of `T` may be padding, which has no place.
                if t < args.tokens {
                    let to = args.out.add(group * LANES + t * args.token_stride);
                    S::store_f32(to, sink.totals[t]);
                }
            }
        }
    }
}

/// The same for float weights and one token.
///
/// # Safety
/// As for [`gemv`].
#[inline(always)]
pub(crate) unsafe fn gemv_float<S: Simd, L: FloatLanes>(args: &Gemv) {
    // SAFETY: places are the caller's promise.
    unsafe {
        for group in 0..args.groups {
            let weights = args.weights.add(group * args.group_bytes);
            let mut total = S::splat_f32(0.0);
            for column in 0..args.blocks {
                let w = L::load::<S>(weights.add(column * LANES * L::BYTES));
                total = S::fma(w, S::splat_f32(*args.floats.add(column)), total);
            }
            S::store_f32(args.out.add(group * LANES), total);
        }
    }
}
