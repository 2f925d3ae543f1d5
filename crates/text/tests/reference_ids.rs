//! Token ids against those of the reference implementation, for small vocabularies.
//!
//! The byte-level vocabulary was trained without cutting text into words, so that merges lead over every
//! border: a wrong cut by any of the pre-tokenizers shows in the ids. `ids_own` holds the families whose
//! patterns the usual reference simplifies; there the reference is a tokenizer with the model's own pattern.

mod golden;
mod support;

use support::{metadata, tokenizer};

fn strings(value: &serde_json::Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn types(value: &serde_json::Value) -> Vec<i32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn data(name: &str) -> serde_json::Value {
    golden::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn byte_level_vocabularies_by_pre_tokenizer() {
    let file = data("byte_level_golden.json");
    let mut metadata = metadata("gpt2", strings(&file["tokens"]), types(&file["token_types"]));
    metadata.insert("tokenizer.ggml.merges", strings(&file["merges"]));
    let texts = strings(&file["texts"]);
    let by_name: Vec<_> = ["ids", "ids_own"].iter().flat_map(|key| file[key].as_object().unwrap()).collect();
    assert!(by_name.len() > 20);
    for (name, expected) in by_name {
        metadata.insert("tokenizer.ggml.pre", name.as_str());
        let tokenizer = tokenizer(&metadata);
        assert!(tokenizer.pre_tokenizer_is_known(), "{name}");
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            let ids = tokenizer.encode(text, support::TEXT_ONLY);
            assert_eq!(ids, golden::ids(expected), "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids, false), *text, "{name}");
        }
    }
}

#[test]
fn special_tokens_of_a_byte_level_vocabulary() {
    let file = data("byte_level_golden.json");
    let mut metadata = metadata("gpt2", strings(&file["tokens"]), types(&file["token_types"]));
    metadata.insert("tokenizer.ggml.merges", strings(&file["merges"]));
    metadata.insert("tokenizer.ggml.pre", "starcoder");
    golden::check_cases(&tokenizer(&metadata), &file["special"]);
}

#[test]
fn sentence_piece_vocabularies_with_and_without_a_leading_space() {
    let file = data("sentence_piece_golden.json");
    let mut metadata = metadata("llama", strings(&file["tokens"]), types(&file["token_types"]));
    let scores: Vec<f32> = serde_json::from_value(file["scores"].clone()).unwrap();
    metadata.insert("tokenizer.ggml.scores", scores);
    for (name, prefix) in [("prefix", true), ("plain", false)] {
        metadata.insert("tokenizer.ggml.add_space_prefix", prefix);
        golden::check_cases(&tokenizer(&metadata), &file["cases"][name]);
    }
}

#[test]
fn the_golden_ids_of_smollm2_are_well_formed() {
    // The ids themselves are checked where the model's file is at hand.
    let file = data("smollm2_golden.json");
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 60);
    assert!(cases.iter().all(|case| golden::ids(&case["ids"]).iter().all(|&id| id < 49_152)));
}
