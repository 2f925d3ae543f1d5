//! Which instruction sets this processor has, detected once.
//!
//! A tier is a set of instructions that one file of `simd/` is written for. The environment variable `POUCH_ISA`
//! forces a lower tier, so that every path can be tested on one machine.

use std::sync::OnceLock;

/// A set of vector instructions that the kernels are compiled for, from the plainest to the richest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Plain Rust, the oracle; what the compiler makes of it.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
    /// NEON of every 64-bit Arm.
    Neon,
    /// NEON with `sdot`.
    Dotprod,
    /// NEON with `sdot` and `smmla`.
    I8mm,
}

impl Tier {
    /// Every tier that this build contains, plainest first.
    pub const ALL: &'static [Tier] = if cfg!(target_arch = "x86_64") {
        &[Tier::Scalar, Tier::Avx2, Tier::Avx512]
    } else if cfg!(target_arch = "aarch64") {
        &[Tier::Scalar, Tier::Neon, Tier::Dotprod, Tier::I8mm]
    } else {
        &[Tier::Scalar]
    };

    /// The word that `POUCH_ISA` and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
            Tier::Neon => "neon",
            Tier::Dotprod => "dotprod",
            Tier::I8mm => "i8mm",
        }
    }

    /// Whether this processor can run the tier.
    pub fn is_available(self) -> bool {
        match self {
            Tier::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => {
                Tier::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Tier::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Tier::I8mm => Tier::Dotprod.is_available() && std::arch::is_aarch64_feature_detected!("i8mm"),
            _ => false,
        }
    }
}

/// The tier that the kernels of this process run on: the richest available, or what `POUCH_ISA` names if this
/// processor has it (an unknown or unavailable name is ignored).
pub fn tier() -> Tier {
    static CHOSEN: OnceLock<Tier> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let available = || Tier::ALL.iter().copied().filter(|tier| tier.is_available());
        let forced = std::env::var("POUCH_ISA").ok();
        available()
            .find(|tier| forced.as_deref() == Some(tier.name()))
            .or_else(|| available().next_back())
            .unwrap_or(Tier::Scalar)
    })
}
