//! AdamW (Loshchilov and Hutter, 2017, arXiv 1711.05101): Adam with decay that does not pass through its moments.

use rayon::prelude::*;

/// Weights that one thread takes at a time.
const PIECE: usize = 1 << 14;

/// How the moments are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// How much of the mean slope is kept at a step.
    pub momentum: f32,
    /// How much of the mean squared slope is kept at a step.
    pub second_momentum: f32,
    /// What a weight loses at a step, times the rate.
    pub decay: f32,
}

/// The moments of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// The mean slope.
    pub mean: Vec<f32>,
    /// The mean squared slope.
    pub square: Vec<f32>,
}

impl Moments {
    /// Of `count` weights that have not moved yet.
    pub fn new(count: usize) -> Moments {
        Moments { mean: vec![0.0; count], square: vec![0.0; count] }
    }
}

impl Adam {
    /// What transformers are trained from scratch with (Brown et al., 2020, arXiv 2005.14165).
    pub const SCRATCH: Adam = Adam { momentum: 0.9, second_momentum: 0.95, decay: 0.1 };
    /// For tuning what is nearly right: no decay, which would pull away from where it is.
    pub const TUNING: Adam = Adam { momentum: 0.9, second_momentum: 0.95, decay: 0.0 };

    /// How weights move at step `step`, counted from 1.
    pub fn pace(&self, step: usize, rate: f32) -> Pace {
        // Of what the moments would be had they not begun at zero.
        let share = |keep: f32| 1.0 - f64::from(keep).powi(i32::try_from(step).unwrap_or(i32::MAX));
        Pace {
            adam: *self,
            rate,
            mean_rate: (f64::from(rate) / share(self.momentum)) as f32,
            unbias: (1.0 / share(self.second_momentum)).sqrt() as f32,
        }
    }

    /// Moves all `weights` against `gradient` on all threads.
    pub fn step(&self, step: usize, rate: f32, weights: &mut [f32], gradient: &[f32], moments: &mut Moments) {
        let pace = self.pace(step, rate);
        weights
            .par_chunks_mut(PIECE)
            .zip(gradient.par_chunks(PIECE))
            .zip(moments.mean.par_chunks_mut(PIECE).zip(moments.square.par_chunks_mut(PIECE)))
            .for_each(|((weights, gradient), (mean, square))| pace.apply(weights, gradient, mean, square));
    }
}

/// One step of [`Adam`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    adam: Adam,
    rate: f32,
    mean_rate: f32,
    unbias: f32,
}

impl Pace {
    /// Moves `weights` against `gradient`, on this thread.
    pub fn apply(&self, weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let Adam { momentum, second_momentum, decay } = self.adam;
        let slopes = gradient.iter().zip(mean.iter_mut().zip(square.iter_mut()));
        for (weight, (slope, (mean, square))) in weights.iter_mut().zip(slopes) {
            *mean += (1.0 - momentum) * (slope - *mean);
            *square += (1.0 - second_momentum) * (slope * slope - *square);
            *weight -= self.rate * decay * *weight;
            *weight -= self.mean_rate * *mean / (square.sqrt() * self.unbias + 1e-12);
        }
    }
}

/// The rate at step `step` of `steps`, counted from 0, as a share of the highest: a straight rise over the first
/// `warmup` steps, then half a cosine down to nothing.
pub fn schedule(step: usize, steps: usize, warmup: usize) -> f32 {
    if step < warmup {
        return (step + 1) as f32 / warmup as f32;
    }
    let share = (step - warmup) as f32 / (steps - warmup).max(1) as f32;
    0.5 * (1.0 + (std::f32::consts::PI * share).cos())
}

/// The factor that brings the whole gradient's length down to `most`.
pub fn clip<'a>(gradients: impl Iterator<Item = &'a [f32]>, most: f32) -> f32 {
    let square: f64 =
        gradients.map(|gradient| gradient.iter().map(|slope| f64::from(slope * slope)).sum::<f64>()).sum();
    let length = square.sqrt() as f32;
    if length > most { most / length } else { 1.0 }
}
