//! Weights of 32 or 16 bits become 8, 4, 3 or 2 bits with the quality kept, and a certificate says what was kept.

mod assemble;
mod attest;
mod bytes;
mod calibration;
pub mod certificate;
mod error;
pub mod float;
mod folding;
mod hessian;
pub mod imatrix;
mod inventory;
pub mod journal;
pub mod methods;
mod options;
mod pack;
mod plan;
mod prior;
mod random;
pub mod recipes;
pub mod rounding;
pub mod sample;
pub mod train;
mod walk;

pub use error::Error;
pub use options::{Effort, Options, Progress, Target, Text, work_folder};
pub use pack::{Packed, pack};
