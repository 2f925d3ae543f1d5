//! What an error in each matrix does to the answer, as the KL divergence that it causes.
//!
//! Near the original the divergence is a quadratic form of the error, and the form is the Fisher information. A loss with
//! labels drawn from the model's own probabilities has a gradient whose second moment it is, so one backward pass over
//! some text measures all matrices at once: for an error `E` of a matrix with inputs `x` and gradients `g` the divergence a
//! token is `mean((g^T E x)^2) / 2`, here with `g` and `x` taken as independent and their coordinates as uncorrelated. Of an
//! expert only the tokens that visit it have such a term, so its inputs are those of its visitors, and its gradients are few
//! where its visitors are.

use rayon::prelude::*;

use crate::error::Error;
use crate::float::{Norm, Observer, ROLES, Role, Source};
use crate::hessian::{add_squares, mean_squares};
use crate::random::Random;

/// The second moments around one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sensitivity {
    /// Squares of the gradient of each output, `[rows]`, in nats, a mean over all tokens: of an expert, those count with
    /// nothing that do not visit it.
    pub(crate) rows: Vec<f32>,
    /// Mean squares of each input, `[columns]`, over those that came. Both are empty for an expert that nobody visited.
    pub(crate) columns: Vec<f32>,
}

/// Those of a whole model.
#[derive(Clone, Debug)]
pub(crate) struct Sensitivities {
    /// By layer, role and expert.
    pub(crate) blocks: Vec<[Vec<Sensitivity>; ROLES.len()]>,
    /// Of the output matrix.
    pub(crate) output: Sensitivity,
    /// Of the embedding: `rows` counts how often each token of the vocabulary comes, `columns` has the gradient's mean
    /// squares, `[width]`.
    pub(crate) embedding: Sensitivity,
}

impl Sensitivity {
    /// The mean square of an input.
    pub(crate) fn power(&self) -> f64 {
        let sum: f64 = self.columns.iter().map(|&x| f64::from(x)).sum();
        sum / self.columns.len().max(1) as f64
    }

    /// The mean squared error of a row's product once its weights are `values`.
    pub(crate) fn row_error(&self, weight: &[f32], values: &[f32]) -> f64 {
        let errors = weight.iter().zip(values).zip(&self.columns);
        errors.map(|((w, v), column)| f64::from((w - v) * (w - v) * column)).sum()
    }
}

struct Gather<'a> {
    source: &'a Source,
    layer: usize,
    /// Of the text.
    tokens: usize,
    to: &'a mut [Vec<Sensitivity>; ROLES.len()],
}

impl Observer for Gather<'_> {
    fn product(&mut self, role: Role, expert: usize, input: &[f32], gradient: &[f32]) {
        let stored = self.source.stored(self.layer, role, expert);
        let to = &mut self.to[role as usize];
        to.resize_with(to.len().max(expert + 1), Sensitivity::default);
        let to = &mut to[expert];
        (to.columns, to.rows) = rayon::join(
            || mean_squares(input, stored.columns, input.len() / stored.columns),
            || mean_squares(gradient, stored.rows, self.tokens),
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
        let mut blocks = vec![<[Vec<Sensitivity>; ROLES.len()]>::default(); layers];
        for layer in (0..layers).rev() {
            let block = source.block(layer)?;
            let mut gather = Gather { source, layer, tokens: tokens.len(), to: &mut blocks[layer] };
            block.backward(&source.setting(&window, layer), &streams[layer], &mut gradient, &mut gather);
            streams.truncate(layer + 1);
            progress(3 * layers - 2 * layer, 3 * layers);
        }
        let count = tokens.len() as f32;
        let mut found = Sensitivities { blocks, output, embedding: Sensitivity::default() };
        found.output.rows.iter_mut().chain(&mut found.output.columns).for_each(|x| *x /= count);
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
