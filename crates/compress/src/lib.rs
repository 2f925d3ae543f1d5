//! Weights of 32 or 16 bits become 8, 4, 3 or 2 bits with the quality kept, and a certificate says what was kept.

pub mod certificate;
mod error;
pub mod float;
pub mod hessian;
pub mod inventory;
pub mod journal;
mod options;
mod pack;
mod random;
pub mod sample;

pub use error::Error;
pub use options::{Effort, Options, Progress, Target, Text, work_folder};
pub use pack::{Packed, pack};
