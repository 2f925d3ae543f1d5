//! SentencePiece vocabularies: the `llama` model of GGUF, which merges the pair with the best score.
//!
//! `tokenizer.model` is a protocol buffer; the few fields that matter are read by hand. Its description:
//! <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>.

use super::json::{TokenizerJson, flatten, type_of};
use super::vocabulary::{Kind, SPACE, Vocabulary, byte_of};
use crate::{Error, input};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A model trained as BPE, as all supported families' are; the other kinds are merged in another way.
const BPE: u64 = 2;

/// Reads `tokenizer.model`.
pub(super) fn read_model(path: &Path, rows: u64) -> Result<Vocabulary, Error> {
    let bytes = input::read_all(path, "it holds the vocabulary")?;
    let damaged = || Error::vocabulary(path, "no SentencePiece model; download the file again");
    let mut vocabulary = Vocabulary::new("llama", "default", rows);
    vocabulary.scored = true;
    vocabulary.space_prefix = Some(true);
    let mut kind = 1; // the format's default: unigram
    let mut id = 0;
    let mut message = Message(&bytes);
    while let Some((number, field)) = message.next().ok_or_else(damaged)? {
        match (number, field) {
            (1, Field::Bytes(piece)) => {
                let (text, kind, score) = read_piece(piece).ok_or_else(damaged)?;
                vocabulary.set(path, id, text, kind, score)?;
                id += 1;
            }
            (2, Field::Bytes(trainer)) => {
                kind = read_number(trainer, 3).ok_or_else(damaged)?.unwrap_or(kind);
            }
            (3, Field::Bytes(normalizer)) => {
                let prefix = read_number(normalizer, 3).ok_or_else(damaged)?;
                vocabulary.space_prefix = Some(prefix != Some(0));
            }
            _ => {}
        }
    }
    if id == 0 {
        return Err(damaged());
    }
    if kind != BPE {
        let problem = format!("a SentencePiece model of kind {kind} is not supported (BPE, {BPE}, is)");
        return Err(Error::vocabulary(path, problem));
    }
    Ok(vocabulary)
}

fn read_piece(bytes: &[u8]) -> Option<(String, Kind, f32)> {
    let (mut text, mut kind, mut score) = (None, Kind::Normal, 0.0);
    let mut message = Message(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => text = Some(std::str::from_utf8(bytes).ok()?.to_owned()),
            (2, Field::Float(number)) => score = number,
            (3, Field::Number(number)) => {
                let kinds =
                    [Kind::Normal, Kind::Unknown, Kind::Control, Kind::UserDefined, Kind::Unused, Kind::Byte];
                kind = kinds.into_iter().find(|kind| *kind as u64 == number)?;
            }
            _ => {}
        }
    }
    Some((text?, kind, score))
}

/// The number in field `wanted` of a message; `None` outside for damage, inside for absence.
fn read_number(bytes: &[u8], wanted: u64) -> Option<Option<u64>> {
    let mut found = None;
    let mut message = Message(bytes);
    while let Some((number, field)) = message.next()? {
        if let (true, Field::Number(value)) = (number == wanted, field) {
            found = Some(value);
        }
    }
    Some(found)
}

/// What is left of a protocol buffer message.
struct Message<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Message<'a> {
    /// The next field and its number; `Some(None)` at the end, `None` for damage.
    #[allow(clippy::should_implement_trait)]
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let length = self.number()?;
                Field::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Field::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some(Some((tag >> 3, field)))
    }

    /// A number in groups of seven bits, lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Reads a `tokenizer.json` that was made from a SentencePiece model. It has merges instead of scores; they are
/// listed by the score of what they produce, so a token's rank among the products gives the order of scores back.
pub(super) fn read_json(json: &TokenizerJson, path: &Path, rows: u64) -> Result<Vocabulary, Error> {
    if !json.model.byte_fallback {
        let problem = "the tokenizer is neither byte-level nor SentencePiece with bytes to fall back on; it is not supported";
        return Err(Error::vocabulary(path, problem));
    }
    let mut scores = HashMap::new();
    for (left, right) in json.model.merges(path)? {
        let rank = scores.len() as f32;
        scores.entry(left + &right).or_insert(-rank);
    }
    let lowest = -(scores.len() as f32);
    let mut vocabulary = Vocabulary::new("llama", "default", rows);
    vocabulary.scored = true;
    vocabulary.space_prefix = Some(puts_space_before(json));
    for (text, id) in json.model.vocabulary(path)? {
        let unknown = json.model.unk_token.as_deref() == Some(text.as_str());
        let (kind, score) = match byte_of(&text) {
            _ if unknown => (Kind::Unknown, 0.0),
            Some(_) => (Kind::Byte, 0.0),
            None => (Kind::Normal, scores.get(&text).copied().unwrap_or(lowest)),
        };
        vocabulary.set(path, id, text, kind, score)?;
    }
    Ok(vocabulary)
}

/// Whether a space is put before the text, by the normalizer or by the pre-tokenizer.
fn puts_space_before(json: &TokenizerJson) -> bool {
    let prepends = |step: &&Value| {
        type_of(step) == "Prepend" && step.get("prepend").and_then(Value::as_str) == Some(&SPACE.to_string())
    };
    let metaspace = |step: &&Value| {
        let scheme = step.get("prepend_scheme").and_then(Value::as_str);
        let old = step.get("add_prefix_space").and_then(Value::as_bool);
        type_of(step) == "Metaspace" && scheme.map_or(old.unwrap_or(true), |scheme| scheme != "never")
    };
    flatten(&json.normalizer, &["normalizers"]).iter().any(prepends)
        || flatten(&json.pre_tokenizer, &["pretokenizers"]).iter().any(metaspace)
}
