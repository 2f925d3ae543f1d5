//! `tokenizer.json`, as the `tokenizers` library writes it.
//!
//! Vocabulary and merges are by far the largest part and differ in form from model to model, so they stay raw
//! until the model's kind is known.

use crate::Error;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;

/// The parts of the file that matter here.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizerJson {
    #[serde(default)]
    pub(crate) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(crate) normalizer: Value,
    #[serde(default)]
    pub(crate) pre_tokenizer: Value,
    #[serde(default)]
    pub(crate) post_processor: Value,
    #[serde(default)]
    pub(crate) decoder: Value,
    pub(crate) model: Model,
}

/// A token added to the trained vocabulary.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AddedToken {
    #[serde(default)] // absent in tokenizer_config.json, where the id is the key
    pub(crate) id: u64,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) special: bool,
}

/// The trained model.
#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    vocab: Box<RawValue>,
    #[serde(default)]
    merges: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) unk_token: Option<String>,
    #[serde(default)]
    pub(crate) byte_fallback: bool,
    #[serde(default)]
    pub(crate) ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl TokenizerJson {
    /// Whether texts become bytes first and every token is a string of such bytes.
    pub(crate) fn is_byte_level(&self) -> bool {
        !self.model.byte_fallback
            && [&self.pre_tokenizer, &self.decoder].into_iter().any(|steps| {
                flatten(steps, &["pretokenizers", "decoders"]).iter().any(|step| type_of(step) == "ByteLevel")
            })
    }
}

impl Model {
    /// Ids by text. Errors for models other than BPE.
    pub(crate) fn vocabulary(&self, path: &Path) -> Result<HashMap<String, u64>, Error> {
        // Old files leave the kind out; only BPE has merges.
        let bpe = self.kind.as_deref().map_or(self.merges.is_some(), |kind| kind == "BPE");
        if !bpe {
            let kind = self.kind.as_deref().unwrap_or("unnamed");
            let problem = format!("a tokenizer of the kind {kind} is not supported (BPE is)");
            return Err(Error::vocabulary(path, problem));
        }
        parse(&self.vocab, path)
    }

    /// Pairs of texts to be joined, best first.
    pub(crate) fn merges(&self, path: &Path) -> Result<Vec<(String, String)>, Error> {
        let Some(raw) = &self.merges else { return Ok(Vec::new()) };
        let merges: Vec<Merge> = parse(raw, path)?;
        let pair = |merge| match merge {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Text(text) => match text.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
                _ => Err(Error::vocabulary(path, format!("the merge '{text}' is not a pair"))),
            },
        };
        merges.into_iter().map(pair).collect()
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue, path: &Path) -> Result<T, Error> {
    serde_json::from_str(raw.get()).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// A step, or the steps of a sequence; `lists` names the fields that hold them.
pub(crate) fn flatten<'a>(step: &'a Value, lists: &[&str]) -> Vec<&'a Value> {
    if step.is_null() {
        return Vec::new();
    }
    match lists.iter().find_map(|list| step.get(list)).and_then(Value::as_array) {
        Some(steps) => steps.iter().flat_map(|step| flatten(step, lists)).collect(),
        None => vec![step],
    }
}

/// The kind of a step.
pub(crate) fn type_of(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}
