//! Byte-level BPE from `tokenizer.json`: the `gpt2` model of GGUF.

use super::json::TokenizerJson;
use super::pre;
use super::vocabulary::{Kind, Vocabulary};
use crate::Error;
use std::path::Path;

/// How a space within a token is written: byte-level vocabularies have no plain spaces.
const SPACE: &str = "\u{120}";

pub(super) fn read(json: &TokenizerJson, path: &Path, rows: u64) -> Result<Vocabulary, Error> {
    let pre = pre::name(&json.pre_tokenizer, json.model.ignore_merges, path)?;
    let mut vocabulary = Vocabulary::new("gpt2", pre, rows);
    for (text, id) in json.model.vocabulary(path)? {
        vocabulary.set(path, id, text, Kind::Normal, 0.0)?;
    }
    let escape = |part: &str| part.replace(' ', SPACE);
    let merges = json.model.merges(path)?;
    if merges.is_empty() {
        return Err(Error::vocabulary(path, "it has no merges; download the file again"));
    }
    vocabulary.merges =
        merges.iter().map(|(left, right)| format!("{} {}", escape(left), escape(right))).collect();
    Ok(vocabulary)
}
