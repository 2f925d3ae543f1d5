//! Attention over a key-value cache, without ever writing a matrix of scores (online softmax: Milakov and
//! Gimelshein, 2018; FlashAttention: Dao et al., 2022).
//!
//! Keys lie with 16 positions side by side, one a lane, so that scores of 16 positions come out as a vector;
//! values lie so that 16 of a position's are a vector (see [`cache`]). All query heads that share a key-value head are
//! computed together. The cache comes in pages, wherever they lie. It is cut into spans at fixed positions and each row's
//! sums are built span by span, page by page, in the same order, so that the result depends neither on the number of
//! threads nor on how many tokens are computed together.

mod cache;
mod packed;
mod tile;

pub use cache::{KvType, PAGE, Shape, store_key, store_value};

use std::ops::{Deref, Range};

use tile::{MOST_ROWS, RowPointers, SPAN_PAGES, Tile, pages_of_tile};

use crate::cpu::{self, Tier};
use crate::matmul::dispatch::MOST_FEW;
use crate::simd::LANES;
use crate::team::{Shareable, Team};

/// Positions that one worker takes when few tokens are computed, whole pages: long enough to be worth a chunk.
const SPAN: usize = 512;

/// At most so many query rows (tokens times heads) share one reading of the cache.
const ROWS: usize = 64;

/// What attends to what.
#[derive(Debug)]
pub struct Attention<'a, P> {
    /// The area of a key-value head in a page.
    pub shape: Shape,
    /// Of [`PAGE`] positions each, in order; at least up to the last token's.
    pub pages: &'a [P],
    /// Where the layer begins in each page, in bytes: `[kv_head]` areas of [`Shape::bytes`].
    pub layer: usize,
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

/// Sums of a query row over some positions: of weighed values, padded to whole vectors; 16 partial sums of the weights;
/// the largest score, to which the weights are relative.
fn row_len(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES) + LANES + 1
}

/// Buffers of [`attend`], allocated once.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// `[unit][row][row_len]`: see [`row_len`].
    partials: Vec<f32>,
}

impl AttentionScratch {
    /// Room for attention of `heads` heads of `head_dim` over up to `capacity` positions.
    pub fn new(heads: usize, head_dim: usize, capacity: usize) -> AttentionScratch {
        let row = row_len(head_dim);
        AttentionScratch { partials: vec![0.0; FEW * heads * row * capacity.div_ceil(SPAN)] }
    }
}

/// Up to so many tokens, spans of the cache are computed by different workers; with more there are tokens enough
/// to share out.
const FEW: usize = MOST_FEW;

/// Writes the attention of all tokens and heads to `out`, `[token][head][head_dim]`.
///
/// # Panics
/// If a length does not fit the shape, or positions lie outside of the pages.
pub fn attend<P: Deref<Target: AsRef<[u8]>> + Sync>(
    team: &Team,
    attention: &Attention<'_, P>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let Attention { shape, pages, layer, queries, heads, kv_heads, first_position, .. } = *attention;
    let token_values = heads * shape.head_dim;
    assert!(heads.is_multiple_of(kv_heads) && shape.kv_type.fits(shape.head_dim), "shape of the heads");
    assert!(queries.len() == out.len() && queries.len().is_multiple_of(token_values), "queries and outputs");
    let tokens = queries.len() / token_values;
    let end = first_position.checked_add(tokens);
    assert!(end.is_some_and(|end| end.div_ceil(PAGE) <= pages.len()), "positions outside of the cache");
    let areas = kv_heads.checked_mul(shape.bytes()).and_then(|bytes| bytes.checked_add(layer));
    let fits = |page: &P| areas.is_some_and(|end| end <= page.deref().as_ref().len());
    assert!(pages.iter().all(fits), "bytes of a page");
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
    let row_len = row_len(shape.head_dim);
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
struct Rows<'a, P> {
    attention: &'a Attention<'a, P>,
    kv_head: usize,
    group: usize,
    tokens: Range<usize>,
}

impl<P: Deref<Target: AsRef<[u8]>>> Rows<'_, P> {
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
        let row_len = row_len(self.attention.shape.head_dim);
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

    /// The sums of one span, `[row][row_len]`.
    fn span(&self, span: usize, partial: &mut [f32]) {
        let Attention { shape, pages, layer, queries, scale, softcap, .. } = *self.attention;
        let row_len = row_len(shape.head_dim);
        for row in partial.chunks_exact_mut(row_len) {
            row.fill(0.0);
            row[row_len - 1] = f32::NEG_INFINITY;
        }
        let (first_page, area) = (span * SPAN_PAGES, layer + self.kv_head * shape.bytes());
        // Where no page follows, the last again: asking in advance for what is not mapped would be slow.
        let areas = std::array::from_fn(|at| {
            let page = &pages[(first_page + at).min(pages.len() - 1)];
            page.deref().as_ref()[area..][..shape.bytes()].as_ptr()
        });
        let most = if cpu::tier() == Tier::Avx512 { MOST_ROWS } else { MOST_ROWS / 2 };
        // Tiles of like size: one row alone would read the cache for itself.
        let most = self.count().div_ceil(self.count().div_ceil(most));
        let mut row = 0;
        while row < self.count() {
            let count = most.min(self.count() - row);
            let mut tile = Tile {
                shape,
                pages: areas,
                first_page,
                rows: [RowPointers::default(); MOST_ROWS],
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
            let from = first_page.max(seen.start / PAGE);
            let to = (first_page + SPAN_PAGES).min(seen.end.div_ceil(PAGE));
            // SAFETY: rows point at `head_dim` queries and `row_len` sums each; `attend` saw that all visible positions
            // lie within the pages, of which each area was found to be whole just now.
            unsafe { pages_of_tile(&tile, from, to) };
            row += count;
        }
    }

    /// Divides by the sum of weights and writes the rows out.
    fn finish(&self, total: &[f32], out: Shareable<f32>) {
        let head_dim = self.attention.shape.head_dim;
        for (row, sums) in total.chunks_exact(row_len(head_dim)).enumerate() {
            let weights: f32 = sums[sums.len() - 1 - LANES..sums.len() - 1].iter().sum();
            let inverse = 1.0 / weights;
            // SAFETY: a row's place lies within `out`, as within the queries, and no other chunk has this row.
            let out = unsafe { std::slice::from_raw_parts_mut(out.pointer().add(self.place(row)), head_dim) };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * inverse);
        }
    }
}

/// Adds the sums of a later span to those of the earlier ones.
fn merge(total: &mut [f32], later: &[f32], row_len: usize) {
    for (total, later) in total.chunks_exact_mut(row_len).zip(later.chunks_exact(row_len)) {
        let largest = row_len - 1;
        if later[largest] == f32::NEG_INFINITY {
            continue;
        }
        let both = total[largest].max(later[largest]);
        let (old, new) = ((total[largest] - both).exp(), (later[largest] - both).exp());
        for (total, later) in total[..largest].iter_mut().zip(&later[..largest]) {
            *total = *total * old + later * new;
        }
        total[largest] = both;
    }
}
