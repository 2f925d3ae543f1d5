//! Training a small model from nothing: a model that was never rounded, of any shape, in minutes.
//!
//! It is the same float model that calibration and tuning compute with. The slopes are derived by hand ([`Block::backward`])
//! and not by a library: the stages of a block are few and fixed, nothing of the forward pass but the stream before each
//! block has to be kept, and all time goes to the matrix products. Half of the work is therefore that of inference, and
//! memory is that of the weights, their slopes and Adam's two moments.
//!
//! [`Block::backward`]: crate::float::Block::backward

mod adam;
mod gradient;
mod loss;
mod parameters;
mod trainer;
mod vocabulary;

pub use adam::{Adam, Moments, Pace, clip, schedule};
pub use gradient::Gradients;
pub use loss::{cross_entropy, divergence};
pub use parameters::{Parameters, Shape, start, write};
pub use trainer::{Schedule, Step, Trainer};
