//! AVX-512 with VNNI: a vector is one register, and `vpdpbusd` multiplies 64 bytes at once.

use std::arch::asm;
use std::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY of all methods: the caller is compiled for AVX-512 F, BW, VL, DQ and VNNI, and pointers are read (written)
// for exactly the width that `Simd` states, by unaligned instructions.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type V = __m512i;
    type F = __m512;
    const BIASED: bool = true;
    /// More than a page: processors foresee rows that are read straight on, but only to the end of a page, and with two cores
    /// reading, memory takes longer than the multiplication of one (Q3_K 20 GB/s without, 27 GB/s with this; Q6_K 34 and 39).
    const FURTHER: usize = 6144;
    const HALVES: usize = 2;

    #[inline(always)]
    unsafe fn fence() {
        unsafe { asm!("", options(nostack, preserves_flags)) }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_write(at: *mut f32) {
        // Every processor with AVX-512 has it; the intrinsic would become a prefetch for reading.
        unsafe { std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::V {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: Self::V) {
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn splat(bits: u32) -> Self::V {
        unsafe { _mm512_set1_epi32(bits as i32) }
    }
    #[inline(always)]
    unsafe fn widen_u8(from: *const u8) -> Self::V {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn widen_u16(from: *const u8) -> Self::V {
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn shl(a: Self::V, count: u32) -> Self::V {
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(count as i32)) }
    }
    #[inline(always)]
    unsafe fn shr(a: Self::V, count: u32) -> Self::V {
        unsafe { _mm512_srl_epi32(a, _mm_cvtsi32_si128(count as i32)) }
    }
    #[inline(always)]
    unsafe fn sar(a: Self::V, count: u32) -> Self::V {
        unsafe { _mm512_sra_epi32(a, _mm_cvtsi32_si128(count as i32)) }
    }
    #[inline(always)]
    unsafe fn table(table: *const u8, index: Self::V) -> Self::V {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.cast())), index) }
    }
    #[inline(always)]
    unsafe fn dot_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe { _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot_i8(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe { Self::dot_u7(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_by_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe { _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()), w) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::V) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn bits_to_f32(a: Self::V) -> Self::F {
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    unsafe fn f32_bits(a: Self::F) -> Self::V {
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::V) -> i32 {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(a));
            _mm512_reduce_add_epi32(a)
        }
    }
    #[inline(always)]
    unsafe fn round_to_int(a: Self::F) -> Self::V {
        unsafe { _mm512_cvtps_epi32(a) }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn add_int(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::F {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::F {
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, a: Self::F) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a)) }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: Self::F) {
        unsafe { _mm512_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn splat_f32(value: f32) -> Self::F {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe {
            super::avx2::sum_256(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
    }
    #[inline(always)]
    unsafe fn any_above(a: Self::F, b: Self::F) -> bool {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
    }
    #[inline(always)]
    unsafe fn max_lane(a: Self::F) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
