//! The ways to round a matrix.

pub(crate) mod gptq;
