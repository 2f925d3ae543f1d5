//! Which type each tensor gets.

pub mod knapsack;
mod predict;
mod sensitivity;

pub use predict::{Candidate, candidates};
pub use sensitivity::{Sensitivities, Sensitivity};
