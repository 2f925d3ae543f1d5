//! Plain Rust: the oracle of the vector files, and the path of a processor that none of them serves.

use super::{LANES, Simd};
use crate::half::{bf16_to_f32, f16_to_f32, f32_to_f16};

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn lanes<T>(f: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(f)
}

#[inline(always)]
unsafe fn half(from: *const u8, lane: usize) -> u16 {
    // SAFETY: the caller's pointer is readable for 32 bytes.
    unsafe { u16::from_le_bytes([*from.add(2 * lane), *from.add(2 * lane + 1)]) }
}

// Never inlined: as calls, all kernels of this tier compile in a quarter of the time, and nobody's speed rests on it.
//
// SAFETY of all methods: pointers are read (written) for exactly the width that `Simd` states.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Scalar {
    type V = [u32; LANES];
    type F = [f32; LANES];
    const BIASED: bool = false;
    const HALVES: usize = 1;

    #[inline(never)]
    unsafe fn prefetch(_at: *const u8) {}
    #[inline(never)]
    unsafe fn load(from: *const u8) -> Self::V {
        lanes(|i| unsafe { from.add(4 * i).cast::<u32>().read_unaligned() })
    }
    #[inline(never)]
    unsafe fn store(to: *mut u8, v: Self::V) {
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(never)]
    unsafe fn splat(bits: u32) -> Self::V {
        [bits; LANES]
    }
    #[inline(never)]
    unsafe fn widen_u8(from: *const u8) -> Self::V {
        lanes(|i| unsafe { u32::from(*from.add(i)) })
    }
    #[inline(never)]
    unsafe fn widen_u16(from: *const u8) -> Self::V {
        lanes(|i| unsafe { u32::from(half(from, i)) })
    }
    #[inline(never)]
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] & b[i])
    }
    #[inline(never)]
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] | b[i])
    }
    #[inline(never)]
    unsafe fn xor(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] ^ b[i])
    }
    #[inline(never)]
    unsafe fn shl(a: Self::V, count: u32) -> Self::V {
        lanes(|i| a[i] << count)
    }
    #[inline(never)]
    unsafe fn shr(a: Self::V, count: u32) -> Self::V {
        lanes(|i| a[i] >> count)
    }
    #[inline(never)]
    unsafe fn sar(a: Self::V, count: u32) -> Self::V {
        lanes(|i| ((a[i] as i32) >> count) as u32)
    }
    #[inline(never)]
    unsafe fn table(table: *const u8, index: Self::V) -> Self::V {
        lanes(|i| u32::from_le_bytes(index[i].to_le_bytes().map(|byte| unsafe { *table.add(byte as usize) })))
    }
    #[inline(never)]
    unsafe fn dot_u7(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        lanes(|i| {
            let bytes = w[i].to_le_bytes();
            let dot: i32 = (0..4).map(|j| i32::from(bytes[j]) * i32::from(unsafe { *x.add(j) })).sum();
            (sum[i] as i32 + dot) as u32
        })
    }
    #[inline(never)]
    unsafe fn dot_i8(sum: Self::V, w: Self::V, x: *const i8) -> Self::V {
        lanes(|i| {
            let bytes = w[i].to_le_bytes();
            let dot: i32 = (0..4).map(|j| i32::from(bytes[j] as i8) * i32::from(unsafe { *x.add(j) })).sum();
            (sum[i] as i32 + dot) as u32
        })
    }
    #[inline(never)]
    unsafe fn to_f32(a: Self::V) -> Self::F {
        lanes(|i| a[i] as i32 as f32)
    }
    #[inline(never)]
    unsafe fn bits_to_f32(a: Self::V) -> Self::F {
        lanes(|i| f32::from_bits(a[i]))
    }
    #[inline(never)]
    unsafe fn f32_bits(a: Self::F) -> Self::V {
        lanes(|i| a[i].to_bits())
    }
    #[inline(never)]
    unsafe fn store_i8(to: *mut i8, a: Self::V) -> i32 {
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(lanes(|i| a[i] as i8)) };
        a.into_iter().map(|lane| lane as i32).sum()
    }
    #[inline(never)]
    unsafe fn round_to_int(a: Self::F) -> Self::V {
        lanes(|i| a[i].round_ties_even() as i32 as u32)
    }
    #[inline(never)]
    unsafe fn round(a: Self::F) -> Self::F {
        lanes(|i| a[i].round_ties_even())
    }
    #[inline(never)]
    unsafe fn add_int(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(never)]
    unsafe fn load_f32(from: *const f32) -> Self::F {
        lanes(|i| unsafe { from.add(i).read_unaligned() })
    }
    #[inline(never)]
    unsafe fn load_f16(from: *const u8) -> Self::F {
        lanes(|i| f16_to_f32(unsafe { half(from, i) }))
    }
    #[inline(never)]
    unsafe fn load_bf16(from: *const u8) -> Self::F {
        lanes(|i| bf16_to_f32(unsafe { half(from, i) }))
    }
    #[inline(never)]
    unsafe fn store_f16(to: *mut u8, a: Self::F) {
        let halves = lanes(|i| f32_to_f16(a[i]));
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(halves) }
    }
    #[inline(never)]
    unsafe fn store_f32(to: *mut f32, a: Self::F) {
        unsafe { to.cast::<Self::F>().write_unaligned(a) }
    }
    #[inline(never)]
    unsafe fn splat_f32(value: f32) -> Self::F {
        [value; LANES]
    }
    #[inline(never)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] + b[i])
    }
    #[inline(never)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] - b[i])
    }
    #[inline(never)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] * b[i])
    }
    #[inline(never)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] / b[i])
    }
    #[inline(never)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Not `mul_add`: without the instruction it is a slow library call. The tiers differ by rounding only.
        lanes(|i| a[i] * b[i] + c[i])
    }
    #[inline(never)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(never)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(never)]
    unsafe fn sum(mut a: Self::F) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    #[inline(never)]
    unsafe fn any_above(a: Self::F, b: Self::F) -> bool {
        (0..LANES).any(|i| a[i] > b[i])
    }
    #[inline(never)]
    unsafe fn max_lane(a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
