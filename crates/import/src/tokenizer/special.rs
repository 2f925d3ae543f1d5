//! Special tokens and chat templates: what begins and ends a text, and how a dialogue is written.
//!
//! The facts are spread over `tokenizer_config.json`, `tokenizer.json`, `config.json`, `generation_config.json` and
//! template files, and they overlap. A text that names a token wins over an id, and what the tokenizer does
//! (its post-processor) over what its configuration says.

use super::json::{AddedToken, TokenizerJson, flatten, type_of};
use super::vocabulary::Vocabulary;
use crate::config::Config;
use crate::{Error, input};
use gguf::Metadata;
use serde_json::{Map, Value};
use std::path::Path;

/// Names in configuration files and keys of GGUF; "seperator" is the format's own spelling.
const ROLES: [(&str, &str); 6] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("unk", "tokenizer.ggml.unknown_token_id"),
    ("sep", "tokenizer.ggml.seperator_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
];

/// Tokens that readers take for the end of a turn by their text alone.
const KNOWN_ENDS: [&str; 10] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<EOT>",
    "</s>",
];

/// `tokenizer_config.json` and its companions.
#[derive(Debug)]
pub(super) struct Settings {
    tokenizer: Map<String, Value>,
    generation: Map<String, Value>,
    added: Vec<AddedToken>,
}

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Settings, Error> {
        let object = |name: &str, purpose| -> Result<Map<String, Value>, Error> {
            Ok(input::read_json_if_there(&folder.join(name), purpose)?.unwrap_or_default())
        };
        let tokenizer = object("tokenizer_config.json", "it describes the tokenizer")?;
        let generation = object("generation_config.json", "it describes how texts end")?;
        let mut added = Vec::new();
        if let Some(Value::Object(tokens)) = tokenizer.get("added_tokens_decoder") {
            for (id, token) in tokens {
                let token = serde_json::from_value::<AddedToken>(token.clone());
                if let (Ok(id), Ok(token)) = (id.parse(), token) {
                    added.push(AddedToken { id, ..token });
                }
            }
        }
        added.sort_by_key(|token| token.id);
        Ok(Settings { tokenizer, generation, added })
    }

    /// Tokens that the configuration adds to the vocabulary.
    pub(super) fn added_tokens(&self) -> &[AddedToken] {
        &self.added
    }

    /// The text of a special token, plain or within an object.
    fn token(&self, role: &str) -> Option<&str> {
        let value = self.tokenizer.get(&format!("{role}_token"))?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// Writes the chat template, and further ones under their names.
    pub(super) fn describe_templates(&self, folder: &Path, metadata: &mut Metadata) -> Result<(), Error> {
        let purpose = "it says how dialogues are written";
        let file = folder.join("chat_template.jinja");
        let alternative = folder.join("chat_template.json");
        let template = if let Some(template) = self.tokenizer.get("chat_template") {
            template.clone()
        } else if file.exists() {
            let text = String::from_utf8(input::read_all(&file, purpose)?);
            Value::String(text.map_err(|_| Error::vocabulary(&file, "it is not UTF-8 text"))?)
        } else {
            let object = input::read_json_if_there::<Map<String, Value>>(&alternative, purpose)?;
            object.and_then(|mut object| object.remove("chat_template")).unwrap_or_default()
        };
        match template {
            Value::String(text) => metadata.insert("tokenizer.chat_template", text),
            Value::Array(templates) => {
                let mut names: Vec<String> = Vec::new();
                for entry in &templates {
                    let text = |key: &str| entry.get(key).and_then(Value::as_str);
                    match (text("name"), text("template")) {
                        (Some("default"), Some(template)) => {
                            metadata.insert("tokenizer.chat_template", template)
                        }
                        (Some(name), Some(template)) => {
                            metadata.insert(format!("tokenizer.chat_template.{name}"), template);
                            names.push(name.to_owned());
                        }
                        _ => {}
                    }
                }
                if !names.is_empty() {
                    metadata.insert("tokenizer.chat_templates", names);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Ids of special tokens, and which are added to every text.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    ids: Vec<(&'static str, u32)>, // key and id
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

impl SpecialTokens {
    pub(super) fn find(
        json: Option<&TokenizerJson>,
        settings: &Settings,
        config: &Config,
        vocabulary: &Vocabulary,
    ) -> SpecialTokens {
        let ends = Ends::find(json, settings);
        let mut ids = Vec::new();
        let from_text = |role: &str| {
            let begins = ends.first.filter(|_| role == "bos");
            settings.token(role).or(begins).and_then(|text| vocabulary.id(text))
        };
        let from_id = |role: &str| {
            let key = format!("{role}_token_id");
            let found = [config.get(&key), settings.generation.get(&key)];
            let ids = found.into_iter().flatten().flat_map(list_of_ids);
            ids.into_iter().find(|&id| vocabulary.text(id).is_some())
        };
        for (role, key) in ROLES {
            if let Some(id) = from_text(role).or_else(|| from_id(role)) {
                ids.push((key, id));
            }
        }
        let eos = ids.iter().find(|(key, _)| *key == "tokenizer.ggml.eos_token_id").map(|&(_, id)| id);
        // Further ends that a reader would not know by their text.
        let further = settings.generation.get("eos_token_id").into_iter().flat_map(list_of_ids).find(|&id| {
            let text = vocabulary.text(id);
            Some(id) != eos && text.is_some_and(|text| !KNOWN_ENDS.contains(&text))
        });
        ids.extend(further.map(|id| ("tokenizer.ggml.eot_token_id", id)));
        let said = |key: &str| settings.tokenizer.get(key).and_then(Value::as_bool);
        SpecialTokens {
            ids,
            add_bos: ends.add_bos.or(said("add_bos_token")),
            add_eos: ends.add_eos.or(said("add_eos_token")),
        }
    }

    pub(super) fn describe(&self, metadata: &mut Metadata) {
        for (key, id) in &self.ids {
            metadata.insert(*key, *id);
        }
        for (key, add) in
            [("tokenizer.ggml.add_bos_token", self.add_bos), ("tokenizer.ggml.add_eos_token", self.add_eos)]
        {
            if let Some(add) = add {
                metadata.insert(key, add);
            }
        }
    }
}

/// An id or a list of ids.
fn list_of_ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    value
        .as_array()
        .map_or_else(|| one(value).into_iter().collect(), |list| list.iter().filter_map(one).collect())
}

/// What the post-processor puts around a text.
#[derive(Default)]
struct Ends<'a> {
    first: Option<&'a str>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

impl<'a> Ends<'a> {
    fn find(json: Option<&'a TokenizerJson>, settings: &Settings) -> Ends<'a> {
        let mut ends = Ends::default();
        let Some(json) = json else { return ends };
        for step in flatten(&json.post_processor, &["processors"]) {
            match type_of(step) {
                "ByteLevel" => {
                    ends.add_bos.get_or_insert(false);
                    ends.add_eos.get_or_insert(false);
                }
                "TemplateProcessing" => {
                    let single = step.get("single").and_then(Value::as_array);
                    let special = |piece: Option<&'a Value>| piece?.get("SpecialToken")?.get("id")?.as_str();
                    let first = special(single.and_then(|pieces| pieces.first()));
                    let last = special(single.and_then(|pieces| pieces.last()));
                    let begins = |text: &str| settings.token("bos").is_none_or(|bos| bos == text);
                    ends.add_bos = Some(first.is_some_and(begins));
                    ends.add_eos = Some(last.is_some_and(|text| settings.token("eos") == Some(text)));
                    ends.first = first;
                }
                _ => {}
            }
        }
        ends
    }
}
