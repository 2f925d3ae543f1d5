//! All tests of the crate from outside, in one program: linking six would take longer than running them.

mod allocations;
mod architectures;
mod batches;
mod cache;
mod hostile;
mod interleaved;
mod rope;
mod sessions;
mod streaming;
mod support;
