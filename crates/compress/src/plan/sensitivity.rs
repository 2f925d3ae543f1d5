//! What an error in each matrix does to the answer, as the KL divergence that it causes.
//!
//! Near the original the divergence is a quadratic form of the error, and the form is the Fisher information. A loss with
//! labels drawn from the model's own probabilities has a gradient whose second moment it is, so one backward pass over
//! some text measures all matrices at once: for an error `E` of a matrix with inputs `x` and gradients `g` the divergence a
//! token is `mean((g^T E x)^2) / 2`, here with `g` and `x` taken as independent and their coordinates as uncorrelated.

use rayon::prelude::*;

use crate::error::Error;
use crate::float::{Norm, Observer, ROLES, Role, Source};
use crate::random::Random;

/// The second moments around one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sensitivity {
    /// Mean squares of the gradient of each output, `[rows]`, in nats a token.
    pub(crate) rows: Vec<f32>,
    /// Mean squares of each input, `[columns]`.
    pub(crate) columns: Vec<f32>,
}

/// Those of a whole model.
#[derive(Clone, Debug)]
pub(crate) struct Sensitivities {
    /// By layer, then by role.
    pub(crate) blocks: Vec<[Sensitivity; ROLES.len()]>,
    /// Of the output matrix.
    pub(crate) output: Sensitivity,
    /// Of the embedding: `rows` counts how often each token of the vocabulary comes, `columns` has the gradient's mean
    /// squares, `[width]`.
    pub(crate) embedding: Sensitivity,
}

impl Sensitivity {
    /// The mean squared error of a row's product once its weights are `values`.
    pub(crate) fn row_error(&self, weight: &[f32], values: &[f32]) -> f64 {
        let errors = weight.iter().zip(values).zip(&self.columns);
        errors.map(|((w, v), column)| f64::from((w - v) * (w - v) * column)).sum()
    }
}

/// Mean squares of columns, gathered piece by piece.
fn add_squares(to: &mut Vec<f32>, x: &[f32], columns: usize) {
    to.resize(columns, 0.0);
    for row in x.chunks_exact(columns) {
        to.iter_mut().zip(row).for_each(|(to, x)| *to += x * x);
    }
}

struct Gather<'a> {
    sizes: [(usize, usize); ROLES.len()],
    to: &'a mut [Sensitivity; ROLES.len()],
}

impl Observer for Gather<'_> {
    fn product(&mut self, role: Role, input: &[f32], gradient: &[f32]) {
        let ((rows, columns), to) = (self.sizes[role as usize], &mut self.to[role as usize]);
        rayon::join(
            || add_squares(&mut to.columns, input, columns),
            || add_squares(&mut to.rows, gradient, rows),
        );
    }

    fn norm(&mut self, _: Norm, _: &[f32]) {}
}

/// Tokens whose logits are in memory at a time.
const LOGITS: usize = 64;

impl Sensitivities {
    /// Measures them on windows of `length` tokens, a batch of windows that fit memory together. The stream before every
    /// block is kept: `layers * tokens * width` floats.
    ///
    /// # Errors
    /// Those of [`Source::block`].
    pub(crate) fn measure(
        source: &Source,
        tokens: &[u32],
        length: usize,
        seed: u64,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Sensitivities, Error> {
        let (layers, window) = (source.config.layers.len(), source.window(length));
        let mut streams = vec![source.embed(tokens)?];
        for layer in 0..layers {
            let mut stream = streams[layer].clone();
            source.block(layer)?.forward(&source.setting(&window, layer), &mut stream);
            streams.push(stream);
            progress(layer + 1, 3 * layers);
        }
        let (mut gradient, output) = output_side(source, &streams[layers], seed)?;
        let mut blocks = vec![<[Sensitivity; ROLES.len()]>::default(); layers];
        for layer in (0..layers).rev() {
            let block = source.block(layer)?;
            let sizes = ROLES.map(|role| (block.matrix(role).rows, block.matrix(role).columns));
            let mut gather = Gather { sizes, to: &mut blocks[layer] };
            block.backward(&source.setting(&window, layer), &streams[layer], &mut gradient, &mut gather);
            streams.truncate(layer + 1);
            progress(3 * layers - 2 * layer, 3 * layers);
        }
        let count = tokens.len() as f32;
        let mut found = Sensitivities { blocks, output, embedding: Sensitivity::default() };
        for sensitivity in found.blocks.iter_mut().flatten().chain([&mut found.output]) {
            sensitivity.rows.iter_mut().chain(&mut sensitivity.columns).for_each(|x| *x /= count);
        }
        let embedding = &mut found.embedding;
        add_squares(&mut embedding.columns, &gradient, source.config.width);
        let scale = source.config.embedding_scale.powi(2);
        embedding.columns.iter_mut().for_each(|x| *x *= scale / count);
        embedding.rows = vec![0.0; source.config.vocabulary];
        tokens.iter().for_each(|&token| embedding.rows[token as usize] += 1.0 / count);
        Ok(found)
    }
}

/// The gradient of the stream after the last block, for labels drawn from the model's own probabilities.
fn output_side(source: &Source, stream: &[f32], seed: u64) -> Result<(Vec<f32>, Sensitivity), Error> {
    let (width, vocabulary) = (source.config.width, source.config.vocabulary);
    let head = source.head()?;
    let mut random = Random::new(seed);
    let mut sensitivity = Sensitivity::default();
    let mut gradient = Vec::with_capacity(stream.len());
    for stream in stream.chunks(LOGITS * width) {
        let input = head.input(stream);
        let logits = head.logits(&input);
        let mut slopes = logits.clone();
        let draws: Vec<f32> = (0..stream.len() / width).map(|_| random.unit()).collect();
        slopes.par_chunks_mut(vocabulary).zip(draws).for_each(|(row, draw)| {
            kernels::ops::softmax(row);
            let label = draw_from(row, draw);
            row[label] -= 1.0;
        });
        let (dstream, _) = head.backward(stream, &logits, &mut slopes);
        rayon::join(
            || add_squares(&mut sensitivity.columns, &input, width),
            || add_squares(&mut sensitivity.rows, &slopes, vocabulary),
        );
        gradient.extend_from_slice(&dstream);
    }
    Ok((gradient, sensitivity))
}

/// The index whose share of the sum of `chances` holds `draw` in 0..1.
fn draw_from(chances: &[f32], draw: f32) -> usize {
    let mut sum = 0.0;
    for (index, chance) in chances.iter().enumerate() {
        sum += chance;
        if sum > draw {
            return index;
        }
    }
    // Rounding may leave the sum just below one.
    chances.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(index, _)| index)
}
