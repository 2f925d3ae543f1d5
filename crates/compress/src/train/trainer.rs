//! The loop: windows of text in, one step of AdamW out, and a state on disk that a killed run goes on from.

use std::path::Path;

use gguf::Metadata;

use super::adam::{Adam, Moments, clip, schedule};
use super::gradient::Gradients;
use super::loss::cross_entropy;
use super::parameters::{Parameters, write};
use crate::bytes::{floats_of, put_floats};
use crate::error::Error;
use crate::float::{Source, Window, add_weight_gradient};
use crate::journal::Journal;
use crate::random::Random;

/// How long and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps in all.
    pub steps: usize,
    /// Windows of text in a step.
    pub windows: usize,
    /// Tokens in a window.
    pub length: usize,
    /// The highest learning rate.
    pub rate: f32,
    /// Which windows are taken when.
    pub seed: u64,
}

/// What a step was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Steps done.
    pub done: usize,
    /// The mean surprise in nats before the step.
    pub loss: f64,
}

/// The longest step: longer slopes are cut to this length.
const CLIP: f32 = 1.0;
/// The share of the steps in which the rate rises.
const WARMUP: f32 = 0.05;
/// The journal's entry.
const STATE: &str = "state";

/// A model in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    source: &'a Source,
    schedule: Schedule,
    window: Window,
    tokens: &'a [u32],
    parameters: Parameters,
    gradients: Parameters,
    moments: Vec<Moments>,
    done: usize,
}

impl<'a> Trainer<'a> {
    /// Trains the model of `source` on `tokens`, which must be more than a window.
    ///
    /// # Errors
    /// Those of [`Parameters::read`].
    pub fn new(source: &'a Source, tokens: &'a [u32], schedule: Schedule) -> Result<Trainer<'a>, Error> {
        let parameters = Parameters::read(source)?;
        Ok(Trainer {
            source,
            window: source.window(schedule.length),
            schedule,
            tokens,
            gradients: parameters.zeros(),
            moments: parameters.tensors().iter().map(|tensor| Moments::new(tensor.len())).collect(),
            parameters,
            done: 0,
        })
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// One step.
    pub fn step(&mut self) -> Step {
        let (windows, length) = (self.schedule.windows, self.schedule.length);
        let mut random = Random::new(self.schedule.seed.wrapping_add((self.done as u64) << 32));
        let (mut tokens, mut next) = (Vec::new(), Vec::new());
        for _ in 0..windows {
            let first = random.below(self.tokens.len() - length);
            tokens.extend_from_slice(&self.tokens[first..first + length]);
            next.extend_from_slice(&self.tokens[first + 1..first + 1 + length]);
        }
        let loss = self.slopes(&tokens, &next);
        self.done += 1;
        let factor = clip(self.gradients.tensors().into_iter().map(Vec::as_slice), CLIP);
        let warmup = (self.schedule.steps as f32 * WARMUP) as usize;
        let rate = self.schedule.rate * schedule(self.done - 1, self.schedule.steps, warmup);
        let tensors = self.parameters.tensors_mut().into_iter().zip(self.gradients.tensors_mut());
        for ((weights, gradient), moments) in tensors.zip(&mut self.moments) {
            kernels::ops::scale(gradient, factor);
            // Norms do not decay: 1 is where they belong, not 0.
            let decay = if weights.len() > self.source.config.width { Adam::SCRATCH.decay } else { 0.0 };
            Adam { decay, ..Adam::SCRATCH }.step(self.done, rate, weights, gradient, moments);
            gradient.fill(0.0);
        }
        Step { done: self.done, loss }
    }

    /// Fills the gradients, which are zero, and returns the loss.
    fn slopes(&mut self, tokens: &[u32], next: &[u32]) -> f64 {
        let width = self.source.config.width;
        let mut stream: Vec<f32> = tokens
            .iter()
            .flat_map(|&token| &self.parameters.embedding[token as usize * width..][..width])
            .copied()
            .collect();
        let mut kept = Vec::with_capacity(self.parameters.blocks.len());
        for (layer, block) in self.parameters.blocks.iter().enumerate() {
            let setting = self.source.setting(&self.window, layer);
            let trace = block.trace(&setting, &stream);
            let after = block.outcome(&setting, &trace);
            kept.push((std::mem::replace(&mut stream, after), trace));
        }
        let head = &self.parameters.head;
        let input = head.input(&stream);
        let mut slopes = head.logits(&input);
        let loss = cross_entropy(&mut slopes, next);
        // A model from nothing has no cap, so the logits are of no use to the backward pass.
        let (mut gradient, dnorm) = head.backward(&stream, &[], &mut slopes);
        let output = &mut self.gradients.head;
        kernels::ops::add(&mut output.norm, &dnorm);
        add_weight_gradient(&mut output.output.weight, &slopes, head.output.rows, &input, width);
        for (layer, (stream, trace)) in kept.into_iter().enumerate().rev() {
            let setting = self.source.setting(&self.window, layer);
            let mut observer = Gradients(&mut self.gradients.blocks[layer]);
            let block = &self.parameters.blocks[layer];
            block.backward_along(&setting, &stream, trace, &mut gradient, &mut observer);
        }
        for (&token, gradient) in tokens.iter().zip(gradient.chunks_exact(width)) {
            kernels::ops::add(&mut self.gradients.embedding[token as usize * width..][..width], gradient);
        }
        loss
    }

    /// Keeps the state.
    ///
    /// # Errors
    /// Those of [`Journal::put`].
    pub fn save(&self, journal: &Journal) -> Result<(), Error> {
        let mut bytes = (self.done as u64).to_le_bytes().to_vec();
        for (weights, moments) in self.parameters.tensors().into_iter().zip(&self.moments) {
            put_floats(&mut bytes, weights);
            put_floats(&mut bytes, &moments.mean);
            put_floats(&mut bytes, &moments.square);
        }
        journal.put(STATE, &bytes)
    }

    /// Goes on from the state that was kept, if one was.
    ///
    /// # Errors
    /// Those of [`Journal::get`].
    pub fn resume(&mut self, journal: &Journal) -> Result<(), Error> {
        let Some(bytes) = journal.get(STATE)? else { return Ok(()) };
        let Some((done, floats)) = bytes.split_first_chunk() else { return Ok(()) };
        let floats = floats_of(floats);
        let count: usize = self.parameters.tensors().iter().map(|tensor| tensor.len()).sum();
        if floats.len() != 3 * count {
            return Ok(());
        }
        self.done = u64::from_le_bytes(*done) as usize;
        let mut rest = floats.as_slice();
        for (weights, moments) in self.parameters.tensors_mut().into_iter().zip(&mut self.moments) {
            for part in [weights, &mut moments.mean, &mut moments.square] {
                let (values, after) = rest.split_at(part.len());
                part.copy_from_slice(values);
                rest = after;
            }
        }
        Ok(())
    }

    /// Writes the model as it is.
    ///
    /// # Errors
    /// Those of [`write`].
    pub fn write(&self, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        write(path, metadata, &self.parameters)
    }
}
