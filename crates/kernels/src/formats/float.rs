//! F32, F16 and BF16: little-endian floats, one after another. A block is one value; the functions take any
//! number.

use super::lanes::FloatLanes;
use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::simd::Simd;

/// IEEE 754 binary32.
pub(crate) struct F32;

impl F32 {
    /// The values of `bytes`.
    pub(crate) fn dequantize(bytes: &[u8], out: &mut [f32]) {
        for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_le_bytes(bytes);
        }
    }

    /// `values` as bytes.
    pub(crate) fn quantize(values: &[f32], bytes: &mut [u8]) {
        for (x, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = x.to_le_bytes();
        }
    }
}

/// IEEE 754 binary16.
pub(crate) struct F16;

impl F16 {
    /// The values of `bytes`, exact.
    pub(crate) fn dequantize(bytes: &[u8], out: &mut [f32]) {
        for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f16_to_f32(u16::from_le_bytes(bytes));
        }
    }

    /// `values` to nearest even.
    pub(crate) fn quantize(values: &[f32], bytes: &mut [u8]) {
        for (&x, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = f32_to_f16(x).to_le_bytes();
        }
    }
}

/// bfloat16: the upper half of a binary32.
pub(crate) struct Bf16;

impl Bf16 {
    /// The values of `bytes`, exact.
    pub(crate) fn dequantize(bytes: &[u8], out: &mut [f32]) {
        for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = bf16_to_f32(u16::from_le_bytes(bytes));
        }
    }

    /// `values` to nearest even.
    pub(crate) fn quantize(values: &[f32], bytes: &mut [u8]) {
        for (&x, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = f32_to_bf16(x).to_le_bytes();
        }
    }
}

impl FloatLanes for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::bits_to_f32(S::load(from)) }
    }
}

impl FloatLanes for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(from) }
    }
}

impl FloatLanes for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(from) }
    }
}
