//! Files that are well formed but make no model: each gets the error that says what is wrong, and none a panic.

use gguf::{Array, TensorSpec, Value};
use kernels::Team;
use model::{Error, KvType};
use testkit::{F32, TinyModel, TinyOptions, tiny_model};

use crate::support::{architectures, logits, open};

fn tiny() -> TinyModel {
    tiny_model(&TinyOptions::new("llama"))
}

fn error_of(tiny: &TinyModel) -> Error {
    open(tiny).map(|_| ()).unwrap_err()
}

/// A llama whose key has another value.
fn with(key: &str, value: Value) -> Error {
    let mut tiny = tiny();
    tiny.metadata.insert(key, value);
    error_of(&tiny)
}

#[test]
fn an_unknown_architecture_names_the_known() {
    let error = with("general.architecture", Value::String("mamba".to_owned()));
    let message = error.to_string();
    assert!(matches!(error, Error::UnknownArchitecture { .. }), "{message}");
    for known in architectures().chain(["mamba"]) {
        assert!(message.contains(known), "{message}");
    }
}

#[test]
fn every_needed_key_is_missed_by_name() {
    for key in [
        "block_count",
        "embedding_length",
        "attention.head_count",
        "context_length",
        "attention.layer_norm_rms_epsilon",
    ] {
        let mut tiny = tiny();
        tiny.metadata.remove(&format!("llama.{key}")).unwrap();
        let error = error_of(&tiny);
        assert!(matches!(&error, Error::MissingKey { key: missing } if missing.ends_with(key)), "{error}");
    }
    let mut tiny = tiny_model(&TinyOptions::new("qwen3moe"));
    tiny.metadata.remove("qwen3moe.expert_count").unwrap();
    let error = error_of(&tiny);
    assert!(matches!(&error, Error::MissingKey { key } if key == "qwen3moe.expert_count"), "{error}");
}

#[test]
fn numbers_that_make_no_model_are_refused() {
    let cases = [
        ("block_count", Value::U32(0)),
        ("block_count", Value::U32(u32::MAX)),
        ("embedding_length", Value::U64(1 << 40)),
        ("attention.head_count", Value::U32(0)),
        ("attention.head_count_kv", Value::U32(3)),
        ("attention.head_count_kv", Value::U32(8)),
        ("attention.head_count_kv", Value::Array(Array::U32(vec![2, 1]))),
        ("attention.key_length", Value::U32(0)),
        ("attention.value_length", Value::U32(8)),
        ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        ("attention.layer_norm_rms_epsilon", Value::F32(-1.0)),
        ("rope.dimension_count", Value::U32(7)),
        ("rope.dimension_count", Value::U32(18)),
        ("rope.freq_base", Value::F32(1.0)),
        ("rope.freq_base", Value::F32(f32::INFINITY)),
        ("rope.scaling.factor", Value::F32(-4.0)),
        ("rope.scaling.type", Value::String("cubic".to_owned())),
        ("context_length", Value::U32(0)),
        ("attention.scale", Value::F32(-1.0)),
    ];
    for (key, value) in cases {
        let key = format!("llama.{key}");
        let error = with(&key, value.clone());
        assert!(
            matches!(&error, Error::BadValue { key: named, .. } if *named == key),
            "{key} {value:?}: {error}"
        );
    }
    let error = with("llama.block_count", Value::String("two".to_owned()));
    assert!(matches!(error, Error::File(gguf::Error::WrongType { .. })), "{error}");
}

#[test]
fn a_list_of_equal_numbers_serves_as_one() {
    let mut tiny = tiny();
    tiny.metadata.insert("llama.attention.head_count_kv", Value::Array(Array::I32(vec![2, 2])));
    assert_eq!(open(&tiny).unwrap().1.config.kv_heads, 2);
}

#[test]
fn experts_must_suffice() {
    let mut tiny = tiny_model(&TinyOptions::new("qwen3moe"));
    tiny.metadata.insert("qwen3moe.expert_used_count", Value::U32(9));
    let error = error_of(&tiny);
    assert!(matches!(error, Error::BadValue { .. }), "{error}");
}

#[test]
fn every_tensor_is_missed_by_name() {
    for architecture in architectures() {
        let whole = tiny_model(&TinyOptions { layers: 1, ..TinyOptions::new(architecture) });
        for index in 0..whole.tensors.len() {
            let mut tiny = whole.clone();
            let name = tiny.tensors.remove(index).0.name;
            // Without them the model is another, but a whole one.
            if name == "output.weight" || name.ends_with(".bias") {
                open(&tiny).unwrap();
                continue;
            }
            match error_of(&tiny) {
                Error::MissingTensor { tensor } => {
                    let merged = name.replace("attn_qkv", "attn_q");
                    assert!(tensor == name || tensor == merged, "{tensor} instead of {name}");
                }
                // Up without gate would be both in one, and has too few rows.
                Error::Shape { tensor, .. } if name.ends_with("ffn_gate.weight") => {
                    assert_eq!(tensor, name.replace("gate", "up"));
                }
                error => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn every_shape_is_checked() {
    for architecture in architectures() {
        let whole = tiny_model(&TinyOptions { layers: 1, ..TinyOptions::new(architecture) });
        for index in 0..whole.tensors.len() {
            let mut tiny = whole.clone();
            let (spec, data) = &mut tiny.tensors[index];
            let row = data.len() / *spec.shape.last().unwrap() as usize;
            *spec.shape.last_mut().unwrap() += 1;
            data.extend_from_slice(&data.clone()[..row]);
            let name = spec.name.clone();
            let error = error_of(&tiny);
            assert!(matches!(&error, Error::Shape { tensor, .. } if *tensor == name), "{name}: {error}");
        }
    }
}

#[test]
fn types_that_have_no_kernel_are_refused() {
    for (name, type_id) in [("blk.0.attn_q.weight", 24), ("token_embd.weight", 26), ("output_norm.weight", 8)]
    {
        let mut tiny = tiny();
        let (spec, data) = tiny.tensors.iter_mut().find(|(spec, _)| spec.name == name).unwrap();
        spec.type_id = type_id;
        data.resize(spec.bytes().unwrap() as usize, 0);
        let error = error_of(&tiny);
        assert!(matches!(&error, Error::TensorType { tensor, .. } if tensor == name), "{error}");
    }
}

#[test]
fn a_tensor_without_a_place_is_refused() {
    let mut tiny = tiny();
    let spec = TensorSpec { name: "blk.0.attn_sinks.weight".to_owned(), shape: vec![4], type_id: F32 };
    tiny.tensors.push((spec, vec![0; 16]));
    let error = error_of(&tiny);
    assert!(
        matches!(&error, Error::UnexpectedTensor { tensor } if tensor == "blk.0.attn_sinks.weight"),
        "{error}"
    );
}

#[test]
fn rope_factors_must_be_positive() {
    for bad in [0.0f32, -1.0, f32::NAN] {
        let mut tiny = tiny();
        let spec = TensorSpec { name: "rope_freqs.weight".to_owned(), shape: vec![8], type_id: F32 };
        tiny.tensors.push((
            spec,
            [1.0, 1.0, 1.0, bad, 1.0, 1.0, 1.0, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
        ));
        let error = error_of(&tiny);
        assert!(matches!(&error, Error::BadValue { key, .. } if key == "rope_freqs.weight"), "{error}");
    }
}

#[test]
fn the_tokenizer_and_the_matrices_must_agree() {
    let mut tiny = tiny();
    let Some(Value::Array(Array::String(mut tokens))) = tiny.metadata.remove("tokenizer.ggml.tokens") else {
        panic!("no tokens")
    };
    tokens.pop();
    tiny.metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    let error = error_of(&tiny);
    assert!(matches!(&error, Error::Shape { tensor, .. } if tensor == "token_embd.weight"), "{error}");
}

#[test]
fn no_value_of_any_key_panics() {
    let more = [
        "attention.sliding_window_pattern",
        "rope.freq_base_swa",
        "rope.scaling.factor",
        "rope.scaling.type",
        "rope.scaling.attn_factor",
        "rope.scaling.original_context_length",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention.sliding_window",
        "expert_weights_scale",
        "expert_weights_norm",
    ];
    let values = [
        Value::U32(0),
        Value::U32(1),
        Value::U32(1000),
        Value::U64(u64::MAX),
        Value::I32(-1),
        Value::F32(f32::NAN),
        Value::F32(1e-30),
        Value::F32(f32::MAX),
        Value::Bool(false),
        Value::String("yarn".to_owned()),
        Value::Array(Array::U32(Vec::new())),
        Value::Array(Array::Bool(vec![true; 2])),
    ];
    // The three whose keys differ most.
    for architecture in ["gemma3", "phi3", "qwen3moe"] {
        let whole = tiny_model(&TinyOptions { layers: 2, ..TinyOptions::new(architecture) });
        let prefix = format!("{architecture}.");
        let own = whole.metadata.iter().map(|(key, _)| key.to_owned()).filter(|key| key.starts_with(&prefix));
        for key in own.chain(more.map(|key| format!("{prefix}{key}"))) {
            for value in &values {
                let mut tiny = whole.clone();
                tiny.metadata.insert(key.clone(), value.clone());
                // What opens must run as well.
                if let Ok((_folder, model)) = open(&tiny) {
                    logits(&model, &Team::new(1), KvType::F16, &[1, 2, 3], 2);
                }
            }
        }
    }
}
