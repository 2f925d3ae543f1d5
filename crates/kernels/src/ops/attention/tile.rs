//! The inner loops: a few query rows over blocks of positions, scores, weights and values.

use super::cache::{GROUP, GROUP_BYTES, KvType, Shape, round_group};
use crate::ops::softcap;
use crate::simd::{LANES, Simd, exp, per_tier};

/// Positions whose scores are held at once.
pub(super) const BLOCK: usize = 64;

#[derive(Clone, Copy)]
pub(super) struct RowPointers {
    pub(super) query: *const f32,
    /// `[padded]` sums, the largest score, the sum of weights.
    pub(super) sums: *mut f32,
    pub(super) visible: (usize, usize),
}

impl Default for RowPointers {
    fn default() -> Self {
        RowPointers { query: std::ptr::null(), sums: std::ptr::null_mut(), visible: (0, 0) }
    }
}

/// Up to eight rows that read the cache together.
pub(super) struct Tile {
    pub(super) shape: Shape,
    pub(super) keys: *const u8,
    pub(super) values: *const u8,
    pub(super) rows: [RowPointers; 8],
    pub(super) count: usize,
    pub(super) scale: f32,
    /// 0 for none.
    pub(super) softcap: f32,
}

per_tier! {
    /// Adds blocks `from..to` of positions to the sums of a tile's rows.
    ///
    /// # Safety
    /// See [`Rows::span`].
    pub(super) fn blocks_of_tile(tile: &Tile, from: usize, to: usize) = blocks
}

#[inline(always)]
unsafe fn blocks<S: Simd>(tile: &Tile, from: usize, to: usize) {
    // SAFETY: the caller's promise; the count is that of the tile.
    unsafe {
        match tile.count {
            1 => blocks_of::<S, 1>(tile, from, to),
            2 => blocks_of::<S, 2>(tile, from, to),
            3 => blocks_of::<S, 3>(tile, from, to),
            4 => blocks_of::<S, 4>(tile, from, to),
            5 => blocks_of::<S, 5>(tile, from, to),
            6 => blocks_of::<S, 6>(tile, from, to),
            7 => blocks_of::<S, 7>(tile, from, to),
            _ => blocks_of::<S, 8>(tile, from, to),
        }
    }
}

#[inline(always)]
unsafe fn blocks_of<S: Simd, const R: usize>(tile: &Tile, from: usize, to: usize) {
    let mut scores = [[0.0f32; BLOCK]; R];
    let rounded = match tile.shape.kv_type {
        KvType::F16 => None,
        // SAFETY: the caller's promise.
        KvType::Q8_0 => Some(unsafe { RoundedQueries::of::<S, R>(tile) }),
    };
    for block in from..to {
        let first = block * BLOCK;
        // SAFETY: positions up to the last visible one lie within the cache, and so does the vector of 16 around it.
        unsafe {
            let end = tile.rows[R - 1].visible.1.min(first + BLOCK);
            for lanes in 0..(end - first).div_ceil(LANES) {
                let keys = tile.keys.add((first / LANES + lanes) * tile.shape.key_lanes());
                let dots = match &rounded {
                    None => half_dots::<S, R>(tile, keys),
                    Some(rounded) => rounded_dots::<S, R>(tile, rounded, keys),
                };
                for r in 0..R {
                    S::store_f32(
                        scores[r].as_mut_ptr().add(lanes * LANES),
                        S::mul(dots[r], S::splat_f32(tile.scale)),
                    );
                }
            }
            for r in 0..R {
                weigh::<S>(tile, &tile.rows[r], &mut scores[r], first);
            }
            add_values::<S, R>(tile, &scores, first, end);
        }
    }
}

/// Scores of 16 positions for each row, keys in halves.
#[inline(always)]
unsafe fn half_dots<S: Simd, const R: usize>(tile: &Tile, keys: *const u8) -> [S::F; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [S::splat_f32(0.0); R];
        for d in 0..tile.shape.head_dim {
            let key = S::load_f16(keys.add(d * LANES * 2));
            for r in 0..R {
                dots[r] = S::fma(key, S::splat_f32(*tile.rows[r].query.add(d)), dots[r]);
            }
        }
        dots
    }
}

/// Head widths up to this have 8-bit scores; wider ones do not occur.
const WIDEST: usize = 512;

/// The queries of a tile in 8 bits, for keys in 8 bits.
struct RoundedQueries {
    q: [[i8; WIDEST]; 8],
    scale: [[f32; WIDEST / GROUP]; 8],
    sums: [[i32; WIDEST / GROUP]; 8],
}

impl RoundedQueries {
    #[inline(always)]
    unsafe fn of<S: Simd, const R: usize>(tile: &Tile) -> RoundedQueries {
        let mut rounded = RoundedQueries {
            q: [[0; WIDEST]; 8],
            scale: [[0.0; WIDEST / GROUP]; 8],
            sums: [[0; WIDEST / GROUP]; 8],
        };
        for r in 0..R {
            for group in 0..tile.shape.head_dim / GROUP {
                // SAFETY: the row has `head_dim` queries, whole groups of them.
                let values =
                    unsafe { std::slice::from_raw_parts(tile.rows[r].query.add(group * GROUP), GROUP) };
                let mut q = [0; GROUP];
                let d = round_group(values, &mut q);
                let sum: i32 = q.iter().copied().map(i32::from).sum();
                rounded.q[r][group * GROUP..(group + 1) * GROUP].copy_from_slice(&q);
                rounded.scale[r][group] = d;
                rounded.sums[r][group] = if S::BIASED { -(sum << 7) } else { 0 };
            }
        }
        rounded
    }
}

/// Scores of 16 positions for each row, keys and queries in 8 bits.
#[inline(always)]
unsafe fn rounded_dots<S: Simd, const R: usize>(
    tile: &Tile,
    rounded: &RoundedQueries,
    keys: *const u8,
) -> [S::F; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [S::splat_f32(0.0); R];
        for group in 0..tile.shape.head_dim / GROUP {
            let keys = keys.add(group * GROUP_BYTES * LANES);
            let scale = S::load_f16(keys);
            let mut ints = [S::splat(0); R];
            for r in 0..R {
                ints[r] = S::splat(rounded.sums[r][group] as u32);
            }
            for j in 0..GROUP / 4 {
                let four = S::ready_i8(S::load(keys.add(2 * LANES + 4 * LANES * j)));
                for r in 0..R {
                    ints[r] = S::dot_i8(ints[r], four, rounded.q[r].as_ptr().add(group * GROUP + 4 * j));
                }
            }
            for r in 0..R {
                let scaled = S::mul(S::to_f32(ints[r]), S::splat_f32(rounded.scale[r][group]));
                dots[r] = S::fma(scaled, scale, dots[r]);
            }
        }
        dots
    }
}

/// Turns a row's scores of one block into weights relative to the largest score so far, and scales what was summed
/// before to it. Positions that the row does not see weigh nothing.
#[inline(always)]
unsafe fn weigh<S: Simd>(tile: &Tile, row: &RowPointers, scores: &mut [f32; BLOCK], first: usize) {
    let seen = row.visible.0.max(first) - first..row.visible.1.clamp(first, first + BLOCK) - first;
    if seen.is_empty() {
        scores.fill(0.0);
        return;
    }
    if tile.softcap > 0.0 {
        softcap(&mut scores[seen.clone()], tile.softcap);
    }
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    let padded = tile.shape.padded();
    // SAFETY: a row has `padded + 2` sums.
    unsafe {
        let at = scores.as_mut_ptr();
        let mut largest = S::load_f32(at);
        for lanes in 1..BLOCK / LANES {
            largest = S::max(largest, S::load_f32(at.add(lanes * LANES)));
        }
        let before = *row.sums.add(padded);
        let now = before.max(S::max_lane(largest));
        let mut weights = S::splat_f32(0.0);
        for lanes in 0..BLOCK / LANES {
            let weight = exp::<S>(S::sub(S::load_f32(at.add(lanes * LANES)), S::splat_f32(now)));
            S::store_f32(at.add(lanes * LANES), weight);
        }
        scores[..seen.start].fill(0.0);
        scores[seen.end..].fill(0.0);
        for lanes in 0..BLOCK / LANES {
            weights = S::add(weights, S::load_f32(at.add(lanes * LANES)));
        }
        let sum = row.sums.add(padded + 1);
        *row.sums.add(padded) = now;
        if now > before {
            let factor = (before - now).exp();
            *sum *= factor;
            for lanes in (0..padded).step_by(LANES) {
                let sums = row.sums.add(lanes);
                S::store_f32(sums, S::mul(S::load_f32(sums), S::splat_f32(factor)));
            }
        }
        *sum += S::sum(weights);
    }
}

/// Adds the weighed values of positions `first..end` to each row's sums.
#[inline(always)]
unsafe fn add_values<S: Simd, const R: usize>(
    tile: &Tile,
    weights: &[[f32; BLOCK]; R],
    first: usize,
    end: usize,
) {
    let row_bytes = tile.shape.value_row();
    // SAFETY: the caller's promise.
    unsafe {
        let from = tile.rows[0].visible.0.max(first);
        for lanes in (0..tile.shape.padded()).step_by(LANES) {
            let mut sums = [S::splat_f32(0.0); R];
            for r in 0..R {
                sums[r] = S::load_f32(tile.rows[r].sums.add(lanes));
            }
            for position in from..end {
                let row = tile.values.add(position * row_bytes);
                let value = match tile.shape.kv_type {
                    KvType::F16 => S::load_f16(row.add(2 * lanes)),
                    KvType::Q8_0 => {
                        let group = row.add(lanes / GROUP * GROUP_BYTES);
                        let d = crate::half::f16_to_f32(group.cast::<u16>().read_unaligned());
                        let ints = S::widen_i8(group.add(2 + lanes % GROUP));
                        S::mul(S::to_f32(ints), S::splat_f32(d))
                    }
                };
                for r in 0..R {
                    sums[r] = S::fma(value, S::splat_f32(weights[r][position - first]), sums[r]);
                }
            }
            for r in 0..R {
                S::store_f32(tile.rows[r].sums.add(lanes), sums[r]);
            }
        }
    }
}
