//! The tokens of a model: text, type and score of every id, and the way back from text to id.
//!
//! All texts lie in one string with an end offset each, and the table from text to id holds only ids, so
//! that a vocabulary of a quarter of a million tokens costs two large allocations, not half a million.

use std::hash::BuildHasher;

use gguf::{Array, Metadata, Value};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::Error;

pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(crate) const SCORES: &str = "tokenizer.ggml.scores";
pub(crate) const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// Ids are 31-bit in every tool that reads these files; half of that leaves room for the merge tables.
const LIMIT: usize = 1 << 30;

/// What a token is for. A set: a name that ends generation is a control token whatever the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attributes(u8);

impl Attributes {
    pub(crate) const UNDEFINED: Self = Self(0);
    pub(crate) const NORMAL: Self = Self(1);
    pub(crate) const UNKNOWN: Self = Self(2);
    pub(crate) const CONTROL: Self = Self(4);
    pub(crate) const USER_DEFINED: Self = Self(8);
    pub(crate) const UNUSED: Self = Self(16);
    pub(crate) const BYTE: Self = Self(32);
    /// Whitespace after the token belongs to it (phi-3).
    pub(crate) const STRIPS_RIGHT: Self = Self(64);
    /// Never part of text that is shown.
    pub(crate) const HIDDEN: Self = Self(Self::UNKNOWN.0 | Self::CONTROL.0);
    /// Found as a whole in text that is encoded.
    pub(crate) const SPECIAL: Self = Self(Self::HIDDEN.0 | Self::USER_DEFINED.0);

    /// From a value of `tokenizer.ggml.token_type`.
    fn from_file(token_type: u32) -> Self {
        match token_type {
            1 => Self::NORMAL,
            2 => Self::UNKNOWN,
            3 => Self::CONTROL,
            4 => Self::USER_DEFINED,
            5 => Self::UNUSED,
            6 => Self::BYTE,
            _ => Self::UNDEFINED,
        }
    }

    pub(crate) fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Texts, attributes and scores by id, and ids by text.
pub(crate) struct Vocabulary {
    texts: String,
    ends: Vec<u32>,
    attributes: Vec<Attributes>,
    /// Empty where the file has none: every score is then 0.
    scores: Vec<f32>,
    ids: HashTable<u32>,
    /// Whether some text belongs to two tokens.
    repeats: bool,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let tokens = metadata.strings(TOKENS)?.ok_or(Error::MissingKey { key: TOKENS })?;
        if tokens.is_empty() || tokens.len() > LIMIT {
            return Err(Error::VocabularySize { got: tokens.len(), limit: LIMIT });
        }
        let bytes: usize = tokens.iter().map(String::len).sum();
        if u32::try_from(bytes).is_err() {
            return Err(Error::VocabularyBytes { got: bytes, limit: u32::MAX });
        }
        let types = metadata.u32s(TOKEN_TYPES)?;
        let scores = match metadata.get(SCORES) {
            Some(Value::Array(Array::I32(scores))) => {
                Some(scores.iter().map(|&score| score as f32).collect())
            }
            _ => metadata.f32s(SCORES)?,
        };
        let check = |key, length: Option<usize>| match length {
            // Some files carry entries for padding rows after the last token; too few are an error.
            Some(got) if got < tokens.len() => Err(Error::WrongLength { key, expected: tokens.len(), got }),
            _ => Ok(()),
        };
        check(TOKEN_TYPES, types.as_ref().map(Vec::len))?;
        check(SCORES, scores.as_ref().map(|scores| scores.len()))?;

        let attributes = match types {
            Some(types) => types[..tokens.len()].iter().map(|&kind| Attributes::from_file(kind)).collect(),
            None => vec![Attributes::NORMAL; tokens.len()],
        };
        let scores = scores.map(|scores| scores[..tokens.len()].to_vec()).unwrap_or_default();
        Ok(Self::new(tokens, attributes, scores))
    }

    fn new(tokens: &[String], attributes: Vec<Attributes>, scores: Vec<f32>) -> Self {
        let mut vocabulary = Self {
            texts: String::with_capacity(tokens.iter().map(String::len).sum()),
            ends: Vec::with_capacity(tokens.len()),
            attributes,
            scores,
            ids: HashTable::with_capacity(tokens.len()),
            repeats: false,
            hasher: DefaultHashBuilder::default(),
        };
        for token in tokens {
            vocabulary.texts.push_str(token);
            vocabulary.ends.push(vocabulary.texts.len() as u32);
        }
        for (id, token) in (0u32..).zip(tokens) {
            // A token without text cannot occur in text. Of two equal tokens the first is found.
            if token.is_empty() {
                continue;
            }
            if vocabulary.id(token).is_some() {
                vocabulary.repeats = true;
                continue;
            }
            let Self { texts, ends, ids, hasher, .. } = &mut vocabulary;
            let rehash = |&other: &u32| hasher.hash_one(text_of(texts, ends, other));
            ids.insert_unique(hasher.hash_one(token.as_str()), id, rehash);
        }
        vocabulary
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of a token as the file has it; empty for an id that does not exist.
    pub(crate) fn text(&self, id: u32) -> &str {
        if (id as usize) < self.ends.len() { text_of(&self.texts, &self.ends, id) } else { "" }
    }

    /// The token with exactly this text. Of equal tokens the first.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.find(self.hasher.hash_one(text), |&id| text_of(&self.texts, &self.ends, id) == text).copied()
    }

    /// The same as [`Vocabulary::id`], quicker if `likely` is the token.
    pub(crate) fn id_likely(&self, text: &str, likely: u32) -> Option<u32> {
        if !self.repeats && self.text(likely) == text { Some(likely) } else { self.id(text) }
    }

    /// The texts of all tokens, one behind the other, and where each ends.
    pub(crate) fn all_texts(&self) -> (&str, &[u32]) {
        (&self.texts, &self.ends)
    }

    pub(crate) fn attributes(&self, id: u32) -> Attributes {
        self.attributes.get(id as usize).copied().unwrap_or(Attributes::UNDEFINED)
    }

    pub(crate) fn set_attributes(&mut self, id: u32, attributes: Attributes) {
        if let Some(place) = self.attributes.get_mut(id as usize) {
            *place = attributes;
        }
    }

    /// The score of a token; 0 where the file has none, the lowest of all where it has no number.
    pub(crate) fn score(&self, id: u32) -> f32 {
        let score = self.scores.get(id as usize).copied().unwrap_or(0.0);
        if score.is_nan() { f32::NEG_INFINITY } else { score }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.len() as u32
    }

    /// The token that stands for one raw byte: `<0x0A>`, else the byte itself as text.
    pub(crate) fn byte_token(&self, byte: u8) -> Option<u32> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let name = [b'<', b'0', b'x', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize], b'>'];
        let name = std::str::from_utf8(&name).unwrap_or_default();
        let plain = [byte];
        self.id(name).or_else(|| std::str::from_utf8(&plain).ok().and_then(|text| self.id(text)))
    }
}

#[inline]
fn text_of<'a>(texts: &'a str, ends: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &texts[start as usize..ends[id] as usize]
}

/// The byte that a token text of the form `<0x0A>` stands for.
pub(crate) fn byte_of_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
