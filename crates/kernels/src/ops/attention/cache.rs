//! How keys and values lie in the cache of a head, and how they get there.
//!
//! A cache is made of pages of 64 positions. A page has an area for each head: its keys, then its values.
//!
//! Halves: keys `[16 positions][head_dim][lane]`, values `[position][padded]`.
//!
//! Packed (8 or 4 bits): groups of 32 values of 16 positions (keys) or of 64 (values), first the positions' scales
//! (halves), then vectors of 64 bytes. A vector of keys has 16 positions side by side, four neighbouring values of each,
//! for a score sums over values. A vector of values has 16 values side by side, each of the four positions i, 16 + i,
//! 32 + i and 48 + i, for an output sums over positions. A byte of the 4-bit type holds values i (low) and i + 16 of its
//! group, as in GGUF.

use crate::half::{f16_to_f32, f32_to_f16};
use crate::simd::{LANES, Simd, per_tier};

/// Positions of a page. Their scores are held at once, and their packed values lie together.
pub const PAGE: usize = 64;

/// Values that share a scale in the packed types.
pub(super) const GROUP: usize = 32;

/// The widest head that is kept packed: its rounded queries are held in arrays.
pub(super) const WIDEST: usize = 512;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Halves.
    F16,
    /// 8 bits, one scale for 32 values.
    Q8_0,
    /// 4 bits, one scale for 32 values.
    Q4_0,
}

impl KvType {
    /// Every type, the largest first.
    pub const ALL: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::Q4_0];

    /// The word for options and reports.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// Whether heads of this width can be kept so: groups are 32 wide, and heads of more than 512 stay halves.
    pub fn fits(self, head_dim: usize) -> bool {
        self == KvType::F16 || head_dim.is_multiple_of(GROUP) && head_dim <= WIDEST
    }

    /// Bytes of a group's values, if they are packed.
    fn group_bytes(self) -> Option<usize> {
        match self {
            KvType::F16 => None,
            KvType::Q8_0 => Some(GROUP),
            KvType::Q4_0 => Some(GROUP / 2),
        }
    }
}

/// The area of one key-value head of one layer in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How values are kept.
    pub kv_type: KvType,
    /// Values of a key and of a value.
    pub head_dim: usize,
}

impl Shape {
    /// Values of a position's row, padded to whole vectors.
    pub(super) fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Bytes of a group of 16 positions with their scales.
    fn block_bytes(&self, group_bytes: usize) -> usize {
        (2 + group_bytes) * LANES
    }

    /// Bytes of the keys of 16 positions.
    pub(super) fn key_lanes(&self) -> usize {
        match self.kv_type.group_bytes() {
            None => self.head_dim * LANES * 2,
            Some(bytes) => self.head_dim / GROUP * self.block_bytes(bytes),
        }
    }

    /// Bytes of the area's keys.
    pub(super) fn key_bytes(&self) -> usize {
        PAGE / LANES * self.key_lanes()
    }

    /// Bytes of the area's values.
    fn value_bytes(&self) -> usize {
        match self.kv_type {
            KvType::F16 => PAGE * self.padded() * 2,
            _ => self.key_bytes(),
        }
    }

    /// Bytes of the area: the keys and values of [`PAGE`] positions.
    pub fn bytes(&self) -> usize {
        self.key_bytes() + self.value_bytes()
    }
}

/// Puts the key of one position of the page, its `at`-th, into the area of its head.
///
/// # Panics
/// If the position, the key or the area does not fit.
pub fn store_key(shape: &Shape, area: &mut [u8], at: usize, key: &[f32]) {
    assert!(
        at < PAGE && key.len() == shape.head_dim && area.len() == shape.bytes(),
        "a key outside of its page"
    );
    let lane = at % LANES;
    let lanes = &mut area[at / LANES * shape.key_lanes()..][..shape.key_lanes()];
    let Some(group_bytes) = shape.kv_type.group_bytes() else {
        for (values, lanes) in key.chunks(LANES).zip(lanes.chunks_mut(LANES * LANES * 2)) {
            let mut halves = [0; LANES * 2];
            halves_of(values, &mut halves);
            for (half, lanes) in halves.as_chunks::<2>().0.iter().zip(lanes.chunks_exact_mut(2 * LANES)) {
                lanes[2 * lane..2 * lane + 2].copy_from_slice(half);
            }
        }
        return;
    };
    for (group, block) in key.as_chunks().0.iter().zip(lanes.chunks_exact_mut(shape.block_bytes(group_bytes)))
    {
        let (scales, vectors) = block.split_at_mut(2 * LANES);
        let packed = pack(shape.kv_type, group, &mut scales[2 * lane..2 * lane + 2]);
        for (four, vector) in packed.as_chunks::<4>().0.iter().zip(vectors.chunks_exact_mut(4 * LANES)) {
            vector[4 * lane..4 * lane + 4].copy_from_slice(four);
        }
    }
}

/// Puts the value of one position of the page, its `at`-th, into the area of its head.
///
/// # Panics
/// If the position, the value or the area does not fit.
pub fn store_value(shape: &Shape, area: &mut [u8], at: usize, value: &[f32]) {
    assert!(
        at < PAGE && value.len() == shape.head_dim && area.len() == shape.bytes(),
        "a value outside of its page"
    );
    let values = &mut area[shape.key_bytes()..];
    let Some(group_bytes) = shape.kv_type.group_bytes() else {
        let row = &mut values[at * shape.padded() * 2..][..shape.padded() * 2];
        for (values, halves) in value.chunks(LANES).zip(row.chunks_exact_mut(LANES * 2)) {
            halves_of(values, halves);
        }
        return;
    };
    let (lane, byte) = (at % LANES, at / LANES);
    let groups = values.chunks_exact_mut(shape.block_bytes(group_bytes) * (PAGE / LANES));
    for (group, block) in value.as_chunks().0.iter().zip(groups) {
        let (scales, vectors) = block.split_at_mut(2 * PAGE);
        let packed = pack(shape.kv_type, group, &mut scales[2 * at..2 * at + 2]);
        let lanes = &mut vectors[lane * 4 * group_bytes..][..4 * group_bytes];
        for (value, four) in packed.iter().zip(lanes.chunks_exact_mut(4)) {
            four[byte] = *value;
        }
    }
}

/// A group in 8 or 4 bits, in the first bytes of what is returned; its scale goes to `scale` as a half.
///
/// 8 bits: the nearest multiples of a 127th of the largest magnitude. 4 bits: of the smallest step that makes the
/// values -8..=7 span the group, plus 8. Scales are never negative, for they also scale weights.
fn pack(kv_type: KvType, group: &[f32; GROUP], scale: &mut [u8]) -> [u8; GROUP] {
    let mut packed = [0; GROUP];
    let d = if kv_type == KvType::Q8_0 {
        let mut q = [0; GROUP];
        // SAFETY: a group to as many bytes.
        let (d, _) = unsafe { round_group(group.as_ptr(), q.as_mut_ptr()) };
        packed = q.map(|q| q as u8);
        d
    } else {
        let (least, most) = group.iter().fold((0f32, 0f32), |(least, most), x| (x.min(least), x.max(most)));
        let d = (most / 7.0).max(least / -8.0);
        // What is kept is the half: values are rounded to its multiples.
        let kept = f16_to_f32(f32_to_f16(d));
        let inverse = if kept > 0.0 { 1.0 / kept } else { 0.0 };
        let nibble = |x: f32| ((x * inverse).round_ties_even().clamp(-8.0, 7.0) as i8 + 8) as u8;
        for (i, byte) in packed[..GROUP / 2].iter_mut().enumerate() {
            *byte = nibble(group[i]) | nibble(group[i + GROUP / 2]) << 4;
        }
        d
    };
    // What is no number shows as an infinity.
    let d = if d.is_finite() { d } else { f32::INFINITY };
    scale.copy_from_slice(&f32_to_f16(d).to_le_bytes());
    packed
}

per_tier! {
    /// [`round_group_of`] on this process' tier.
    ///
    /// # Safety
    /// As for [`round_group_of`], but for the tier.
    fn round_group(x: *const f32, q: *mut i8) -> (f32, i32) = round_group_of
}

/// Rounds 32 values to the nearest multiples of a 127th of the largest magnitude; returns that 127th and the sum of `q`.
///
/// # Safety
/// 32 values are readable, as many bytes writable, and the caller is compiled for the tier of `S`.
#[inline(always)]
pub(super) unsafe fn round_group_of<S: Simd>(x: *const f32, q: *mut i8) -> (f32, i32) {
    // SAFETY: the caller's promise.
    unsafe {
        let halves = [S::load_f32(x), S::load_f32(x.add(LANES))];
        let magnitude = |x| S::bits_to_f32(S::and(S::f32_bits(x), S::splat(0x7fff_ffff)));
        let largest = S::max_lane(S::max(magnitude(halves[0]), magnitude(halves[1])));
        // Maximums may lose what is no number; products with zero do not.
        let zero = S::splat_f32(0.0);
        let d = largest / 127.0 + S::sum(S::fma(halves[0], zero, S::mul(halves[1], zero)));
        // A step below the normal range has no reciprocal: such groups are zeros, as are those without a number.
        let usable = d >= f32::MIN_POSITIVE;
        let inverse = S::splat_f32(if usable { 1.0 / d } else { 0.0 });
        let mut sum = 0;
        for (half, x) in halves.into_iter().enumerate() {
            let ints = if usable { S::round_to_int(S::mul(x, inverse)) } else { S::splat(0) };
            sum += S::store_i8(q.add(half * LANES), ints);
        }
        (d, sum)
    }
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
