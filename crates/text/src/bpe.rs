//! Byte-pair encoding: a word's symbols join by the list of merges in the file, earliest merge first.
//!
//! Merges are kept by the ids of their two sides. Sides or results that are no tokens, which careless
//! vocabularies have, get ids behind the vocabulary, so that merging goes through them as the file says; what
//! is left of them at the end is written byte by byte.

use std::cmp::Reverse;

use gguf::Metadata;
use hashbrown::HashMap;

use crate::byte_alphabet;
use crate::error::Error;
use crate::merge::Merger;
use crate::vocabulary::Vocabulary;

pub(crate) const MERGES: &str = "tokenizer.ggml.merges";

/// The id of a symbol that takes part in no merge.
const NO_SYMBOL: u32 = u32::MAX;

struct Merge {
    rank: u32,
    merged: u32,
}

/// The merges of a vocabulary.
pub(crate) struct Bpe {
    /// Left id in the upper half, right id in the lower.
    merges: HashMap<u64, Merge>,
    /// The symbol of each byte, in the byte-level alphabet.
    bytes: Box<[u32; 256]>,
    /// In a plain-text vocabulary: characters that are no tokens yet take part in merges.
    characters: HashMap<char, u32>,
    plain_text: bool,
}

/// Ids for texts, the vocabulary's own first.
struct Symbols<'a> {
    vocabulary: &'a Vocabulary,
    extra: HashMap<String, u32>,
}

impl Symbols<'_> {
    /// The id of a text, quicker if it is that of the token `likely`.
    fn id(&mut self, text: &str, likely: u32) -> u32 {
        if let Some(id) = self.vocabulary.id_likely(text, likely) {
            return id;
        }
        let next = (self.vocabulary.len() + self.extra.len()).min(NO_SYMBOL as usize) as u32;
        *self.extra.entry_ref(text).or_insert(next)
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    pub(crate) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        plain_text: bool,
    ) -> Result<Self, Error> {
        let list = metadata.strings(MERGES)?.ok_or(Error::MissingKey { key: MERGES })?;
        let mut symbols = Symbols { vocabulary, extra: HashMap::new() };
        let mut merges = HashMap::with_capacity(list.len());
        let mut whole = String::new();
        let mut previous = 0u32;
        for (rank, merge) in (0u32..).zip(list) {
            // The left side may begin with a space, the right side may hold some. A line without one says
            // nothing.
            let Some(space) = merge.bytes().skip(1).position(|byte| byte == b' ') else { continue };
            let (left, right) = (&merge[..space + 1], &merge[space + 2..]);
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            let pair = key(symbols.id(left, NO_SYMBOL), symbols.id(right, NO_SYMBOL));
            // Tokens mostly lie in the order of their merges.
            let merged = symbols.id(&whole, previous.wrapping_add(1));
            previous = merged;
            // Of a merge that stands twice the first counts.
            merges.entry(pair).or_insert(Merge { rank, merged });
        }
        let bytes = byte_alphabet::CHARACTERS
            .map(|character| symbols.id(character.encode_utf8(&mut [0; 4]), NO_SYMBOL));
        let single = |text: &str| {
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none())
        };
        let characters = symbols.extra.iter().filter_map(|(text, &id)| Some((single(text)?, id)));
        let characters = if plain_text { characters.collect() } else { HashMap::new() };
        Ok(Self { merges, bytes: Box::new(bytes), characters, plain_text })
    }

    /// Appends the tokens of one word.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        merger: &mut Merger<Reverse<u32>>,
        out: &mut Vec<u32>,
    ) {
        merger.clear();
        if self.plain_text {
            for character in word.chars() {
                let text = &mut [0; 4];
                let id = vocabulary.id(character.encode_utf8(text));
                let id = id.or_else(|| self.characters.get(&character).copied()).unwrap_or(NO_SYMBOL);
                merger.push(id, character.len_utf8());
            }
        } else {
            for &byte in word.as_bytes() {
                merger.push(self.bytes[byte as usize], 1);
            }
        }
        let merged = merger.merge(|left, right| {
            self.merges.get(&key(left.id, right.id)).map(|merge| (Reverse(merge.rank), merge.merged))
        });
        for symbol in merged {
            if (symbol.id as usize) < vocabulary.len() {
                out.push(symbol.id);
            } else {
                let bytes = &word.as_bytes()[symbol.start..symbol.end];
                out.extend(bytes.iter().filter_map(|&byte| self.byte_token(vocabulary, byte)));
            }
        }
    }

    fn byte_token(&self, vocabulary: &Vocabulary, byte: u8) -> Option<u32> {
        if self.plain_text {
            return vocabulary.byte_token(byte);
        }
        let id = self.bytes[byte as usize];
        ((id as usize) < vocabulary.len()).then_some(id)
    }
}
