//! What lies between products, backward: norms, rotations, gates. Forward they are the kernels that also run the model.

use kernels::ops;
use model::{Activation, RopeStyle};

/// The gradient of [`ops::rms_norm`] of one row: adds that of `x` to `dx`, and that of the weight to `dweight`.
pub(crate) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let count = x.len() as f32;
    let mean_square = x.iter().map(|x| x * x).sum::<f32>() / count;
    let inverse = 1.0 / (mean_square + epsilon).sqrt();
    let along: f32 = x.iter().zip(weight).zip(dy).map(|((x, weight), dy)| x * weight * dy).sum();
    let pull = along * inverse.powi(3) / count;
    for i in 0..x.len() {
        dx[i] += weight[i] * inverse * dy[i] - x[i] * pull;
        dweight[i] += dy[i] * x[i] * inverse;
    }
}

/// Rotates a head by `angles`, `[dimensions / 2][cos, sin]`.
pub(crate) fn rotate(style: RopeStyle, head: &mut [f32], angles: &[f32]) {
    match style {
        RopeStyle::Adjacent => ops::rope_adjacent(head, angles),
        RopeStyle::Halves => ops::rope_halves(head, angles),
    }
}

/// `activation(gate) * up` in place of `gate`.
pub(crate) fn activate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => ops::silu_mul(gate, up),
        Activation::Gelu => ops::gelu_mul(gate, up),
    }
}

/// The gradients of [`activate`], in place: `gate` and `up` become theirs, given that of the product.
pub(crate) fn activate_backward(activation: Activation, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
        let (value, slope) = match activation {
            Activation::Silu => silu(*gate),
            Activation::Gelu => gelu(*gate),
        };
        let dgate = dy * *up * slope;
        *up = dy * value;
        *gate = dgate;
    }
}

/// `x / (1 + e^-x)` and its slope.
fn silu(x: f32) -> (f32, f32) {
    let gate = 1.0 / (1.0 + (-x).exp());
    (x * gate, gate * (1.0 + x * (1.0 - gate)))
}

/// GELU in its tanh approximation, and its slope.
fn gelu(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBIC: f32 = 0.044_715;
    let tanh = (SCALE * (x + CUBIC * x * x * x)).tanh();
    let inner_slope = SCALE * (1.0 + 3.0 * CUBIC * x * x);
    (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner_slope)
}
