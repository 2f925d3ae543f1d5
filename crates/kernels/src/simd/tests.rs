//! Every operation of every tier that this processor has, against plain Rust.

use super::scalar::Scalar;
use super::{LANES, Simd};
use crate::cpu::Tier;

/// Names and lanes of what the operations gave.
type Results = Vec<(&'static str, [u32; LANES])>;

/// Bytes to work on, of any value; those of the activations and their weights in range.
struct Bytes {
    a: [u8; 64],
    b: [u8; 64],
    /// 0..=127
    small: [u8; 64],
    /// 0..16
    index: [u8; 64],
    /// -127..=127
    x: [i8; 4],
    floats: [[f32; LANES]; 3],
}

impl Bytes {
    fn new(seed: u32) -> Bytes {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u8
        };
        let mut bytes = Bytes {
            a: [0; 64].map(|_: u8| next()),
            b: [0; 64].map(|_: u8| next()),
            small: [0; 64].map(|_: u8| next() & 127),
            index: [0; 64].map(|_: u8| next() & 15),
            x: [0; 4].map(|_: u8| (next() as i8).max(-127)),
            floats: [[0; LANES]; 3]
                .map(|row| row.map(|_: u8| (f32::from(next()) - 127.5) * f32::from(next()) / 64.0)),
        };
        // Extremes: the largest sums, and floats between two integers.
        if seed.is_multiple_of(2) {
            bytes.small[..32].fill(127);
            bytes.a[..32].fill(128);
            bytes.x = [-127; 4];
            bytes.floats[0][..6].copy_from_slice(&[0.5, 1.5, -0.5, -2.5, 65519.0, -1e-7]);
        }
        bytes
    }
}

/// # Safety
/// The caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn operations<S: Simd>(bytes: &Bytes) -> Results {
    // SAFETY: every array is as long as is read or written; the caller's promise.
    unsafe {
        let mut results = Results::new();
        macro_rules! ints {
            ($name:literal, $value:expr) => {{
                let mut lanes = [0u32; LANES];
                S::store(lanes.as_mut_ptr().cast(), $value);
                results.push(($name, lanes));
            }};
        }
        macro_rules! floats {
            ($name:literal, $value:expr) => {{
                let mut lanes = [0f32; LANES];
                S::store_f32(lanes.as_mut_ptr(), $value);
                results.push(($name, lanes.map(f32::to_bits)));
            }};
        }
        S::prefetch(std::ptr::null());
        let (a, b) = (S::load(bytes.a.as_ptr()), S::load(bytes.b.as_ptr()));
        ints!("load", a);
        ints!("splat", S::splat(0xdead_beef));
        ints!("widen_u8", S::widen_u8(bytes.a.as_ptr()));
        ints!("widen_u16", S::widen_u16(bytes.a.as_ptr().add(1)));
        ints!("and", S::and(a, b));
        ints!("or", S::or(a, b));
        ints!("xor", S::xor(a, b));
        ints!("shl", S::shl(a, 7));
        ints!("shl by nothing", S::shl(a, 0));
        ints!("shr", S::shr(a, 9));
        ints!("shr_bytes", S::shr_bytes(a, 3));
        ints!("shr_bytes by nothing", S::shr_bytes(a, 0));
        ints!("sar", S::sar(a, 9));
        ints!("table", S::table(bytes.b.as_ptr(), S::load(bytes.index.as_ptr())));
        ints!("add_int", S::add_int(a, b));
        ints!("dot_u7", S::dot_u7(b, S::load(bytes.small.as_ptr()), bytes.x.as_ptr()));
        let biased = if S::BIASED { bytes.x.iter().map(|&x| 128 * i32::from(x)).sum() } else { 0 };
        let start = S::add_int(b, S::splat(-biased as u32));
        ints!("dot_i8", S::dot_i8(start, S::ready_i8(a), bytes.x.as_ptr()));
        ints!("dot_by_u7", S::dot_by_u7(b, a, bytes.small.as_ptr().cast()));
        floats!("to_f32", S::to_f32(a));
        ints!("bits_to_f32 and f32_bits", S::f32_bits(S::bits_to_f32(b)));

        let [f, g, h] = [0, 1, 2].map(|row| bytes.floats[row].as_ptr());
        let (f, g, h) = (S::load_f32(f), S::load_f32(g), S::load_f32(h));
        let mut stored = [0i8; 16];
        let small = S::sar(a, 24);
        let sum = S::store_i8(stored.as_mut_ptr(), small);
        ints!("store_i8", S::widen_u8(stored.as_ptr().cast()));
        ints!("store_i8's sum", S::splat(sum as u32));
        ints!("round_to_int", S::round_to_int(f));
        floats!("round", S::round(f));
        let mut halves = [0u8; 33];
        S::store_f16(halves.as_mut_ptr().add(1), f);
        ints!("store_f16", S::widen_u16(halves.as_ptr().add(1)));
        floats!("load_f16", S::load_f16(halves.as_ptr().add(1)));
        floats!("load_bf16", S::load_bf16(halves.as_ptr().add(1)));
        floats!("splat_f32", S::splat_f32(-1.25));
        floats!("add", S::add(f, g));
        floats!("sub", S::sub(f, g));
        floats!("mul", S::mul(f, g));
        floats!("div", S::div(f, S::add(g, S::splat_f32(1e3))));
        floats!("max", S::max(f, g));
        floats!("min", S::min(f, g));
        floats!("sum", S::splat_f32(S::sum(f)));
        let above =
            [S::any_above(f, g), S::any_above(f, f), S::any_above(f, S::splat_f32(S::max_lane(f) - 1.0))];
        ints!("any_above", S::splat(above.iter().fold(0, |bits, above| 2 * bits + u32::from(*above))));
        floats!("max_lane", S::splat_f32(S::max_lane(f)));
        floats!("fma", S::fma(f, g, h));
        results
    }
}

/// [`operations`] compiled for a tier.
fn on(tier: Tier, bytes: &Bytes) -> Results {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2(bytes: &Bytes) -> Results {
        // SAFETY: compiled for the tier; so below.
        unsafe { operations::<super::avx2::Avx2>(bytes) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn avx512(bytes: &Bytes) -> Results {
        // SAFETY: as above.
        unsafe { operations::<super::avx512::Avx512>(bytes) }
    }
    #[cfg(target_arch = "aarch64")]
    unsafe fn neon(bytes: &Bytes) -> Results {
        // SAFETY: NEON is part of the target.
        unsafe { operations::<super::neon::Neon>(bytes) }
    }
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn dotprod(bytes: &Bytes) -> Results {
        // SAFETY: as above.
        unsafe { operations::<super::neon::Dotprod>(bytes) }
    }
    // SAFETY: only tiers that this processor has are asked for.
    unsafe {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => avx2(bytes),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => avx512(bytes),
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => neon(bytes),
            #[cfg(target_arch = "aarch64")]
            Tier::Dotprod | Tier::I8mm => dotprod(bytes),
            _ => operations::<Scalar>(bytes),
        }
    }
}

#[test]
fn every_tier_gives_the_same_lanes() {
    for seed in 0..1000 {
        let bytes = Bytes::new(seed);
        let mut expected = on(Tier::Scalar, &bytes);
        // Plain Rust rounds twice there; vector tiers once.
        let (name, fused) = expected.last_mut().expect("results");
        assert_eq!(*name, "fma");
        let [f, g, h] = bytes.floats;
        *fused = std::array::from_fn(|i| f[i].mul_add(g[i], h[i]).to_bits());
        for tier in Tier::ALL.iter().filter(|tier| tier.is_available() && **tier != Tier::Scalar) {
            for (got, expected) in on(*tier, &bytes).into_iter().zip(&expected) {
                assert_eq!(got, *expected, "{} with seed {seed}", tier.name());
            }
        }
    }
}
