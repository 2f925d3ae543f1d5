//! Block by block: a rounded decoder block is trained so that the stream after it is that of the full-precision model,
//! given the stream that the rounded blocks before it leave (Chen et al., 2024, arXiv 2407.11062, section 3.2).

use super::latent::{Latent, Rates};
use super::student::Rounded;
use crate::float::{Norm, Observer, Role, Setting, add_weight_gradient};
use crate::random::Random;
use crate::train::schedule;

/// How a block is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneOptions {
    /// Times that every window is seen.
    pub epochs: usize,
    /// Windows in a step.
    pub windows: usize,
    /// The highest rates.
    pub rates: Rates,
    /// The share of the steps at the end in which levels are fixed and only scales still learn.
    pub settling: f32,
    /// The order of the windows.
    pub seed: u64,
}

impl Default for TuneOptions {
    fn default() -> TuneOptions {
        TuneOptions {
            epochs: 3,
            windows: 4,
            rates: Rates { levels: 0.01, scales: 0.001 },
            settling: 0.2,
            seed: 1,
        }
    }
}

/// The squared error of the stream after a block, as a share of the stream's square, on windows that were not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// As it was rounded.
    pub before: f64,
    /// As it is now: never more.
    pub after: f64,
}

/// One of so many windows is kept to judge by.
const JUDGED: usize = 8;

/// Trains `rounded` so that it makes of `input` what the full-precision block makes of its own input: `target`. Both are
/// `[token][width]`, whole windows, at least two. What does not get better stays as it was.
pub fn tune_block(
    setting: &Setting<'_>,
    rounded: &mut Rounded,
    input: &[f32],
    target: &[f32],
    options: &TuneOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Tuned {
    let size = setting.length * setting.config.width;
    let (judges, mut order) = split(input.len() / size);
    let judge = |rounded: &Rounded| {
        let block = rounded.block();
        let share = |chosen: &[usize]| {
            let mut stream = pick(input, chosen, size);
            block.forward(setting, &mut stream);
            distance(&mut stream, &pick(target, chosen, size), setting.config.width) * chosen.len() as f64
        };
        judges.chunks(options.windows).map(share).sum::<f64>() / judges.len() as f64
    };
    let (start, before) = (rounded.clone(), judge(rounded));
    let batches = order.len().div_ceil(options.windows);
    let steps = options.epochs * batches;
    let settling = steps - (steps as f32 * options.settling) as usize;
    let mut random = Random::new(options.seed);
    for step in 0..steps {
        if step % batches == 0 {
            random.shuffle(&mut order);
        }
        if step == settling {
            rounded.matrices_mut().for_each(Latent::fix_levels);
        }
        let chosen = &order[step % batches * options.windows..];
        let chosen = &chosen[..options.windows.min(chosen.len())];
        let share = schedule(step, steps, steps / 20);
        let Rates { levels, scales } = options.rates;
        let rates = Rates { levels: share * levels, scales: share * scales };
        let block = rounded.block();
        let stream = pick(input, chosen, size);
        let trace = block.trace(setting, &stream);
        let mut gradient = block.outcome(setting, &trace);
        distance(&mut gradient, &pick(target, chosen, size), setting.config.width);
        let mut learner = Learner { rounded, step: step + 1, rates };
        block.backward_along(setting, &stream, trace, &mut gradient, &mut learner);
        progress(step + 1, steps);
    }
    let after = judge(rounded);
    if after < before {
        return Tuned { before, after };
    }
    *rounded = start;
    Tuned { before, after: before }
}

/// Windows to judge by and windows to train on, of `windows` in all.
pub(super) fn split(windows: usize) -> (Vec<usize>, Vec<usize>) {
    let every = JUDGED.min(windows);
    (0..windows).partition(|window| window % every == every - 1)
}

/// The `chosen` windows of `size` values.
pub(super) fn pick(values: &[f32], chosen: &[usize], size: usize) -> Vec<f32> {
    chosen.iter().flat_map(|window| &values[window * size..][..size]).copied().collect()
}

/// The mean over tokens of `|x - target|^2 / |target|^2`; `x` becomes its gradient. A share, for a few tokens have a
/// stream that is a thousand times that of the others, and what reads the stream normalises it.
fn distance(x: &mut [f32], target: &[f32], width: usize) -> f64 {
    let tokens = x.len() / width;
    let mut sum = 0.0;
    for (x, target) in x.chunks_exact_mut(width).zip(target.chunks_exact(width)) {
        let size = target.iter().map(|t| t * t).sum::<f32>().max(f32::MIN_POSITIVE);
        let share = 2.0 / (size * tokens as f32);
        let mut error = 0.0;
        for (x, target) in x.iter_mut().zip(target) {
            let off = *x - target;
            error += off * off;
            *x = share * off;
        }
        sum += f64::from(error / size);
    }
    sum / tokens as f64
}

/// Lets each matrix make its step as soon as its slopes are known.
pub(super) struct Learner<'a> {
    pub(super) rounded: &'a mut Rounded,
    pub(super) step: usize,
    pub(super) rates: Rates,
}

impl Observer for Learner<'_> {
    fn product(&mut self, role: Role, _expert: usize, input: &[f32], gradient: &[f32]) {
        let Some(latent) = self.rounded.matrix_mut(role) else { return };
        let (rows, columns) = latent.shape();
        let mut weight = vec![0.0; rows * columns];
        add_weight_gradient(&mut weight, gradient, rows, input, columns);
        latent.step(self.step, self.rates, &weight);
    }

    fn norm(&mut self, _pick: Norm, _gradient: &[f32]) {}
}
