//! The ways to round a matrix.

pub mod gptq;
pub mod training;
