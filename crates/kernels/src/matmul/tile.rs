//! Many tokens: rows unpack once into a panel of bytes in the worker's own cache, and every tile of tokens
//! multiplies against it. The product of a tile never knows the format.
//!
//! Panel of 16 rows: `bytes [block of 32][4 values of 16 rows: 64 bytes] x 8`, `scales` and `mins`
//! `[block][half if the format has halves][16 rows]`.

use super::input::BLOCK;
use crate::formats::{FloatLanes, Lanes, Sink};
use crate::simd::{LANES, Simd};

/// Bytes of 32 values of 16 rows.
const STEP_BYTES: usize = BLOCK * LANES;

/// Where a panel's parts start, for one group of 16 rows of `blocks` blocks.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) bytes: *mut u8,
    pub(crate) scales: *mut f32,
    pub(crate) mins: *mut f32,
}

impl Panel {
    /// Bytes that a panel takes, a multiple of 64.
    pub(crate) fn size(blocks: usize) -> usize {
        blocks * (STEP_BYTES + 2 * 2 * LANES * size_of::<f32>())
    }

    /// A panel at `start`.
    ///
    /// # Safety
    /// `start` has [`Panel::size`] bytes, aligned to 64.
    pub(crate) unsafe fn at(start: *mut u8, blocks: usize) -> Panel {
        // SAFETY: within the size, in this order.
        unsafe {
            let scales = start.add(blocks * STEP_BYTES).cast::<f32>();
            Panel { bytes: start, scales, mins: scales.add(blocks * 2 * LANES) }
        }
    }
}

/// Writes what a format tells to a panel.
pub(super) struct Fill<S: Simd, L: Lanes> {
    pub(super) panel: Panel,
    marker: std::marker::PhantomData<(S, L)>,
}

impl<S: Simd, L: Lanes> Fill<S, L> {
    pub(super) fn new(panel: Panel) -> Self {
        Fill { panel, marker: std::marker::PhantomData }
    }
}

impl<S: Simd, L: Lanes> Sink<S> for Fill<S, L> {
    #[inline(always)]
    unsafe fn values(&mut self, j: usize, values: S::V) {
        // SAFETY: j < 8 of this step's 8 vectors.
        unsafe { S::store(self.panel.bytes.add(j * 64), values) }
    }
    #[inline(always)]
    unsafe fn step(&mut self, scale: [S::F; 2], min: [S::F; 2]) {
        // SAFETY: one step's part of the panel, which then moves on.
        unsafe {
            for half in 0..if L::HALVES { 2 } else { 1 } {
                S::store_f32(self.panel.scales, scale[half]);
                self.panel.scales = self.panel.scales.add(LANES);
                if L::MINS {
                    S::store_f32(self.panel.mins, min[half]);
                    self.panel.mins = self.panel.mins.add(LANES);
                }
            }
            self.panel.bytes = self.panel.bytes.add(STEP_BYTES);
        }
    }
}

/// Unpacks a group of 16 interleaved rows.
///
/// # Safety
/// `weights` holds `blocks` blocks of `block_bytes`, `panel` has room for them; compiled for the tier of `S`.
#[inline(always)]
pub(crate) unsafe fn unpack<S: Simd, L: Lanes>(
    weights: *const u8,
    blocks: usize,
    block_bytes: usize,
    panel: Panel,
) {
    let mut fill = Fill::<S, L>::new(panel);
    for block in 0..blocks {
        // SAFETY: the caller's promise.
        unsafe { L::block::<S, _>(weights.add(block * block_bytes), &mut fill) }
    }
}

/// The arguments of a tile: a few tokens times the groups of a panel.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// The first group's panel; the next is `panel_stride` bytes on.
    pub(crate) panel: Panel,
    pub(crate) panel_stride: usize,
    /// Blocks of 32 values.
    pub(crate) blocks: usize,
    /// `[block][token][32]`
    pub(crate) q: *const i8,
    /// `[block][token]`
    pub(crate) scale: *const f32,
    /// `[block][half][token]`, halves if the format has them: what the integer sums start with to undo the bias of the
    /// weights' bytes.
    pub(crate) start: *const i32,
    /// In the same order: minus the sums of the activations.
    pub(crate) float_sums: *const f32,
    /// 16 values for each group and token, at these distances.
    pub(crate) out: *mut f32,
    pub(crate) group_stride: usize,
    pub(crate) token_stride: usize,
}

/// Multiplies `T` tokens with `G` groups of rows; all sums stay in registers. Where scales cover halves of a block their
/// products are summed before the activations' scale comes, which is one multiplication less, but a third set of sums:
/// then the groups have their turns.
///
/// # Safety
/// Pointers as [`Tile`] says; compiled for the tier of `S`.
#[inline(always)]
pub(crate) unsafe fn tile<
    S: Simd,
    const G: usize,
    const T: usize,
    const HALVES: bool,
    const MINS: bool,
    const SIGNED: bool,
>(
    args: &Tile,
) {
    // SAFETY: places are the caller's promise.
    unsafe {
        // Each output lies on a line of its own: they are asked for now, so that the stores at the end do not wait.
        for t in 0..T {
            for g in 0..G {
                S::prefetch_write(args.out.add(g * args.group_stride + t * args.token_stride));
            }
        }
        if HALVES {
            for g in 0..G {
                multiply::<S, 1, T, HALVES, MINS, SIGNED>(args, g);
            }
        } else {
            multiply::<S, G, T, HALVES, MINS, SIGNED>(args, 0);
        }
    }
}

/// Multiplies `T` tokens with `G` groups of rows from group `first`.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn multiply<
    S: Simd,
    const G: usize,
    const T: usize,
    const HALVES: bool,
    const MINS: bool,
    const SIGNED: bool,
>(
    args: &Tile,
    first: usize,
) {
    let halves = if HALVES { 2 } else { 1 };
    let stride = args.panel_stride;
    // SAFETY: places are the caller's promise.
    unsafe {
        let mut totals = [[S::splat_f32(0.0); T]; G];
        let mut bytes = args.panel.bytes.cast_const().add(first * stride);
        let mut scales = args.panel.scales.cast_const().byte_add(first * stride);
        let mut mins = args.panel.mins.cast_const().byte_add(first * stride);
        let (mut q, mut d, mut start, mut float_sums) = (args.q, args.scale, args.start, args.float_sums);
        for _ in 0..args.blocks {
            let mut scaled = [[S::splat_f32(0.0); T]; G];
            for half in 0..halves {
                let mut ints = [[S::splat(0); T]; G];
                for t in 0..T {
                    let from = S::splat(*start.add(t) as u32);
                    for g in 0..G {
                        ints[g][t] = from;
                    }
                }
                for j in 0..8 / halves {
                    let at = (half * 4 + j) * 64;
                    let mut w = [S::splat(0); G];
                    for g in 0..G {
                        w[g] = S::load(bytes.add(g * stride + at));
                    }
                    for t in 0..T {
                        let x = q.add(t * BLOCK + (half * 4 + j) * 4);
                        for g in 0..G {
                            ints[g][t] = if SIGNED {
                                S::dot_i8(ints[g][t], w[g], x)
                            } else {
                                S::dot_u7(ints[g][t], w[g], x)
                            };
                        }
                    }
                }
                for g in 0..G {
                    let scale = S::load_f32(scales.byte_add(g * stride));
                    for t in 0..T {
                        let sum = S::to_f32(ints[g][t]);
                        scaled[g][t] =
                            if half == 0 { S::mul(sum, scale) } else { S::fma(sum, scale, scaled[g][t]) };
                        if half + 1 == halves {
                            totals[g][t] = S::fma(scaled[g][t], S::splat_f32(*d.add(t)), totals[g][t]);
                        }
                    }
                    if MINS {
                        let min = S::load_f32(mins.byte_add(g * stride));
                        for t in 0..T {
                            totals[g][t] = S::fma(S::splat_f32(*float_sums.add(t)), min, totals[g][t]);
                        }
                    }
                }
                scales = scales.add(LANES);
                mins = mins.add(LANES);
                start = start.add(T);
                float_sums = float_sums.add(T);
            }
            bytes = bytes.add(STEP_BYTES);
            q = q.add(T * BLOCK);
            d = d.add(T);
        }
        for g in 0..G {
            for t in 0..T {
                let to = args.out.add((first + g) * args.group_stride + t * args.token_stride);
                S::store_f32(to, totals[g][t]);
            }
        }
    }
}

/// The arguments of a tile of float weights, read straight from the interleaved rows.
#[derive(Clone, Copy)]
pub(crate) struct FloatTile {
    pub(crate) weights: *const u8,
    pub(crate) columns: usize,
    /// `[token][columns]`
    pub(crate) floats: *const f32,
    /// `[token][16]`
    pub(crate) out: *mut f32,
}

/// Multiplies `T` tokens with one group of float rows.
///
/// # Safety
/// Pointers as [`FloatTile`] says; compiled for the tier of `S`.
#[inline(always)]
pub(crate) unsafe fn float_tile<S: Simd, L: FloatLanes, const T: usize>(args: &FloatTile) {
    // SAFETY: places are the caller's promise.
    unsafe {
        let mut totals = [S::splat_f32(0.0); T];
        for column in 0..args.columns {
            let w = L::load::<S>(args.weights.add(column * LANES * L::BYTES));
            for t in 0..T {
                let x = S::splat_f32(*args.floats.add(t * args.columns + column));
                totals[t] = S::fma(w, x, totals[t]);
            }
        }
        for t in 0..T {
            S::store_f32(args.out.add(t * LANES), totals[t]);
        }
    }
}
