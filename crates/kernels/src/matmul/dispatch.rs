//! The generic kernels compiled for each tier, and the choice among them.
//!
//! A tier is one module here, made by [`tier!`]: its vector type, its instructions, and the shape of tile that its
//! registers hold. What the products call is a plain function pointer in [`Kernels`].

use super::gemv::{self, Gemv};
use super::tile::{self, FloatTile, Panel, Tile};
use crate::cpu::Tier;
use crate::formats::{FloatLanes, Lanes, bias_shift};
use crate::simd::Simd;

/// `function()` of the module of `tier`; tiers of other processors cannot be chosen and fall to the scalar one.
macro_rules! with_tier {
    ($tier:expr, $($function:tt)+) => {
        match $tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => avx2::$($function)+(),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => avx512::$($function)+(),
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => neon::$($function)+(),
            #[cfg(target_arch = "aarch64")]
            Tier::Dotprod => dotprod::$($function)+(),
            #[cfg(target_arch = "aarch64")]
            Tier::I8mm => i8mm::$($function)+(),
            _ => scalar::$($function)+(),
        }
    };
}

/// The functions of one format on one tier.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// One token; with panels also [`few`].
    pub(crate) gemv: unsafe fn(&Gemv, usize),
    /// More tokens.
    pub(crate) many: Many,
}

/// How several tokens are multiplied.
#[derive(Clone, Copy)]
pub(crate) enum Many {
    /// Panels of bytes, tiles of `tokens` at most with `groups` groups of rows each.
    Panels(Panels),
    /// Tiles of at most [`FLOAT_TOKENS`] tokens straight from float rows.
    Floats { tile: unsafe fn(&FloatTile, usize) },
}

/// Quantized rows: unpacked once, then multiplied with tile after tile.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    pub(crate) unpack: unsafe fn(*const u8, usize, usize, Panel),
    /// Multiplies a tile of so many tokens.
    pub(crate) tile: unsafe fn(&Tile, usize),
    pub(crate) halves: bool,
    pub(crate) bias: Option<u32>,
}

/// Tokens of a float tile.
pub(crate) const FLOAT_TOKENS: usize = 4;

/// The most tokens that any tier multiplies without a panel.
pub(crate) const MOST_FEW: usize = 9;

/// So many tokens, if few enough, are multiplied without a panel, padded to this number.
pub(crate) fn few(tier: Tier, tokens: usize) -> Option<usize> {
    with_tier!(tier, few).iter().copied().find(|&padded| tokens <= padded)
}

/// Tokens of a tile of `tier`.
pub(crate) fn tile_tokens(tier: Tier) -> usize {
    with_tier!(tier, shape).0
}

/// Groups of 16 rows of a tile of `tier`.
pub(crate) fn tile_groups(tier: Tier) -> usize {
    with_tier!(tier, shape).1
}

/// The functions of quantized format `L`.
pub(crate) fn kernels<L: Lanes>(tier: Tier) -> Kernels {
    with_tier!(tier, kernels::<L>)
}

/// The functions of float format `L`.
pub(crate) fn float_kernels<L: FloatLanes>(tier: Tier) -> Kernels {
    with_tier!(tier, float_kernels::<L>)
}

/// A module of kernels: name, vector type, instructions, numbers of few tokens, groups and tokens of a tile (each token
/// count spelled out, for each is a function of its own).
macro_rules! tier {
    ($module:ident, $simd:ty, $(features $features:literal,)? few [$($few:literal)+], groups $groups:literal, tokens $most:literal of [$($tokens:literal)+]) => {
        mod $module {
            use super::*;

            pub(super) fn shape() -> (usize, usize) {
                ($most, $groups)
            }

            pub(super) fn few() -> &'static [usize] {
                &[$($few),+]
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn gemv_of<L: Lanes, const T: usize>(args: &Gemv) {
                // SAFETY: as above.
                unsafe { gemv::gemv::<$simd, L, T>(args) }
            }

            unsafe fn gemv<L: Lanes>(args: &Gemv, tokens: usize) {
                match tokens {
                    // SAFETY: as above.
                    $($few => unsafe { gemv_of::<L, $few>(args) },)+
                    _ => unreachable!("{tokens} is none of the few"),
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn unpack<L: Lanes>(weights: *const u8, blocks: usize, block_bytes: usize, panel: Panel) {
                // SAFETY: as above.
                unsafe { tile::unpack::<$simd, L>(weights, blocks, block_bytes, panel) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn tile_of<const T: usize, const HALVES: bool, const MINS: bool, const SIGNED: bool>(args: &Tile) {
                // SAFETY: as above.
                unsafe { tile::tile::<$simd, $groups, T, HALVES, MINS, SIGNED>(args) }
            }

            unsafe fn tile<const HALVES: bool, const MINS: bool, const SIGNED: bool>(args: &Tile, tokens: usize) {
                match tokens {
                    // SAFETY: as above.
                    $($tokens => unsafe { tile_of::<$tokens, HALVES, MINS, SIGNED>(args) },)+
                    _ => unreachable!("tiles have 1 to {} tokens", $most),
                }
            }

            /// What is chosen by a format's constants is a constant, so that only what is chosen is compiled.
            struct Choice<L>(std::marker::PhantomData<L>);

            impl<L: Lanes> Choice<L> {
                const TILE: unsafe fn(&Tile, usize) =
                    match (L::HALVES, L::MINS, L::SIGNED && !<$simd as Simd>::BIASED) {
                        (false, false, false) => tile::<false, false, false>,
                        (false, true, false) => tile::<false, true, false>,
                        (true, false, false) => tile::<true, false, false>,
                        (true, true, false) => tile::<true, true, false>,
                        (false, false, true) => tile::<false, false, true>,
                        (false, true, true) => tile::<false, true, true>,
                        (true, false, true) => tile::<true, false, true>,
                        (true, true, true) => tile::<true, true, true>,
                    };
            }

            pub(super) fn kernels<L: Lanes>() -> Kernels {
                Kernels {
                    gemv: gemv::<L>,
                    many: Many::Panels(Panels {
                        unpack: unpack::<L>,
                        tile: Choice::<L>::TILE,
                        halves: L::HALVES,
                        bias: bias_shift::<$simd, L>(),
                    }),
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn gemv_float<L: FloatLanes>(args: &Gemv, _one: usize) {
                // SAFETY: as above.
                unsafe { gemv::gemv_float::<$simd, L>(args) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn float_tile<L: FloatLanes>(args: &FloatTile, tokens: usize) {
                // SAFETY: as above.
                unsafe {
                    match tokens {
                        1 => tile::float_tile::<$simd, L, 1>(args),
                        2 => tile::float_tile::<$simd, L, 2>(args),
                        3 => tile::float_tile::<$simd, L, 3>(args),
                        _ => tile::float_tile::<$simd, L, FLOAT_TOKENS>(args),
                    }
                }
            }

            pub(super) fn float_kernels<L: FloatLanes>() -> Kernels {
                Kernels { gemv: gemv_float::<L>, many: Many::Floats { tile: float_tile::<L> } }
            }
        }
    };
}

tier!(scalar, crate::simd::scalar::Scalar, few [1 2], groups 1, tokens 2 of [1 2]);

#[cfg(target_arch = "x86_64")]
tier!(avx2, crate::simd::avx2::Avx2, features "avx2,fma,f16c", few [1 2 5], groups 1, tokens 2 of [1 2]);

// 28 of 32 registers hold sums, integer and float; the weights take two and a scale one.
#[cfg(target_arch = "x86_64")]
tier!(
    avx512,
    crate::simd::avx512::Avx512,
    features "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni",
    few [1 2 5 9], groups 2, tokens 7 of [1 2 3 4 5 6 7]
);

// 24 of 32 registers hold sums, integer and float; the weights take four and an activation one.
#[cfg(target_arch = "aarch64")]
tier!(neon, crate::simd::neon::Neon, features "neon", few [1 2], groups 1, tokens 3 of [1 2 3]);

#[cfg(target_arch = "aarch64")]
tier!(dotprod, crate::simd::neon::Dotprod, features "neon,dotprod", few [1 2 5], groups 1, tokens 3 of [1 2 3]);

/// [`dotprod`] with tiles of another instruction, and panels in the order that it wants.
#[cfg(target_arch = "aarch64")]
mod i8mm {
    use super::*;
    use crate::matmul::tile_i8mm;
    use crate::simd::neon::Dotprod;

    pub(super) use super::dotprod::{few, float_kernels};

    /// 24 of 32 registers hold integer sums, of two rows and two tokens each.
    pub(super) fn shape() -> (usize, usize) {
        (6, 1)
    }

    #[target_feature(enable = "neon,dotprod")]
    unsafe fn unpack<L: Lanes>(weights: *const u8, blocks: usize, block_bytes: usize, panel: Panel) {
        // SAFETY: as above.
        unsafe { tile_i8mm::unpack::<L>(weights, blocks, block_bytes, panel) }
    }

    #[target_feature(enable = "neon,dotprod,i8mm")]
    unsafe fn tile_of<const T: usize, const HALVES: bool, const MINS: bool>(args: &Tile) {
        // SAFETY: as above.
        unsafe { tile_i8mm::tile::<T, HALVES, MINS>(args) }
    }

    unsafe fn tile<const HALVES: bool, const MINS: bool>(args: &Tile, tokens: usize) {
        // SAFETY: as above.
        unsafe {
            match tokens {
                1 => tile_of::<1, HALVES, MINS>(args),
                2 => tile_of::<2, HALVES, MINS>(args),
                3 => tile_of::<3, HALVES, MINS>(args),
                4 => tile_of::<4, HALVES, MINS>(args),
                5 => tile_of::<5, HALVES, MINS>(args),
                _ => tile_of::<6, HALVES, MINS>(args),
            }
        }
    }

    struct Choice<L>(std::marker::PhantomData<L>);

    impl<L: Lanes> Choice<L> {
        /// Bytes of seven bits are signed bytes too, so the sign makes no difference here.
        const TILE: unsafe fn(&Tile, usize) = match (L::HALVES, L::MINS) {
            (false, false) => tile::<false, false>,
            (false, true) => tile::<false, true>,
            (true, false) => tile::<true, false>,
            (true, true) => tile::<true, true>,
        };
    }

    pub(super) fn kernels<L: Lanes>() -> Kernels {
        let (tile, bias) = (Choice::<L>::TILE, bias_shift::<Dotprod, L>());
        let panels = Panels { unpack: unpack::<L>, tile, halves: L::HALVES, bias };
        Kernels { gemv: dotprod::kernels::<L>().gemv, many: Many::Panels(panels) }
    }
}
