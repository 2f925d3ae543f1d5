//! One token times 16 interleaved rows: the bytes are unpacked in registers and multiplied at once.
//!
//! This is decode: bound by the bandwidth of the weights, so the only aim is few instructions a weight.

use std::marker::PhantomData;

use super::input::BLOCK;
use crate::formats::{FloatLanes, Lanes, Sink, bias_shift};
use crate::simd::{LANES, Simd};

/// How far ahead of the multiplication the weights are asked for, in bytes: about the latency of memory at the
/// speed at which one core reads.
const AHEAD: usize = 2048;

/// The arguments of a product of one token with `groups` groups of 16 rows.
#[derive(Clone, Copy)]
pub(crate) struct Gemv {
    /// Interleaved rows.
    pub(crate) weights: *const u8,
    pub(crate) group_bytes: usize,
    /// Bytes of a block of 16 rows, and blocks (for floats: values) of a row.
    pub(crate) block_bytes: usize,
    pub(crate) blocks: usize,
    pub(crate) q: *const i8,
    pub(crate) scale: *const f32,
    pub(crate) sums: *const [i32; 2],
    pub(crate) floats: *const f32,
    /// 16 values a group.
    pub(crate) out: *mut f32,
    pub(crate) groups: usize,
}

/// Sums up what a format tells it: the order of operations is that of [`super::tile`], so that a token's result does
/// not depend on how many others are computed with it.
struct Dot<S: Simd, L: Lanes> {
    total: S::F,
    ints: [S::V; 2],
    q: *const i8,
    scale: *const f32,
    sums: *const [i32; 2],
    /// The weights that will be wanted in a while; a few lines are asked for in each step, for a burst of them would
    /// hold up everything else.
    ahead: *const u8,
    marker: PhantomData<L>,
}

impl<S: Simd, L: Lanes> Dot<S, L> {
    /// The integer sums of a step start with what undoes the bias of its bytes.
    #[inline(always)]
    unsafe fn begin(&mut self) {
        // SAFETY: a further block of activations is there whenever a step begins.
        unsafe {
            self.ints = [S::splat(0); 2];
            if let Some(shift) = bias_shift::<S, L>() {
                let sums = *self.sums;
                if L::HALVES {
                    self.ints =
                        [S::splat((-(sums[0] << shift)) as u32), S::splat((-(sums[1] << shift)) as u32)];
                } else {
                    self.ints[0] = S::splat((-((sums[0] + sums[1]) << shift)) as u32);
                }
            }
        }
    }
}

impl<S: Simd, L: Lanes> Sink<S> for Dot<S, L> {
    #[inline(always)]
    unsafe fn values(&mut self, j: usize, values: S::V) {
        // SAFETY: j < 8, so four bytes of the block's 32.
        unsafe {
            let x = self.q.add(4 * j);
            let half = if L::HALVES { j / 4 } else { 0 };
            let sum = self.ints[half];
            self.ints[half] = if L::SIGNED { S::dot_i8(sum, values, x) } else { S::dot_u7(sum, values, x) };
        }
    }

    #[inline(always)]
    unsafe fn step(&mut self, scale: [S::F; 2], min: [S::F; 2]) {
        // SAFETY: this step's activations are there; the next begins only if there are more.
        unsafe {
            let d = S::splat_f32(*self.scale);
            let sums = *self.sums;
            for half in 0..if L::HALVES { 2 } else { 1 } {
                self.total = S::fma(S::mul(S::to_f32(self.ints[half]), d), scale[half], self.total);
                if L::MINS {
                    let sum = if L::HALVES { sums[half] } else { sums[0] + sums[1] };
                    self.total = S::fma(S::splat_f32(-(*self.scale * sum as f32)), min[half], self.total);
                }
            }
            for line in 0..L::STEP_BYTES.div_ceil(64) {
                S::prefetch(self.ahead.wrapping_add(64 * line));
            }
            self.ahead = self.ahead.wrapping_add(L::STEP_BYTES);
            self.q = self.q.add(BLOCK);
            self.scale = self.scale.add(1);
            self.sums = self.sums.add(1);
            self.begin();
            self.total = S::wall(self.total);
        }
    }
}

/// # Safety
/// Pointers as [`Gemv`] says, with one more (unused) `sums` readable past the last; compiled for the tier of `S`.
#[inline(always)]
pub(crate) unsafe fn gemv<S: Simd, L: Lanes>(args: &Gemv) {
    // SAFETY: places are the caller's promise; prefetches may point anywhere.
    unsafe {
        for group in 0..args.groups {
            let weights = args.weights.add(group * args.group_bytes);
            let mut sink = Dot::<S, L> {
                total: S::splat_f32(0.0),
                ints: [S::splat(0); 2],
                q: args.q,
                scale: args.scale,
                sums: args.sums,
                ahead: weights.wrapping_add(AHEAD),
                marker: PhantomData,
            };
            sink.begin();
            for block in 0..args.blocks {
                let at = weights.add(block * args.block_bytes);
                L::block::<S, _>(at, &mut sink);
            }
            S::store_f32(args.out.add(group * LANES), sink.total);
        }
    }
}

/// The same for float weights.
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
