//! Conversions between `f32` and the two 16-bit floats, IEEE 754 binary16 ("half") and bfloat16.
//!
//! Own code rather than a dependency: four short functions, tested on every 16-bit pattern. They serve block
//! scales and the scalar oracle; where a whole row is converted, the vector code uses the instructions of the
//! CPU.

/// The value of the binary16 pattern `half`. Exact: every half is an `f32`. NaN payloads are kept.
#[inline]
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10 & 0x1f);
    let mantissa = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: a multiple of 2^-24, which is a power of two, so the product is exact.
        0 => (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 => 0x7f80_0000 | mantissa << 13,
        // 112 = 127 - 15, the difference of the exponent biases.
        _ => (exponent + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The binary16 pattern nearest to `value`, ties to even; infinity from 65520 on; NaN stays (quiet) NaN.
#[inline]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00 | (magnitude >> 13 & 0x3ff) as u16
    } else if magnitude >= 0x3880_0000 {
        // At least 2^-14, the smallest normal half. A carry out of the mantissa raises the exponent, as it
        // should.
        let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        ((rounded >> 13) - (112 << 10)).min(0x7c00) as u16
    } else {
        // In units of 2^-24; rounding up to 1024 units gives the pattern of the smallest normal half.
        (f32::from_bits(magnitude) * 16_777_216.0).round_ties_even() as u16
    };
    sign | half
}

/// The value of the bfloat16 pattern `brain`: the upper half of an `f32`.
#[inline]
pub(crate) fn bf16_to_f32(brain: u16) -> f32 {
    f32::from_bits(u32::from(brain) << 16)
}

/// The bfloat16 pattern nearest to `value`, ties to even; NaN stays (quiet) NaN.
#[inline]
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Rounding could carry a NaN into infinity or zero.
        return (bits >> 16) as u16 | 0x40;
    }
    // No overflow: the largest pattern that is not NaN is 0xff80_0000.
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sign * mantissa * 2^exponent, in `f64`.
    fn defined(pattern: u16, mantissa_bits: i32, bias: i32) -> f64 {
        let exponent = i32::from(pattern & 0x7fff) >> mantissa_bits;
        let fraction = f64::from(pattern & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(1 - bias),
            _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
        };
        if pattern & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    fn every_pattern(to: fn(u16) -> f32, from: fn(f32) -> u16, mantissa_bits: i32, bias: i32) {
        let infinity = 0x7fff & !((1 << mantissa_bits) - 1);
        for pattern in 0..=u16::MAX {
            let value = to(pattern);
            if pattern & 0x7fff > infinity {
                assert!(value.is_nan() && to(from(value)).is_nan(), "{pattern:#06x}");
                continue;
            }
            assert_eq!(from(value), pattern, "{pattern:#06x} must survive");
            if pattern & 0x7fff == infinity {
                assert!(value.is_infinite());
                continue;
            }
            assert_eq!(f64::from(value), defined(pattern, mantissa_bits, bias), "{pattern:#06x}");
            assert_eq!(value.is_sign_negative(), pattern & 0x8000 != 0);

            // Between this pattern and the next: the middle goes to the even one, and a hair beside it to the
            // nearer. The neighbour of the largest finite pattern counts as the next power of two, as IEEE
            // 754 defines.
            let middle = (f64::from(value) + defined(pattern + 1, mantissa_bits, bias)) / 2.0;
            if middle.abs() > f64::from(f32::MAX) {
                continue;
            }
            let middle = middle as f32;
            assert_eq!(from(middle), pattern + (pattern & 1), "middle above {pattern:#06x}");
            assert_eq!(from(f32::from_bits(middle.to_bits() - 1)), pattern, "below the middle");
            assert_eq!(from(f32::from_bits(middle.to_bits() + 1)), pattern + 1, "above the middle");
        }
    }

    #[test]
    fn binary16_on_every_pattern() {
        every_pattern(f16_to_f32, f32_to_f16, 10, 15);
    }

    #[test]
    fn bfloat16_on_every_pattern() {
        every_pattern(bf16_to_f32, f32_to_bf16, 7, 127);
    }

    #[test]
    fn extremes() {
        assert_eq!(f32_to_f16(65519.996), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(f32::MAX), 0x7c00);
        assert_eq!(f32_to_f16(-f32::MIN_POSITIVE), 0x8000);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7f80);
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7fff_ffff))).is_nan());
    }
}
