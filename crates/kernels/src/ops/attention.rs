//! Attention over a key-value cache, without ever writing a matrix of scores (online softmax: Milakov and
//! Gimelshein, 2018; FlashAttention: Dao et al., 2022).
//!
//! Keys lie with 16 positions side by side, one a lane, so that scores of 16 positions come out as a vector;
//! values lie position by position. All query heads that share a key-value head are computed together. The cache
//! is cut into spans at fixed positions and each row's sums are built span by span, block by block, in the same
//! order, so that the result depends neither on the number of threads nor on how many tokens are computed together.

use std::ops::Range;

use crate::cpu::{self, Tier};
use crate::half::f32_to_f16;
use crate::simd::{LANES, Simd, exp, per_tier};
use crate::team::{Shareable, Team};

/// Positions whose scores are held at once.
const BLOCK: usize = 64;

/// Positions that one worker takes when few tokens are computed: long enough to be worth a chunk.
const SPAN: usize = 512;

/// Values that share a scale in the 8-bit cache.
const GROUP: usize = 32;

/// Bytes of a Q8_0 block.
const GROUP_BYTES: usize = GROUP + 2;

/// At most so many query rows (tokens times heads) share one reading of the cache.
const ROWS: usize = 64;

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
    fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Bytes of the values of one position.
    fn value_row(&self) -> usize {
        match self.kv_type {
            KvType::F16 => self.padded() * 2,
            KvType::Q8_0 => self.head_dim / GROUP * GROUP_BYTES,
        }
    }

    /// Bytes of the keys of 16 positions.
    fn key_lanes(&self) -> usize {
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

/// The nearest multiples of a 127th of the largest magnitude, and that 127th as a half.
fn round_group(values: &[f32], q: &mut [i8; GROUP]) -> u16 {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    for (q, value) in q.iter_mut().zip(values) {
        *q = (value * inverse).round_ties_even() as i8;
    }
    f32_to_f16(d)
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
                let d = round_group(group, &mut q);
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
                let d = round_group(group, &mut q);
                bytes[..2].copy_from_slice(&d.to_le_bytes());
                bytes[2..].copy_from_slice(&q.map(|q| q as u8));
            }
        }
    }
}

/// What attends to what.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// The cache of one key-value head.
    pub shape: Shape,
    /// `[kv_head][key_bytes]`
    pub keys: &'a [u8],
    /// `[kv_head][value_bytes]`
    pub values: &'a [u8],
    /// `[token][head][head_dim]`; heads `h * heads / kv_heads ..` share key-value head `h`.
    pub queries: &'a [f32],
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Position of the first token; token t attends to all positions up to its own, `first_position + t`.
    pub first_position: usize,
    /// At most so many of the latest positions, if the window slides.
    pub window: Option<usize>,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// Buffers of [`attend`], allocated once.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// `[unit][row][padded + 2]`: the sums of a span, then its largest score and its sum of weights.
    partials: Vec<f32>,
}

impl AttentionScratch {
    /// Room for attention of `heads` heads of `head_dim` over up to `capacity` positions.
    pub fn new(heads: usize, head_dim: usize, capacity: usize) -> AttentionScratch {
        let row = head_dim.next_multiple_of(LANES) + 2;
        AttentionScratch { partials: vec![0.0; FEW * heads * row * capacity.div_ceil(SPAN)] }
    }
}

/// Up to so many tokens, spans of the cache are computed by different workers; with more there are tokens enough
/// to share out.
const FEW: usize = 8;

/// Writes the attention of all tokens and heads to `out`, `[token][head][head_dim]`.
///
/// # Panics
/// If a length does not fit the shape, or positions lie outside of the cache.
pub fn attend(team: &Team, attention: &Attention<'_>, scratch: &mut AttentionScratch, out: &mut [f32]) {
    let Attention { shape, keys, values, queries, heads, kv_heads, first_position, .. } = *attention;
    let token_values = heads * shape.head_dim;
    assert!(heads.is_multiple_of(kv_heads) && shape.kv_type.fits(shape.head_dim), "shape of the heads");
    assert!(queries.len() == out.len() && queries.len().is_multiple_of(token_values), "queries and outputs");
    assert!(keys.len() == kv_heads * shape.key_bytes(), "bytes of the keys");
    assert!(values.len() == kv_heads * shape.value_bytes(), "bytes of the values");
    let tokens = queries.len() / token_values;
    let end = first_position.checked_add(tokens);
    assert!(end.is_some_and(|end| end <= shape.capacity), "positions outside of the cache");
    let group = heads / kv_heads;
    let target = Shareable(out.as_mut_ptr());
    if tokens > FEW {
        let tile = (ROWS / group).clamp(1, tokens);
        team.run(tokens.div_ceil(tile) * kv_heads, &|chunk| {
            // The last tokens see most of the cache: they start first.
            let (first, kv_head) = ((tokens.div_ceil(tile) - 1 - chunk / kv_heads) * tile, chunk % kv_heads);
            let rows = Rows { attention, kv_head, group, tokens: first..tokens.min(first + tile) };
            rows.whole(target);
        });
        return;
    }
    let row_len = shape.padded() + 2;
    let spans = (first_position + tokens).div_ceil(SPAN);
    let per_span = tokens * group * row_len;
    let needed = kv_heads * spans * per_span;
    if scratch.partials.len() < needed {
        scratch.partials.resize(needed, 0.0);
    }
    let rows = |kv_head| Rows { attention, kv_head, group, tokens: 0..tokens };
    team.for_rows(&mut scratch.partials[..needed], per_span, 1, &|unit, partial| {
        rows(unit / spans).span(unit % spans, partial);
    });
    for (kv_head, partials) in scratch.partials[..needed].chunks_exact_mut(spans * per_span).enumerate() {
        let (total, later) = partials.split_at_mut(per_span);
        for partial in later.chunks_exact(per_span) {
            merge(total, partial, row_len);
        }
        rows(kv_head).finish(total, target);
    }
}

/// The query rows of some tokens that share a key-value head, `[token][head of the group]`.
struct Rows<'a> {
    attention: &'a Attention<'a>,
    kv_head: usize,
    group: usize,
    tokens: Range<usize>,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.tokens.len() * self.group
    }

    /// Index of a row's first value in queries and outputs.
    fn place(&self, row: usize) -> usize {
        let Attention { shape, heads, .. } = *self.attention;
        let token = self.tokens.start + row / self.group;
        (token * heads + self.kv_head * self.group + row % self.group) * shape.head_dim
    }

    /// The positions that a row sees.
    fn visible(&self, row: usize) -> Range<usize> {
        let end = self.attention.first_position + self.tokens.start + row / self.group + 1;
        self.attention.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// All spans, one after another.
    fn whole(&self, out: Shareable<f32>) {
        let row_len = self.attention.shape.padded() + 2;
        let len = self.count() * row_len;
        crate::matmul::with_floats(2 * len, |buffer| {
            let (total, partial) = buffer.split_at_mut(len);
            let first = self.visible(0).start / SPAN;
            let spans = self.visible(self.count() - 1).end.div_ceil(SPAN);
            self.span(first, total);
            for span in first + 1..spans {
                self.span(span, partial);
                merge(total, partial, row_len);
            }
            self.finish(total, out);
        });
    }

    /// The sums of one span, `[row][padded + 2]`.
    fn span(&self, span: usize, partial: &mut [f32]) {
        let Attention { shape, keys, values, queries, scale, softcap, .. } = *self.attention;
        let row_len = shape.padded() + 2;
        for row in partial.chunks_exact_mut(row_len) {
            row.fill(0.0);
            row[row_len - 2] = f32::NEG_INFINITY;
        }
        let keys = &keys[self.kv_head * shape.key_bytes()..][..shape.key_bytes()];
        let values = &values[self.kv_head * shape.value_bytes()..][..shape.value_bytes()];
        let most = if cpu::tier() == Tier::Avx512 { 8 } else { 4 };
        let blocks = span * SPAN / BLOCK..(span + 1) * SPAN / BLOCK;
        let mut row = 0;
        while row < self.count() {
            let count = most.min(self.count() - row);
            let mut tile = Tile {
                shape,
                keys: keys.as_ptr(),
                values: values.as_ptr(),
                rows: [RowPointers::default(); 8],
                count,
                scale,
                softcap: softcap.unwrap_or(0.0),
            };
            for at in 0..count {
                tile.rows[at] = RowPointers {
                    query: queries[self.place(row + at)..].as_ptr(),
                    sums: partial[(row + at) * row_len..].as_mut_ptr(),
                    visible: (self.visible(row + at).start, self.visible(row + at).end),
                };
            }
            let seen = self.visible(row).start..self.visible(row + count - 1).end;
            let blocks = blocks.start.max(seen.start / BLOCK)..blocks.end.min(seen.end.div_ceil(BLOCK));
            // SAFETY: rows point at `head_dim` queries and `row_len` sums each; `attend` saw that the cache has the
            // bytes of its capacity and that all visible positions lie within it.
            unsafe { blocks_of_tile(&tile, blocks.start, blocks.end) };
            row += count;
        }
    }

    /// Divides by the sum of weights and writes the rows out.
    fn finish(&self, total: &[f32], out: Shareable<f32>) {
        let head_dim = self.attention.shape.head_dim;
        for (row, sums) in total.chunks_exact(self.attention.shape.padded() + 2).enumerate() {
            let inverse = 1.0 / sums[sums.len() - 1];
            // SAFETY: a row's place lies within `out`, as within the queries, and no other chunk has this row.
            let out = unsafe { std::slice::from_raw_parts_mut(out.pointer().add(self.place(row)), head_dim) };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * inverse);
        }
    }
}

/// Adds the sums of a later span to those of the earlier ones.
fn merge(total: &mut [f32], later: &[f32], row_len: usize) {
    for (total, later) in total.chunks_exact_mut(row_len).zip(later.chunks_exact(row_len)) {
        let (largest, weights) = (row_len - 2, row_len - 1);
        if later[largest] == f32::NEG_INFINITY {
            continue;
        }
        let both = total[largest].max(later[largest]);
        let (old, new) = ((total[largest] - both).exp(), (later[largest] - both).exp());
        for at in (0..largest).chain([weights]) {
            total[at] = total[at] * old + later[at] * new;
        }
        total[largest] = both;
    }
}

#[derive(Clone, Copy)]
struct RowPointers {
    query: *const f32,
    /// `[padded]` sums, the largest score, the sum of weights.
    sums: *mut f32,
    visible: (usize, usize),
}

impl Default for RowPointers {
    fn default() -> Self {
        RowPointers { query: std::ptr::null(), sums: std::ptr::null_mut(), visible: (0, 0) }
    }
}

/// Up to eight rows that read the cache together.
struct Tile {
    shape: Shape,
    keys: *const u8,
    values: *const u8,
    rows: [RowPointers; 8],
    count: usize,
    scale: f32,
    /// 0 for none.
    softcap: f32,
}

per_tier! {
    /// Adds blocks `from..to` of positions to the sums of a tile's rows.
    ///
    /// # Safety
    /// See [`Rows::span`].
    fn blocks_of_tile(tile: &Tile, from: usize, to: usize) = blocks
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
                let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let d = largest / 127.0;
                let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
                let mut sum = 0;
                for (at, value) in values.iter().enumerate() {
                    let q = (value * inverse).round_ties_even() as i8;
                    rounded.q[r][group * GROUP + at] = q;
                    sum += i32::from(q);
                }
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
        super::softcap(&mut scores[seen.clone()], tile.softcap);
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
