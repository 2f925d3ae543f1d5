//! Matrix products of activations with weights, for every format and any number of tokens.
//!
//! One token goes through [`gemv`], several through panels and [`tile`]s. A row's sum is always built in the same
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

use crate::cpu;
use crate::formats::Format;
use crate::simd::LANES;
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

/// Bytes of weights that make a chunk of a one-token product worth claiming.
const CHUNK_BYTES: usize = 48 * 1024;

/// How one product's rows are cut into chunks.
struct Plan {
    kernels: Kernels,
    groups: usize,
    groups_per_chunk: usize,
    chunks: usize,
}

impl Plan {
    fn of(product: &Product<'_>) -> Plan {
        let matrix = &product.matrix;
        let kernels = (matrix.format.kernels)(cpu::tier());
        let groups = if product.input.tokens() == 0 { 0 } else { matrix.rows.div_ceil(LANES) };
        let groups_per_chunk = match kernels.many {
            _ if product.input.tokens() == 1 => {
                (CHUNK_BYTES / (LANES * matrix.format.row_bytes(matrix.columns)).max(1)).max(1)
            }
            Many::Panels(_) => dispatch::tile_groups(cpu::tier()),
            Many::Floats { .. } => 1,
        };
        Plan { kernels, groups, groups_per_chunk, chunks: groups.div_ceil(groups_per_chunk) }
    }
}

/// Computes all `products` in one parallel phase.
///
/// # Panics
/// If a shape does not fit: lengths of `data` and `out`, columns of matrix and input, or an input set without the
/// form that the format reads.
pub fn multiply(team: &Team, products: &mut [Product<'_>]) {
    let mut chunks = 0;
    for product in products.iter() {
        check(product);
        chunks += Plan::of(product).chunks;
    }
    let (count, first) = (products.len(), Shareable(products.as_mut_ptr()));
    team.run(chunks, &|chunk| {
        let mut chunk = chunk;
        for index in 0..count {
            // SAFETY: `index < count`; the reference is shared, and `out` below is written through its pointer only,
            // rows of this chunk only.
            let product = unsafe { &*first.pointer().add(index) };
            let plan = Plan::of(product);
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
    match plan.kernels.many {
        _ if product.input.tokens() == 1 => one_token(product, &plan.kernels, first, groups),
        Many::Panels(panels) => many_tokens(product, &panels, first, groups),
        Many::Floats { tile } => many_tokens_float(product, tile, first),
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

fn one_token(product: &Product<'_>, kernels: &Kernels, first: usize, groups: usize) {
    let Matrix { format, columns, data, .. } = product.matrix;
    let group_bytes = LANES * format.row_bytes(columns);
    const BATCH: usize = 8;
    let mut done = 0;
    while done < groups {
        let batch = BATCH.min(groups - done);
        let mut lanes = [0.0; BATCH * LANES];
        let args = Gemv {
            weights: data[(first + done) * group_bytes..].as_ptr(),
            group_bytes,
            block_bytes: LANES * format.bytes,
            blocks: columns / format.values,
            q: product.input.q.as_ptr(),
            scale: product.input.scale.as_ptr(),
            sums: product.input.sums.as_ptr(),
            floats: product.input.floats.as_ptr(),
            out: lanes.as_mut_ptr(),
            groups: batch,
        };
        // SAFETY: `check` saw that data and input fit the shape; the kernels are those of the detected tier.
        unsafe { (kernels.gemv)(&args) };
        for (at, lanes) in lanes.chunks_exact(LANES).take(batch).enumerate() {
            put(product, first + done + at, 0, lanes);
        }
        done += batch;
    }
}

fn many_tokens(product: &Product<'_>, panels: &Panels, first: usize, groups: usize) {
    let Matrix { format, columns, data, .. } = product.matrix;
    let (input, tokens) = (product.input, product.input.tokens());
    let group_bytes = LANES * format.row_bytes(columns);
    let blocks = columns / BLOCK;
    let halves = if panels.halves { 2 } else { 1 };
    let (tile_tokens, tile_groups) = (dispatch::tile_tokens(cpu::tier()), dispatch::tile_groups(cpu::tier()));
    let panel_stride = Panel::size(blocks);
    let starts = blocks * halves * tile_tokens * size_of::<i32>();
    let out = tile_groups * tile_tokens * LANES * size_of::<f32>();
    with_scratch(tile_groups * panel_stride + 2 * starts.next_multiple_of(64) + out, |scratch| {
        // SAFETY: the parts lie one after another within the scratch, which is aligned to 64 as are their sizes;
        // `check` saw that data and input fit the shape; the kernels are those of the detected tier.
        unsafe {
            let start = scratch.add(tile_groups * panel_stride).cast::<i32>();
            let minus_sums = start.byte_add(starts.next_multiple_of(64)).cast::<f32>();
            let lanes = minus_sums.byte_add(starts.next_multiple_of(64));
            for group in 0..groups {
                let weights = data[(first + group) * group_bytes..].as_ptr();
                let panel = Panel::at(scratch.add(group * panel_stride), blocks);
                (panels.unpack)(weights, columns / format.values, LANES * format.bytes, panel);
            }
            // A tile always multiplies its full number of groups; what is left over of the last one is old numbers
            // whose products nobody reads.
            for from in (0..tokens).step_by(tile_tokens) {
                let in_tile = tile_tokens.min(tokens - from);
                let at = from * blocks;
                corrections(input, at, blocks, in_tile, panels, start, minus_sums);
                let args = Tile {
                    panel: Panel::at(scratch, blocks),
                    panel_stride,
                    blocks,
                    q: input.q[at * BLOCK..].as_ptr(),
                    scale: input.scale[at..].as_ptr(),
                    start,
                    minus_sums,
                    out: lanes,
                };
                (panels.tile)(&args, in_tile);
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

/// What undoes bias and minimums, for a tile: `[block][half][token]` from the sums of its activations.
///
/// # Safety
/// Both outputs have room for `blocks * halves * in_tile` values.
unsafe fn corrections(
    input: &Input,
    at: usize,
    blocks: usize,
    in_tile: usize,
    panels: &Panels,
    start: *mut i32,
    minus_sums: *mut f32,
) {
    let places = blocks * in_tile;
    let (sums, scale) = (&input.sums[at..at + places], &input.scale[at..at + places]);
    let values = if panels.halves { 2 * places } else { places };
    // SAFETY: the caller's promise.
    let start = unsafe { std::slice::from_raw_parts_mut(start, values) };
    let factor = panels.bias.map_or(0, |shift| -1 << shift);
    per_half(panels.halves, in_tile, sums, scale, start, |sum, _| sum * factor);
    if panels.mins {
        // SAFETY: the caller's promise.
        let minus_sums = unsafe { std::slice::from_raw_parts_mut(minus_sums, values) };
        per_half(panels.halves, in_tile, sums, scale, minus_sums, |sum, scale| -(scale * sum as f32));
    }
}

/// `f` of each sum of activations, or of each half of them, and their scale: `[block][half][token]`.
fn per_half<T>(
    halves: bool,
    in_tile: usize,
    sums: &[[i32; 2]],
    scale: &[f32],
    out: &mut [T],
    f: impl Fn(i32, f32) -> T,
) {
    if !halves {
        for ((out, sums), scale) in out.iter_mut().zip(sums).zip(scale) {
            *out = f(sums[0] + sums[1], *scale);
        }
        return;
    }
    let blocks = sums.chunks_exact(in_tile).zip(scale.chunks_exact(in_tile));
    for (out, (sums, scale)) in out.chunks_exact_mut(2 * in_tile).zip(blocks) {
        let (first, second) = out.split_at_mut(in_tile);
        // Plain indices: a tile has so few tokens that vectors of them do not pay.
        for token in 0..in_tile {
            first[token] = f(sums[token][0], scale[token]);
            second[token] = f(sums[token][1], scale[token]);
        }
    }
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
