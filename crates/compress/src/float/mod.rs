//! The model in f32: read from its file a block at a time, forward and backward. Where the engine is fast and rounds its
//! activations, this is exact; it is what calibration, sensitivities and training compute with.

mod attention;
mod backward;
mod block;
mod fold;
mod head;
mod linear;
mod mixture;
mod pointwise;
mod source;
#[cfg(test)]
mod tests;

pub use backward::{Norm, Observer, Trace};
pub use block::{Block, Norms, ROLES, Role, Setting};
pub(crate) use block::{add_outcome, check_finite};
pub use fold::{Fold, Folds, PLACES, Place, Writer};
pub use head::Head;
pub use linear::{Linear, add_weight_gradient};
pub(crate) use linear::{add_gram, multiply, view, view_mut};
pub use mixture::{Mixture, Routing};
pub(crate) use source::dequantize;
pub use source::{Source, Window};
