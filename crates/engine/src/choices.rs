//! How likely the chosen tokens were, for those who ask: the model's own probabilities, before penalties, truncation and
//! temperature.

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at its place and their logarithms, likeliest first, as many as were asked for.
    pub alternatives: Vec<(u32, f32)>,
}

/// The choices that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Choices {
    pub(crate) alternatives: usize,
    pub(crate) made: Vec<Choice>,
}

impl Choice {
    /// The choice of `token` from `logits`, one value a token of the vocabulary, as the model gave them.
    pub(crate) fn of(logits: &[f32], token: u32, alternatives: usize) -> Choice {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let numbers = || logits.iter().copied().filter(|logit| !logit.is_nan());
        let sum: f64 = numbers().map(|logit| f64::from((logit - max).exp())).sum();
        let total = f64::from(max) + sum.ln();
        let logprob = |logit: f32| (f64::from(logit) - total) as f32;
        let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let mut top = Vec::new();
        if alternatives > 0 {
            top.extend((0..).zip(logits.iter().copied()).filter(|(_, logit)| !logit.is_nan()));
            if alternatives < top.len() {
                top.select_nth_unstable_by(alternatives - 1, likelier);
                top.truncate(alternatives);
            }
            top.sort_unstable_by(likelier);
            top.iter_mut().for_each(|(_, logit)| *logit = logprob(*logit));
        }
        Choice { token, logprob: logprob(logits[token as usize]), alternatives: top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_come_sorted() {
        let logits = [0.5, f32::NAN, 3.0, -2.0, 3.0, f32::NEG_INFINITY];
        let choice = Choice::of(&logits, 3, 6);
        let sum: f64 = choice.alternatives.iter().map(|&(_, logprob)| f64::from(logprob).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        let order: Vec<u32> = choice.alternatives.iter().map(|&(token, _)| token).collect();
        assert_eq!(order, [2, 4, 0, 3, 5]);
        assert_eq!(choice.logprob, choice.alternatives[3].1);
        assert_eq!(Choice::of(&logits, 2, 2).alternatives.len(), 2);
        assert!(Choice::of(&logits, 2, 0).alternatives.is_empty());
    }
}
