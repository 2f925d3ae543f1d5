//! The program as its users meet it: help texts, objects, messages, exit codes, streams and signals.
//!
//! Texts are snapshots (`INSTA_UPDATE=always cargo test -p pouch` writes them anew). Models are tiny random ones, written here.

mod bench;
#[cfg(unix)]
mod bench_serve;
mod certify;
mod chat;
mod errors;
#[cfg(unix)]
mod faults;
mod help;
#[cfg(target_os = "linux")]
mod memory;
mod objects;
mod plan;
mod run;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod share;
#[cfg(target_os = "linux")]
mod soak;
mod store;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
