//! Safetensors folders: every architecture, every way they are stored, and what must be refused.

mod common;

use common::{
    Checkpoint, HEAD, HEADS, HIDDEN, KEY_VALUE_HEADS, LAYERS, Llama2c, ROWS, Tensor, random, values,
};
use import::{Error, FloatType, Options, Warning};
use serde_json::{Value, json};

const CLASSES: [(&str, &str); 7] = [
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "llama"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen3ForCausalLM", "qwen3"),
    ("Gemma3ForCausalLM", "gemma3"),
    ("Phi3ForCausalLM", "phi3"),
    ("Gemma3ForConditionalGeneration", "gemma3"),
];

#[test]
fn every_architecture_has_its_sizes_and_all_its_tensors() {
    for (class, architecture) in CLASSES {
        let checkpoint = Checkpoint::new(class);
        let summary = checkpoint.import(FloatType::F32).unwrap();
        assert_eq!(summary.architecture, architecture);
        assert_eq!(summary.tensors, checkpoint.tensors.len(), "{class}");
        assert_eq!(summary.warnings, []);
        let parameters: usize = checkpoint.tensors.values().map(|tensor| tensor.bytes.len() / 4).sum();
        assert_eq!((summary.parameters, summary.bytes), (parameters as u64, parameters as u64 * 4));
        let file = gguf::File::open(&checkpoint.target()).unwrap();
        let metadata = file.metadata();
        assert_eq!(metadata.string("general.architecture").unwrap(), Some(architecture));
        for (key, expected) in [
            ("block_count", LAYERS),
            ("context_length", 64),
            ("embedding_length", HIDDEN),
            ("feed_forward_length", common::FEED_FORWARD),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", KEY_VALUE_HEADS),
            ("attention.key_length", HEAD),
            ("attention.value_length", HEAD),
            ("rope.dimension_count", HEAD),
        ] {
            let value = metadata.u32(&format!("{architecture}.{key}")).unwrap();
            assert_eq!(value, Some(expected as u32), "{class} {key}");
        }
        assert_eq!(metadata.f32(&format!("{architecture}.rope.freq_base")).unwrap(), Some(10_000.0));
        let epsilon = metadata.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon")).unwrap();
        assert_eq!(epsilon, Some(1e-5));
        assert_eq!(metadata.u32("general.file_type").unwrap(), Some(0));
        assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), ROWS);
        let embedding = file.tensor("token_embd.weight").unwrap();
        assert_eq!(embedding.shape, [HIDDEN as u64, ROWS as u64]);
        assert_eq!(values(&file, "blk.1.ffn_down.weight"), random("model.layers.1.mlp.down_proj.weight", 96));
    }
}

/// Rows as safetensors checkpoints have them, from rows as GGUF's `llama` has them: first all evens, then all odds.
fn to_halves(rows: &[f32], columns: usize) -> Vec<f32> {
    let heads = rows.chunks_exact(HEAD * columns);
    heads
        .flat_map(|head| {
            let rows: Vec<&[f32]> = head.chunks_exact(columns).collect();
            let evens = rows.iter().step_by(2);
            evens.chain(rows.iter().skip(1).step_by(2)).flat_map(|row| row.to_vec()).collect::<Vec<f32>>()
        })
        .collect()
}

#[test]
fn the_same_model_is_the_same_from_both_kinds_of_checkpoint() {
    let plain = Llama2c::new(false);
    let source = plain.write();
    import::import(&source, &plain.target(), &Options::default()).unwrap();
    let expected = gguf::File::open(&plain.target()).unwrap();

    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    for (name, tensor) in &mut checkpoint.tensors {
        let target = name
            .replace("model.layers.", "blk.")
            .replace("self_attn.o_proj", "attn_output")
            .replace("self_attn.", "attn_")
            .replace("mlp.", "ffn_")
            .replace("_proj", "")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm")
            .replace("model.norm", "output_norm")
            .replace("model.embed_tokens", "token_embd")
            .replace("lm_head", "output");
        let (_, weights) = plain.weights.iter().find(|(name, _)| *name == target).expect(&target);
        let rotated = target.contains("attn_q") || target.contains("attn_k");
        let weights = if rotated { to_halves(weights, HIDDEN) } else { weights.clone() };
        *tensor = Tensor::f32(&tensor.shape, &weights);
    }
    let file = checkpoint.convert();
    assert_eq!(file.tensors().len(), expected.tensors().len());
    for tensor in expected.tensors() {
        let other = file.tensor(&tensor.name).unwrap();
        assert_eq!(other.shape, tensor.shape, "{}", tensor.name);
        assert_eq!(file.data(other), expected.data(tensor), "{}", tensor.name);
    }
    for (key, value) in expected.metadata().iter().filter(|(key, _)| key.starts_with("llama.")) {
        if key != "llama.context_length" {
            assert_eq!(file.metadata().get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn biases_of_rotated_rows_change_places_too() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.tensors.insert(
        "model.layers.0.self_attn.q_proj.bias".to_owned(),
        Tensor::f32(&[HEADS * HEAD], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    );
    let file = checkpoint.convert();
    assert_eq!(values(&file, "blk.0.attn_q.bias"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

#[test]
fn shards_give_the_same_file() {
    let checkpoint = Checkpoint::new("Qwen2ForCausalLM");
    checkpoint.import(FloatType::F32).unwrap();
    let whole = std::fs::read(checkpoint.target()).unwrap();
    std::fs::remove_file(checkpoint.file("model.safetensors")).unwrap();
    let folder = checkpoint.write_shards(3);
    let summary = import::import(folder, &checkpoint.target(), &Options::default()).unwrap();
    assert_eq!(summary.sources.len(), 3);
    assert_eq!(std::fs::read(checkpoint.target()).unwrap(), whole);

    // Any file of the folder stands for it.
    import::import(&checkpoint.file("config.json"), &checkpoint.target(), &Options::default()).unwrap();
    assert_eq!(std::fs::read(checkpoint.target()).unwrap(), whole);

    std::fs::remove_file(checkpoint.file("model-00002-of-00003.safetensors")).unwrap();
    let error = import::import(folder, &checkpoint.target(), &Options::default()).unwrap_err();
    assert!(
        matches!(&error, Error::MissingFile { path, .. } if path.ends_with("model-00002-of-00003.safetensors"))
    );
    assert_eq!(std::fs::read(checkpoint.target()).unwrap(), whole);
}

#[test]
fn floats_are_kept_or_converted() {
    let mut checkpoint = Checkpoint::new("Qwen3ForCausalLM");
    for (name, tensor) in &mut checkpoint.tensors {
        *tensor = Tensor::bf16(&tensor.shape, &random(name, tensor.bytes.len() / 4));
    }
    let source = checkpoint.tensors["lm_head.weight"].bytes.clone();
    for (float, id, file_type) in [
        (FloatType::Source, 30, 32),
        (FloatType::Bf16, 30, 32),
        (FloatType::F16, 1, 1),
        (FloatType::F32, 0, 0),
    ] {
        checkpoint.import(float).unwrap();
        let file = gguf::File::open(&checkpoint.target()).unwrap();
        assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(file_type));
        for tensor in file.tensors() {
            // Vectors are F32 always.
            assert_eq!(tensor.type_id, if tensor.shape.len() == 1 { 0 } else { id }, "{}", tensor.name);
        }
        let data = file.data(file.tensor("output.weight").unwrap());
        match id {
            30 => assert_eq!(data, source),
            0 => {
                let high_halves: Vec<u8> = data.chunks(4).flat_map(|value| [value[2], value[3]]).collect();
                assert_eq!(high_halves, source);
            }
            _ => assert_eq!(data.len(), source.len()),
        }
    }
}

#[test]
fn a_value_too_large_for_f16_names_its_tensor_and_changes_nothing() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    let mut weights = random("any", 96);
    weights[50] = 70_000.0;
    let name = "model.layers.1.mlp.up_proj.weight";
    checkpoint.tensors.insert(name.to_owned(), Tensor::f32(&[12, 8], &weights));
    std::fs::write(checkpoint.target(), "the old model").unwrap();
    let error = checkpoint.import(FloatType::F16).unwrap_err();
    assert!(matches!(&error, Error::Overflow { tensor, .. } if tensor == "blk.1.ffn_up.weight"), "{error}");
    assert_eq!(std::fs::read(checkpoint.target()).unwrap(), b"the old model");
    assert!(!checkpoint.file("result.gguf.partial").exists());
    checkpoint.import(FloatType::Bf16).unwrap();
}

#[test]
fn progress_ends_at_the_total() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    let seen = std::cell::RefCell::new(Vec::new());
    let progress = |done, total| seen.borrow_mut().push((done, total));
    let options = Options { float: FloatType::F16, progress: Some(&progress) };
    let summary = import::import(checkpoint.write(), &checkpoint.target(), &options).unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.len() >= summary.tensors);
    assert_eq!(seen.last(), Some(&(summary.bytes, summary.bytes)));
}

#[test]
fn a_tied_output_is_written_once() {
    let mut checkpoint = Checkpoint::new("Qwen2ForCausalLM");
    checkpoint.config["tie_word_embeddings"] = json!(true);
    assert!(checkpoint.convert().tensor("output.weight").is_none());
    checkpoint.tensors.remove("lm_head.weight");
    assert!(checkpoint.convert().tensor("output.weight").is_none());
    checkpoint.config["tie_word_embeddings"] = json!(false);
    let error = checkpoint.import(FloatType::F32).unwrap_err();
    assert!(matches!(error, Error::MissingTensor { tensor } if tensor == "lm_head.weight"));
}

#[test]
fn gemma_norms_count_from_one_and_layers_slide() {
    let checkpoint = Checkpoint::new("Gemma3ForCausalLM");
    let file = checkpoint.convert();
    for (target, source) in [
        ("output_norm", "model.norm"),
        ("blk.0.attn_norm", "model.layers.0.input_layernorm"),
        ("blk.0.post_attention_norm", "model.layers.0.post_attention_layernorm"),
        ("blk.0.ffn_norm", "model.layers.0.pre_feedforward_layernorm"),
        ("blk.1.post_ffw_norm", "model.layers.1.post_feedforward_layernorm"),
        ("blk.1.attn_q_norm", "model.layers.1.self_attn.q_norm"),
    ] {
        let target = values(&file, &format!("{target}.weight"));
        let expected = random(&format!("{source}.weight"), target.len());
        assert!(target.iter().zip(expected).all(|(&target, source)| target == source + 1.0));
    }
    let metadata = file.metadata();
    assert_eq!(metadata.u32("gemma3.attention.sliding_window").unwrap(), Some(16));
    assert_eq!(metadata.f32("gemma3.rope.freq_base_swa").unwrap(), Some(10_000.0));
    assert!(metadata.get("gemma3.attention.sliding_window_pattern").is_none());
}

#[test]
fn a_vision_tower_is_left_out_with_a_word() {
    let mut checkpoint = Checkpoint::new("Gemma3ForConditionalGeneration");
    let text = std::mem::take(&mut checkpoint.config);
    let architectures = text["architectures"].clone();
    checkpoint.config = json!({"architectures": architectures, "text_config": text, "vision_config": {}});
    let tensors = std::mem::take(&mut checkpoint.tensors);
    checkpoint.tensors =
        tensors.into_iter().map(|(name, tensor)| (format!("language_model.{name}"), tensor)).collect();
    checkpoint.add("vision_tower.patches.weight", &[3, 3]);
    checkpoint.add("multi_modal_projector.weight", &[3, 3]);
    let summary = checkpoint.import(FloatType::F32).unwrap();
    let example = "multi_modal_projector.weight".to_owned();
    assert_eq!(summary.warnings, [Warning::LeftOut { example, count: 2 }]);
    assert!(summary.warnings[0].to_string().contains("multi_modal_projector"));
}

#[test]
fn llama3_scaling_becomes_a_table() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let file = checkpoint.convert();
    // Two pairs: wavelengths 2 pi (below 32 / 4, kept) and 200 pi (above 32, divided by the factor).
    assert_eq!(values(&file, "rope_freqs.weight"), [1.0, 32.0]);
    assert!(file.metadata().get("llama.rope.scaling.type").is_none());
    checkpoint.config["rope_theta"] = json!(4.0);
    // Wavelength 4 pi lies in between: smooth = (32 / 12.566 - 1) / 3 = 0.5155, 1 / (0.4845 / 32 + 0.5155).
    let between = values(&checkpoint.convert(), "rope_freqs.weight")[1];
    assert!((between - 1.8846).abs() < 1e-3, "{between}");
}

#[test]
fn other_scalings_become_keys() {
    let mut checkpoint = Checkpoint::new("Qwen2ForCausalLM");
    checkpoint.config["rope_scaling"] = json!({"type": "linear", "factor": 8});
    let metadata = checkpoint.convert().metadata().clone();
    assert_eq!(metadata.string("qwen2.rope.scaling.type").unwrap(), Some("linear"));
    assert_eq!(metadata.f32("qwen2.rope.scaling.factor").unwrap(), Some(8.0));

    checkpoint.config["rope_scaling"] = json!({
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32,
    });
    let metadata = checkpoint.convert().metadata().clone();
    assert_eq!(metadata.string("qwen2.rope.scaling.type").unwrap(), Some("yarn"));
    assert_eq!(metadata.u32("qwen2.rope.scaling.original_context_length").unwrap(), Some(32));
    assert_eq!(metadata.f32("qwen2.rope.scaling.yarn_beta_fast").unwrap(), Some(32.0));

    // The newer spelling, with the base inside.
    checkpoint.config["rope_scaling"] = Value::Null;
    checkpoint.config["rope_theta"] = Value::Null;
    checkpoint.config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5000.0});
    let metadata = checkpoint.convert().metadata().clone();
    assert_eq!(metadata.f32("qwen2.rope.freq_base").unwrap(), Some(5000.0));

    checkpoint.config["rope_parameters"] = json!({"rope_type": "dynamic", "factor": 2.0});
    assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Unsupported { .. })));
}

#[test]
fn gemma_takes_both_bases_from_the_newer_spelling() {
    let mut checkpoint = Checkpoint::new("Gemma3ForCausalLM");
    checkpoint.config["rope_local_base_freq"] = Value::Null;
    checkpoint.config["rope_parameters"] = json!({
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
    });
    checkpoint.config["layer_types"] = json!(["sliding_attention", "full_attention"]);
    let metadata = checkpoint.convert().metadata().clone();
    assert_eq!(metadata.f32("gemma3.rope.freq_base").unwrap(), Some(1e6));
    assert_eq!(metadata.f32("gemma3.rope.freq_base_swa").unwrap(), Some(20_000.0));
    assert_eq!(metadata.f32("gemma3.rope.scaling.factor").unwrap(), Some(8.0));
    assert_eq!(metadata.u32("gemma3.attention.sliding_window_pattern").unwrap(), Some(2));
}

#[test]
fn phi3_has_tables_for_short_and_long_texts() {
    let mut checkpoint = Checkpoint::new("Phi3ForCausalLM");
    checkpoint.config["original_max_position_embeddings"] = json!(16);
    checkpoint.config["rope_scaling"] =
        json!({"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]});
    let file = checkpoint.convert();
    assert_eq!(values(&file, "rope_factors_short.weight"), [1.0, 1.5]);
    assert_eq!(values(&file, "rope_factors_long.weight"), [2.0, 3.0]);
    let metadata = file.metadata();
    assert_eq!(metadata.u32("phi3.rope.scaling.original_context_length").unwrap(), Some(16));
    assert_eq!(metadata.u32("phi3.attention.sliding_window").unwrap(), Some(0));
    let factor = metadata.f32("phi3.rope.scaling.attn_factor").unwrap().unwrap();
    assert!((factor - 1.5_f32.sqrt()).abs() < 1e-6); // 1 + ln 4 / ln 16 = 1.5
    // Half of a head rotates: one pair, so tables of two are wrong.
    checkpoint.config["partial_rotary_factor"] = json!(0.5);
    assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Config { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    type Change = fn(&mut Checkpoint);
    type Expected = fn(&Error) -> bool;
    let cases: [(&str, Change, Expected); 17] = [
        (
            "class",
            |c| c.config["architectures"] = json!(["MambaForCausalLM"]),
            |e| matches!(e, Error::Architecture { got, known } if got == "MambaForCausalLM" && known.contains("Qwen3")),
        ),
        (
            "no class",
            |c| c.config["architectures"] = Value::Null,
            |e| matches!(e, Error::Architecture { .. }),
        ),
        (
            "quantized",
            |c| c.config["quantization_config"] = json!({"quant_method": "gptq"}),
            |e| matches!(e, Error::Quantized { method } if method == "gptq"),
        ),
        (
            "activation",
            |c| c.config["hidden_act"] = json!("relu"),
            |e| matches!(e, Error::Unsupported { .. }),
        ),
        ("no heads", |c| c.config["num_attention_heads"] = json!(0), |e| matches!(e, Error::Config { .. })),
        ("text", |c| c.config["hidden_size"] = json!("8"), |e| matches!(e, Error::Config { .. })),
        ("absent", |c| c.config["hidden_size"] = Value::Null, |e| matches!(e, Error::Config { .. })),
        ("huge", |c| c.config["num_hidden_layers"] = json!(u64::MAX), |e| matches!(e, Error::Config { .. })),
        (
            "layers",
            |c| c.config["num_hidden_layers"] = json!(3),
            |e| matches!(e, Error::MissingTensor { .. }),
        ),
        (
            "fewer",
            |c| c.config["num_hidden_layers"] = json!(1),
            |e| matches!(e, Error::UnexpectedTensor { .. }),
        ),
        ("shape", |c| c.config["intermediate_size"] = json!(13), |e| matches!(e, Error::Shape { .. })),
        ("head", |c| c.config["head_dim"] = json!(3), |e| matches!(e, Error::Config { .. })),
        ("groups", |c| c.config["num_key_value_heads"] = json!(3), |e| matches!(e, Error::Config { .. })),
        (
            "rotation",
            |c| c.config["partial_rotary_factor"] = json!(0.5),
            |e| matches!(e, Error::Unsupported { .. }),
        ),
        ("theta", |c| c.config["rope_theta"] = json!("10000"), |e| matches!(e, Error::Config { .. })),
        (
            "extra",
            |c| c.add("model.layers.0.mlp.experts.0.weight", &[2]),
            |e| matches!(e, Error::UnexpectedTensor { tensor, .. } if tensor.contains("experts")),
        ),
        (
            "integers",
            |c| c.tensors.get_mut("model.norm.weight").unwrap().dtype = "I32",
            |e| matches!(e, Error::NumberType { tensor, got } if tensor == "model.norm.weight" && got == "I32"),
        ),
    ];
    for (name, change, expected) in cases {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        change(&mut checkpoint);
        let error = checkpoint.import(FloatType::F32).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        assert!(!checkpoint.target().exists());
    }
}

#[test]
fn computed_tables_of_older_checkpoints_do_not_matter() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.add("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    assert_eq!(checkpoint.import(FloatType::F32).unwrap().warnings, []);
}

#[test]
fn missing_files_are_named() {
    let checkpoint = Checkpoint::new("LlamaForCausalLM");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = checkpoint.write();
        std::fs::remove_file(checkpoint.file(name)).unwrap();
        let error = import::import(folder, &checkpoint.target(), &Options::default()).unwrap_err();
        assert!(matches!(&error, Error::MissingFile { path, .. } if path.ends_with(name)), "{error}");
    }
    let absent = checkpoint.file("absent");
    assert!(matches!(
        import::import(&absent, &checkpoint.target(), &Options::default()),
        Err(Error::Io { .. })
    ));
    let strange = checkpoint.file("strange.xyz");
    std::fs::write(&strange, "").unwrap();
    assert!(matches!(
        import::import(&strange, &checkpoint.target(), &Options::default()),
        Err(Error::Source { .. })
    ));
}
