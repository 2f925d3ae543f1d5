//! The arithmetic of Pouch: number formats, matrix products, attention and the worker team.
//!
//! Raw slices in, raw slices out. Kernels are written once over a small set of vector operations (`simd`) and
//! compiled for each tier of instructions ([`cpu::Tier`]); the formats are a table ([`FORMATS`]). All vector code,
//! and with it nearly all `unsafe` code of the workspace, lives here.

#![allow(clippy::needless_range_loop)]

pub mod cpu;
mod formats;
mod half;
mod matmul;
pub mod ops;
pub mod probe;
mod simd;
mod team;
pub mod trials;

pub use formats::{Codes, FORMATS, Format, Grid, Levels, Minimums, Scales, format};
pub use matmul::{Input, Keep, Matrix, Product, multiply};
pub use team::{MAX_CHUNKS, Team};
