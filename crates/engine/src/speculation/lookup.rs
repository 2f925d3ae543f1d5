//! Prompt lookup: what followed the same tokens earlier in the session is likely to follow them again.
//!
//! Answers that edit, quote or continue what is in the prompt copy long stretches of it (Saxena, "Prompt Lookup Decoding",
//! 2023). The place to copy from is found as LZ77 finds its matches: every pair of tokens is in a table that leads from the
//! latest occurrence to earlier ones, and of these the one with the longest common past counts. From there the copy is
//! followed for as long as it is right, so that the table is asked only after a miss. A token costs a few dozen
//! nanoseconds, whatever the length of the session.
//!
//! The longer the common past, the likelier the copy goes on. How likely differs from text to text, so it is counted, for
//! every token of the answer and not only for drafted ones: that costs nothing, and in text that does not repeat itself no
//! pass is ever spent on finding that out.

use super::Pace;

/// Tokens that must have occurred together before what followed them counts. Over answers that edited code, quoted a
/// report and told a story, pairs and triples differed by less than 1 %, single tokens gained 5 % at most, at the price of
/// long chains.
const SHORTEST: usize = 2;

/// Common pasts are compared up to this length.
const LONGEST: usize = 32;

/// Earlier occurrences that are compared: of a frequent pair there are hundreds, and the latest are the likeliest.
const COMPARED: usize = 32;

/// How fast the counted chances follow the text.
const RATE: f64 = 1.0 / 16.0;

/// The chance that a copy goes on before anything is counted, about that of ordinary text, for common pasts of 2, 3, 4, 5, 6, 8, 16, 32 tokens and more.
const CHANCES: [f64; 8] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The copy at hand and the table that finds the next. All positions are lengths of the history: position `p` has
/// `tokens[p]` after it; 0 is none.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// For each hash of a pair the latest position that follows one.
    latest: Vec<u32>,
    /// For each position the one before it with the same hash; as long as the history followed so far, plus one.
    earlier: Vec<u32>,
    /// Where the copy goes on.
    source: usize,
    /// Length of the common past of `source` and the history's end.
    matched: usize,
    /// How likely the copy goes on, by [`class`] of `matched`.
    chances: [f64; CHANCES.len()],
}

impl Lookup {
    /// For histories of up to `context` tokens, and the one sampled beyond.
    pub(crate) fn new(context: usize) -> Lookup {
        let mut earlier = Vec::with_capacity(context + 2);
        earlier.push(0);
        Lookup {
            latest: vec![0; context.next_power_of_two().max(2)],
            earlier,
            source: 0,
            matched: 0,
            chances: CHANCES,
        }
    }

    /// Forgets the history, not what was counted.
    pub(crate) fn clear(&mut self) {
        self.latest.fill(0);
        self.earlier.truncate(1);
        self.source = 0;
    }

    /// Takes in the tokens that are new since the last call; those from index `answer` on are the model's, and what they say
    /// about earlier guesses is counted.
    pub(crate) fn follow(&mut self, tokens: &[u32], answer: usize) {
        for end in self.earlier.len()..=tokens.len() {
            let past = &tokens[..end];
            if self.source > 0 {
                let is_right = past[self.source] == past[end - 1];
                if end > answer {
                    let chance = &mut self.chances[class(self.matched)];
                    *chance += RATE * (f64::from(u8::from(is_right)) - *chance);
                }
                (self.source, self.matched) =
                    if is_right { (self.source + 1, self.matched + 1) } else { (0, 0) };
            }
            let Some(pair) = past.last_chunk::<SHORTEST>() else {
                self.earlier.push(0);
                continue;
            };
            let bucket = self.bucket(pair);
            // What follows a token of the prompt is known.
            if self.source == 0 && end >= answer {
                self.find(past, self.latest[bucket]);
            }
            self.earlier.push(self.latest[bucket]);
            self.latest[bucket] = end as u32;
        }
    }

    fn bucket(&self, &[first, second]: &[u32; SHORTEST]) -> usize {
        // Multiplicative hashing (Knuth, volume 3, section 6.4): the upper bits of a product are mixed best.
        let mixed = (u64::from(first) << 32 | u64::from(second)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - self.latest.len().ilog2())) as usize
    }

    /// Makes the position with the longest common past with `past` the source, of equal ones the latest.
    fn find(&mut self, past: &[u32], latest: u32) {
        self.matched = SHORTEST - 1;
        let mut candidate = latest as usize;
        for _ in 0..COMPARED {
            if candidate == 0 || self.matched >= LONGEST {
                return;
            }
            let pairs = past[..candidate].iter().rev().zip(past.iter().rev());
            let common = pairs.take(LONGEST).take_while(|(a, b)| a == b).count();
            if common > self.matched {
                (self.source, self.matched) = (candidate, common);
            }
            candidate = self.earlier[candidate] as usize;
        }
    }

    /// Appends to `batch` what follows the source, as far as it is worth it. Where the source comes to the history's end the
    /// copy goes on with itself, as in a text that repeats a short period.
    pub(crate) fn draft(&self, tokens: &[u32], pace: &Pace<'_>, batch: &mut Vec<u32>) {
        if self.source == 0 {
            return;
        }
        let first = batch.len();
        for position in self.source..self.source + pace.length(0.0, |index| self.chance(index)) {
            let token = tokens.get(position).copied();
            batch.push(token.unwrap_or_else(|| batch[first + position - tokens.len()]));
        }
    }

    /// How likely the token of this index in a draft is right if those before it are.
    fn chance(&self, index: usize) -> f64 {
        self.chances[class(self.matched + index)]
    }
}

/// The place in [`CHANCES`] of a common past of this length.
fn class(matched: usize) -> usize {
    match matched {
        ..6 => matched.saturating_sub(2),
        6..8 => 4,
        8..16 => 5,
        16..32 => 6,
        32.. => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::speculation::{PassCosts, Speculation};

    fn draft(lookup: &Lookup, tokens: &[u32], limit: usize) -> Vec<u32> {
        let costs = PassCosts::new();
        // As the engine does it: behind the token that is pending.
        let mut batch = vec![tokens[tokens.len() - 1]];
        let pace = Pace { speculation: Speculation::Fixed(limit), limit, costs: &costs };
        lookup.draft(tokens, &pace, &mut batch);
        batch.split_off(1)
    }

    fn drafted(tokens: &[u32], limit: usize) -> Vec<u32> {
        let mut lookup = Lookup::new(tokens.len());
        lookup.follow(tokens, tokens.len());
        draft(&lookup, tokens, limit)
    }

    #[test]
    fn the_longest_common_past_counts_then_the_latest() {
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 6, 1, 2], 3), [3, 4, 5]);
        assert_eq!(drafted(&[9, 1, 2, 3, 7, 1, 2, 4, 9, 1, 2], 1), [3]);
        assert_eq!(drafted(&[1, 2, 3, 7, 1, 2, 4, 9, 1, 2], 1), [4]);
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 2], 3), [0; 0], "one token is too little");
        assert_eq!(drafted(&[1], 3), [0; 0]);
        assert_eq!(drafted(&[1, 2, 3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3], "a period goes on");
    }

    /// However the history comes in, the guess is that of a search through all of it; also after it was replaced.
    #[test]
    fn following_agrees_with_searching() {
        let mut random = Random::new(5);
        let mut lookup = Lookup::new(100);
        for _ in 0..20 {
            lookup.clear();
            let mut tokens: Vec<u32> = Vec::new();
            while tokens.len() < 90 {
                let count = 1 + random.next_u64() % 4;
                tokens.extend((0..count).map(|_| (random.next_u64() % 5) as u32));
                lookup.follow(&tokens, 0);
                // A copy that is followed may have been overtaken by a longer one since it was found, yet it is one.
                let common = |at: usize| {
                    tokens[..at].iter().rev().zip(tokens.iter().rev()).take_while(|(a, b)| a == b).count()
                };
                let guess = draft(&lookup, &tokens, 1);
                let possible: Vec<usize> = (1..tokens.len()).filter(|&at| common(at) >= SHORTEST).collect();
                assert_eq!(guess.is_empty(), possible.is_empty(), "{tokens:?}");
                if let Some(&token) = guess.first() {
                    assert!(possible.contains(&lookup.source) && tokens[lookup.source] == token);
                    assert!(lookup.matched.min(LONGEST) == common(lookup.source).min(LONGEST));
                }
            }
        }
    }

    #[test]
    fn chances_follow_the_text() {
        let period = [1, 2, 3, 4, 5, 6, 7];
        let repeating: Vec<u32> = period.iter().copied().cycle().take(400).collect();
        let mut lookup = Lookup::new(1000);
        lookup.follow(&repeating, 0);
        assert!(lookup.chance(0) > 0.99);
        // Pairs that come again with something else after them each time.
        let misleading: Vec<u32> = (100..200).flat_map(|token| [1, 2, token]).collect();
        lookup.clear();
        lookup.follow(&misleading, 0);
        assert!(lookup.chances[class(2)] < 0.01, "{:?}", lookup.chances);
        // What the prompt repeats says nothing about the model.
        let mut lookup = Lookup::new(1000);
        lookup.follow(&repeating, repeating.len());
        assert_eq!(lookup.chances, CHANCES);
    }
}
