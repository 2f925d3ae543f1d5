//! The slopes of a block's weights, summed up in a block of the same form.

use crate::float::{Block, Norm, Observer, Role, add_weight_gradient};

/// Sums what [`Block::backward`] tells.
#[derive(Debug)]
pub struct Gradients<'a>(pub &'a mut Block);

impl Observer for Gradients<'_> {
    fn product(&mut self, role: Role, _expert: usize, input: &[f32], gradient: &[f32]) {
        let linear = self.0.matrix_mut(role);
        add_weight_gradient(&mut linear.weight, gradient, linear.rows, input, linear.columns);
        if let Some(bias) = &mut linear.bias {
            gradient.chunks_exact(linear.rows).for_each(|row| kernels::ops::add(bias, row));
        }
    }

    fn norm(&mut self, pick: Norm, gradient: &[f32]) {
        if let Some(norm) = self.0.norms.get_mut(pick) {
            kernels::ops::add(norm, gradient);
        }
    }
}
