//! SentencePiece vocabularies: neighbours join where the whole is a token, the highest score first.
//!
//! There is no list of merges and no cutting into words: a text is one sequence of characters, spaces
//! written as `▁`. A character that is no token is written as the tokens of its bytes.

use hashbrown::HashSet;

use crate::merge::Merger;
use crate::vocabulary::Vocabulary;
use crate::word_cache::WordCache;

/// The character that stands for a space.
pub(crate) const SPACE: &str = "▁";

/// The id of a single character: above those of every vocabulary.
const NOT_JOINED: u32 = u32::MAX;

/// Scores in an order: the bits of a float, arranged so that greater floats are greater integers.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score(u32);

impl Score {
    fn new(score: f32) -> Self {
        // Adding zero makes the negative zero positive: the two are equal.
        let bits = (score + 0.0).to_bits();
        Self(if bits >> 31 == 0 { bits | 1 << 31 } else { !bits })
    }
}

/// Where a text may be cut without changing its tokens: in front of a `▁` to which no token leads over.
///
/// Cut texts cost less: short words repeat, and the heap stays small.
pub(crate) struct Cuts {
    /// Characters that stand in front of a `▁` in some token.
    before_space: HashSet<char>,
}

impl Cuts {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let (texts, ends) = vocabulary.all_texts();
        let mut before_space = HashSet::new();
        let (mut token, mut start) = (0, 0);
        for (position, _) in texts.match_indices(SPACE) {
            while ends[token] as usize <= position {
                start = ends[token] as usize;
                token += 1;
            }
            before_space.extend(texts[start..position].chars().next_back());
        }
        Self { before_space }
    }

    /// Calls `piece` with each piece of `text`; together they are `text`.
    fn split<'a>(&self, text: &'a str, mut piece: impl FnMut(&'a str)) {
        let mut done = 0;
        for (position, _) in text.match_indices(SPACE) {
            let before = text[done..position].chars().next_back();
            if before.is_some_and(|before| !self.before_space.contains(&before)) {
                piece(&text[done..position]);
                done = position;
            }
        }
        if done < text.len() {
            piece(&text[done..]);
        }
    }
}

/// Appends the tokens of a text whose spaces are written as `▁` already. A byte without a token becomes
/// `unknown`, or nothing where the vocabulary has no such token.
pub(crate) fn encode(
    vocabulary: &Vocabulary,
    cuts: &Cuts,
    text: &str,
    unknown: Option<u32>,
    merger: &mut Merger<Score>,
    out: &mut Vec<u32>,
) {
    let mut cache = WordCache::default();
    cuts.split(text, |piece| {
        cache.encode(piece, out, |piece, out| encode_piece(vocabulary, piece, unknown, merger, out));
    });
}

fn encode_piece(
    vocabulary: &Vocabulary,
    text: &str,
    unknown: Option<u32>,
    merger: &mut Merger<Score>,
    out: &mut Vec<u32>,
) {
    merger.clear();
    for character in text.chars() {
        // Only the text of a symbol decides whether it joins; its id is needed when it has not.
        merger.push(NOT_JOINED, character.len_utf8());
    }
    let merged = merger.merge(|left, right| {
        let id = vocabulary.id(&text[left.start..right.end])?;
        Some((Score::new(vocabulary.score(id)), id))
    });
    for symbol in merged {
        let piece = &text[symbol.start..symbol.end];
        let id = if symbol.id == NOT_JOINED { vocabulary.id(piece) } else { Some(symbol.id) };
        match id {
            Some(id) => out.push(id),
            None => out.extend(piece.bytes().filter_map(|byte| vocabulary.byte_token(byte).or(unknown))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_in_the_order_of_the_numbers() {
        let ordered = [f32::NEG_INFINITY, -1e9, -1.5, -1.0, -1e-30, 0.0, 1e-30, 1.0, f32::INFINITY];
        assert!(ordered.windows(2).all(|pair| Score::new(pair[0]) < Score::new(pair[1])));
        assert!(Score::new(-0.0) == Score::new(0.0));
    }
}
