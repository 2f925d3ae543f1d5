//! Matrix products of activations with weights, for every format and any number of tokens.
//!
//! One token or a few go through [`gemv`], more through panels and [`tile`]s. A row's sum is always built in the same
//! order, block by block, so a result depends neither on the number of threads nor on how many tokens are computed
//! together.

pub(crate) mod dispatch;
mod gemv;
mod input;
mod scratch;
mod tile;
#[cfg(target_arch = "aarch64")]
mod tile_i8mm;

pub use input::{Input, Keep};

use std::ops::RangeInclusive;

use crate::cpu;
use crate::formats::Format;
use crate::simd::{LANES, Simd, per_tier};
use crate::team::{Shareable, Team};
use dispatch::{FLOAT_TOKENS, Kernels, Many, Panels};
use gemv::Gemv;
use input::BLOCK;
pub(crate) use scratch::with_floats;
use scratch::with_scratch;
use tile::{FloatTile, Panel, Tile};

/// A weight matrix: `rows` rows of `columns` values, interleaved by [`Format::interleave`].
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// What the bytes mean.
    pub format: &'static Format,
    /// Outputs of the product.
    pub rows: usize,
    /// Inputs of the product.
    pub columns: usize,
    /// [`Format::interleaved_bytes`] bytes.
    pub data: &'a [u8],
}

/// One product of a phase: `out[token][row] = sum over columns of matrix[row][column] * input[token][column]`.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub matrix: Matrix<'a>,
    /// The activations, of as many columns as the weights.
    pub input: &'a Input,
    /// `[token][stride]`, of which the first `rows` of each row are written.
    pub out: &'a mut [f32],
    /// Distance of two tokens in `out`, at least the matrix' rows.
    pub stride: usize,
}

/// Chunks of a product of few tokens for each thread: so many that a thread that is held up leaves the others enough to
/// do, so few that claiming them, which empties the pipeline and stops the stream of memory, stays rare.
const CHUNKS_PER_THREAD: usize = 4;

/// Bytes of weights that make a chunk of a product of few tokens worth claiming, and those with which claiming costs
/// nothing any more.
const CHUNK_BYTES: RangeInclusive<usize> = 24 << 10..=256 << 10;

/// How one product's rows are cut into chunks.
struct Plan {
    kernels: Kernels,
    /// Few tokens, padded, multiplied without a panel.
    few: Option<usize>,
    groups: usize,
    groups_per_chunk: usize,
    chunks: usize,
}

impl Plan {
    /// `chunk_bytes` is what a chunk of few tokens should have.
    fn of(product: &Product<'_>, chunk_bytes: usize) -> Plan {
        let matrix = &product.matrix;
        let kernels = (matrix.format.kernels)(cpu::tier());
        let tokens = product.input.tokens();
        let groups = if tokens == 0 { 0 } else { matrix.rows.div_ceil(LANES) };
        let few = match kernels.many {
            Many::Panels(_) => dispatch::few(cpu::tier(), tokens),
            Many::Floats { .. } => (tokens == 1).then_some(1),
        };
        let groups_per_chunk = match kernels.many {
            _ if few.is_some() => {
                (chunk_bytes / (LANES * matrix.format.row_bytes(matrix.columns)).max(1)).max(1)
            }
            Many::Panels(_) => dispatch::tile_groups(cpu::tier()),
            Many::Floats { .. } => 1,
        };
        Plan { kernels, few, groups, groups_per_chunk, chunks: groups.div_ceil(groups_per_chunk) }
    }
}

/// Computes all `products` in one parallel phase.
///
/// # Panics
/// If a shape does not fit: lengths of `data` and `out`, columns of matrix and input, or an input set without the
/// form that the format reads.
pub fn multiply(team: &Team, products: &mut [Product<'_>]) {
    products.iter().for_each(check);
    let bytes: usize = products.iter().map(|product| product.matrix.data.len()).sum();
    let chunk_bytes =
        (bytes / (team.threads() * CHUNKS_PER_THREAD)).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
    let chunks = products.iter().map(|product| Plan::of(product, chunk_bytes).chunks).sum();
    let (count, first) = (products.len(), Shareable(products.as_mut_ptr()));
    team.run(chunks, &|chunk| {
        let mut chunk = chunk;
        for index in 0..count {
            // SAFETY: `index < count`; the reference is shared, and `out` below is written through its pointer only,
            // rows of this chunk only.
            let product = unsafe { &*first.pointer().add(index) };
            let plan = Plan::of(product, chunk_bytes);
            if chunk < plan.chunks {
                return run_chunk(product, &plan, chunk);
            }
            chunk -= plan.chunks;
        }
    });
}

fn check(product: &Product<'_>) {
    let Product { matrix, input, out, stride } = product;
    let Matrix { format, rows, columns, data } = matrix;
    assert!(columns.is_multiple_of(format.values), "{columns} columns of {format:?}, not whole blocks");
    assert_eq!(
        data.len(),
        format.interleaved_bytes(*rows, *columns),
        "bytes of {rows} x {columns} {format:?}"
    );
    assert_eq!(input.columns(), *columns, "columns of the input");
    assert!(input.serves(format.is_float()), "the input was not kept in the form that {format:?} reads");
    assert!(stride >= rows, "stride {stride} of {rows} rows");
    let needed = input.tokens().saturating_mul(*stride).saturating_sub(stride - rows);
    assert!(out.len() >= needed, "{} outputs, {needed} needed", out.len());
}

fn run_chunk(product: &Product<'_>, plan: &Plan, chunk: usize) {
    let first = chunk * plan.groups_per_chunk;
    let groups = plan.groups_per_chunk.min(plan.groups - first);
    match (plan.few, plan.kernels.many) {
        (Some(padded), _) => few_tokens(product, &plan.kernels, padded, first, groups),
        (None, Many::Panels(panels)) => many_tokens(product, &panels, first, groups),
        (None, Many::Floats { tile }) => many_tokens_float(product, tile, first),
    }
}

/// Copies what a group of rows computed for a token to its place, which may be short of 16 rows at the end.
fn put(product: &Product<'_>, group: usize, token: usize, lanes: &[f32]) {
    let row = group * LANES;
    let rows = LANES.min(product.matrix.rows - row);
    // SAFETY: `check` saw that token * stride + rows lies within `out`; no other chunk writes these rows, and the
    // owner's borrow of `out` is not used while the phase runs.
    unsafe {
        let to = start(product).add(token * product.stride + row);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, rows);
    }
}

/// Where a product's outputs start. The reference is read as the pointer it is: going through a shared reborrow would
/// leave no right to write.
fn start(product: &Product<'_>) -> *mut f32 {
    // SAFETY: a reference to a slice is a valid pointer to one.
    unsafe { (&raw const product.out).cast::<*mut [f32]>().read().cast() }
}

/// `padded` tokens are computed, as many as the input has are kept.
fn few_tokens(product: &Product<'_>, kernels: &Kernels, padded: usize, first: usize, groups: usize) {
    let Matrix { format, rows, columns, data } = product.matrix;
    let input = product.input;
    let (halves, bias) = match kernels.many {
        Many::Panels(panels) => (panels.halves, panels.bias),
        Many::Floats { .. } => (false, None),
    };
    let sums = input.sums(halves);
    let group_bytes = LANES * format.row_bytes(columns);
    let compute = |first: usize, groups: usize, start: *const i32, out: *mut f32, token_stride: usize| {
        let args = Gemv {
            weights: data[first * group_bytes..].as_ptr(),
            group_bytes,
            block_bytes: LANES * format.bytes,
            blocks: columns / format.values,
            q: input.q.as_ptr(),
            scale: input.scale.as_ptr(),
            start,
            float_sums: sums.floats.as_ptr(),
            floats: input.floats.as_ptr(),
            out,
            token_stride,
            groups,
            tokens: input.tokens(),
        };
        // SAFETY: `check` saw that data, input and outputs fit the shape; the kernels are those of the detected tier.
        unsafe { (kernels.gemv)(&args, padded) };
    };
    // Of a block more, which products look ahead to.
    let steps = (columns.div_ceil(BLOCK) + 1) * if halves { 2 } else { 1 };
    let sums_at = 0..if bias.is_some() { steps * padded } else { 0 };
    with_scratch(sums_at.len() * size_of::<i32>(), |scratch| {
        let starts = scratch.cast::<i32>();
        if let Some(shift) = bias {
            // SAFETY: the scratch has room for so many, is aligned, and any bits are an integer.
            unsafe {
                let starts = std::slice::from_raw_parts_mut(starts, sums_at.len());
                unbias(starts, &sums.ints[sums_at], shift);
            }
        }
        // Groups that have all their rows are written to their places, which no other chunk writes.
        let whole = groups.min((rows / LANES).saturating_sub(first));
        if whole > 0 {
            // SAFETY: a chunk's first row lies within the first token's outputs.
            compute(first, whole, starts, unsafe { start(product).add(first * LANES) }, product.stride);
        }
        if whole < groups {
            let mut lanes = [0.0; dispatch::MOST_FEW * LANES];
            compute(first + whole, 1, starts, lanes.as_mut_ptr(), LANES);
            for (token, lanes) in lanes.chunks_exact(LANES).take(input.tokens()).enumerate() {
                put(product, first + whole, token, lanes);
            }
        }
    });
}

per_tier! {
    /// [`shifted`] on this process' tier.
    ///
    /// # Safety
    /// None but the tier's, which was found on this processor.
    fn unbias(starts: &mut [i32], sums: &[i32], shift: u32) = shifted
}

/// Makes of sums of activations what integer sums start with, to undo that 2^`shift` was added to all weights.
///
/// # Safety
/// The caller is compiled for the tier of `S`.
#[inline(always)]
unsafe fn shifted<S: Simd>(starts: &mut [i32], sums: &[i32], shift: u32) {
    for at in 0..starts.len().min(sums.len()) {
        starts[at] = sums[at] << shift;
    }
}

fn many_tokens(product: &Product<'_>, panels: &Panels, first: usize, groups: usize) {
    let Matrix { format, rows, columns, data } = product.matrix;
    let (input, tokens) = (product.input, product.input.tokens());
    let sums = input.sums(panels.halves);
    let group_bytes = LANES * format.row_bytes(columns);
    let blocks = columns / BLOCK;
    let halves = if panels.halves { 2 } else { 1 };
    let (tile_tokens, tile_groups) = (dispatch::tile_tokens(cpu::tier()), dispatch::tile_groups(cpu::tier()));
    let panel_stride = Panel::size(blocks);
    // A tile always multiplies its full number of groups; what is left over of the last one is old numbers whose
    // products nobody reads. A tile that has all its rows writes them to their places.
    let whole = groups == tile_groups && (first + groups) * LANES <= rows;
    let starts = (blocks * halves * tile_tokens).next_multiple_of(LANES);
    let out = if whole { 0 } else { tile_groups * tile_tokens * LANES };
    with_scratch(tile_groups * panel_stride + (starts + out) * size_of::<f32>(), |scratch| {
        // SAFETY: the parts lie one after another within the scratch, which is aligned to 64 as are their sizes;
        // `check` saw that data, input and outputs fit the shape; no other chunk writes these rows; the kernels are
        // those of the detected tier.
        unsafe {
            let first_start = scratch.add(tile_groups * panel_stride).cast::<i32>();
            let lanes = first_start.add(starts).cast::<f32>();
            let starts = std::slice::from_raw_parts_mut(first_start, starts);
            starts.fill(0);
            for group in 0..groups {
                let weights = data[(first + group) * group_bytes..].as_ptr();
                let panel = Panel::at(scratch.add(group * panel_stride), blocks);
                (panels.unpack)(weights, columns / format.values, LANES * format.bytes, panel);
            }
            for from in (0..tokens).step_by(tile_tokens) {
                let in_tile = tile_tokens.min(tokens - from);
                let at = from * blocks;
                let (out, group_stride, token_stride) = if whole {
                    (start(product).add(from * product.stride + first * LANES), LANES, product.stride)
                } else {
                    (lanes, in_tile * LANES, LANES)
                };
                let sums_at = at * halves..(at + in_tile * blocks) * halves;
                if let Some(shift) = panels.bias {
                    unbias(starts, &sums.ints[sums_at.clone()], shift);
                }
                let args = Tile {
                    panel: Panel::at(scratch, blocks),
                    panel_stride,
                    blocks,
                    q: input.q[at * BLOCK..].as_ptr(),
                    scale: input.scale[at..].as_ptr(),
                    start: starts.as_ptr(),
                    float_sums: sums.floats[sums_at].as_ptr(),
                    out,
                    group_stride,
                    token_stride,
                };
                (panels.tile)(&args, in_tile);
                if whole {
                    continue;
                }
                for group in 0..groups {
                    for token in 0..in_tile {
                        let from_lanes = lanes.add((group * in_tile + token) * LANES);
                        let lanes = std::slice::from_raw_parts(from_lanes, LANES);
                        put(product, first + group, from + token, lanes);
                    }
                }
            }
        }
    });
}

fn many_tokens_float(product: &Product<'_>, tile: unsafe fn(&FloatTile, usize), group: usize) {
    let Matrix { format, columns, data, .. } = product.matrix;
    let tokens = product.input.tokens();
    let weights = data[group * LANES * format.row_bytes(columns)..].as_ptr();
    for from in (0..tokens).step_by(FLOAT_TOKENS) {
        let in_tile = FLOAT_TOKENS.min(tokens - from);
        let mut lanes = [0.0; FLOAT_TOKENS * LANES];
        let floats = product.input.floats[from * columns..].as_ptr();
        // SAFETY: `check` saw that data and input fit the shape; the kernels are those of the detected tier.
        unsafe { tile(&FloatTile { weights, columns, floats, out: lanes.as_mut_ptr() }, in_tile) };
        for (token, lanes) in lanes.chunks_exact(LANES).take(in_tile).enumerate() {
            put(product, group, from + token, lanes);
        }
    }
}
