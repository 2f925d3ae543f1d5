//! The inner loops: a few query rows over pages of positions, scores, weights and values.

use std::ops::Range;

use super::cache::{KvType, PAGE, Shape};
use super::packed::{self, Ahead, Bytes, Nibbles, Packed, RoundedQueries};
use crate::ops::softcap;
use crate::simd::{LANES, Simd, exp, per_tier};

/// Pages of a span.
pub(super) const SPAN_PAGES: usize = super::SPAN / PAGE;

/// Rows of a tile, at most.
pub(super) const MOST_ROWS: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct RowPointers {
    pub(super) query: *const f32,
    /// `[padded]` sums of weighed values, 16 partial sums of weights, the largest score.
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
    /// The head's areas of the span's pages, and of the one after, which is only ever prefetched.
    pub(super) pages: [*const u8; SPAN_PAGES + 1],
    /// Number of the span's first page.
    pub(super) first_page: usize,
    pub(super) rows: [RowPointers; MOST_ROWS],
    pub(super) count: usize,
    pub(super) scale: f32,
    /// 0 for none.
    pub(super) softcap: f32,
}

/// A head's area of one page, and of the next.
#[derive(Clone, Copy)]
pub(super) struct PagePointers {
    pub(super) area: *const u8,
    pub(super) next: *const u8,
}

impl Tile {
    /// A page of the span, by its number in the cache.
    fn page(&self, page: usize) -> PagePointers {
        let at = page - self.first_page;
        PagePointers { area: self.pages[at], next: self.pages[at + 1] }
    }
}

per_tier! {
    /// Adds pages `from..to`, numbers in the cache, to the sums of a tile's rows.
    ///
    /// # Safety
    /// These are pages of the tile's span whose areas are whole. The rows have `head_dim` queries and `row_len` sums each;
    /// what they see begins and ends row by row no earlier, with the first before the end of each page, with the last after
    /// its beginning.
    pub(super) fn pages_of_tile(tile: &Tile, from: usize, to: usize) = pages
}

#[inline(always)]
unsafe fn pages<S: Simd>(tile: &Tile, from: usize, to: usize) {
    // SAFETY: the caller's promise; the count is that of the tile.
    unsafe {
        match tile.count {
            1 => pages_of::<S, 1>(tile, from, to),
            2 => pages_of::<S, 2>(tile, from, to),
            3 => pages_of::<S, 3>(tile, from, to),
            4 => pages_of::<S, 4>(tile, from, to),
            5 => pages_of::<S, 5>(tile, from, to),
            6 => pages_of::<S, 6>(tile, from, to),
            7 => pages_of::<S, 7>(tile, from, to),
            _ => pages_of::<S, 8>(tile, from, to),
        }
    }
}

#[inline(always)]
unsafe fn pages_of<S: Simd, const R: usize>(tile: &Tile, from: usize, to: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.shape.kv_type {
            KvType::F16 => pages_in_halves::<S, R>(tile, from, to),
            KvType::Q8_0 => packed_pages::<S, Bytes, R>(tile, from, to),
            KvType::Q4_0 => packed_pages::<S, Nibbles, R>(tile, from, to),
        }
    }
}

/// Pages `from..to` with keys and values in 8 or 4 bits.
#[inline(always)]
unsafe fn packed_pages<S: Simd, P: Packed, const R: usize>(tile: &Tile, from: usize, to: usize) {
    let mut scores = [[0.0f32; PAGE]; R];
    // SAFETY: the page is there as a whole, so the vector of 16 positions around the last visible one is.
    unsafe {
        let queries = RoundedQueries::of::<S, R>(tile);
        for number in from..to {
            let (first, page) = (number * PAGE, tile.page(number));
            let count = tile.rows[R - 1].visible.1.min(first + PAGE) - first;
            let mut ahead = Ahead::of::<R>(tile, page);
            for at in (0..count).step_by(LANES) {
                let keys = page.area.add(at / LANES * tile.shape.key_lanes());
                let dots = packed::dots::<S, P, R>(tile, &queries, keys, &mut ahead);
                for r in 0..R {
                    S::store_f32(scores[r].as_mut_ptr().add(at), dots[r]);
                }
            }
            for r in 0..R {
                ahead.step::<S>();
                weigh::<S>(tile, &tile.rows[r], &mut scores[r], first);
            }
            packed::add_values::<S, P, R>(tile, &scores, page, count, &mut ahead);
        }
    }
}

/// Pages `from..to` with keys and values in halves.
#[inline(always)]
unsafe fn pages_in_halves<S: Simd, const R: usize>(tile: &Tile, from: usize, to: usize) {
    let mut scores = [[0.0f32; PAGE]; R];
    // SAFETY: as above.
    unsafe {
        for number in from..to {
            let (first, page) = (number * PAGE, tile.page(number));
            let count = tile.rows[R - 1].visible.1.min(first + PAGE) - first;
            for at in (0..count).step_by(LANES) {
                let keys = at / LANES * tile.shape.key_lanes();
                let dots = half_dots::<S, R>(tile, page.area.add(keys), page.next.wrapping_add(keys));
                for r in 0..R {
                    let scaled = S::mul(dots[r], S::splat_f32(tile.scale));
                    S::store_f32(scores[r].as_mut_ptr().add(at), scaled);
                }
            }
            for r in 0..R {
                weigh::<S>(tile, &tile.rows[r], &mut scores[r], first);
            }
            add_halves::<S, R>(tile, &scores, page, tile.rows[0].visible.0.max(first) - first..count);
        }
    }
}

/// Scores of 16 positions for each row, keys in halves.
#[inline(always)]
unsafe fn half_dots<S: Simd, const R: usize>(tile: &Tile, keys: *const u8, next: *const u8) -> [S::F; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [S::splat_f32(0.0); R];
        for d in 0..tile.shape.head_dim {
            S::prefetch_far(next.wrapping_add(d * LANES * 2));
            let key = S::load_f16(keys.add(d * LANES * 2));
            for r in 0..R {
                dots[r] = S::fma(key, S::splat_f32(*tile.rows[r].query.add(d)), dots[r]);
            }
        }
        dots
    }
}

/// Turns a row's scores of one page into weights relative to the largest score so far, and scales what was summed
/// before to it. Positions that the row does not see weigh nothing.
#[inline(always)]
unsafe fn weigh<S: Simd>(tile: &Tile, row: &RowPointers, scores: &mut [f32; PAGE], first: usize) {
    let seen = row.visible.0.max(first) - first..row.visible.1.clamp(first, first + PAGE) - first;
    if seen.is_empty() {
        scores.fill(0.0);
        return;
    }
    if tile.softcap > 0.0 {
        softcap(&mut scores[seen.clone()], tile.softcap);
    }
    let whole = seen == (0..PAGE);
    if !whole {
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
    }
    let padded = tile.shape.padded();
    // SAFETY: a row has `padded` sums, 16 of weights, and a largest score.
    unsafe {
        let at = scores.as_mut_ptr();
        let mut largest = S::load_f32(at);
        for lanes in 1..PAGE / LANES {
            largest = S::max(largest, S::load_f32(at.add(lanes * LANES)));
        }
        let before = *row.sums.add(padded + LANES);
        let mut now = before;
        // Rarely, once many positions were seen.
        if S::any_above(largest, S::splat_f32(before)) {
            now = S::max_lane(largest);
            *row.sums.add(padded + LANES) = now;
            let factor = S::splat_f32((before - now).exp());
            for lanes in (0..padded + LANES).step_by(LANES) {
                let sums = row.sums.add(lanes);
                S::store_f32(sums, S::mul(S::load_f32(sums), factor));
            }
        }
        for lanes in 0..PAGE / LANES {
            let weight = exp::<S>(S::sub(S::load_f32(at.add(lanes * LANES)), S::splat_f32(now)));
            S::store_f32(at.add(lanes * LANES), weight);
        }
        if !whole {
            scores[..seen.start].fill(0.0);
            scores[seen.end..].fill(0.0);
        }
        let sums = row.sums.add(padded);
        let mut weights = S::load_f32(sums);
        for lanes in 0..PAGE / LANES {
            weights = S::add(weights, S::load_f32(scores.as_ptr().add(lanes * LANES)));
        }
        S::store_f32(sums, weights);
    }
}

/// Adds the weighed values, halves, of a page's positions in `range` to each row's sums.
#[inline(always)]
unsafe fn add_halves<S: Simd, const R: usize>(
    tile: &Tile,
    weights: &[[f32; PAGE]; R],
    page: PagePointers,
    range: Range<usize>,
) {
    let (row_bytes, key_bytes) = (tile.shape.padded() * 2, tile.shape.key_bytes());
    // SAFETY: the caller's promise; prefetches may point anywhere.
    unsafe {
        for lanes in (0..tile.shape.padded()).step_by(LANES) {
            let mut sums = [S::splat_f32(0.0); R];
            for r in 0..R {
                sums[r] = S::load_f32(tile.rows[r].sums.add(lanes));
            }
            for at in range.clone() {
                let offset = key_bytes + at * row_bytes + 2 * lanes;
                S::prefetch_far(page.next.wrapping_add(offset));
                let value = S::load_f16(page.area.add(offset));
                for r in 0..R {
                    sums[r] = S::fma(value, S::splat_f32(weights[r][at]), sums[r]);
                }
            }
            for r in 0..R {
                S::store_f32(tile.rows[r].sums.add(lanes), sums[r]);
            }
        }
    }
}
