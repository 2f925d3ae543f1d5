//! NEON, which every 64-bit Arm has, with and without `sdot`: a vector is four registers.
//!
//! The two tiers differ in one thing, how four bytes are multiplied and summed ([`Product`]); the rest is [`Arm`].
//! Where an instruction has no stable intrinsic it stands as `asm!`.

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use super::Simd;

/// The vectors of a tier whose bytes are multiplied by `D`.
#[derive(Clone, Copy)]
pub(crate) struct Arm<D>(PhantomData<D>);

/// Every 64-bit Arm.
pub(crate) type Neon = Arm<Widening>;
/// Armv8.2 with the dot product extension: nearly all cores since 2018.
pub(crate) type Dotprod = Arm<Sdot>;

/// How four signed bytes a lane are multiplied with four activations.
pub(crate) trait Product: Copy + 'static {
    /// Four activations, where the multiplication wants them.
    type Four: Copy;

    /// Four activations at `x`.
    ///
    /// # Safety
    /// `x` is readable for four bytes.
    unsafe fn four(x: *const i8) -> Self::Four;

    /// Each lane plus the dot product of its four bytes of `w` with `x`, which lies in -127..=127.
    ///
    /// # Safety
    /// The caller is compiled for the tier.
    unsafe fn dot(sum: int32x4_t, w: int8x16_t, x: Self::Four) -> int32x4_t;
}

/// Products widened to 16 bits: two of them, at most 2 * 128 * 127, do not overflow.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

impl Product for Widening {
    type Four = int8x16_t;

    #[inline(always)]
    unsafe fn four(x: *const i8) -> int8x16_t {
        // SAFETY: the caller's promise; the read is unaligned.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: register arithmetic only.
        unsafe {
            let (low, high) = (vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
            vpadalq_s16(sum, vpaddq_s16(low, high))
        }
    }
}

/// The dot product instruction.
#[derive(Clone, Copy)]
pub(crate) struct Sdot;

impl Product for Sdot {
    /// The four bytes as the first lane of a register: that is a plain load, where a broadcast would also take an
    /// arithmetic unit.
    type Four = f32;

    #[inline(always)]
    unsafe fn four(x: *const i8) -> f32 {
        // SAFETY: the caller's promise; the read is unaligned.
        unsafe { x.cast::<f32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(mut sum: int32x4_t, w: int8x16_t, x: f32) -> int32x4_t {
        // SAFETY: register arithmetic only; the caller is compiled for dotprod.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[0]",
                sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }
}

/// Written out: closures over arrays (`map`) are not reliably inlined.
macro_rules! each {
    ($function:ident($($argument:ident),+)) => {
        [
            $function($($argument[0]),+), $function($($argument[1]),+),
            $function($($argument[2]),+), $function($($argument[3]),+),
        ]
    };
}

/// 16 bits a lane, zero-extended.
///
/// # Safety
/// None but the calls of NEON, which is part of the target.
#[inline(always)]
unsafe fn widen(low: uint16x8_t, high: uint16x8_t) -> [uint32x4_t; 4] {
    // SAFETY: register arithmetic only.
    unsafe {
        [
            vmovl_u16(vget_low_u16(low)),
            vmovl_high_u16(low),
            vmovl_u16(vget_low_u16(high)),
            vmovl_high_u16(high),
        ]
    }
}

// SAFETY of all methods: NEON is part of the target, `dot` asks for no more than the caller is compiled for, and
// pointers are read (written) for exactly the width that `Simd` states, by instructions that need no alignment.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<D: Product> Simd for Arm<D> {
    type V = [uint32x4_t; 4];
    type F = [float32x4_t; 4];
    const BIASED: bool = false;
    const HALVES: usize = 1;

    #[inline(always)]
    unsafe fn wall(mut a: Self::F) -> Self::F {
        let [b, c, d, e] = &mut a;
        unsafe {
            asm!(
                "/* {b:v} {c:v} {d:v} {e:v} */",
                b = inout(vreg) * b,
                c = inout(vreg) * c,
                d = inout(vreg) * d,
                e = inout(vreg) * e,
                options(nostack, preserves_flags)
            );
        }
        a
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nomem, nostack, preserves_flags)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::V {
        unsafe {
            let at = [from, from.add(16), from.add(32), from.add(48)];
            let bytes = each!(vld1q_u8(at));
            each!(vreinterpretq_u32_u8(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: Self::V) {
        unsafe {
            for i in 0..4 {
                vst1q_u8(to.add(16 * i), vreinterpretq_u8_u32(v[i]));
            }
        }
    }
    #[inline(always)]
    unsafe fn splat(bits: u32) -> Self::V {
        unsafe { [vdupq_n_u32(bits); 4] }
    }
    #[inline(always)]
    unsafe fn widen_u8(from: *const u8) -> Self::V {
        unsafe {
            let bytes = vld1q_u8(from);
            widen(vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes))
        }
    }
    #[inline(always)]
    unsafe fn widen_u16(from: *const u8) -> Self::V {
        unsafe {
            let (low, high) = (vld1q_u8(from), vld1q_u8(from.add(16)));
            widen(vreinterpretq_u16_u8(low), vreinterpretq_u16_u8(high))
        }
    }
    #[inline(always)]
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each!(vandq_u32(a, b)) }
    }
    #[inline(always)]
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each!(vorrq_u32(a, b)) }
    }
    #[inline(always)]
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each!(veorq_u32(a, b)) }
    }
    #[inline(always)]
    unsafe fn shl(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = [vdupq_n_s32(count as i32); 4];
            each!(vshlq_u32(a, count))
        }
    }
    #[inline(always)]
    unsafe fn shr(a: Self::V, count: u32) -> Self::V {
        unsafe {
            // There is no right shift by a register: it is a left shift by a negative count.
            let count = [vdupq_n_s32(-(count as i32)); 4];
            each!(vshlq_u32(a, count))
        }
    }
    #[inline(always)]
    unsafe fn shr_bytes(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = [vdupq_n_s8(-(count as i8)); 4];
            let bytes = each!(vreinterpretq_u8_u32(a));
            let shifted = each!(vshlq_u8(bytes, count));
            each!(vreinterpretq_u32_u8(shifted))
        }
    }
    #[inline(always)]
    unsafe fn sar(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = [vdupq_n_s32(-(count as i32)); 4];
            let signed = each!(vreinterpretq_s32_u32(a));
            let shifted = each!(vshlq_s32(signed, count));
            each!(vreinterpretq_u32_s32(shifted))
        }
    }
    #[inline(always)]
    unsafe fn table(table: *const u8, index: Self::V) -> Self::V {
        unsafe {
            let table = [vld1q_u8(table); 4];
            let index = each!(vreinterpretq_u8_u32(index));
            let found = each!(vqtbl1q_u8(table, index));
            each!(vreinterpretq_u32_u8(found))
        }
    }
    #[inline(always)]
    unsafe fn dot_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        // Bytes of seven bits are signed bytes too.
        unsafe { Self::dot_i8(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_i8(mut sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe {
            let x = D::four(x);
            for i in 0..4 {
                let dot = D::dot(vreinterpretq_s32_u32(sum[i]), vreinterpretq_s8_u32(w[i]), x);
                sum[i] = vreinterpretq_u32_s32(dot);
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::V) -> Self::F {
        unsafe {
            let signed = each!(vreinterpretq_s32_u32(a));
            each!(vcvtq_f32_s32(signed))
        }
    }
    #[inline(always)]
    unsafe fn bits_to_f32(a: Self::V) -> Self::F {
        unsafe { each!(vreinterpretq_f32_u32(a)) }
    }
    #[inline(always)]
    unsafe fn f32_bits(a: Self::F) -> Self::V {
        unsafe { each!(vreinterpretq_u32_f32(a)) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::V) -> i32 {
        unsafe {
            let words = vcombine_u16(vmovn_u32(a[0]), vmovn_u32(a[1]));
            let more_words = vcombine_u16(vmovn_u32(a[2]), vmovn_u32(a[3]));
            let bytes = vcombine_u8(vmovn_u16(words), vmovn_u16(more_words));
            vst1q_u8(to.cast(), bytes);
            vaddvq_u32(vaddq_u32(vaddq_u32(a[0], a[1]), vaddq_u32(a[2], a[3]))) as i32
        }
    }
    #[inline(always)]
    unsafe fn round_to_int(a: Self::F) -> Self::V {
        unsafe {
            let signed = each!(vcvtnq_s32_f32(a));
            each!(vreinterpretq_u32_s32(signed))
        }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe { each!(vrndnq_f32(a)) }
    }
    #[inline(always)]
    unsafe fn add_int(a: Self::V, b: Self::V) -> Self::V {
        unsafe { each!(vaddq_u32(a, b)) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self::F {
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::F {
        unsafe {
            let (low, high) = (vld1q_u8(from), vld1q_u8(from.add(16)));
            let (low, high) = (vreinterpretq_f16_u8(low), vreinterpretq_f16_u8(high));
            [
                vcvt_f32_f16(vget_low_f16(low)),
                vcvt_high_f32_f16(low),
                vcvt_f32_f16(vget_low_f16(high)),
                vcvt_high_f32_f16(high),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::F {
        unsafe { Self::bits_to_f32(Self::shl(Self::widen_u16(from), 16)) }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, a: Self::F) {
        unsafe {
            for i in 0..2 {
                let halves = vcvt_high_f16_f32(vcvt_f16_f32(a[2 * i]), a[2 * i + 1]);
                vst1q_u8(to.add(16 * i), vreinterpretq_u8_f16(halves));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: Self::F) {
        unsafe {
            for i in 0..4 {
                vst1q_f32(to.add(4 * i), a[i]);
            }
        }
    }
    #[inline(always)]
    unsafe fn splat_f32(value: f32) -> Self::F {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vaddq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vsubq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vmulq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vdivq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { each!(vfmaq_f32(c, a, b)) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vmaxq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { each!(vminq_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn any_above(a: Self::F, b: Self::F) -> bool {
        unsafe {
            let above = each!(vcgtq_f32(a, b));
            vmaxvq_u32(vorrq_u32(vorrq_u32(above[0], above[1]), vorrq_u32(above[2], above[3]))) != 0
        }
    }
    #[inline(always)]
    unsafe fn max_lane(a: Self::F) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[1]), vmaxq_f32(a[2], a[3]))) }
    }
}
