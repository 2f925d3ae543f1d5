//! The suite of the kernels, against their public interface alone: every format of the table, every operation, and
//! (by [`tiers`]) every tier of instructions that this processor has.
//!
//! Oracles are plain loops in `f64`. A tolerance is always derived: what was summed, times half an epsilon for each
//! rounding that the code does on it.

mod attention;
mod exactness;
mod hostile;
mod interleave;
mod ops;
mod products;
mod support;
mod tiers;
