//! Scores and sums over keys and values in 8 or 4 bits, in integers.
//!
//! Queries are rounded to 8 bits as activations are. The weights of a block are rounded as well, after the scales of the
//! values were multiplied into them: to multiples of a 16383rd of the largest, as two digits of 7 bits. A digit times a
//! signed byte is a dot product over positions, so that what comes out is exact but for this rounding. (One digit would be
//! faster, but would lose the many small weights beside a large one.)

use super::cache::{GROUP, PAGE, WIDEST, round_group_of};
use super::tile::{MOST_ROWS, PagePointers, Tile};
use crate::simd::{LANES, Simd};

const GROUPS: usize = WIDEST / GROUP;

/// How a packed type's vectors are unpacked.
pub(super) trait Packed {
    /// Vectors of 64 bytes that hold a group of 16 positions.
    const VECTORS: usize;
    /// Values of a byte: its part 0 is value i of the group, the next value i + 16.
    const PARTS: usize;
    /// Bytes of a group of 16 positions with their scales.
    const BLOCK_BYTES: usize = 2 * LANES + Self::VECTORS * 4 * LANES;

    /// A part of a vector as signed bytes.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn signed<S: Simd>(vector: S::V, part: usize) -> S::V;
}

/// 8 bits.
pub(super) struct Bytes;

impl Packed for Bytes {
    const VECTORS: usize = 8;
    const PARTS: usize = 1;

    #[inline(always)]
    unsafe fn signed<S: Simd>(vector: S::V, _part: usize) -> S::V {
        vector
    }
}

/// 4 bits, with 8 added.
pub(super) struct Nibbles;

impl Packed for Nibbles {
    const VECTORS: usize = 4;
    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn signed<S: Simd>(vector: S::V, part: usize) -> S::V {
        static VALUES: [i8; 16] = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7];
        // SAFETY: indices are below 16; the caller's promise.
        unsafe {
            let high = if part == 0 { vector } else { S::shr(vector, 4) };
            S::table(VALUES.as_ptr().cast(), S::and(high, S::splat(0x0f0f_0f0f)))
        }
    }
}

/// The queries of a tile in 8 bits.
pub(super) struct RoundedQueries {
    q: [[i8; WIDEST]; MOST_ROWS],
    /// The factor of the scores among it.
    scale: [[f32; GROUPS]; MOST_ROWS],
    /// What undoes the bias of the keys' bytes.
    start: [[i32; GROUPS]; MOST_ROWS],
}

impl RoundedQueries {
    /// # Safety
    /// The tile's rows have `head_dim` queries each, whole groups and at most [`WIDEST`].
    #[inline(always)]
    pub(super) unsafe fn of<S: Simd, const R: usize>(tile: &Tile) -> RoundedQueries {
        let mut rounded = RoundedQueries {
            q: [[0; WIDEST]; MOST_ROWS],
            scale: [[0.0; GROUPS]; MOST_ROWS],
            start: [[0; GROUPS]; MOST_ROWS],
        };
        for r in 0..R {
            for group in 0..tile.shape.head_dim / GROUP {
                let q = rounded.q[r][group * GROUP..(group + 1) * GROUP].as_mut_ptr();
                // SAFETY: the caller's promise.
                let (d, sum) = unsafe { round_group_of::<S>(tile.rows[r].query.add(group * GROUP), q) };
                rounded.scale[r][group] = d * tile.scale;
                rounded.start[r][group] = if S::BIASED { -(sum << 7) } else { 0 };
            }
        }
        rounded
    }
}

/// Asks for the keys of the next page, a few lines in each step: memory has no rest while there is much to compute,
/// and is not asked for more at once than it can have in flight.
pub(super) struct Ahead {
    at: *const u8,
    lines: usize,
}

impl Ahead {
    /// While one page is computed for `R` rows.
    pub(super) fn of<const R: usize>(tile: &Tile, page: PagePointers) -> Ahead {
        let groups = tile.shape.head_dim / GROUP;
        // A step for each group of 16 keys, each row's scores, each group of a row's weights.
        let steps = PAGE / LANES * groups + R + groups * R;
        Ahead { at: page.next, lines: tile.shape.key_bytes().div_ceil(64 * steps) }
    }

    /// # Safety
    /// The caller is compiled for the tier.
    #[inline(always)]
    pub(super) unsafe fn step<S: Simd>(&mut self) {
        for _ in 0..self.lines {
            // SAFETY: the address need not be readable.
            unsafe { S::prefetch_far(self.at) };
            self.at = self.at.wrapping_add(64);
        }
    }
}

/// Scores of 16 positions for each row.
///
/// # Safety
/// `keys` are those of 16 positions, and the caller is compiled for the tier.
#[inline(always)]
pub(super) unsafe fn dots<S: Simd, P: Packed, const R: usize>(
    tile: &Tile,
    queries: &RoundedQueries,
    keys: *const u8,
    ahead: &mut Ahead,
) -> [S::F; R] {
    // SAFETY: the caller's promise; prefetches may point anywhere.
    unsafe {
        let mut dots = [S::splat_f32(0.0); R];
        for group in 0..tile.shape.head_dim / GROUP {
            ahead.step::<S>();
            let block = keys.add(group * P::BLOCK_BYTES);
            let mut ints = [S::splat(0); R];
            for r in 0..R {
                ints[r] = S::splat(queries.start[r][group] as u32);
            }
            for v in 0..P::VECTORS {
                // The compiler would load more queries in advance than registers hold.
                S::fence();
                let at = block.add(2 * LANES + 4 * LANES * v);
                let vector = S::load(at);
                for part in 0..P::PARTS {
                    let four = S::ready_i8(P::signed::<S>(vector, part));
                    let first = group * GROUP + 4 * (v + part * P::VECTORS);
                    for r in 0..R {
                        ints[r] = S::dot_i8(ints[r], four, queries.q[r].as_ptr().add(first));
                    }
                }
            }
            let scale = S::load_f16(block);
            for r in 0..R {
                let scaled = S::mul(S::to_f32(ints[r]), S::splat_f32(queries.scale[r][group]));
                dots[r] = S::fma(scaled, scale, dots[r]);
            }
        }
        dots
    }
}

/// The weights of a row's page for one group of values: `(128 * digits[0] + digits[1]) * step`.
#[derive(Clone, Copy)]
struct RoundedWeights {
    /// Lane i has the digits of positions i, 16 + i, 32 + i and 48 + i, as the values lie.
    digits: [[i8; PAGE]; 2],
    step: f32,
}

impl RoundedWeights {
    const ZERO: RoundedWeights = RoundedWeights { digits: [[0; PAGE]; 2], step: 0.0 };

    /// # Safety
    /// As for [`Simd`].
    #[inline(always)]
    unsafe fn set<S: Simd>(&mut self, weights: &[f32; PAGE], scales: &[f32; PAGE]) {
        /// Two digits of 7 bits.
        const MOST: f32 = 16383.0;
        // SAFETY: each vector lies within its array.
        unsafe {
            let scaled = |at: usize| {
                S::mul(S::load_f32(weights.as_ptr().add(at)), S::load_f32(scales.as_ptr().add(at)))
            };
            let mut largest = scaled(0);
            for at in (LANES..PAGE).step_by(LANES) {
                largest = S::max(largest, scaled(at));
            }
            // Not so small that the reciprocal overflows: such weights are nothing beside the largest of all, which is 1.
            let largest = S::max_lane(largest).max(1e-33);
            let inverse = S::splat_f32(MOST / largest);
            self.step = largest * (1.0 / MOST);
            let (mut high, mut low) = (S::splat(0), S::splat(0));
            for byte in 0..4 {
                let mask = S::splat(0x7f << (8 * byte));
                let rounded = S::round_to_int(S::mul(scaled(LANES * byte as usize), inverse));
                low = S::or(low, S::and(S::shl(rounded, 8 * byte), mask));
                let high_digit = if byte == 0 { S::shr(rounded, 7) } else { S::shl(rounded, 8 * byte - 7) };
                high = S::or(high, S::and(high_digit, mask));
            }
            S::store(self.digits[0].as_mut_ptr().cast(), high);
            S::store(self.digits[1].as_mut_ptr().cast(), low);
        }
    }
}

/// Adds the weighed values of a page's first `count` positions to each row's sums.
///
/// # Safety
/// The page's pointers are as they say, `count` is at most [`PAGE`], and the caller is compiled for the tier.
#[inline(always)]
pub(super) unsafe fn add_values<S: Simd, P: Packed, const R: usize>(
    tile: &Tile,
    weights: &[[f32; PAGE]; R],
    page: PagePointers,
    count: usize,
    ahead: &mut Ahead,
) {
    let key_bytes = tile.shape.key_bytes();
    let mut rounded = [RoundedWeights::ZERO; R];
    let mut scales = [0.0; PAGE];
    // SAFETY: the caller's promise; prefetches may point anywhere.
    unsafe {
        for group in 0..tile.shape.head_dim / GROUP {
            let from = key_bytes + group * P::BLOCK_BYTES * (PAGE / LANES);
            let (halves, vectors) = (page.area.add(from), page.area.add(from + 2 * PAGE));
            let next_vectors = page.next.wrapping_add(from + 2 * PAGE);
            for at in (0..PAGE).step_by(LANES) {
                S::store_f32(scales.as_mut_ptr().add(at), S::load_f16(halves.add(2 * at)));
            }
            // There the page may hold anything.
            scales[count..].fill(0.0);
            for r in 0..R {
                ahead.step::<S>();
                rounded[r].set::<S>(&weights[r], &scales);
            }
            for first_half in (0..2).step_by(S::HALVES) {
                let mut ints = [[S::splat(0); 2]; R];
                for digit in 0..2 {
                    for four in 0..LANES {
                        for half in 0..S::HALVES {
                            let half_of_group = first_half + half;
                            let (v, part) = if P::PARTS == 1 {
                                (2 * four + half_of_group, 0)
                            } else {
                                (four, half_of_group)
                            };
                            if part == 0 && v % 2 == digit {
                                S::prefetch_far(next_vectors.wrapping_add(4 * LANES * v));
                            }
                            let bytes = P::signed::<S>(S::load(vectors.add(4 * LANES * v)), part);
                            for r in 0..R {
                                let weights = rounded[r].digits[digit].as_ptr().add(4 * four);
                                ints[r][half] = S::dot_by_u7(ints[r][half], bytes, weights);
                            }
                        }
                    }
                    if digit == 0 {
                        for r in 0..R {
                            ints[r] = [S::shl(ints[r][0], 7), S::shl(ints[r][1], 7)];
                        }
                    }
                }
                for r in 0..R {
                    let step = S::splat_f32(rounded[r].step);
                    for half in 0..S::HALVES {
                        let sums = tile.rows[r].sums.add(group * GROUP + (first_half + half) * LANES);
                        S::store_f32(sums, S::fma(S::to_f32(ints[r][half]), step, S::load_f32(sums)));
                    }
                }
            }
        }
    }
}
