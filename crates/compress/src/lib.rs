//! Weights of 32 or 16 bits become 8, 4, 3 or 2 bits with the quality kept, and a certificate says what was kept.

mod error;
pub mod imatrix;
pub mod recipes;
pub mod rounding;

pub use error::Error;
