//! The few vector operations that every kernel is written in.
//!
//! A kernel is written once over [`Simd`] and compiled for each tier; an instruction set is one file here. A vector
//! is always 16 lanes of 32 bits (64 bytes), one lane a weight row, whatever the width of the registers beneath:
//! one register with AVX-512, two with AVX2, four with NEON.
//!
//! Every method is `#[inline(always)]` and unsafe for one reason: it may only run inside a function compiled for
//! the tier's instructions, and its pointers must be readable (writable) for the width that its line says.

pub(crate) mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(test)]
mod tests;

/// Rows that are interleaved, one a lane.
pub(crate) const LANES: usize = 16;

/// Vector operations of one tier.
///
/// # Safety
/// All methods: see the module's text.
pub(crate) trait Simd: Copy + 'static {
    /// 16 lanes of 32 bits: integers, or four bytes each.
    type V: Copy;
    /// 16 lanes of `f32`.
    type F: Copy;
    /// Whether [`Simd::dot_i8`] wants its weights with 128 added, as `vpdpbusd` does; its sums then contain 128
    /// times the sum of the activations.
    const BIASED: bool;
    /// How much further ahead weights are asked for a second time, in bytes; 0 for not at all, where nothing says that it
    /// helps.
    const FURTHER: usize = 0;
    /// Groups of 16 values, 1 or 2, that are summed at once for up to eight (up to four) rows: what registers hold.
    const HALVES: usize;

    /// `a`, but for the compiler a wall: it brings no load over it. Where a whole block is straight-line code, it would
    /// otherwise keep what several steps load in registers that are not there.
    #[inline(always)]
    unsafe fn wall(a: Self::F) -> Self::F {
        a
    }
    /// The same wall with nothing in it.
    #[inline(always)]
    unsafe fn fence() {}
    /// Asks for the cache line at `at`, which need not be readable.
    unsafe fn prefetch(at: *const u8);
    /// The same for a cache further away, where that is known to be better.
    #[inline(always)]
    unsafe fn prefetch_far(at: *const u8) {
        // SAFETY: the caller's promise is ours.
        unsafe { Self::prefetch(at) }
    }
    /// Asks for the cache line at `at` to write to it.
    #[inline(always)]
    unsafe fn prefetch_write(at: *mut f32) {
        // SAFETY: the caller's promise is ours.
        unsafe { Self::prefetch(at.cast_const().cast()) }
    }
    /// 64 bytes at `from`.
    unsafe fn load(from: *const u8) -> Self::V;
    /// 64 bytes to `to`.
    unsafe fn store(to: *mut u8, v: Self::V);
    /// The same 32 bits in each lane.
    unsafe fn splat(bits: u32) -> Self::V;
    /// 16 bytes at `from`, zero-extended to a lane each.
    unsafe fn widen_u8(from: *const u8) -> Self::V;
    /// 16 pairs of bytes at `from`, zero-extended to a lane each.
    unsafe fn widen_u16(from: *const u8) -> Self::V;
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V;
    /// Lanes shifted left by `count` bits, a constant after inlining.
    unsafe fn shl(a: Self::V, count: u32) -> Self::V;
    /// Lanes shifted right, zeros shifted in.
    unsafe fn shr(a: Self::V, count: u32) -> Self::V;
    /// Bytes shifted right by less than eight, zeros shifted in.
    #[inline(always)]
    unsafe fn shr_bytes(a: Self::V, count: u32) -> Self::V {
        // SAFETY: the caller's promise is ours.
        unsafe { Self::and(Self::shr(a, count), Self::splat(0x0101_0101 * (0xff >> count))) }
    }
    /// Lanes shifted right, the sign shifted in.
    unsafe fn sar(a: Self::V, count: u32) -> Self::V;
    /// Each byte of `index` (0..16) replaced by that entry of the 16 bytes at `table`.
    unsafe fn table(table: *const u8, index: Self::V) -> Self::V;
    /// Each lane plus the dot product of its four bytes of `w`, 0..=127, with the four signed bytes at `x`.
    unsafe fn dot_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V;
    /// The same for signed bytes made ready by [`Simd::ready_i8`], and `x` in -127..=127.
    unsafe fn dot_i8(sum: Self::V, w: Self::V, x: *const i8) -> Self::V;
    /// The same for signed bytes as they are, and `x` in 0..=127: where what is broadcast is unsigned, no bias is needed.
    #[inline(always)]
    unsafe fn dot_by_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        // SAFETY: the caller's promise is ours.
        unsafe { Self::dot_i8(sum, w, x) }
    }
    /// Signed bytes as [`Simd::dot_i8`] wants them.
    #[inline(always)]
    unsafe fn ready_i8(w: Self::V) -> Self::V {
        // SAFETY: the caller's promise is ours.
        unsafe { if Self::BIASED { Self::xor(w, Self::splat(0x8080_8080)) } else { w } }
    }
    /// Signed 32-bit lanes as `f32`.
    unsafe fn to_f32(a: Self::V) -> Self::F;
    /// Lanes of bits read as `f32`.
    unsafe fn bits_to_f32(a: Self::V) -> Self::F;
    /// The bits of each `f32`.
    unsafe fn f32_bits(a: Self::F) -> Self::V;
    /// Lanes, within -128..=127, as 16 bytes to `to`; returns their sum.
    unsafe fn store_i8(to: *mut i8, a: Self::V) -> i32;
    /// Lanes rounded to the nearest 32-bit integers, ties to even.
    unsafe fn round_to_int(a: Self::F) -> Self::V;
    /// Lanes rounded to the nearest integers, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// Signed lanes added.
    unsafe fn add_int(a: Self::V, b: Self::V) -> Self::V;

    /// 16 `f32` at `from`.
    unsafe fn load_f32(from: *const f32) -> Self::F;
    /// 16 halves at `from`, of any alignment.
    unsafe fn load_f16(from: *const u8) -> Self::F;
    /// 16 bfloat16 at `from`, of any alignment.
    unsafe fn load_bf16(from: *const u8) -> Self::F;
    /// 16 `f32` rounded to halves, to `to`, of any alignment.
    unsafe fn store_f16(to: *mut u8, a: Self::F);
    unsafe fn store_f32(to: *mut f32, a: Self::F);
    unsafe fn splat_f32(value: f32) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`, correctly rounded.
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// Sum of the lanes, as a tree: lane i with i + 8, then + 4, + 2, + 1.
    unsafe fn sum(a: Self::F) -> f32;
    /// Whether any lane of `a` is above that of `b`.
    unsafe fn any_above(a: Self::F, b: Self::F) -> bool;
    /// Largest lane.
    unsafe fn max_lane(a: Self::F) -> f32;
}

/// `e` to the power of each lane, within 2 units in the last place; held to e^-87.3 below that and to e^88 above.
///
/// Range reduction by ln 2 in two parts and a polynomial of degree six (Cody and Waite; coefficients of Cephes'
/// `expf`).
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: lane arithmetic only; the caller is compiled for the tier.
    unsafe {
        let low = S::splat_f32(-87.3);
        let clamped = S::min(S::max(x, low), S::splat_f32(88.0));
        let n = S::round_to_int(S::mul(clamped, S::splat_f32(std::f32::consts::LOG2_E)));
        let nf = S::to_f32(n);
        let r = S::fma(nf, S::splat_f32(-0.693_359_4), clamped);
        let r = S::fma(nf, S::splat_f32(2.121_944_4e-4), r);
        let mut p = S::splat_f32(1.987_569_2e-4);
        for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::fma(p, r, S::splat_f32(coefficient));
        }
        let p = S::add(S::fma(S::mul(p, r), r, r), S::splat_f32(1.0));
        let power = S::bits_to_f32(S::shl(S::add_int(n, S::splat(127)), 23));
        S::mul(p, power)
    }
}

/// A function compiled for each tier from one generic over [`Simd`], which runs on the tier of this process.
///
/// The generic function is `#[inline(always)]` and takes the vector type first; the one made here is unsafe for the
/// reasons that the generic one states, less the tier.
macro_rules! per_tier {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? = $($generic:tt)+) => {
        $(#[$meta])*
        $visible unsafe fn $name($($argument: $type),*) $(-> $output)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($argument: $type),*) $(-> $output)? {
                // SAFETY: the caller's promises, and this is compiled for the tier; so below.
                unsafe { $($generic)+::<$crate::simd::avx2::Avx2>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            unsafe fn avx512($($argument: $type),*) $(-> $output)? {
                // SAFETY: as above.
                unsafe { $($generic)+::<$crate::simd::avx512::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon($($argument: $type),*) $(-> $output)? {
                // SAFETY: as above.
                unsafe { $($generic)+::<$crate::simd::neon::Neon>($($argument),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            unsafe fn dotprod($($argument: $type),*) $(-> $output)? {
                // SAFETY: as above.
                unsafe { $($generic)+::<$crate::simd::neon::Dotprod>($($argument),*) }
            }
            // SAFETY: the caller's promises; the tier was found on this processor.
            unsafe {
                match $crate::cpu::tier() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Tier::Avx2 => avx2($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Tier::Avx512 => avx512($($argument),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::cpu::Tier::Neon => neon($($argument),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::cpu::Tier::Dotprod | $crate::cpu::Tier::I8mm => dotprod($($argument),*),
                    _ => $($generic)+::<$crate::simd::scalar::Scalar>($($argument),*),
                }
            }
        }
    };
}
pub(crate) use per_tier;
