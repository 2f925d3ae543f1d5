//! `config.json`: values by key, checked for kind and range, and the sizes that every architecture shares.
//!
//! Multimodal checkpoints keep the language model's values under `text_config`; those win over the outer ones.

use crate::arch::Architecture;
use crate::{Error, input};
use serde_json::{Map, Value};
use std::path::Path;

/// No real model comes near this; it keeps all later products within 64 bits.
const MAXIMUM_SIZE: u64 = 1 << 31;

/// The values of `config.json`.
#[derive(Debug)]
pub(crate) struct Config {
    values: Map<String, Value>,
    text: Map<String, Value>,
}

impl Config {
    pub(crate) fn read(folder: &Path) -> Result<Config, Error> {
        input::read_json(&folder.join("config.json"), "it says what kind of model this is").map(Config::new)
    }

    pub(crate) fn new(mut values: Map<String, Value>) -> Config {
        let text = match values.remove("text_config") {
            Some(Value::Object(text)) => text,
            _ => Map::new(),
        };
        Config { values, text }
    }

    /// The value of a key; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.text.get(key).or_else(|| self.values.get(key)).filter(|value| !value.is_null())
    }

    /// The class names of the checkpoint, outermost first.
    pub(crate) fn architectures(&self) -> Vec<&str> {
        let lists = [self.values.get("architectures"), self.text.get("architectures")];
        lists.into_iter().flatten().filter_map(Value::as_array).flatten().filter_map(Value::as_str).collect()
    }

    /// A size or count, from 1 up.
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().filter(|size| (1..=MAXIMUM_SIZE).contains(size));
        size.map(Some).ok_or_else(|| wrong(key, format!("a whole number of 1 to {MAXIMUM_SIZE}"), value))
    }

    pub(crate) fn required_size(&self, key: &str) -> Result<u64, Error> {
        self.size(key)?.ok_or_else(|| absent(key, "a whole number"))
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        let value = self.get(key);
        value.map(|value| number(key, value)).transpose()
    }

    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong(key, "true or false".to_owned(), value))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(key, "text".to_owned(), value))
    }
}

/// A finite number within a nested object.
pub(crate) fn number(key: &str, value: &Value) -> Result<f64, Error> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| wrong(key, "a number".to_owned(), value))
}

/// A finite number that must stand in a nested object.
pub(crate) fn required_number(values: &Map<String, Value>, key: &str) -> Result<f64, Error> {
    number(key, values.get(key).ok_or_else(|| absent(key, "a number"))?)
}

pub(crate) fn wrong(key: &str, expected: String, got: &Value) -> Error {
    let got: String = got.to_string().chars().take(80).collect();
    Error::Config { key: key.to_owned(), expected, got }
}

fn absent(key: &str, expected: &str) -> Error {
    Error::Config { key: key.to_owned(), expected: expected.to_owned(), got: "absent".to_owned() }
}

/// The sizes that decide every tensor's shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dimensions {
    /// Values in a token's vector.
    pub(crate) hidden: u64,
    /// Values between the two products of a feed-forward block.
    pub(crate) feed_forward: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) key_value_heads: u64,
    /// Values of one head.
    pub(crate) head: u64,
    /// Rows of the embedding.
    pub(crate) vocabulary: u64,
    /// Positions the model was trained for.
    pub(crate) context: u64,
    pub(crate) norm_epsilon: f64,
}

impl Dimensions {
    /// Reads the sizes; `vocabulary` is the number of rows that the embedding has.
    pub(crate) fn read(
        config: &Config,
        architecture: &Architecture,
        vocabulary: u64,
    ) -> Result<Dimensions, Error> {
        let size = |key: &str| match config.size(key)? {
            Some(size) => Ok(size),
            None => architecture.default(key).ok_or_else(|| absent(key, "a whole number")),
        };
        let (hidden, heads) = (size("hidden_size")?, size("num_attention_heads")?);
        let key_value_heads = match config.size("num_key_value_heads")? {
            Some(count) => count,
            None => architecture.default("num_key_value_heads").unwrap_or(heads),
        };
        let head = match config.size("head_dim")?.or_else(|| architecture.default("head_dim")) {
            Some(head) => head,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let value = config.get("num_attention_heads").unwrap_or(&Value::Null);
                return Err(wrong("num_attention_heads", format!("a divisor of {hidden}"), value));
            }
        };
        if !heads.is_multiple_of(key_value_heads) {
            let value = config.get("num_key_value_heads").unwrap_or(&Value::Null);
            return Err(wrong("num_key_value_heads", format!("a divisor of {heads}"), value));
        }
        if !head.is_multiple_of(2) {
            let value = Value::from(head);
            return Err(wrong("head_dim", "an even number".to_owned(), &value));
        }
        let norm_epsilon = config.number("rms_norm_eps")?.unwrap_or(1e-6);
        Ok(Dimensions {
            hidden,
            feed_forward: size("intermediate_size")?,
            layers: size("num_hidden_layers")?,
            heads,
            key_value_heads,
            head,
            vocabulary,
            context: size("max_position_embeddings")?,
            norm_epsilon,
        })
    }
}
