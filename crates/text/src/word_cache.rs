//! Words that occurred before, with their tokens.
//!
//! Four of five words of ordinary text have been seen a few lines above. Copying their tokens costs a tenth of
//! merging them again.

use std::ops::Range;

use hashbrown::HashMap;

/// Longer words hardly ever come again.
const LONGEST: usize = 48;

/// Enough for the words of a book; more would only push the table out of the processor's cache.
const MOST: usize = 1 << 16;

/// Where the tokens of a word stand in the output.
#[derive(Default)]
pub(crate) struct WordCache<'a> {
    seen: HashMap<&'a str, Range<usize>>,
}

impl<'a> WordCache<'a> {
    /// Appends the tokens of a word to `out`, by `encode` if the word is new. `out` must be the same for every
    /// call and must only grow.
    pub(crate) fn encode(
        &mut self,
        word: &'a str,
        out: &mut Vec<u32>,
        encode: impl FnOnce(&str, &mut Vec<u32>),
    ) {
        if word.len() > LONGEST {
            return encode(word, out);
        }
        if let Some(range) = self.seen.get(word) {
            return out.extend_from_within(range.clone());
        }
        let start = out.len();
        encode(word, out);
        if self.seen.len() < MOST {
            self.seen.insert(word, start..out.len());
        }
    }
}
