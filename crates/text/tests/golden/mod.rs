//! Golden token ids: texts with the ids that a reference tokenizer gives, in JSON files that name the source.
//!
//! Other crates use this too, for models that are files:
//! `#[path = "../../text/tests/golden/mod.rs"] mod golden;`, then `golden::check_file(model, golden_json)`.
#![allow(dead_code)] // each test file uses a part

use std::path::Path;

use serde_json::Value;
use text::{Encode, Tokenizer};

/// Reads a golden file of `crates/text/tests/data`.
pub(crate) fn read(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let json = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The token ids of a JSON array.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("an array of ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Checks cases of the form `{"text": .., "add_special": .., "parse_special": .., "ids": [..]}`.
///
/// # Panics
/// At the first text whose tokens differ.
pub(crate) fn check_cases(tokenizer: &Tokenizer, cases: &Value) {
    let cases = cases.as_array().expect("an array of cases");
    assert!(!cases.is_empty());
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        let flag = |name: &str| case[name].as_bool().expect("a flag");
        let options = Encode { add_special: flag("add_special"), parse_special: flag("parse_special") };
        assert_eq!(tokenizer.encode(text, options), ids(&case["ids"]), "{text:?} with {options:?}");
    }
}

/// Checks the tokenizer in a model file against the cases in a golden file.
///
/// # Panics
/// Where a file cannot be read or tokens differ.
pub(crate) fn check_file(model: &Path, golden: &Path) {
    let file = gguf::File::open(model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("the model has a tokenizer");
    check_cases(&tokenizer, &read(golden)["cases"]);
}
