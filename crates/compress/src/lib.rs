//! Weights of 32 or 16 bits become 8, 4, 3 or 2 bits with the quality kept, and a certificate says what was kept.

mod bytes;
mod error;
pub mod float;
pub mod hessian;
pub mod inventory;
pub mod journal;
pub mod methods;
pub mod plan;
mod random;
pub mod rounding;
pub mod train;
pub mod walk;

pub use error::Error;
