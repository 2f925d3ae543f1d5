//! What a model file means: from a GGUF to logits.
//!
//! Architectures are data ([`arch`] turns metadata into a [`Config`]); one forward pass ([`Model::forward`]) runs them
//! all. A [`Model`] is shared, a [`KvCache`] belongs to a session, a [`Workspace`] to whoever computes.

pub mod arch;
mod cache;
mod config;
mod error;
mod experts;
mod fingerprint;
mod forward;
mod interleaved;
mod keys;
mod model;
mod plan;
mod rope;
mod stream;
pub mod weights;
mod workspace;

pub use cache::{Budget, Grant, KvCache, Page};
pub use config::{Activation, Config, Experts, LayerConfig};
pub use error::Error;
pub use experts::{Choice, choose};
pub use forward::{Logits, MOST_SEGMENTS};
pub use gguf::File;
pub use interleaved::{Progress, Residence};
pub use kernels::ops::attention::{KvType, PAGE};
pub use keys::Keys;
pub use model::{MemoryUse, Model, Options};
pub use plan::Stored;
pub use rope::{Rope, RopeStyle, Rotation};
pub use stream::{Resident, Streaming};
pub use workspace::Workspace;
