//! Quantization-aware training of a model that was rounded already: first block by block ([`tune_block`]), then the whole
//! model ([`distill`]). The start is the best that rounding alone can do; every step of the way is a file of codes.
//!
//! Slopes are derived by hand ([`crate::float`]) and not by a library. A decoder block is a fixed chain of a few stages,
//! so there is little to derive and finite differences check it; nothing is recorded but what the block itself needs, so
//! memory is that of one block and its streams; a matrix makes its step the moment its slope is known, so the slopes of the
//! model never lie in memory together; and nearly all time goes to matrix products, on all cores.

mod distill;
mod latent;
mod student;
#[cfg(test)]
mod tests;
mod tune;

pub use distill::{DistillOptions, Student, distill};
pub use latent::{Latent, Learn, Rates};
pub use student::{Matrix, Rounded, Tensors};
pub use tune::{TuneOptions, Tuned, tune_block};

use crate::error::Error;
use crate::float::{Block, Setting, Source, Window};
use crate::journal::Journal;

/// What training does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingOptions {
    /// Block by block.
    pub tune: TuneOptions,
    /// The whole model; `None` leaves it out.
    pub distill: Option<DistillOptions>,
}

/// What training did.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The share of the stream that was wrong after each block.
    pub blocks: Vec<Tuned>,
    /// The mean KL divergence, where the whole model was trained.
    pub whole: Option<Tuned>,
}

/// Where training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Blocks that are done; all of them while the whole model is trained.
    pub blocks: usize,
    /// Steps done of the block or the model.
    pub step: usize,
    /// Its steps.
    pub steps: usize,
}

/// Trains the model `rounded`, made from `original`, on `tokens`, whole windows and at least two. Finished blocks are in
/// the journal, and are not trained again; the whole model goes on from its last state there.
///
/// # Errors
/// Those of [`Source::dense_block`] and [`Journal::put`].
pub fn train<'a>(
    original: &Source,
    rounded: &'a Source,
    window: &Window,
    tokens: &[u32],
    options: &TrainingOptions,
    journal: &Journal,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Tensors<'a>, Trained), Error> {
    let (mut target, mut stream) = (original.embed(tokens)?, rounded.embed(tokens)?);
    let first = stream.clone();
    let mut tensors = Tensors::of(rounded);
    let (mut blocks, mut outcomes) = (Vec::new(), Vec::new());
    for layer in 0..original.config.layers.len() {
        let setting = original.setting(window, layer);
        let block = original.dense_block(layer)?;
        forward(&block, &setting, &mut target);
        let mut learner = Rounded::read(rounded, layer, Some(&block))?;
        let entry = format!("tuned-{layer}");
        let outcome = match journal.get(&entry)?.and_then(|bytes| learner.restore(&bytes)) {
            Some(outcome) => outcome,
            None => {
                let mut tell = |step, steps| progress(Progress { blocks: layer, step, steps });
                let outcome = tune_block(&setting, &mut learner, &stream, &target, &options.tune, &mut tell);
                journal.put(&entry, &learner.state(&outcome))?;
                outcome
            }
        };
        forward(&learner.block(), &setting, &mut stream);
        tensors.put_block(layer, &learner);
        if options.distill.is_some() {
            blocks.push(learner);
        }
        outcomes.push(outcome);
    }
    let mut whole = None;
    if let Some(options) = &options.distill {
        let mut student = Student::read(rounded, blocks, &original.head()?)?;
        let layers = student.blocks.len();
        let mut tell = |step, steps| progress(Progress { blocks: layers, step, steps });
        let streams = (first.as_slice(), target.as_slice());
        whole = Some(distill(
            original,
            window,
            &mut student,
            &original.head()?,
            streams,
            options,
            journal,
            &mut tell,
        )?);
        for (layer, block) in student.blocks.iter().enumerate() {
            tensors.put_block(layer, block);
        }
        tensors.put(&rounded.weights.output.matrix, &student.output);
    }
    Ok((tensors, Trained { blocks: outcomes, whole }))
}

/// A few windows at a time, so that memory is that of the stream.
fn forward(block: &Block, setting: &Setting<'_>, stream: &mut [f32]) {
    let size = setting.length * setting.config.width;
    stream.chunks_mut(8 * size).for_each(|stream| block.forward(setting, stream));
}
