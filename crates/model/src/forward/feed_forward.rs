//! The second half of a layer: the feed-forward block, dense or by experts.

use std::ops::Range;

use kernels::{Input, Keep, Team, multiply, ops};

use super::{LayerWeights, add_bias, join, keep, normalise, set_normalised};
use crate::config::Activation;
use crate::error::Error;
use crate::model::Model;
use crate::weights::FeedForward;
use crate::workspace::Workspace;

impl Model {
    /// Adds the feed-forward block of the layer with these `weights` to the residual stream of the batch's tokens in `rows`.
    ///
    /// # Errors
    /// Those of experts that are streamed.
    pub(super) fn feed_forward(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        weights: &LayerWeights<'_>,
        rows: Range<usize>,
    ) -> Result<(), Error> {
        let (config, layer) = (&self.config, &self.weights.layers[weights.index]);
        let (width, tokens) = (config.width, rows.len());
        let stream_range = rows.start * width..rows.end * width;
        let norm = &layer.feed_forward_norm;
        let mut bias = None;
        match &layer.feed_forward {
            FeedForward::Dense { gate, up, down } => {
                let Workspace { stream, branch, gate: hidden, up: factor, input, .. } = &mut *workspace;
                let stream = &stream[stream_range.clone()];
                let branch = &mut branch[..tokens * width];
                let hidden = &mut hidden[..tokens * config.feed_forward];
                let factor = &mut factor[..tokens * config.feed_forward];
                set_normalised(team, config, input, stream, norm, keep([&gate.matrix, &up.matrix]));
                multiply(
                    team,
                    &mut [
                        weights.product(&gate.matrix, input, hidden),
                        weights.product(&up.matrix, input, factor),
                    ],
                );
                add_bias(team, gate, hidden);
                add_bias(team, up, factor);
                set_activated(team, config.activation, input, tokens, hidden, factor, keep([&down.matrix]));
                multiply(team, &mut [weights.product(&down.matrix, input, branch)]);
                bias = down.bias.as_ref();
            }
            FeedForward::Experts { router, gate, up, down } => {
                let Workspace { stream, branch, .. } = &mut *workspace;
                let normed = &mut branch[..tokens * width];
                normalise(team, config, &stream[stream_range.clone()], norm, normed);
                self.experts(team, workspace, tokens, weights, router, [gate, up, down])?;
            }
        }
        let Workspace { stream, branch, .. } = workspace;
        join(
            team,
            config,
            &mut branch[..tokens * width],
            bias,
            layer.post_feed_forward_norm.as_ref(),
            &mut stream[stream_range],
        );
        Ok(())
    }
}

/// Makes `activation(gate) * up`, rows of `tokens` tokens, the input of the next products.
pub(super) fn set_activated(
    team: &Team,
    activation: Activation,
    input: &mut Input,
    tokens: usize,
    gate: &[f32],
    up: &[f32],
    keep: Keep,
) {
    let apply = match activation {
        Activation::Silu => ops::silu_mul,
        Activation::Gelu => ops::gelu_mul,
    };
    let width = gate.len() / tokens;
    input.set_with(team, tokens, width, keep, &|token, row| {
        let values = token * width..(token + 1) * width;
        row.copy_from_slice(&gate[values.clone()]);
        apply(row, &up[values]);
    });
}
