//! The feed-forward block by experts. One token: all its experts in two phases. Many tokens: expert by expert, each
//! with the tokens that visit it, so that its weights are read once. Either way a token's sum is built in the order
//! of the experts' numbers.

use arrayvec::ArrayVec;
use kernels::{Product, Team, multiply};

use super::feed_forward::set_activated;
use super::{LayerWeights, TOKENS_PER_CHUNK, keep};
use crate::error::Error;
use crate::experts::{ExpertBuffers, choose};
use crate::model::Model;
use crate::plan::Stored;
use crate::workspace::Workspace;

/// Experts of one token whose products share a phase.
const EXPERTS_PER_PHASE: usize = 8;

impl Model {
    /// Replaces the first `tokens` rows of the branch, the normalised stream, with what their experts make of them.
    ///
    /// # Errors
    /// Those of experts that are streamed.
    pub(super) fn experts(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        tokens: usize,
        weights: &LayerWeights<'_>,
        router: &Stored,
        matrices: [&[Stored]; 3],
    ) -> Result<(), Error> {
        let Some(experts) = &self.config.experts else { return Ok(()) };
        let [gate, up, _] = matrices;
        let Workspace { branch, input, experts: Some(buffers), .. } = &mut *workspace else { return Ok(()) };
        let scores = &mut buffers.scores[..tokens * experts.count];
        input.set(
            team,
            &branch[..tokens * self.config.width],
            tokens,
            self.config.width,
            keep([router, &gate[0], &up[0]]),
        );
        multiply(team, &mut [weights.product(router, input, scores)]);
        for (scores, choices) in
            scores.chunks_exact_mut(experts.count).zip(buffers.choices.chunks_exact_mut(experts.used))
        {
            choose(experts, scores, choices);
        }
        if tokens == 1 {
            self.experts_of_one_token(team, workspace, weights, matrices)
        } else {
            self.experts_of_many_tokens(team, workspace, tokens, weights, matrices)
        }
    }

    /// The input holds the token already.
    fn experts_of_one_token(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        weights: &LayerWeights<'_>,
        [gate, up, down]: [&[Stored]; 3],
    ) -> Result<(), Error> {
        let width = self.config.width;
        let Workspace { branch, input, experts: Some(buffers), .. } = workspace else { return Ok(()) };
        let ExpertBuffers { choices, rows, gate: hidden, up: factor, inputs, .. } = buffers;
        let used = inputs.len();
        let choices = &choices[..used];
        let hidden_width = hidden.len() / used;
        let chosen = choices.iter().map(|choice| choice.expert);
        let lent = weights.experts.map(|streamer| streamer.experts(weights.index, chosen)).transpose()?;
        let lent = |place: usize| lent.as_ref().and_then(|lent| lent.get(place));
        for first in (0..used).step_by(EXPERTS_PER_PHASE) {
            let mut products = ArrayVec::<Product<'_>, { 2 * EXPERTS_PER_PHASE }>::new();
            let outputs = hidden.chunks_exact_mut(hidden_width).zip(factor.chunks_exact_mut(hidden_width));
            let parts = choices.iter().zip(outputs).enumerate();
            for (place, (choice, (hidden, factor))) in parts.skip(first).take(EXPERTS_PER_PHASE) {
                products.push(weights.product_of(lent(place), &gate[choice.expert], input, hidden));
                products.push(weights.product_of(lent(place), &up[choice.expert], input, factor));
            }
            multiply(team, &mut products);
        }
        let parts = hidden.chunks_exact(hidden_width).zip(factor.chunks_exact(hidden_width));
        for ((choice, input), (hidden, factor)) in choices.iter().zip(&mut *inputs).zip(parts) {
            let keep_as = keep([&down[choice.expert]]);
            set_activated(team, self.config.activation, input, 1, hidden, factor, keep_as);
        }
        for first in (0..used).step_by(EXPERTS_PER_PHASE) {
            let mut products = ArrayVec::<Product<'_>, EXPERTS_PER_PHASE>::new();
            let parts = choices.iter().zip(&*inputs).zip(rows.chunks_exact_mut(width)).enumerate();
            for (place, ((choice, input), row)) in parts.skip(first).take(EXPERTS_PER_PHASE) {
                products.push(weights.product_of(lent(place), &down[choice.expert], input, row));
            }
            multiply(team, &mut products);
        }
        let branch = &mut branch[..width];
        branch.fill(0.0);
        for (choice, row) in choices.iter().zip(rows.chunks_exact(width)) {
            add_scaled(branch, row, choice.weight);
        }
        Ok(())
    }

    fn experts_of_many_tokens(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        tokens: usize,
        weights: &LayerWeights<'_>,
        [gate, up, down]: [&[Stored]; 3],
    ) -> Result<(), Error> {
        let width = self.config.width;
        let Workspace { branch, input, gate: hidden, up: factor, experts: Some(buffers), .. } = workspace
        else {
            return Ok(());
        };
        let ExpertBuffers { choices, rows, sum, visitors, inputs, .. } = buffers;
        let branch = &mut branch[..tokens * width];
        let sum = &mut sum[..tokens * width];
        sum.fill(0.0);
        let mut visited = Vec::new();
        if weights.experts.is_some() {
            visited.extend(choices[..tokens * inputs.len()].iter().map(|choice| choice.expert));
            visited.sort_unstable();
            visited.dedup();
        }
        for (expert, ((gate, up), down)) in gate.iter().zip(up).zip(down).enumerate() {
            visitors.clear();
            for (token, choices) in choices.chunks_exact(inputs.len()).take(tokens).enumerate() {
                visitors.extend(
                    choices
                        .iter()
                        .filter(|choice| choice.expert == expert)
                        .map(|choice| (token, choice.weight)),
                );
            }
            if visitors.is_empty() {
                continue;
            }
            let lent = match weights.experts {
                Some(streamer) => {
                    let coming = visited.iter().copied().skip_while(|&other| other < expert);
                    streamer.want_experts(weights.index, coming);
                    Some(streamer.expert(weights.index, expert)?)
                }
                None => None,
            };
            let count = visitors.len();
            let rows = &mut rows[..count * width];
            let hidden = &mut hidden[..count * gate.rows];
            let factor = &mut factor[..count * gate.rows];
            for (row, (token, _)) in rows.chunks_exact_mut(width).zip(&*visitors) {
                row.copy_from_slice(&branch[token * width..(token + 1) * width]);
            }
            input.set(team, rows, count, width, keep([gate, up]));
            multiply(
                team,
                &mut [
                    weights.product_of(lent.as_ref(), gate, input, hidden),
                    weights.product_of(lent.as_ref(), up, input, factor),
                ],
            );
            set_activated(team, self.config.activation, input, count, hidden, factor, keep([down]));
            multiply(team, &mut [weights.product_of(lent.as_ref(), down, input, rows)]);
            for (row, &(token, weight)) in rows.chunks_exact(width).zip(&*visitors) {
                add_scaled(&mut sum[token * width..(token + 1) * width], row, weight);
            }
        }
        team.for_rows(branch, width, TOKENS_PER_CHUNK, &|first, out| {
            out.copy_from_slice(&sum[first * width..first * width + out.len()]);
        });
        Ok(())
    }
}

fn add_scaled(out: &mut [f32], row: &[f32], weight: f32) {
    out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
}
