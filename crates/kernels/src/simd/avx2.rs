//! AVX2: a vector is two registers. `vpmaddubsw` adds two products in 16 bits and saturates, so weights stay within
//! 0..=127; signed weights lend their sign to the activations instead.

use std::arch::x86_64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Sum of eight lanes: i with i + 4, then + 2, + 1.
///
/// # Safety
/// The caller is compiled for AVX2.
#[inline(always)]
pub(super) unsafe fn sum_256(a: __m256) -> f32 {
    // SAFETY: register arithmetic only.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

macro_rules! both {
    ($function:ident($($argument:ident),+)) => {
        [$function($($argument[0]),+), $function($($argument[1]),+)]
    };
}

/// # Safety
/// The caller is compiled for AVX2; `x` is readable for four bytes.
#[inline(always)]
unsafe fn broadcast(x: *const i8) -> __m256i {
    // SAFETY: as promised.
    unsafe { _mm256_set1_epi32(x.cast::<i32>().read_unaligned()) }
}

/// # Safety
/// The caller is compiled for AVX2.
#[inline(always)]
unsafe fn dot(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    // SAFETY: register arithmetic only.
    unsafe {
        let pairs = _mm256_maddubs_epi16(unsigned, signed);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

// SAFETY of all methods: the caller is compiled for AVX2, FMA and F16C, and pointers are read (written) for exactly
// the width that `Simd` states, by unaligned instructions.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type V = [__m256i; 2];
    type F = [__m256; 2];
    const BIASED: bool = false;
    /// As with AVX-512, where it was measured: what it makes up for is the memory's, not the instructions'.
    const FURTHER: usize = 6144;
    const HALVES: usize = 1;

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::V {
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: Self::V) {
        unsafe {
            _mm256_storeu_si256(to.cast(), v[0]);
            _mm256_storeu_si256(to.add(32).cast(), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat(bits: u32) -> Self::V {
        unsafe { [_mm256_set1_epi32(bits as i32); 2] }
    }
    #[inline(always)]
    unsafe fn widen_u8(from: *const u8) -> Self::V {
        unsafe {
            let low = _mm_loadl_epi64(from.cast());
            let high = _mm_loadl_epi64(from.add(8).cast());
            [_mm256_cvtepu8_epi32(low), _mm256_cvtepu8_epi32(high)]
        }
    }
    #[inline(always)]
    unsafe fn widen_u16(from: *const u8) -> Self::V {
        unsafe {
            let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
            [_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high)]
        }
    }
    #[inline(always)]
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V {
        unsafe { both!(_mm256_and_si256(a, b)) }
    }
    #[inline(always)]
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V {
        unsafe { both!(_mm256_or_si256(a, b)) }
    }
    #[inline(always)]
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V {
        unsafe { both!(_mm256_xor_si256(a, b)) }
    }
    #[inline(always)]
    unsafe fn shl(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = _mm_cvtsi32_si128(count as i32);
            [_mm256_sll_epi32(a[0], count), _mm256_sll_epi32(a[1], count)]
        }
    }
    #[inline(always)]
    unsafe fn shr(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = _mm_cvtsi32_si128(count as i32);
            [_mm256_srl_epi32(a[0], count), _mm256_srl_epi32(a[1], count)]
        }
    }
    #[inline(always)]
    unsafe fn sar(a: Self::V, count: u32) -> Self::V {
        unsafe {
            let count = _mm_cvtsi32_si128(count as i32);
            [_mm256_sra_epi32(a[0], count), _mm256_sra_epi32(a[1], count)]
        }
    }
    #[inline(always)]
    unsafe fn table(table: *const u8, index: Self::V) -> Self::V {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast()));
            [_mm256_shuffle_epi8(table, index[0]), _mm256_shuffle_epi8(table, index[1])]
        }
    }
    #[inline(always)]
    unsafe fn dot_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe {
            let x = broadcast(x);
            [dot(sum[0], w[0], x), dot(sum[1], w[1], x)]
        }
    }
    #[inline(always)]
    unsafe fn dot_i8(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe {
            let x = broadcast(x);
            [
                dot(sum[0], _mm256_abs_epi8(w[0]), _mm256_sign_epi8(x, w[0])),
                dot(sum[1], _mm256_abs_epi8(w[1]), _mm256_sign_epi8(x, w[1])),
            ]
        }
    }
    #[inline(always)]
    unsafe fn dot_by_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        unsafe {
            let x = broadcast(x);
            [dot(sum[0], x, w[0]), dot(sum[1], x, w[1])]
        }
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::V) -> Self::F {
        unsafe { both!(_mm256_cvtepi32_ps(a)) }
    }
    #[inline(always)]
    unsafe fn bits_to_f32(a: Self::V) -> Self::F {
        unsafe { both!(_mm256_castsi256_ps(a)) }
    }
    #[inline(always)]
    unsafe fn f32_bits(a: Self::F) -> Self::V {
        unsafe { both!(_mm256_castps_si256(a)) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::V) -> i32 {
        unsafe {
            // Packing works within 128-bit halves: lanes 0-3, 8-11, 4-7, 12-15; then put in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
            let eight = _mm256_add_epi32(a[0], a[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }
    #[inline(always)]
    unsafe fn round_to_int(a: Self::F) -> Self::V {
        unsafe { both!(_mm256_cvtps_epi32(a)) }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }
    #[inline(always)]
    unsafe fn add_int(a: Self::V, b: Self::V) -> Self::V {
        unsafe { both!(_mm256_add_epi32(a, b)) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::F {
        unsafe {
            let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::F {
        unsafe {
            let (low, high) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(16).cast()));
            let bits = [_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high)];
            Self::bits_to_f32([_mm256_slli_epi32::<16>(bits[0]), _mm256_slli_epi32::<16>(bits[1])])
        }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u8, a: Self::F) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[0]));
            _mm_storeu_si128(to.add(16).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[1]));
        }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: Self::F) {
        unsafe {
            _mm256_storeu_ps(to, a[0]);
            _mm256_storeu_ps(to.add(8), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat_f32(value: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_add_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_sub_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_mul_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_div_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { both!(_mm256_fmadd_ps(a, b, c)) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_max_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_min_ps(a, b)) }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe { sum_256(_mm256_add_ps(a[0], a[1])) }
    }
    #[inline(always)]
    unsafe fn any_above(a: Self::F, b: Self::F) -> bool {
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]);
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1]);
            _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0
        }
    }
    #[inline(always)]
    unsafe fn max_lane(a: Self::F) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(a[0], a[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
