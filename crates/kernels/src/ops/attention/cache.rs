//! How keys and values lie in the cache of a head, and how they get there.

use crate::half::f32_to_f16;
use crate::simd::{LANES, Simd, per_tier};

/// Values that share a scale in the 8-bit cache.
pub(super) const GROUP: usize = 32;

/// Bytes of a Q8_0 block.
pub(super) const GROUP_BYTES: usize = GROUP + 2;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Halves.
    F16,
    /// 8 bits, one scale for 32 values.
    Q8_0,
}

impl KvType {
    /// The word for options and reports.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Whether heads of this width can be kept so: 8-bit groups are 32 wide.
    pub fn fits(self, head_dim: usize) -> bool {
        self == KvType::F16 || head_dim.is_multiple_of(GROUP)
    }
}

/// The cache of one key-value head of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How values are kept.
    pub kv_type: KvType,
    /// Values of a key and of a value.
    pub head_dim: usize,
    /// Positions that there is room for.
    pub capacity: usize,
}

impl Shape {
    /// Values of a position's row, padded to whole vectors.
    pub(super) fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Bytes of the values of one position.
    pub(super) fn value_row(&self) -> usize {
        match self.kv_type {
            KvType::F16 => self.padded() * 2,
            KvType::Q8_0 => self.head_dim / GROUP * GROUP_BYTES,
        }
    }

    /// Bytes of the keys of 16 positions.
    pub(super) fn key_lanes(&self) -> usize {
        match self.kv_type {
            KvType::F16 => self.head_dim * LANES * 2,
            KvType::Q8_0 => self.head_dim / GROUP * GROUP_BYTES * LANES,
        }
    }

    /// Bytes of the key area of one head.
    pub fn key_bytes(&self) -> usize {
        self.capacity.div_ceil(LANES) * self.key_lanes()
    }

    /// Bytes of the value area of one head.
    pub fn value_bytes(&self) -> usize {
        self.capacity * self.value_row()
    }
}

/// The nearest multiples of a 127th of the largest magnitude, and that 127th. Inlined, for the instructions of its caller.
#[inline(always)]
pub(super) fn round_group(values: &[f32], q: &mut [i8; GROUP]) -> f32 {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    for (q, value) in q.iter_mut().zip(values) {
        *q = (value * inverse).round_ties_even() as i8;
    }
    d
}

/// Up to 16 values as halves; what `out` has room for beyond them becomes zero.
fn halves_of(values: &[f32], out: &mut [u8]) {
    let mut padded = [0.0; LANES];
    padded[..values.len()].copy_from_slice(values);
    assert!(out.len() == LANES * 2, "room for 16 halves");
    // SAFETY: 16 values to 32 bytes.
    unsafe { store_halves(padded.as_ptr(), out.as_mut_ptr()) }
}

per_tier! {
    /// 16 `f32` at `from` as halves to `to`.
    ///
    /// # Safety
    /// 64 bytes are readable, 32 writable.
    fn store_halves(from: *const f32, to: *mut u8) = store_halves_of
}

#[inline(always)]
unsafe fn store_halves_of<S: Simd>(from: *const f32, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { S::store_f16(to, S::load_f32(from)) }
}

/// Puts the key of one position into the key area of its head.
///
/// # Panics
/// If the position or the key does not fit.
pub fn store_key(shape: &Shape, keys: &mut [u8], position: usize, key: &[f32]) {
    assert!(position < shape.capacity && key.len() == shape.head_dim, "a key outside of its cache");
    let lane = position % LANES;
    let lanes = &mut keys[position / LANES * shape.key_lanes()..][..shape.key_lanes()];
    match shape.kv_type {
        KvType::F16 => {
            for (values, lanes) in key.chunks(LANES).zip(lanes.chunks_mut(LANES * LANES * 2)) {
                let mut halves = [0; LANES * 2];
                halves_of(values, &mut halves);
                for (half, lanes) in halves.as_chunks::<2>().0.iter().zip(lanes.chunks_exact_mut(2 * LANES)) {
                    lanes[2 * lane..2 * lane + 2].copy_from_slice(half);
                }
            }
        }
        KvType::Q8_0 => {
            for (group, lanes) in key.chunks_exact(GROUP).zip(lanes.chunks_exact_mut(GROUP_BYTES * LANES)) {
                let mut q = [0; GROUP];
                let d = f32_to_f16(round_group(group, &mut q));
                let (scales, bytes) = lanes.split_at_mut(2 * LANES);
                scales[2 * lane..2 * lane + 2].copy_from_slice(&d.to_le_bytes());
                for (four, bytes) in q.as_chunks::<4>().0.iter().zip(bytes.chunks_exact_mut(4 * LANES)) {
                    bytes[4 * lane..4 * lane + 4].copy_from_slice(&four.map(|q| q as u8));
                }
            }
        }
    }
}

/// Puts the value of one position into the value area of its head.
///
/// # Panics
/// If the position or the value does not fit.
pub fn store_value(shape: &Shape, values: &mut [u8], position: usize, value: &[f32]) {
    assert!(position < shape.capacity && value.len() == shape.head_dim, "a value outside of its cache");
    let row = &mut values[position * shape.value_row()..][..shape.value_row()];
    match shape.kv_type {
        KvType::F16 => {
            for (values, halves) in value.chunks(LANES).zip(row.chunks_exact_mut(LANES * 2)) {
                halves_of(values, halves);
            }
        }
        KvType::Q8_0 => {
            for (group, bytes) in value.chunks_exact(GROUP).zip(row.chunks_exact_mut(GROUP_BYTES)) {
                let mut q = [0; GROUP];
                let d = f32_to_f16(round_group(group, &mut q));
                bytes[..2].copy_from_slice(&d.to_le_bytes());
                bytes[2..].copy_from_slice(&q.map(|q| q as u8));
            }
        }
    }
}
