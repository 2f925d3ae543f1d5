//! The tokenizer's files, turned into the `tokenizer.*` keys of GGUF.
//!
//! Two kinds exist among the supported families: byte-level BPE (`gpt2` in GGUF), from `tokenizer.json` alone, and
//! SentencePiece (`llama`), from `tokenizer.model` or, where that is absent, from `tokenizer.json`.

mod bpe;
mod json;
mod pre;
mod sentencepiece;
mod special;
mod vocabulary;

pub(crate) use vocabulary::{Kind, Vocabulary, byte_of};

use crate::config::Config;
use crate::{Error, Warning, input};
use gguf::Metadata;
use json::TokenizerJson;
use special::{Settings, SpecialTokens};
use std::path::Path;

/// Writes the keys. `rows` is the number of rows of the embedding: the vocabulary has exactly as many tokens.
pub(crate) fn describe(
    folder: &Path,
    config: &Config,
    rows: u64,
    metadata: &mut Metadata,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let purpose = "it holds the vocabulary";
    let json_path = folder.join("tokenizer.json");
    let model_path = folder.join("tokenizer.model");
    let json = input::read_json_if_there::<TokenizerJson>(&json_path, purpose)?;
    let settings = Settings::read(folder)?;
    // A byte-level tokenizer.json wins: some of its folders carry a tokenizer.model that is no SentencePiece model.
    let byte_level = json.as_ref().is_some_and(TokenizerJson::is_byte_level);
    let mut vocabulary = match &json {
        Some(json) if byte_level => bpe::read(json, &json_path, rows)?,
        _ if model_path.exists() => sentencepiece::read_model(&model_path, rows)?,
        Some(json) => {
            warnings.push(Warning::DerivedScores);
            sentencepiece::read_json(json, &json_path, rows)?
        }
        None => return Err(Error::MissingFile { path: json_path, purpose }),
    };
    let added = json.iter().flat_map(|json| &json.added_tokens).chain(settings.added_tokens());
    vocabulary.add_tokens(added, warnings);
    vocabulary.fill_gaps();
    let tokens = SpecialTokens::find(json.as_ref(), &settings, config, &vocabulary);
    vocabulary.describe(metadata);
    tokens.describe(metadata);
    settings.describe_templates(folder, metadata)
}
