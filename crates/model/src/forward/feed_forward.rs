//! The second half of a layer: the feed-forward block, dense or by experts.

use std::ops::Range;

use kernels::{Team, multiply, ops};

use super::{TOKENS_PER_CHUNK, add_bias, join, keep, normalise};
use crate::config::Activation;
use crate::model::Model;
use crate::weights::FeedForward;
use crate::workspace::Workspace;

impl Model {
    /// Adds the feed-forward block of layer `index` to the residual stream of the batch's tokens in `rows`.
    pub(super) fn feed_forward(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        index: usize,
        rows: Range<usize>,
    ) {
        let (config, layer) = (&self.config, &self.weights.layers[index]);
        let (width, tokens) = (config.width, rows.len());
        let stream_range = rows.start * width..rows.end * width;
        let normed = &mut workspace.branch[..tokens * width];
        normalise(team, config, &workspace.stream[stream_range.clone()], &layer.feed_forward_norm, normed);
        let mut bias = None;
        match &layer.feed_forward {
            FeedForward::Dense { gate, up, down } => {
                let Workspace { branch, gate: hidden, up: factor, input, .. } = &mut *workspace;
                let branch = &mut branch[..tokens * width];
                let hidden = &mut hidden[..tokens * config.feed_forward];
                let factor = &mut factor[..tokens * config.feed_forward];
                input.set(team, branch, tokens, width, keep([&gate.matrix, &up.matrix]));
                multiply(
                    team,
                    &mut [self.product(&gate.matrix, input, hidden), self.product(&up.matrix, input, factor)],
                );
                add_bias(team, gate, hidden);
                add_bias(team, up, factor);
                activate(team, config.activation, config.feed_forward, hidden, factor);
                input.set(team, hidden, tokens, config.feed_forward, keep([&down.matrix]));
                multiply(team, &mut [self.product(&down.matrix, input, branch)]);
                bias = down.bias.as_ref();
            }
            FeedForward::Experts { router, gate, up, down } => {
                self.experts(team, workspace, tokens, router, [gate, up, down]);
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
    }
}

/// `gate = activation(gate) * up`, rows of `width`.
pub(super) fn activate(team: &Team, activation: Activation, width: usize, gate: &mut [f32], up: &[f32]) {
    let apply = match activation {
        Activation::Silu => ops::silu_mul,
        Activation::Gelu => ops::gelu_mul,
    };
    team.for_rows(gate, width, TOKENS_PER_CHUNK, &|first, rows| {
        apply(rows, &up[first * width..first * width + rows.len()]);
    });
}
