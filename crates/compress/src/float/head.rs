//! From the stream to the logits and back: the norm before the output matrix, the matrix, the cap.

use model::Config;
use rayon::prelude::*;

use super::backward::norm_backward;
use super::block::norm_rows;
use super::linear::Linear;
use super::source::Source;
use crate::error::Error;

/// The output side of a model. The matrix is the embedding table where a model ties them.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// `[width]`.
    pub norm: Vec<f32>,
    /// `[vocabulary][width]`.
    pub output: Linear,
    epsilon: f32,
    softcap: Option<f32>,
}

impl Source {
    /// The output side.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn head(&self) -> Result<Head, Error> {
        let output = self.linear(&self.weights.output)?;
        Ok(Head::new(&self.config, self.weights.output_norm.clone(), output))
    }

    /// What the output matrix multiplies, `[token][width]`, without the matrix.
    pub fn output_input(&self, stream: &[f32]) -> Vec<f32> {
        norm_rows(stream, &self.weights.output_norm, self.config.norm_epsilon)
    }
}

impl Head {
    /// Puts one together.
    pub fn new(config: &Config, norm: Vec<f32>, output: Linear) -> Head {
        Head { norm, output, epsilon: config.norm_epsilon, softcap: config.logit_softcap }
    }

    /// What the output matrix multiplies: `[token][width]`.
    pub fn input(&self, stream: &[f32]) -> Vec<f32> {
        norm_rows(stream, &self.norm, self.epsilon)
    }

    /// `[token][vocabulary]`, from [`Head::input`].
    pub fn logits(&self, input: &[f32]) -> Vec<f32> {
        let mut logits = self.output.forward(input);
        if let Some(cap) = self.softcap {
            logits.par_chunks_mut(self.output.rows).for_each(|row| kernels::ops::softcap(row, cap));
        }
        logits
    }

    /// The gradient of the stream, given that of the logits; `logits` are those of the forward pass, and `gradient`
    /// becomes that of the product before the cap. Also returns the gradient of the norm's weight.
    pub fn backward(&self, stream: &[f32], logits: &[f32], gradient: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
        if let Some(cap) = self.softcap {
            for (slope, logit) in gradient.iter_mut().zip(logits) {
                *slope *= 1.0 - (logit / cap).powi(2);
            }
        }
        let mut dinput = vec![0.0; stream.len()];
        self.output.backward(gradient, &mut dinput);
        let mut dstream = vec![0.0; stream.len()];
        let dnorm = norm_backward(stream, &self.norm, self.epsilon, &dinput, &mut dstream);
        (dstream, dnorm)
    }
}
