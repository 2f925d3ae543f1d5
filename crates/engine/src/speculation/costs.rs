//! What a pass over several tokens costs on this machine, learned from the passes that are made anyway.

use std::time::Duration;

use super::MOST_DRAFTED;

/// What each further token of a pass is taken to cost at most, relative to a single token's pass, until it is known: hopeful, so
/// that each length is tried where its tokens seem likely, but not on the mere chance of a pair.
const HOPED_SHARE: f64 = 0.25;

/// A draft must promise so much more speed: less could be the clock's noise.
const LEAST_GAIN: f64 = 1.05;

/// How fast a dearer pass moves the estimate. Cheaper ones count half: what delays a pass (another process, a page that is
/// read from disk) says little about the next, and the estimates are to be compared with each other.
const DEARER: f64 = 0.125;
const CHEAPER: f64 = 0.5;

/// Seconds that passes take, by the number of their tokens.
#[derive(Clone, Debug)]
pub(crate) struct PassCosts {
    /// `[tokens - 1]`; 0 where no such pass was made.
    seconds: [f64; MOST_DRAFTED + 1],
}

impl PassCosts {
    pub(crate) fn new() -> PassCosts {
        PassCosts { seconds: [0.0; MOST_DRAFTED + 1] }
    }

    /// Takes note of a pass; one of more tokens than a draft can have says nothing here.
    pub(crate) fn record(&mut self, tokens: usize, time: Duration) {
        if let Some(known) = tokens.checked_sub(1).and_then(|index| self.seconds.get_mut(index)) {
            *known = smooth(*known, time);
        }
    }

    /// Seconds that a pass over so many tokens takes, as far as is known: between lengths that were tried on the line
    /// between them, beyond the longest on a hopeful one, or on that to the longest where it rises less. So it does where
    /// weights come from storage, which takes as long for many tokens as for one.
    fn seconds(&self, tokens: usize) -> f64 {
        let known = |index: &usize| self.seconds[*index] > 0.0;
        let index = tokens - 1;
        let below = (0..=index).rev().find(known).unwrap_or(0);
        let slope = match (index..self.seconds.len()).find(known) {
            Some(above) if above > below => {
                (self.seconds[above] - self.seconds[below]) / (above - below) as f64
            }
            _ if below > 0 => {
                let risen = (self.seconds[below] - self.seconds[0]) / below as f64;
                risen.clamp(0.0, HOPED_SHARE * self.seconds[0])
            }
            _ => HOPED_SHARE * self.seconds[0],
        };
        self.seconds[below] + slope * (index - below) as f64
    }

    /// How many of `limit` tokens to draft, that most tokens come in a second: the one of index `i` is right with
    /// `chance(i)` if those before it are, and costs `draft_seconds` to come by. None before a single token's pass was seen.
    pub(crate) fn best_length(
        &self,
        limit: usize,
        draft_seconds: f64,
        chance: impl Fn(usize) -> f64,
    ) -> usize {
        let single = self.seconds[0];
        if single == 0.0 {
            return 0;
        }
        let (mut best, mut best_rate) = (0, LEAST_GAIN / single);
        let (mut expected, mut reached) = (1.0, 1.0);
        for count in 1..=limit.min(MOST_DRAFTED) {
            reached *= chance(count - 1);
            expected += reached;
            let rate = expected / (self.seconds(count + 1) + count as f64 * draft_seconds);
            if rate > best_rate {
                (best, best_rate) = (count, rate);
            }
        }
        best
    }
}

/// An estimate after one more measurement; 0 is none.
pub(super) fn smooth(known: f64, time: Duration) -> f64 {
    // A clock too coarse to see the pass must not make it unknown.
    let measured = time.as_secs_f64().max(1e-9);
    match known {
        0.0 => measured,
        _ if measured < known => known + CHEAPER * (measured - known),
        _ => known + DEARER * (measured.min(2.0 * known) - known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(passes: &[(usize, u64)]) -> PassCosts {
        let mut costs = PassCosts::new();
        passes.iter().for_each(|&(tokens, ms)| costs.record(tokens, Duration::from_millis(ms)));
        costs
    }

    /// On paper: a single token takes 40 ms, two 60, ten 100.
    #[test]
    fn drafts_as_far_as_it_pays() {
        let costs = costs(&[(1, 40), (2, 60), (10, 100)]);
        // Two tokens for 60 ms need a chance above 0.5 and the least gain.
        assert_eq!(costs.best_length(1, 0.0, |_| 0.57), 0);
        assert_eq!(costs.best_length(1, 0.0, |_| 0.58), 1);
        // Certain tokens: as many as allowed.
        assert_eq!(costs.best_length(9, 0.0, |_| 1.0), 9);
        let cheap = self::costs(&[(1, 40), (MOST_DRAFTED + 1, 60)]);
        assert_eq!(cheap.best_length(100, 0.0, |_| 1.0), MOST_DRAFTED);
        // Three certain ones: four tokens for 70 ms.
        assert_eq!(costs.best_length(9, 0.0, |index| if index < 3 { 1.0 } else { 0.0 }), 3);
        // The same at 40 ms each to draft are slower than none.
        assert_eq!(costs.best_length(9, 0.04, |index| if index < 3 { 1.0 } else { 0.0 }), 0);
        assert_eq!(costs.best_length(9, 0.0, |_| 0.0), 0);
    }

    #[test]
    fn passes_that_were_not_tried_are_estimated() {
        let costs = costs(&[(1, 40), (5, 60)]);
        let near = |tokens: usize, ms: f64| (costs.seconds(tokens) * 1e3 - ms).abs() < 1e-9;
        assert!(near(1, 40.0) && near(3, 50.0) && near(5, 60.0) && near(7, 70.0));
        // What is dearer than hoped may be so for the one length alone.
        let dear = self::costs(&[(1, 40), (2, 80)]);
        assert!((dear.seconds(3) * 1e3 - 90.0).abs() < 1e-9);
        let streamed = self::costs(&[(1, 600), (3, 590)]);
        assert!((streamed.seconds(9) * 1e3 - 590.0).abs() < 1e-9);
        assert_eq!(PassCosts::new().best_length(9, 0.0, |_| 1.0), 0);
    }

    #[test]
    fn a_delayed_pass_counts_little() {
        let mut costs = costs(&[(1, 40), (1, 4000)]);
        assert!((costs.seconds(1) - 0.045).abs() < 1e-9);
        for _ in 0..8 {
            costs.record(1, Duration::from_millis(40));
        }
        assert!(costs.seconds(1) < 0.0401);
        costs.record(0, Duration::from_millis(1));
        costs.record(MOST_DRAFTED + 2, Duration::from_millis(1));
    }
}
