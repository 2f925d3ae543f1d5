//! The feed-forward block by experts. One token: all its experts in two phases, or as they come. Many tokens: expert by expert, each
//! with the tokens that visit it, so that its weights are read once. Either way a token's sum is built in the order
//! of the experts' numbers.

use arrayvec::ArrayVec;
use kernels::{Product, Team, multiply};

use super::feed_forward::set_activated;
use super::{LayerWeights, TOKENS_PER_CHUNK, keep, product, set_normalised};
use crate::error::Error;
use crate::experts::{ExpertBuffers, choose};
use crate::model::Model;
use crate::plan::Stored;
use crate::stream::{Loan, Streamer};
use crate::weights::FeedForward;
use crate::workspace::Workspace;

/// Experts of one token whose products share a phase, at most.
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

    /// The input holds the token already. Where experts are streamed, those that are there are multiplied with while the
    /// others come.
    fn experts_of_one_token(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        weights: &LayerWeights<'_>,
        [gate, up, down]: [&[Stored]; 3],
    ) -> Result<(), Error> {
        let width = self.config.width;
        let used = self.config.experts.as_ref().map_or(0, |experts| experts.used);
        let mut coming = match (weights.experts, &workspace.experts) {
            (Some(streamer), Some(buffers)) => {
                let chosen = buffers.choices[..used].iter().map(|choice| choice.expert);
                Some(streamer.experts(weights.index, chosen))
            }
            _ => None,
        };
        if let Some(streamer) = weights.experts {
            self.guess_experts(team, workspace, streamer, weights.index + 1);
        }
        let Workspace { branch, input, experts: Some(buffers), .. } = workspace else { return Ok(()) };
        let ExpertBuffers { choices, rows, gate: hidden, up: factor, inputs, .. } = buffers;
        let choices = &choices[..used];
        let hidden_width = hidden.len() / used;
        let mut done = 0;
        while done < used {
            let group: ArrayVec<(usize, Option<Loan>), EXPERTS_PER_PHASE> = match &mut coming {
                Some(coming) => {
                    let there = coming.take(EXPERTS_PER_PHASE)?.into_iter();
                    there.map(|(place, loan)| (place, Some(loan))).collect()
                }
                None => (done..used).take(EXPERTS_PER_PHASE).map(|place| (place, None)).collect(),
            };
            done += group.len();
            let members = || group.iter().map(|(place, lent)| (choices[*place].expert, lent.as_ref()));
            let mut products = ArrayVec::<Product<'_>, { 2 * EXPERTS_PER_PHASE }>::new();
            let outputs = hidden.chunks_exact_mut(hidden_width).zip(factor.chunks_exact_mut(hidden_width));
            for ((expert, lent), (hidden, factor)) in members().zip(outputs) {
                products.push(weights.product_of(lent, &gate[expert], input, hidden));
                products.push(weights.product_of(lent, &up[expert], input, factor));
            }
            multiply(team, &mut products);
            drop(products);
            let parts = hidden.chunks_exact(hidden_width).zip(factor.chunks_exact(hidden_width));
            for (((expert, _), input), (hidden, factor)) in members().zip(&mut *inputs).zip(parts) {
                set_activated(team, self.config.activation, input, 1, hidden, factor, keep([&down[expert]]));
            }
            let mut products = ArrayVec::<Product<'_>, EXPERTS_PER_PHASE>::new();
            let is_in_group = |place: usize| group.iter().any(|(other, _)| *other == place);
            let rows = rows.chunks_exact_mut(width).enumerate().filter(|(place, _)| is_in_group(*place));
            for (((expert, lent), input), (_, row)) in members().zip(&*inputs).zip(rows) {
                products.push(weights.product_of(lent, &down[expert], input, row));
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

    /// Has those experts of `layer`, the next, read ahead that its router would choose if it saw the stream as it is: what
    /// lies between changes the stream little (Eliseev and Mazur, 2023, <https://arxiv.org/abs/2312.17238>).
    fn guess_experts(&self, team: &Team, workspace: &mut Workspace, streamer: &Streamer, layer: usize) {
        let Workspace { stream, experts: Some(buffers), .. } = workspace else { return };
        let ExpertBuffers { scores, ahead, guess, .. } = buffers;
        let (Some(experts), Some(next)) = (&self.config.experts, self.weights.layers.get(layer)) else {
            return;
        };
        let FeedForward::Experts { router, .. } = &next.feed_forward else { return };
        let (stream, scores) = (&stream[..self.config.width], &mut scores[..experts.count]);
        set_normalised(team, &self.config, ahead, stream, &next.feed_forward_norm, keep([router]));
        multiply(team, &mut [product(self.matrix(router), ahead, scores)]);
        choose(experts, scores, guess);
        guess.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight));
        streamer.guess_experts(layer, guess.iter().map(|choice| choice.expert));
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
