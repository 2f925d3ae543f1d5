//! Mixture of experts: the router's choice, and the buffers that it needs.

use kernels::{Input, ops};

use crate::config::Experts;

/// An expert that a token visits, and its weight in the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// The expert's number in its layer.
    pub expert: usize,
    /// Of its word in the sum.
    pub weight: f32,
}

/// Buffers of a mixture of experts, allocated once.
#[derive(Debug)]
pub(crate) struct ExpertBuffers {
    /// `[token][count]`.
    pub(crate) scores: Vec<f32>,
    /// `[token][used]`, by ascending expert: the order of the sum must not depend on the batch.
    pub(crate) choices: Vec<Choice>,
    /// Rows of the tokens that visit one expert, `[row][width]`; for one token, what its experts yield.
    pub(crate) rows: Vec<f32>,
    /// `[token][width]`.
    pub(crate) sum: Vec<f32>,
    /// The visitors of one expert: token and weight.
    pub(crate) visitors: Vec<(usize, f32)>,
    /// `[used][feed_forward]`, for one token.
    pub(crate) gate: Vec<f32>,
    /// `[used][feed_forward]`, for one token.
    pub(crate) up: Vec<f32>,
    /// One for each expert that a single token visits.
    pub(crate) inputs: Vec<Input>,
    /// A token as the next layer's router would see it, and what that would choose.
    pub(crate) ahead: Input,
    /// See `ahead`: `[used]`, the likeliest first.
    pub(crate) guess: Vec<Choice>,
}

impl ExpertBuffers {
    pub(crate) fn new(experts: &Experts, width: usize, max_batch: usize) -> ExpertBuffers {
        let hidden = vec![0.0; experts.used * experts.feed_forward];
        ExpertBuffers {
            scores: vec![0.0; max_batch * experts.count],
            choices: vec![Choice::default(); max_batch * experts.used],
            rows: vec![0.0; max_batch.max(experts.used) * width],
            sum: vec![0.0; max_batch * width],
            visitors: Vec::with_capacity(max_batch),
            up: hidden.clone(),
            gate: hidden,
            inputs: (0..experts.used).map(|_| Input::new(1, experts.feed_forward)).collect(),
            ahead: Input::new(1, width),
            guess: vec![Choice::default(); experts.used],
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let floats = self.scores.len() + self.rows.len() + self.sum.len() + 3 * self.gate.len();
        let inputs: usize = self.inputs.iter().chain([&self.ahead]).map(Input::bytes).sum();
        floats * size_of::<f32>() + inputs + size_of_val(&self.choices[..])
    }
}

/// Picks the `used` experts with the highest of a token's `scores`, which become probabilities, by ascending expert.
/// Of equal scores the first wins.
pub fn choose(experts: &Experts, scores: &mut [f32], choices: &mut [Choice]) {
    ops::softmax(scores);
    for place in 0..choices.len() {
        let (chosen, _) = choices.split_at(place);
        let mut best = None;
        for (expert, &weight) in scores.iter().enumerate() {
            let better = best.is_none_or(|best: Choice| weight > best.weight);
            if better && chosen.iter().all(|choice| choice.expert != expert) {
                best = Some(Choice { expert, weight });
            }
        }
        choices[place] = best.unwrap_or_default();
    }
    choices.sort_unstable_by_key(|choice| choice.expert);
    let mut factor = experts.scale;
    if experts.normalise {
        let sum: f32 = choices.iter().map(|choice| choice.weight).sum();
        // The smallest normal half, as the reference implementations bound it.
        factor /= sum.max(6.103_515_6e-5);
    }
    choices.iter_mut().for_each(|choice| choice.weight *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experts(normalise: bool) -> Experts {
        Experts { count: 5, used: 2, feed_forward: 32, normalise, scale: 1.0 }
    }

    #[test]
    fn the_highest_win_and_stand_in_order() {
        let mut choices = [Choice::default(); 2];
        choose(&experts(true), &mut [0.0, 3.0, 1.0, 3.5, -1.0], &mut choices);
        assert_eq!(choices.map(|choice| choice.expert), [1, 3]);
        let sum = choices[0].weight + choices[1].weight;
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert!((choices[1].weight / choices[0].weight - 0.5f32.exp()).abs() < 1e-4);
    }

    #[test]
    fn the_first_of_equals_wins_and_probabilities_stay() {
        let mut choices = [Choice::default(); 2];
        choose(&experts(false), &mut [1.0; 5], &mut choices);
        assert_eq!(choices.map(|choice| choice.expert), [0, 1]);
        assert!((choices[0].weight - 0.2).abs() < 1e-6);
    }

    #[test]
    fn scores_that_are_no_numbers_still_choose() {
        let mut choices = [Choice::default(); 2];
        choose(&experts(true), &mut [f32::NAN; 5], &mut choices);
        assert!(choices.iter().all(|choice| choice.expert < 5));
    }
}
