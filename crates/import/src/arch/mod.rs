//! The table of architectures. To add one: a file that describes it, and one line in [`TABLE`].
//!
//! A description is data: the names in `config.json`, the tensors of a layer with their shapes, what happens to
//! their values, and a function for the few keys that no other family has.

mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;

use crate::Error;
use crate::config::{Config, Dimensions};
use crate::plan::Change;
use crate::rope::Rope;
use gguf::{Metadata, Value};

/// Every architecture that can be converted.
pub(crate) static TABLE: &[&Architecture] =
    &[&llama::LLAMA, &qwen2::QWEN2, &qwen3::QWEN3, &gemma3::GEMMA3, &phi3::PHI3];

/// One architecture.
pub(crate) struct Architecture {
    /// Class names in `config.json`.
    pub(crate) names: &'static [&'static str],
    /// `general.architecture` in GGUF.
    pub(crate) gguf: &'static str,
    /// Tensors of each layer; source names are relative to `model.layers.N.`.
    pub(crate) layer: &'static [Rule],
    /// What happens to the norm before the output.
    pub(crate) output_norm: Adjust,
    /// Sizes that `config.json` may leave out.
    pub(crate) defaults: &'static [(&'static str, u64)],
    /// Activations in `hidden_act` that GGUF readers assume for this architecture.
    pub(crate) activations: &'static [&'static str],
    /// Whether only part of a head may be rotated.
    pub(crate) partial_rotation: bool,
    /// Keys of this architecture alone.
    pub(crate) describe: fn(&Config, &Dimensions, &Rope, &mut Keys<'_>) -> Result<(), Error>,
}

impl Architecture {
    /// The architecture that `config.json` names.
    pub(crate) fn find(config: &Config) -> Result<&'static Architecture, Error> {
        let names = config.architectures();
        let known = |name: &&str| TABLE.iter().find(|entry| entry.names.contains(name)).copied();
        names.iter().find_map(known).ok_or_else(|| {
            let got = names.first().map_or_else(|| "(none named)".to_owned(), |name| (*name).to_owned());
            let known: Vec<&str> = TABLE.iter().flat_map(|entry| entry.names).copied().collect();
            Error::Architecture { got, known: known.join(", ") }
        })
    }

    /// The size that holds where `config.json` leaves `key` out.
    pub(crate) fn default(&self, key: &str) -> Option<u64> {
        self.defaults.iter().find(|(name, _)| *name == key).map(|(_, size)| *size)
    }
}

/// Sizes that shapes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Hidden,
    FeedForward,
    /// Gate and up projection in one.
    FeedForwardTwice,
    /// All query heads.
    Query,
    /// All key heads, or all value heads.
    KeyValue,
    /// Query, key and value in one.
    QueryKeyValue,
    /// One head.
    Head,
}

impl Size {
    pub(crate) fn of(self, dimensions: &Dimensions) -> u64 {
        let (query, key_value) =
            (dimensions.heads * dimensions.head, dimensions.key_value_heads * dimensions.head);
        match self {
            Size::Hidden => dimensions.hidden,
            Size::FeedForward => dimensions.feed_forward,
            Size::FeedForwardTwice => 2 * dimensions.feed_forward,
            Size::Query => query,
            Size::KeyValue => key_value,
            Size::QueryKeyValue => query + 2 * key_value,
            Size::Head => dimensions.head,
        }
    }
}

/// A change to values, before the sizes are known; see [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adjust {
    Keep,
    PairHalves,
    AddOne,
}

impl Adjust {
    pub(crate) fn change(self, dimensions: &Dimensions) -> Change {
        match self {
            Adjust::Keep => Change::Keep,
            Adjust::PairHalves => Change::PairHalves { head_rows: dimensions.head },
            Adjust::AddOne => Change::AddOne,
        }
    }
}

/// One tensor of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) source: &'static str,
    pub(crate) target: &'static str,
    rows: Size,
    columns: Option<Size>, // None for a vector
    pub(crate) adjust: Adjust,
    pub(crate) required: bool,
}

impl Rule {
    /// Rows and columns, or a vector's length.
    pub(crate) fn shape(&self, dimensions: &Dimensions) -> Vec<u64> {
        let sizes = [Some(self.rows), self.columns];
        sizes.into_iter().flatten().map(|size| size.of(dimensions)).collect()
    }

    const fn pair_halves(self) -> Rule {
        Rule { adjust: Adjust::PairHalves, ..self }
    }

    const fn add_one(self) -> Rule {
        Rule { adjust: Adjust::AddOne, ..self }
    }

    const fn optional(self) -> Rule {
        Rule { required: false, ..self }
    }
}

const fn matrix(source: &'static str, target: &'static str, rows: Size, columns: Size) -> Rule {
    Rule { source, target, rows, columns: Some(columns), adjust: Adjust::Keep, required: true }
}

const fn vector(source: &'static str, target: &'static str, length: Size) -> Rule {
    Rule { source, target, rows: length, columns: None, adjust: Adjust::Keep, required: true }
}

/// Metadata keys that begin with the architecture's name.
pub(crate) struct Keys<'a> {
    architecture: &'static str,
    metadata: &'a mut Metadata,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(architecture: &'static str, metadata: &'a mut Metadata) -> Keys<'a> {
        Keys { architecture, metadata }
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(format!("{}.{key}", self.architecture), value);
    }

    pub(crate) fn set_if_absent(&mut self, key: &str, value: impl Into<Value>) {
        if self.metadata.get(&format!("{}.{key}", self.architecture)).is_none() {
            self.set(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_targets_are_unique() {
        let mut names = HashSet::new();
        for entry in TABLE {
            assert!(entry.names.iter().all(|name| names.insert(*name)), "{}", entry.gguf);
            let mut targets = HashSet::new();
            let mut sources = HashSet::new();
            for rule in entry.layer {
                assert!(targets.insert(rule.target), "{} {}", entry.gguf, rule.target);
                assert!(sources.insert(rule.source), "{} {}", entry.gguf, rule.source);
            }
        }
    }
}
