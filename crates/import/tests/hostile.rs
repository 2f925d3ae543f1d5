//! Damaged and hostile files of every kind: an error each time, no panic, and never a half-written result.

mod common;

use common::{Checkpoint, Llama2c};
use import::{Error, Options};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// Converts; only whether an error comes back matters, and that nothing is left behind with it.
fn try_import(source: &Path, target: &Path) -> Result<(), Error> {
    let result = import::import(source, target, &Options::default()).map(|_| ());
    assert_eq!(target.exists(), result.is_ok());
    if result.is_ok() {
        gguf::File::open(target).unwrap();
        std::fs::remove_file(target).unwrap();
    }
    result
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    let folder = checkpoint.write();
    let path = checkpoint.file("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let cuts = (0..header).step_by(7).chain([header, header + 1, whole.len() - 1]);
    for cut in cuts.chain((header..whole.len()).step_by(997)) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = try_import(folder, &checkpoint.target()).unwrap_err();
        assert!(matches!(error, Error::Length { .. } | Error::Safetensors { .. }), "{cut}: {error:?}");
    }
    std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    assert!(matches!(try_import(folder, &checkpoint.target()), Err(Error::Length { .. })));
    std::fs::write(&path, whole).unwrap();
    try_import(folder, &checkpoint.target()).unwrap();
}

#[test]
fn hostile_headers_of_safetensors() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    let folder = checkpoint.write();
    let path = checkpoint.file("model.safetensors");
    for header in [
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}}"#,
        r#"{"a":{"dtype":"X","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}"#,
        "[]",
        "{",
        "\u{0}",
    ] {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 16]].concat();
        std::fs::write(&path, bytes).unwrap();
        let error = try_import(folder, &checkpoint.target()).unwrap_err();
        assert!(matches!(error, Error::Safetensors { .. }), "{header}: {error:?}");
    }
    for length in [u64::MAX, 1 << 40, 100_000_001, 1000] {
        std::fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        let error = try_import(folder, &checkpoint.target()).unwrap_err();
        assert!(matches!(error, Error::Safetensors { .. } | Error::Length { .. }), "{length}: {error:?}");
    }
}

#[test]
fn an_index_may_not_lead_out_of_the_folder() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    let folder = checkpoint.write_shards(2);
    for file in ["../secret.safetensors", "/etc/passwd", "", ".", "a/b"] {
        let index = json!({"weight_map": {"model.norm.weight": file}});
        std::fs::write(checkpoint.file("model.safetensors.index.json"), index.to_string()).unwrap();
        assert!(matches!(try_import(folder, &checkpoint.target()), Err(Error::Safetensors { .. })), "{file}");
    }
    let index = json!({"weight_map": {"absent.weight": "model-00001-of-00002.safetensors"}});
    std::fs::write(checkpoint.file("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(matches!(try_import(folder, &checkpoint.target()), Err(Error::MissingTensor { .. })));
    std::fs::write(checkpoint.file("model.safetensors.index.json"), "{}").unwrap();
    assert!(matches!(try_import(folder, &checkpoint.target()), Err(Error::Json { .. })));
}

#[test]
fn text_files_cut_anywhere_are_refused_or_harmless() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    let folder = checkpoint.write();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let path = checkpoint.file(name);
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(whole.len().div_ceil(40)) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = try_import(folder, &checkpoint.target()).unwrap_err();
            assert!(matches!(error, Error::Json { .. }), "{name} {cut}: {error:?}");
        }
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_llama2c_file_cut_anywhere_is_refused() {
    let checkpoint = Llama2c::new(true);
    let source = checkpoint.write();
    let whole = checkpoint.bytes();
    for cut in (0..40).chain((40..whole.len()).step_by(499)).chain([whole.len() - 1]) {
        std::fs::write(&source, &whole[..cut]).unwrap();
        let error = try_import(&source, &checkpoint.target()).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{cut}: {error:?}");
    }
    std::fs::write(&source, [&whole[..], b"more"].concat()).unwrap();
    assert!(matches!(try_import(&source, &checkpoint.target()), Err(Error::Length { .. })));
}

#[test]
fn a_llama2c_vocabulary_must_fit() {
    let checkpoint = Llama2c::new(true);
    let source = checkpoint.write();
    let path = checkpoint.folder.path().join("tok270.bin");
    let whole = checkpoint.vocabulary();
    for cut in (0..whole.len()).step_by(13) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = try_import(&source, &checkpoint.target()).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{cut}: {error:?}");
    }
    std::fs::write(&path, [&whole[..], &[0; 12]].concat()).unwrap();
    assert!(matches!(try_import(&source, &checkpoint.target()), Err(Error::Vocabulary { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(try_import(&source, &checkpoint.target()), Err(Error::MissingFile { .. })));
}

/// Values that a hostile or careless configuration may hold.
fn strange_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..40).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-z0-9]{0,6}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!({"rope_type": "llama3", "factor": 0})),
        Just(json!({"rope_type": "yarn", "factor": -1.0})),
        Just(json!({"type": "longrope", "short_factor": [1], "long_factor": "x"})),
        Just(json!([{"a": [1, null]}])),
    ]
}

const CLASSES: [&str; 5] =
    ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM"];

const KEYS: [&str; 20] = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "sliding_window",
    "sliding_window_pattern",
    "layer_types",
    "tie_word_embeddings",
    "eos_token_id",
    "text_config",
    "original_max_position_embeddings",
    "query_pre_attn_scalar",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn strange_configurations_never_panic(
        class in prop::sample::select(&CLASSES),
        changes in prop::collection::vec((prop::sample::select(&KEYS), strange_value()), 1..4),
    ) {
        let mut checkpoint = Checkpoint::new(class);
        for (key, value) in changes {
            checkpoint.config[key] = value;
        }
        let _ = try_import(checkpoint.write(), &checkpoint.target());
    }

    #[test]
    fn strange_tokenizers_never_panic(
        section in prop::sample::select(&["added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"]),
        field in prop::option::of(prop::sample::select(&["type", "vocab", "merges", "byte_fallback", "pretokenizers"])),
        value in strange_value(),
        configured in prop::sample::select(&["bos_token", "eos_token", "chat_template", "added_tokens_decoder", "add_bos_token"]),
        other in strange_value(),
    ) {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        let mut tokenizer = common::byte_level_tokenizer();
        match field {
            Some(field) if tokenizer[section].is_object() => tokenizer[section][field] = value,
            _ => tokenizer[section] = value,
        }
        checkpoint.tokenizer = Some(tokenizer);
        checkpoint.tokenizer_config[configured] = other;
        let _ = try_import(checkpoint.write(), &checkpoint.target());
    }

    #[test]
    fn mutated_safetensors_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let checkpoint = Checkpoint::new("LlamaForCausalLM");
        let folder = checkpoint.write();
        let path = checkpoint.file("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (position, value) in changes {
            bytes[position.index(header)] = value;
        }
        std::fs::write(&path, bytes).unwrap();
        let _ = try_import(folder, &checkpoint.target());
    }

    #[test]
    fn any_llama2c_header_is_answered(
        numbers in prop::array::uniform7(prop_oneof![any::<i32>(), -4..40_i32]),
        keep in prop::array::uniform7(any::<bool>()),
    ) {
        let checkpoint = Llama2c::new(true);
        let source = checkpoint.write();
        let mut bytes = checkpoint.bytes();
        for (index, number) in numbers.into_iter().enumerate().filter(|(index, _)| !keep[*index]) {
            bytes[4 * index..][..4].copy_from_slice(&number.to_le_bytes());
        }
        std::fs::write(&source, bytes).unwrap();
        let _ = try_import(&source, &checkpoint.target());
    }

    #[test]
    fn mutated_sentencepiece_models_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        well_formed in any::<bool>(),
    ) {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        checkpoint.tokenizer = None;
        let mut model = if well_formed { vec![0x0a, 4, 0x0a, 2, b'a', b'b', 0x12, 2, 0x18, 2] } else { Vec::new() };
        model.extend(bytes);
        let folder = checkpoint.write();
        std::fs::write(checkpoint.file("tokenizer.model"), model).unwrap();
        let _ = try_import(folder, &checkpoint.target());
    }
}
