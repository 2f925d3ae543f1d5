//! Finding whole tokens in text: `<|im_start|>` and its like, and the tokens that users added.
//!
//! The tokens lie sorted in one array; from a position in the text the range of those that still fit narrows
//! byte by byte. That needs no construction beyond the sort, and text without a first byte of any of them is
//! skipped at the speed of a table look-up.

use crate::vocabulary::{Attributes, Vocabulary};

/// A stretch of text, or a token found in it.
#[derive(Debug, PartialEq)]
pub(crate) enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

/// Tokens that are found as a whole.
pub(crate) struct SpecialTokens {
    /// Ids, sorted by the bytes of their texts.
    sorted: Vec<u32>,
    /// For each first byte the range in `sorted`.
    first: Box<[(u32, u32); 256]>,
}

impl SpecialTokens {
    /// The tokens of a vocabulary whose attributes are chosen.
    pub(crate) fn new(vocabulary: &Vocabulary, choose: impl Fn(Attributes) -> bool) -> Self {
        let chosen = |id: &u32| choose(vocabulary.attributes(*id)) && !vocabulary.text(*id).is_empty();
        let mut sorted: Vec<u32> = vocabulary.ids().filter(chosen).collect();
        // Of equal texts the first id is found, as everywhere.
        sorted.sort_by_key(|&id| (vocabulary.text(id), id));
        sorted.dedup_by_key(|id| vocabulary.text(*id));
        let mut first = Box::new([(0, 0); 256]);
        for (index, &id) in (0u32..).zip(&sorted) {
            let range = &mut first[vocabulary.text(id).as_bytes()[0] as usize];
            if range.0 == range.1 {
                *range = (index, index);
            }
            range.1 += 1;
        }
        Self { sorted, first }
    }

    /// The longest token with which `text` begins.
    fn longest(&self, vocabulary: &Vocabulary, text: &[u8]) -> Option<u32> {
        let (start, end) = self.first[text[0] as usize];
        let mut range = &self.sorted[start as usize..end as usize];
        let mut found = None;
        let mut length = 1;
        while let Some(&shortest) = range.first() {
            // All of the range begin with these `length` bytes; the shortest of them sorts first.
            if vocabulary.text(shortest).len() == length {
                found = Some(shortest);
                range = &range[1..];
            }
            let Some(&byte) = text.get(length) else { break };
            let byte_of = |id: &u32| vocabulary.text(*id).as_bytes()[length];
            let from = range.partition_point(|id| byte_of(id) < byte);
            range = &range[from..];
            range = &range[..range.partition_point(|id| byte_of(id) == byte)];
            length += 1;
        }
        found
    }

    /// Cuts a text at these tokens, the leftmost and there the longest first.
    pub(crate) fn split<'a>(
        &self,
        vocabulary: &Vocabulary,
        text: &'a str,
        mut fragment: impl FnMut(Fragment<'a>),
    ) {
        let (mut done, mut position) = (0, 0);
        let bytes = text.as_bytes();
        while position < bytes.len() {
            let (start, end) = self.first[bytes[position] as usize];
            let found = if start == end { None } else { self.longest(vocabulary, &bytes[position..]) };
            let Some(id) = found else {
                position += 1;
                continue;
            };
            // Whole UTF-8 sequences match only at character boundaries.
            if done < position {
                fragment(Fragment::Text(&text[done..position]));
            }
            fragment(Fragment::Token(id));
            position += vocabulary.text(id).len();
            if vocabulary.attributes(id).any(Attributes::STRIPS_RIGHT) {
                let is_space = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0x0B;
                position += bytes[position..].iter().take_while(is_space).count();
            }
            done = position;
        }
        if done < bytes.len() {
            fragment(Fragment::Text(&text[done..]));
        }
    }
}
