//! What a device is, and what a model will do on it: known before anything is loaded.
//!
//! A [`Profile`] says what a device has: its cores, its memory and how much of it the system leaves to a program, its
//! storage. Profiles of phones and boards come with the program ([`profile::catalogue`]), and [`probe`] measures this one. A
//! [`Shape`] says what a model asks for; its file's header is enough. [`predict`] is a pure function of the two: memory by
//! what the system can do about it, the time of prefill and decode, energy, and whether the model fits.
//!
//! What runs asks here how much memory it may take: [`Room`] says how much there is, [`residency`] what stays in it and how
//! keys and values are kept, and a [`Watch`] whether that changes.

mod error;
pub mod machine;
pub mod predict;
pub mod probe;
pub mod profile;
mod residency;
mod room;
mod shape;
mod speeds;
mod threads;
mod watch;

pub use error::Error;
pub use predict::{MemoryTable, Plan, Setting, plan};
pub use profile::{Figure, Profile};
pub use residency::{Demand, Refusal, Residency, least, residency, resident};
pub use room::Room;
pub use shape::{LayerShape, MatrixShape, Shape};
pub use speeds::{ProductSpeed, Speeds};
pub use threads::default_threads;
pub use watch::{Sight, Watch};
