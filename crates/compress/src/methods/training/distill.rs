//! The whole model at once: what the blocks have to say together is trained to be what the full-precision model says, by
//! the KL divergence of the next token (Hinton et al., 2015, arXiv 1503.02531). By custom only scales learn here (Chen et
//! al., 2024, arXiv 2407.11062, section 3.3), which takes little memory; a small model can afford to learn levels too.

use super::latent::{Latent, Learn, Rates};
use super::student::{Matrix, Rounded, matrix};
use super::tune::{Learner, Tuned, pick, split};
use crate::error::Error;
use crate::float::{Head, Source, Window, add_weight_gradient};
use crate::journal::Journal;
use crate::random::Random;
use crate::train::{divergence, schedule};

/// How the whole model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillOptions {
    /// Times that every window is seen.
    pub epochs: usize,
    /// Windows in a step.
    pub windows: usize,
    /// The highest rates.
    pub rates: Rates,
    /// What learns.
    pub learn: Learn,
    /// The order of the windows.
    pub seed: u64,
}

impl Default for DistillOptions {
    fn default() -> DistillOptions {
        let rates = Rates { levels: 0.01, scales: 0.001 };
        DistillOptions { epochs: 2, windows: 4, rates, learn: Learn::Scales, seed: 1 }
    }
}

/// Rows of logits that are in memory at a time.
const ROWS: usize = 256;

/// A rounded model in memory.
#[derive(Clone, Debug)]
pub struct Student {
    /// The blocks.
    pub blocks: Vec<Rounded>,
    /// The output matrix. One that is the embedding table too must be kept: its other side would change unseen.
    pub output: Matrix,
    /// The norm before it.
    pub output_norm: Vec<f32>,
}

impl Student {
    /// The model `rounded` with blocks that were trained already; with `original`, the full-precision output side, the
    /// output matrix can learn levels.
    ///
    /// # Errors
    /// Those of [`Source::head`].
    pub fn read(rounded: &Source, blocks: Vec<Rounded>, original: &Head) -> Result<Student, Error> {
        let Head { norm, output, .. } = rounded.head()?;
        let stored = &rounded.weights.output.matrix;
        let output = match stored.tensor == rounded.weights.embedding.tensor {
            true => Matrix::Kept(output),
            false => matrix(rounded, stored, output, Some(&original.output.weight)),
        };
        Ok(Student { blocks, output, output_norm: norm })
    }

    fn state(&mut self, done: usize, before: f64) -> Vec<u8> {
        let mut state = [(done as u64).to_le_bytes(), before.to_le_bytes()].concat();
        self.latents().for_each(|latent| latent.state(&mut state));
        state
    }

    fn restore(&mut self, state: &[u8]) -> Option<(usize, f64)> {
        let (done, state) = state.split_first_chunk()?;
        let (before, mut rest) = state.split_first_chunk()?;
        for latent in self.latents() {
            rest = latent.restore(rest)?;
        }
        Some((u64::from_le_bytes(*done) as usize, f64::from_le_bytes(*before)))
    }

    fn latents(&mut self) -> impl Iterator<Item = &mut Latent> {
        self.blocks.iter_mut().flat_map(Rounded::matrices_mut).chain(self.output.learned())
    }
}

/// Steps between two states in the journal.
const KEEP: usize = 100;
/// The journal's entry: steps done, the divergence at the start, and the state of all that learns.
const STATE: &str = "distilled";

/// Trains `student` so that from `input`, the stream before its first block, it says what `teacher` says of `target`, the
/// full-precision stream after the last one. What does not get better stays as it was. A killed run goes on from the state
/// in the journal.
///
/// # Errors
/// Those of [`Journal::put`].
#[expect(clippy::too_many_arguments, reason = "two models, their text, and how to go about it")]
pub fn distill(
    source: &Source,
    window: &Window,
    student: &mut Student,
    teacher: &Head,
    (input, target): (&[f32], &[f32]),
    options: &DistillOptions,
    journal: &Journal,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tuned, Error> {
    let size = window.length * source.config.width;
    let (judges, mut order) = split(input.len() / size);
    student.latents().for_each(|latent| latent.restart(options.learn));
    let judge = |student: &Student| {
        let mut sum = 0.0;
        for chosen in judges.chunks(options.windows) {
            let mut stream = pick(input, chosen, size);
            for (layer, rounded) in student.blocks.iter().enumerate() {
                rounded.block().forward(&source.setting(window, layer), &mut stream);
            }
            let head = head(source, student);
            sum +=
                slopes(&head, teacher, &mut stream, &pick(target, chosen, size), None) * chosen.len() as f64;
        }
        sum / judges.len() as f64
    };
    let start = student.clone();
    let (done, before) = match journal.get(STATE)?.and_then(|state| student.restore(&state)) {
        Some(kept) => kept,
        None => (0, judge(student)),
    };
    let batches = order.len().div_ceil(options.windows);
    let steps = options.epochs * batches;
    let mut random = Random::new(options.seed);
    for step in 0..steps {
        if step % batches == 0 {
            random.shuffle(&mut order);
        }
        if step < done {
            continue;
        }
        if step % KEEP == 0 && step > done {
            journal.put(STATE, &student.state(step, before))?;
        }
        let chosen = &order[step % batches * options.windows..];
        let chosen = &chosen[..options.windows.min(chosen.len())];
        let share = schedule(step, steps, steps / 20);
        let Rates { levels, scales } = options.rates;
        let rates = Rates { levels: share * levels, scales: share * scales };
        advance(
            source,
            window,
            student,
            teacher,
            &pick(input, chosen, size),
            &pick(target, chosen, size),
            step + 1,
            rates,
        );
        progress(step + 1, steps);
    }
    let after = judge(student);
    if after < before {
        return Ok(Tuned { before, after });
    }
    *student = start;
    Ok(Tuned { before, after: before })
}

/// One step.
#[expect(clippy::too_many_arguments, reason = "one caller")]
fn advance(
    source: &Source,
    window: &Window,
    student: &mut Student,
    teacher: &Head,
    input: &[f32],
    target: &[f32],
    step: usize,
    rates: Rates,
) {
    let mut stream = input.to_vec();
    let mut streams = Vec::with_capacity(student.blocks.len());
    for (layer, rounded) in student.blocks.iter().enumerate() {
        streams.push(stream.clone());
        rounded.block().forward(&source.setting(window, layer), &mut stream);
    }
    let head = head(source, student);
    let mut weight = vec![0.0; head.output.weight.len()];
    slopes(&head, teacher, &mut stream, target, Some(&mut weight));
    let mut gradient = stream;
    if let Some(latent) = student.output.learned() {
        latent.step(step, rates, &weight);
    }
    for (layer, rounded) in student.blocks.iter_mut().enumerate().rev() {
        let block = rounded.block();
        let mut learner = Learner { rounded, step, rates };
        block.backward(&source.setting(window, layer), &streams[layer], &mut gradient, &mut learner);
    }
}

fn head(source: &Source, student: &Student) -> Head {
    Head::new(&source.config, student.output_norm.clone(), student.output.linear())
}

/// The mean KL divergence; `stream` becomes its gradient, and that of the output matrix is added to `weight`.
fn slopes(
    head: &Head,
    teacher: &Head,
    stream: &mut [f32],
    target: &[f32],
    mut weight: Option<&mut [f32]>,
) -> f64 {
    let (width, vocabulary) = (head.norm.len(), head.output.rows);
    let tokens = stream.len() / width;
    let mut sum = 0.0;
    for (stream, target) in stream.chunks_mut(ROWS * width).zip(target.chunks(ROWS * width)) {
        let input = head.input(stream);
        let logits = head.logits(&input);
        let mut slopes = logits.clone();
        let mut wanted = teacher.logits(&teacher.input(target));
        sum += divergence(&mut slopes, &mut wanted, vocabulary, 1.0 / tokens as f32);
        let Some(weight) = &mut weight else { continue };
        let (gradient, _) = head.backward(stream, &logits, &mut slopes);
        add_weight_gradient(weight, &slopes, vocabulary, &input, width);
        stream.copy_from_slice(&gradient);
    }
    sum / tokens as f64
}
