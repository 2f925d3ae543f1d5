//! The ways to round a matrix.

pub(crate) mod gptq;
pub mod training;
