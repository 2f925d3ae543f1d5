//! Tiles of `smmla`, which multiplies two rows of eight bytes with two tokens of eight bytes at once.
//!
//! A panel holds four values of 16 rows side by side. Here two such vectors are zipped when the panel is filled, so
//! that 16 bytes are eight values of two neighbouring rows: `bytes [8 values][pair of rows][2 rows][8]`. Sums then
//! have the lanes `row, token` = `0,0  0,1  1,0  1,1`, one register for each pair of rows and of tokens. Scales and
//! order of operations are those of [`super::tile`], so the results have the same bits.

use std::arch::aarch64::*;
use std::arch::asm;

use super::input::BLOCK;
use super::tile::{Fill, Panel, Tile};
use crate::formats::{Lanes, Sink};
use crate::simd::neon::Dotprod;
use crate::simd::{LANES, Simd};

/// The vectors that rows unpack in.
type S = Dotprod;

/// Pairs of rows of a group.
const PAIRS: usize = LANES / 2;
/// Bytes of eight values of a group.
const EIGHT_BYTES: usize = 8 * LANES;

/// [`Fill`] with zipped bytes.
struct FillPairs<L: Lanes>(Fill<S, L>);

impl<L: Lanes> Sink<S> for FillPairs<L> {
    #[inline(always)]
    unsafe fn values(&mut self, j: usize, values: <S as Simd>::V) {
        // SAFETY: j < 8 of this step's 8 vectors; the even one before an odd one is there.
        unsafe {
            if j.is_multiple_of(2) {
                return self.0.values(j, values);
            }
            // Once inlined this is mostly no load: the values are still in registers.
            let at = self.0.panel.bytes.add((j - 1) * 64);
            let [a, b, c, d] = S::load(at);
            let [e, f, g, h] = values;
            S::store(at, [vzip1q_u32(a, e), vzip2q_u32(a, e), vzip1q_u32(b, f), vzip2q_u32(b, f)]);
            S::store(at.add(64), [vzip1q_u32(c, g), vzip2q_u32(c, g), vzip1q_u32(d, h), vzip2q_u32(d, h)]);
        }
    }
    #[inline(always)]
    unsafe fn step(&mut self, scale: [<S as Simd>::F; 2], min: [<S as Simd>::F; 2]) {
        // SAFETY: the caller's promise is ours.
        unsafe { self.0.step(scale, min) }
    }
}

/// Unpacks a group of 16 interleaved rows for [`tile`].
///
/// # Safety
/// As for [`super::tile::unpack`].
#[inline(always)]
pub(crate) unsafe fn unpack<L: Lanes>(weights: *const u8, blocks: usize, block_bytes: usize, panel: Panel) {
    let mut fill = FillPairs(Fill::<S, L>::new(panel));
    for block in 0..blocks {
        // SAFETY: the caller's promise.
        unsafe { L::block::<S, _>(weights.add(block * block_bytes), &mut fill) }
    }
}

/// # Safety
/// The caller is compiled for i8mm.
#[inline(always)]
unsafe fn multiply(mut sum: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    // SAFETY: register arithmetic only.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sum = inout(vreg) sum, rows = in(vreg) rows, tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Values of the tokens of a pair, in the lanes of a sum. The last of an odd number of tokens is its own
/// partner.
///
/// # Safety
/// `from` is readable for `T` values.
#[inline(always)]
unsafe fn of_tokens<const T: usize>(from: *const f32, pair: usize) -> float32x4_t {
    // SAFETY: the caller's promise; reads are unaligned.
    unsafe {
        if 2 * pair + 1 < T {
            vreinterpretq_f32_u64(vdupq_n_u64(from.add(2 * pair).cast::<u64>().read_unaligned()))
        } else {
            vdupq_n_f32(*from.add(2 * pair))
        }
    }
}

/// Eight bytes of each token of a pair.
///
/// # Safety
/// `q` is readable for eight bytes at the places of `T` tokens.
#[inline(always)]
unsafe fn bytes_of_tokens<const T: usize>(q: *const i8, pair: usize) -> int8x16_t {
    let (first, second) = (2 * pair, (2 * pair + 1).min(T - 1));
    // SAFETY: the caller's promise.
    unsafe { vcombine_s8(vld1_s8(q.add(first * BLOCK)), vld1_s8(q.add(second * BLOCK))) }
}

/// Values of the rows of a pair, in the lanes of a sum.
///
/// # Safety
/// `from` is readable for 16 values.
#[inline(always)]
unsafe fn of_rows(from: *const f32, pair: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        let four = vld1q_f32(from.add(pair / 2 * 4));
        if pair.is_multiple_of(2) { vzip1q_f32(four, four) } else { vzip2q_f32(four, four) }
    }
}

/// Repeats a body for each pair of rows, as a constant: sums must lie in registers, whatever the optimiser's limit
/// of unrolling.
macro_rules! for_each_pair_of_rows {
    ($rows:ident $body:block) => {
        for_each_pair_of_rows!($rows in [0 1 2 3 4 5 6 7] $body)
    };
    ($rows:ident in [$($value:literal)+] $body:block) => {
        $({
            const $rows: usize = $value;
            $body
        })+
    };
}

/// Multiplies `T` tokens with a group of rows.
///
/// Integer sums take 24 of 32 registers with six tokens; the float sums are spilled, for they are touched once a block
/// only.
///
/// # Safety
/// As for [`super::tile::tile`]; compiled for i8mm.
#[inline(always)]
pub(crate) unsafe fn tile<const T: usize, const HALVES: bool, const MINS: bool>(args: &Tile) {
    let halves = if HALVES { 2 } else { 1 };
    let pairs = T.div_ceil(2);
    // SAFETY: places are the caller's promise.
    unsafe {
        let (mut bytes, mut scales, mut mins) =
            (args.panel.bytes.cast_const(), args.panel.scales.cast_const(), args.panel.mins.cast_const());
        let (mut q, mut d, mut start, mut float_sums) = (args.q, args.scale, args.start, args.float_sums);
        let mut totals = [[vdupq_n_f32(0.0); PAIRS]; T];
        for _ in 0..args.blocks {
            let mut scaled = [[vdupq_n_f32(0.0); PAIRS]; T];
            for half in 0..halves {
                let mut ints = [[vdupq_n_s32(0); PAIRS]; T];
                for pair in 0..pairs {
                    ints[pair] = [vreinterpretq_s32_f32(of_tokens::<T>(start.cast(), pair)); PAIRS];
                }
                for eight in half * 2..half * 2 + 4 / halves {
                    let mut x = [vdupq_n_s8(0); T];
                    for pair in 0..pairs {
                        x[pair] = bytes_of_tokens::<T>(q.add(eight * 8), pair);
                    }
                    let bytes = bytes.add(eight * EIGHT_BYTES);
                    for_each_pair_of_rows!(ROWS {
                        let w = vld1q_s8(bytes.add(ROWS * 16).cast());
                        for pair in 0..pairs {
                            ints[pair][ROWS] = multiply(ints[pair][ROWS], w, x[pair]);
                        }
                    });
                }
                for_each_pair_of_rows!(ROWS {
                    let scale = of_rows(scales, ROWS);
                    for pair in 0..pairs {
                        let sum = vcvtq_f32_s32(ints[pair][ROWS]);
                        scaled[pair][ROWS] = if half == 0 {
                            vmulq_f32(sum, scale)
                        } else {
                            vfmaq_f32(scaled[pair][ROWS], sum, scale)
                        };
                        if half + 1 == halves {
                            let d = of_tokens::<T>(d, pair);
                            totals[pair][ROWS] = vfmaq_f32(totals[pair][ROWS], scaled[pair][ROWS], d);
                        }
                    }
                    if MINS {
                        let min = of_rows(mins, ROWS);
                        for pair in 0..pairs {
                            totals[pair][ROWS] = vfmaq_f32(totals[pair][ROWS], of_tokens::<T>(float_sums, pair), min);
                        }
                    }
                });
                scales = scales.add(LANES);
                mins = mins.add(LANES);
                start = start.add(T);
                float_sums = float_sums.add(T);
            }
            bytes = bytes.add(BLOCK * LANES);
            q = q.add(T * BLOCK);
            d = d.add(T);
        }
        for t in 0..T {
            for i in 0..PAIRS / 2 {
                let (first, second) = (totals[t / 2][2 * i], totals[t / 2][2 * i + 1]);
                let four = if t % 2 == 0 { vuzp1q_f32(first, second) } else { vuzp2q_f32(first, second) };
                vst1q_f32(args.out.add(t * args.token_stride + 4 * i), four);
            }
        }
    }
}
