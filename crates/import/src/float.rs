//! The three float formats of checkpoints, and exact conversion between them.
//!
//! Rounding is to nearest, ties to even, as IEEE 754 has it. BF16 is the upper half of an F32; F16 has 5 bits of
//! exponent and 10 of fraction.

/// The number format of matrices in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloatType {
    /// As each matrix is stored in the source.
    #[default]
    Source,
    /// 32 bits: exact for every source.
    F32,
    /// 16 bits with 10 bits of fraction, up to 65,504.
    F16,
    /// 16 bits with 7 bits of fraction and the range of F32.
    Bf16,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    /// Bytes of one number.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Stored::F32 => 4,
            Stored::F16 | Stored::Bf16 => 2,
        }
    }

    /// The id in GGUF tensor lists.
    pub(crate) fn type_id(self) -> u32 {
        match self {
            Stored::F32 => 0,
            Stored::F16 => 1,
            Stored::Bf16 => 30,
        }
    }

    /// The id in `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Stored::F32 => 0,
            Stored::F16 => 1,
            Stored::Bf16 => 32,
        }
    }

    /// Appends the numbers in `bytes` (little-endian, whole numbers) to `out`.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Stored::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|&raw| f32::from_le_bytes(raw))),
            Stored::F16 => {
                out.extend(bytes.as_chunks::<2>().0.iter().map(|&raw| f16_to_f32(u16::from_le_bytes(raw))));
            }
            Stored::Bf16 => {
                out.extend(bytes.as_chunks::<2>().0.iter().map(|&raw| bf16_to_f32(u16::from_le_bytes(raw))));
            }
        }
    }

    /// Appends the numbers as bytes to `out`; a finite value that becomes infinite is given back as the error.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), f32> {
        for &value in values {
            match self {
                Stored::F32 => out.extend_from_slice(&value.to_le_bytes()),
                Stored::F16 | Stored::Bf16 => {
                    let (half, infinity) = match self {
                        Stored::F16 => (f32_to_f16(value), F16_INFINITY),
                        _ => (f32_to_bf16(value), BF16_INFINITY),
                    };
                    if value.is_finite() && half & 0x7fff == infinity {
                        return Err(value);
                    }
                    out.extend_from_slice(&half.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

const F16_INFINITY: u16 = 0x7c00;
const BF16_INFINITY: u16 = 0x7f80;

fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40; // keeps it a NaN when its set bits are all in the lower half
    }
    let odd = bits >> 16 & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10 & 0x1f);
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        0 => return f32::from_bits(sign | (fraction as f32 * SMALLEST_F16).to_bits()),
        0x1f => 0xff << 23 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The smallest F16 above zero, 2^-24.
const SMALLEST_F16: f32 = 1.0 / 16_777_216.0;

fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00 // NaN
    } else if magnitude >= 0x4780_0000 {
        F16_INFINITY // 65,536 and more
    } else if magnitude >= 0x3880_0000 {
        // Normal in F16: rebias the exponent by 127 - 15 and round 13 bits away; a carry moves the exponent up.
        let odd = magnitude >> 13 & 1;
        ((magnitude - (112 << 23) + 0xfff + odd) >> 13) as u16
    } else {
        // Subnormal in F16: count in units of 2^-24; adding 2^23 lets the F32 unit round to nearest even.
        let units = f32::from_bits(magnitude) * 16_777_216.0 + 8_388_608.0;
        (units.to_bits() & 0x7ff) as u16
    };
    sign | half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_through_f32() {
        for half in 0..=u16::MAX {
            for (there, back) in [
                (f16_to_f32 as fn(u16) -> f32, f32_to_f16 as fn(f32) -> u16),
                (bf16_to_f32 as fn(u16) -> f32, f32_to_bf16 as fn(f32) -> u16),
            ] {
                let value = there(half);
                if value.is_nan() {
                    assert!(there(back(value)).is_nan());
                } else {
                    assert_eq!(back(value), half, "{half:#06x} = {value:e}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_and_ties_to_even() {
        // Between two neighbours, everything below the middle goes down and above it up.
        for (there, back, last) in [
            (f16_to_f32 as fn(u16) -> f32, f32_to_f16 as fn(f32) -> u16, F16_INFINITY),
            (bf16_to_f32 as fn(u16) -> f32, f32_to_bf16 as fn(f32) -> u16, BF16_INFINITY),
        ] {
            for low in 0..last - 1 {
                let (below, above) = (f64::from(there(low)), f64::from(there(low + 1)));
                let middle = ((below + above) / 2.0) as f32;
                let even = low + (low & 1);
                if f64::from(middle) == (below + above) / 2.0 {
                    assert_eq!(back(middle), even, "{low:#06x}");
                    assert_eq!(back(middle.next_down()), low, "{low:#06x}");
                    assert_eq!(back(middle.next_up()), low + 1, "{low:#06x}");
                    assert_eq!(back(-middle), even | 0x8000);
                }
            }
        }
    }

    #[test]
    fn overflow_is_an_error_but_infinity_stays() {
        let mut out = Vec::new();
        assert_eq!(Stored::F16.encode(&[65_519.0], &mut out), Ok(()));
        assert_eq!(out, 0x7bff_u16.to_le_bytes());
        assert_eq!(Stored::F16.encode(&[1.0, -65_520.0], &mut out), Err(-65_520.0));
        assert_eq!(Stored::Bf16.encode(&[f32::MAX], &mut out), Err(f32::MAX));
        assert_eq!(Stored::F16.encode(&[f32::INFINITY, f32::NAN], &mut out), Ok(()));
        assert_eq!(Stored::F32.encode(&[f32::MAX], &mut out), Ok(()));
    }
}
