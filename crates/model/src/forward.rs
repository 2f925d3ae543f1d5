//! The forward pass, one for all models: embed, layers, logits.
//!
//! The three steps are public because they are the seam where an accelerator fits: it takes the residual stream
//! ([`Workspace::stream_mut`]) for a range of layers and puts it back, and everything before and after stays as it is.
//! Within a layer there are five parallel phases: query, key and value products; attention; output product; gate
//! and up products; down product. What lies between is done by the calling thread for one token, by the team for many.
//!
//! A batch may hold pieces of several texts, each with a cache of its own: products read the weights once for all of
//! them. No result depends on the number of threads, on how tokens are cut into batches, or on who else is in a batch.

mod attention;
mod experts;
mod feed_forward;

use std::ops::Range;

use kernels::{Format, Input, Keep, Matrix, Product, Team, multiply, ops};

use crate::cache::KvCache;
use crate::config::Config;
use crate::error::Error;
use crate::model::Model;
use crate::plan::Stored;
use crate::stream::{Held, Loan, Streamer};
use crate::weights::Projection;
use crate::workspace::{Segment, Workspace};

/// Texts that one batch may hold pieces of.
pub const MOST_SEGMENTS: usize = 16;

/// Tokens that one thread takes at a time where work is split by tokens.
const TOKENS_PER_CHUNK: usize = 8;

/// The tokens of a batch whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the batch only fills the cache.
    None,
    /// The last token's.
    Last,
    /// All tokens'.
    All,
    /// Those from this index of the batch on.
    From(usize),
}

impl Logits {
    fn rows(&self, tokens: usize) -> Range<usize> {
        match *self {
            Logits::None => tokens..tokens,
            Logits::Last => tokens - 1..tokens,
            Logits::All => 0..tokens,
            Logits::From(first) => first.min(tokens)..tokens,
        }
    }
}

impl Model {
    /// Computes a batch of `tokens` that follow those in `cache`, adds them to it, and returns the logits of the
    /// tokens that `want` names, `[row][vocabulary]`, which are the caller's to change until the next batch.
    ///
    /// # Errors
    /// [`Error::BatchSize`], [`Error::TokenOutOfRange`], [`Error::ContextFull`], [`Error::Mismatch`], [`Error::Budget`],
    /// [`Error::OutOfMemory`] for the logits of many tokens or a page, and [`Error::File`] where a file was changed or cannot
    /// be read; the cache is then as it was.
    pub fn forward<'a>(
        &self,
        team: &Team,
        workspace: &'a mut Workspace,
        cache: &mut KvCache,
        tokens: &[u32],
        want: Logits,
    ) -> Result<&'a mut [f32], Error> {
        let caches = &mut [cache];
        self.embed(team, workspace, caches, &[tokens])?;
        let wanted = want.rows(tokens.len());
        workspace.reserve_logits(wanted.len())?;
        self.layers(team, workspace, caches, 0..self.config.layers.len(), wanted.start)?;
        caches[0].advance(tokens.len());
        self.logits(team, workspace, wanted)
    }

    /// Puts the embeddings of a batch into the residual stream, and works out their rotations: the tokens of `texts[i]`
    /// follow those in `caches[i]`. The texts' tokens stand one after another in the batch.
    ///
    /// # Errors
    /// [`Error::BatchSize`], [`Error::TokenOutOfRange`], [`Error::ContextFull`], [`Error::Mismatch`], [`Error::File`] if the
    /// model file is not the one that was opened any more, and what [`KvCache::reserve`] says where there is no room for
    /// the keys and values; the caches are then as they were.
    pub fn embed(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        caches: &mut [&mut KvCache],
        texts: &[&[u32]],
    ) -> Result<(), Error> {
        let config = &self.config;
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        if !workspace.fits(config) {
            return Err(Error::Mismatch { what: "workspace" });
        }
        if caches.len() != texts.len() || texts.len() > MOST_SEGMENTS {
            return Err(Error::Mismatch { what: "number of texts" });
        }
        if tokens == 0 || tokens > workspace.max_batch() {
            return Err(Error::BatchSize { got: tokens, most: workspace.max_batch() });
        }
        for (cache, text) in caches.iter().zip(texts) {
            self.check(cache, text)?;
        }
        // What a shorter file has lost must not be touched.
        self.file.check()?;
        for (cache, text) in caches.iter_mut().zip(texts) {
            cache.reserve(text.len())?;
        }
        workspace.tokens = 0;
        workspace.segments.clear();
        workspace.losses = self.begin_reading();
        for (cache, text) in caches.iter().zip(texts) {
            workspace.reserve_scratch(config, cache.capacity());
            self.embed_one(team, workspace, cache, text);
        }
        Ok(())
    }

    /// Appends one text's tokens to the batch.
    fn embed_one(&self, team: &Team, workspace: &mut Workspace, cache: &KvCache, tokens: &[u32]) {
        let config = &self.config;
        let first = workspace.tokens;
        workspace.tokens += tokens.len();
        workspace.segments.push(Segment { tokens: first..workspace.tokens, first_position: cache.len() });
        let (format, table) = (self.weights.embedding.format, self.embedding_table());
        let row_bytes = format.row_bytes(config.width);
        let stream = &mut workspace.stream[first * config.width..workspace.tokens * config.width];
        team.for_rows(stream, config.width, TOKENS_PER_CHUNK, &|first, rows| {
            for (row, &token) in rows.chunks_exact_mut(config.width).zip(&tokens[first..]) {
                let start = token as usize * row_bytes;
                format.dequantize_row(&table[start..start + row_bytes], row);
                if config.embedding_scale != 1.0 {
                    ops::scale(row, config.embedding_scale);
                }
            }
        });
        for (rotation, table) in self.weights.rotations.iter().zip(&mut workspace.rotations) {
            let table = &mut table[first * rotation.dimensions..workspace.tokens * rotation.dimensions];
            team.for_rows(table, rotation.dimensions, TOKENS_PER_CHUNK, &|first, rows| {
                rotation.fill(cache.capacity(), cache.len() + first, rows);
            });
        }
    }

    /// Checks one text of a batch.
    fn check(&self, cache: &KvCache, tokens: &[u32]) -> Result<(), Error> {
        let config = &self.config;
        if !cache.fits(config) {
            return Err(Error::Mismatch { what: "cache" });
        }
        let needed = cache.len() + tokens.len();
        if needed > cache.capacity() {
            return Err(Error::ContextFull { needed, capacity: cache.capacity() });
        }
        match tokens.iter().find(|&&token| token as usize >= config.vocabulary) {
            Some(&token) => Err(Error::TokenOutOfRange { token, vocabulary: config.vocabulary }),
            None => Ok(()),
        }
    }

    /// Runs the batch that [`Model::embed`] prepared through the layers in `range`, storing its keys and values at the
    /// positions after those that the caches count. The last layer of the model leaves tokens before `first_wanted`
    /// unfinished, since nobody looks at them again. After the last layer comes [`KvCache::advance`] for each cache;
    /// a batch that is given up before is as if it had never begun.
    ///
    /// # Errors
    /// [`Error::File`] where weights cannot be read, [`Error::OutOfMemory`] where they are streamed: the batch is to be given up.
    ///
    /// # Panics
    /// If `range` exceeds the model's layers, `first_wanted` the batch, or the caches are others than for `embed`.
    pub fn layers(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        caches: &mut [&mut KvCache],
        range: Range<usize>,
        first_wanted: usize,
    ) -> Result<(), Error> {
        assert_eq!(caches.len(), workspace.segments.len(), "a cache for each text of the batch");
        let streamer = self.streamer();
        let experts = streamer.as_deref().filter(|streamer| streamer.streams_experts());
        for index in range {
            if let Some(streamer) = &streamer {
                streamer.check()?;
            }
            let held = match &streamer {
                Some(streamer) if streamer.streams_layer(index) => Held::Lent(streamer.layer(index)?),
                _ => self.mapped(),
            };
            let weights = LayerWeights { index, held, experts };
            let last = index + 1 == self.config.layers.len();
            let rows = if last { first_wanted..workspace.tokens } else { 0..workspace.tokens };
            self.attention(team, workspace, caches, &weights, rows.clone());
            if !rows.is_empty() {
                self.feed_forward(team, workspace, &weights, rows)?;
            }
        }
        self.check_read(workspace.losses)
    }

    /// The residual stream of the batch's tokens in `rows` after the output norm, `[row][width]`, once all layers have run
    /// with `first_wanted` at most at their start: what embeddings of texts are made from.
    ///
    /// # Panics
    /// If `rows` exceeds the batch.
    pub fn hidden<'a>(&self, team: &Team, workspace: &'a mut Workspace, rows: Range<usize>) -> &'a [f32] {
        let width = self.config.width;
        let Workspace { stream, branch, .. } = workspace;
        let hidden = &mut branch[..rows.len() * width];
        let stream = &stream[rows.start * width..rows.end * width];
        normalise(team, &self.config, stream, &self.weights.output_norm, hidden);
        hidden
    }

    /// The logits of the batch's tokens in `rows`, `[row][vocabulary]`, once all layers have run.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for so many rows, [`Error::File`] if the weights cannot be read any more.
    ///
    /// # Panics
    /// If `rows` exceeds the batch.
    pub fn logits<'a>(
        &self,
        team: &Team,
        workspace: &'a mut Workspace,
        rows: Range<usize>,
    ) -> Result<&'a mut [f32], Error> {
        let config = &self.config;
        workspace.reserve_logits(rows.len())?;
        let Workspace { stream, input, logits, losses, .. } = workspace;
        let losses = *losses;
        let logits = &mut logits[..rows.len() * config.vocabulary];
        if rows.is_empty() {
            return Ok(logits);
        }
        let stream = &stream[rows.start * config.width..rows.end * config.width];
        let output = &self.weights.output;
        set_normalised(team, config, input, stream, &self.weights.output_norm, keep([&output.matrix]));
        multiply(team, &mut [product(self.matrix(&output.matrix), input, logits)]);
        self.check_read(losses)?;
        if let Some(bias) = &output.bias {
            add_to_rows(team, logits, bias);
        }
        if let Some(cap) = config.logit_softcap {
            team.for_rows(logits, config.vocabulary, 1, &|_, row| {
                ops::softcap(row, cap);
            });
        }
        Ok(logits)
    }
}

/// The weights of the layer at hand.
struct LayerWeights<'a> {
    /// Which layer it is.
    index: usize,
    held: Held<'a>,
    /// Who has the experts, if they are streamed.
    experts: Option<&'a Streamer>,
}

impl LayerWeights<'_> {
    /// A product with one of the layer's matrices.
    fn product<'a>(&'a self, matrix: &Stored, input: &'a Input, out: &'a mut [f32]) -> Product<'a> {
        product(self.held.matrix(matrix), input, out)
    }

    /// The same with a matrix of the expert that was lent, if it had to be.
    fn product_of<'a>(
        &'a self,
        lent: Option<&'a Loan>,
        matrix: &Stored,
        input: &'a Input,
        out: &'a mut [f32],
    ) -> Product<'a> {
        product(lent.map_or_else(|| self.held.matrix(matrix), |loan| loan.matrix(matrix)), input, out)
    }
}

/// A product whose output rows lie one after another.
fn product<'a>(matrix: Matrix<'a>, input: &'a Input, out: &'a mut [f32]) -> Product<'a> {
    Product { matrix, input, out, stride: matrix.rows }
}

/// The forms of the input that these products read.
fn keep<'a>(matrices: impl IntoIterator<Item = &'a Stored>) -> Keep {
    let (mut floats, mut ints) = (false, false);
    for format in matrices.into_iter().map(|matrix| matrix.format) {
        (floats, ints) = (floats || Format::is_float(format), ints || !Format::is_float(format));
    }
    match (ints, floats) {
        (true, true) => Keep::Both,
        (false, true) => Keep::Float,
        (_, false) => Keep::Int8,
    }
}

/// Makes the RMS norm of each row of `x` the input of the next products.
fn set_normalised(team: &Team, config: &Config, input: &mut Input, x: &[f32], weight: &[f32], keep: Keep) {
    let width = weight.len();
    input.set_with(team, x.len() / width, width, keep, &|token, row| {
        ops::rms_norm(&x[token * width..(token + 1) * width], weight, config.norm_epsilon, row);
    });
}

/// RMS norm of each row of `x`, which are `weight.len()` wide.
fn normalise(team: &Team, config: &Config, x: &[f32], weight: &[f32], out: &mut [f32]) {
    let width = weight.len();
    team.for_rows(out, width, TOKENS_PER_CHUNK, &|first, rows| {
        for (out, x) in rows.chunks_exact_mut(width).zip(x[first * width..].chunks_exact(width)) {
            ops::rms_norm(x, weight, config.norm_epsilon, out);
        }
    });
}

/// Adds `bias` to every row of `out`.
fn add_to_rows(team: &Team, out: &mut [f32], bias: &[f32]) {
    team.for_rows(out, bias.len(), TOKENS_PER_CHUNK, &|_, rows| {
        rows.chunks_exact_mut(bias.len()).for_each(|row| ops::add(row, bias));
    });
}

/// Adds a block's outcome to the residual stream: bias, then norm where the model has one, then the sum.
fn join(
    team: &Team,
    config: &Config,
    branch: &mut [f32],
    bias: Option<&Vec<f32>>,
    norm: Option<&Vec<f32>>,
    stream: &mut [f32],
) {
    let width = config.width;
    if bias.is_some() || norm.is_some() {
        team.for_rows(branch, width, TOKENS_PER_CHUNK, &|_, rows| {
            for row in rows.chunks_exact_mut(width) {
                if let Some(bias) = bias {
                    ops::add(row, bias);
                }
                if let Some(norm) = norm {
                    ops::rms_norm_in_place(row, norm, config.norm_epsilon);
                }
            }
        });
    }
    team.for_rows(stream, width, TOKENS_PER_CHUNK, &|first, rows| {
        ops::add(rows, &branch[first * width..first * width + rows.len()]);
    });
}

fn add_bias(team: &Team, projection: &Projection, out: &mut [f32]) {
    if let Some(bias) = &projection.bias {
        add_to_rows(team, out, bias);
    }
}
