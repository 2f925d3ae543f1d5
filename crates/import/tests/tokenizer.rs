//! Vocabularies, the names of pre-tokenizers, special tokens and chat templates.

mod common;

use common::{Checkpoint, QWEN2_SPLIT, ROWS};
use gguf::Metadata;
use import::{Error, FloatType, Warning};
use serde_json::{Value, json};

const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn metadata(checkpoint: &Checkpoint) -> Metadata {
    checkpoint.convert().metadata().clone()
}

#[test]
fn a_byte_level_vocabulary() {
    let metadata = metadata(&Checkpoint::new("Qwen2ForCausalLM"));
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    assert_eq!(metadata.string("tokenizer.ggml.pre").unwrap(), Some("qwen2"));
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let kinds = metadata.u32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((tokens.len(), kinds.len()), (ROWS, ROWS));
    for (id, text, kind) in [
        (0, "<|start|>", 3),
        (1, "<|stop|>", 3),
        (2 + 65, "A", 1),
        (260, "\u{120}the", 1),
        (261, "plain added", 4),
        (262, "[PAD262]", 5),
    ] {
        assert_eq!((tokens[id].as_str(), kinds[id]), (text, kind));
    }
    assert_eq!(
        metadata.strings("tokenizer.ggml.merges").unwrap().unwrap(),
        ["h e", "\u{120} t", "\u{120}t he"]
    );
    assert!(metadata.get("tokenizer.ggml.scores").is_none());
    assert_eq!(metadata.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(0));
    assert_eq!(metadata.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(1));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    assert_eq!(metadata.string("tokenizer.chat_template").unwrap(), Some("{{ messages }}"));
}

#[test]
fn merges_may_be_texts_and_hold_spaces() {
    let mut checkpoint = Checkpoint::new("Qwen2ForCausalLM");
    let tokenizer = checkpoint.tokenizer.as_mut().unwrap();
    tokenizer["model"]["merges"] = json!(["h e", "\u{120} t"]);
    let texts = metadata(&checkpoint);
    assert_eq!(texts.strings("tokenizer.ggml.merges").unwrap().unwrap(), ["h e", "\u{120} t"]);
    checkpoint.tokenizer.as_mut().unwrap()["model"]["merges"] = json!([["h", "e"], [" ", "t"]]);
    let pairs = metadata(&checkpoint);
    assert_eq!(pairs.strings("tokenizer.ggml.merges").unwrap().unwrap(), ["h e", "\u{120} t"]);
    checkpoint.tokenizer.as_mut().unwrap()["model"]["merges"] = json!(["h e l"]);
    assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Vocabulary { .. })));
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

#[test]
fn pre_tokenizers_are_recognised_by_their_steps() {
    let digits = json!({"type": "Digits", "individual_digits": true});
    let cjk = "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";
    for (steps, ignore_merges, expected) in [
        (vec![byte_level(true)], false, "gpt-2"),
        (vec![split(LLAMA3_SPLIT), byte_level(false)], true, "llama-bpe"),
        (vec![split(LLAMA3_SPLIT), byte_level(false)], false, "dbrx"),
        (vec![split(QWEN2_SPLIT), byte_level(false)], false, "qwen2"),
        (vec![digits.clone(), byte_level(true)], false, "smollm"),
        (
            vec![
                split("[\r\n]"),
                split(r"\s?\p{L}+"),
                split(r"\s?\p{P}+"),
                split(cjk),
                digits.clone(),
                byte_level(false),
            ],
            false,
            "deepseek-coder",
        ),
        (
            vec![
                split("[\r\n]"),
                split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+"),
                split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                split(r"\s+$"),
                split(cjk),
                digits,
                byte_level(false),
            ],
            false,
            "deepseek-llm",
        ),
    ] {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        let tokenizer = checkpoint.tokenizer.as_mut().unwrap();
        tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": steps});
        tokenizer["model"]["ignore_merges"] = json!(ignore_merges);
        assert_eq!(metadata(&checkpoint).string("tokenizer.ggml.pre").unwrap(), Some(expected));
    }
}

#[test]
fn an_unknown_pre_tokenizer_is_refused_and_described() {
    for steps in
        [vec![split(r"\w+"), byte_level(false)], vec![json!({"type": "ByteLevel", "add_prefix_space": true})]]
    {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        checkpoint.tokenizer.as_mut().unwrap()["pre_tokenizer"] =
            json!({"type": "Sequence", "pretokenizers": steps});
        match checkpoint.import(FloatType::F32) {
            Err(Error::PreTokenizer { steps, .. }) => {
                assert!(steps.contains(r"\w+") || steps.contains("ByteLevel"))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_template_says_what_is_added_to_texts() {
    let special = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
    let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
    for (single, begin, end) in [
        (vec![special("<|start|>"), sequence.clone()], true, false),
        (vec![special("<|start|>"), sequence.clone(), special("<|stop|>")], true, true),
        (vec![sequence.clone()], false, false),
    ] {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        checkpoint.tokenizer.as_mut().unwrap()["post_processor"] = json!({"type": "Sequence", "processors": [
            {"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": single},
        ]});
        let metadata = metadata(&checkpoint);
        assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(begin));
        assert_eq!(metadata.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(end));
    }
    // Without a post-processor, the configuration is asked.
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.tokenizer.as_mut().unwrap()["post_processor"] = Value::Null;
    checkpoint.tokenizer_config["add_bos_token"] = json!(true);
    let metadata = metadata(&checkpoint);
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(metadata.bool("tokenizer.ggml.add_eos_token").unwrap(), None);
}

#[test]
fn ids_come_from_other_files_where_texts_are_absent() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.tokenizer_config = json!({});
    checkpoint.config["eos_token_id"] = Value::Null;
    checkpoint.config["bos_token_id"] = json!(0);
    checkpoint.config["pad_token_id"] = json!(9999); // no such token
    let folder = checkpoint.write();
    std::fs::write(
        checkpoint.file("generation_config.json"),
        r#"{"eos_token_id": [1, 260], "pad_token_id": 3}"#,
    )
    .unwrap();
    import::import(folder, &checkpoint.target(), &import::Options::default()).unwrap();
    let metadata = gguf::File::open(&checkpoint.target()).unwrap().metadata().clone();
    for (key, id) in [("bos", 0), ("eos", 1), ("eot", 260), ("padding", 3)] {
        assert_eq!(metadata.u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap(), Some(id), "{key}");
    }
}

#[test]
fn templates_come_from_where_they_are() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.tokenizer_config["chat_template"] = json!([
        {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"},
    ]);
    let named = metadata(&checkpoint);
    assert_eq!(named.string("tokenizer.chat_template").unwrap(), Some("plain"));
    assert_eq!(named.string("tokenizer.chat_template.tool_use").unwrap(), Some("tools"));
    assert_eq!(named.strings("tokenizer.chat_templates").unwrap().unwrap(), ["tool_use"]);

    checkpoint.tokenizer_config = json!({});
    std::fs::write(checkpoint.file("chat_template.json"), r#"{"chat_template": "json"}"#).unwrap();
    assert_eq!(metadata(&checkpoint).string("tokenizer.chat_template").unwrap(), Some("json"));
    std::fs::write(checkpoint.file("chat_template.jinja"), "jinja").unwrap();
    assert_eq!(metadata(&checkpoint).string("tokenizer.chat_template").unwrap(), Some("jinja"));
}

#[test]
fn tokens_without_a_row_are_left_out_with_a_word() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    let added = checkpoint.tokenizer.as_mut().unwrap()["added_tokens"].as_array_mut().unwrap();
    added.push(json!({"id": ROWS, "content": "<image>", "special": true}));
    let summary = checkpoint.import(FloatType::F32).unwrap();
    let example = "<image>".to_owned();
    assert_eq!(summary.warnings, [Warning::TokensLeftOut { example, count: 1 }]);
    // A trained token without a row means that the files do not belong together.
    checkpoint.tokenizer.as_mut().unwrap()["model"]["vocab"]["extra"] = json!(ROWS);
    assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Vocabulary { .. })));
    checkpoint.tokenizer.as_mut().unwrap()["model"]["vocab"]["extra"] = json!(5);
    assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Vocabulary { .. })));
}

/// A protocol buffer field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// `tokenizer.model` with the four pieces of a minimal vocabulary.
fn sentencepiece(kind: u8, prefix: u8) -> Vec<u8> {
    let piece = |text: &str, score: f32, kind: u8| {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        field(1, &[field(1, text.as_bytes()), score, vec![3 << 3, kind]].concat())
    };
    let pieces = [
        piece("<unk>", 0.0, 2),
        piece("<s>", 0.0, 3),
        piece("<0x0A>", 0.0, 6),
        piece("\u{2581}the", -7.0, 1),
    ];
    [pieces.concat(), field(2, &[3 << 3, kind]), field(3, &[3 << 3, prefix])].concat()
}

#[test]
fn a_sentencepiece_model() {
    for prefix in [true, false] {
        let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
        checkpoint.tokenizer = None;
        checkpoint.tokenizer_config = json!({
            "bos_token": "<s>", "add_bos_token": true,
            "added_tokens_decoder": {"4": {"content": "<|user|>", "special": false}, "5": {"content": "a\u{2581}b"}},
        });
        std::fs::write(checkpoint.file("tokenizer.model"), sentencepiece(2, prefix.into())).unwrap();
        let metadata = metadata(&checkpoint);
        assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("llama"));
        assert_eq!(metadata.string("tokenizer.ggml.pre").unwrap(), Some("default"));
        let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(tokens[..7], ["<unk>", "<s>", "<0x0A>", "\u{2581}the", "<|user|>", "a b", "[PAD6]"]);
        assert_eq!(metadata.u32s("tokenizer.ggml.token_type").unwrap().unwrap()[..7], [2, 3, 6, 1, 3, 4, 5]);
        assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap()[..4], [0.0, 0.0, 0.0, -7.0]);
        assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(prefix));
        assert_eq!(metadata.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(1));
        assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    }
}

#[test]
fn other_kinds_of_sentencepiece_are_refused() {
    let mut checkpoint = Checkpoint::new("LlamaForCausalLM");
    checkpoint.tokenizer = None;
    for model in [sentencepiece(1, 1), Vec::new(), b"<!DOCTYPE html>".to_vec()] {
        std::fs::write(checkpoint.file("tokenizer.model"), model).unwrap();
        assert!(matches!(checkpoint.import(FloatType::F32), Err(Error::Vocabulary { .. })));
    }
}

#[test]
fn scores_are_derived_from_the_order_of_merges() {
    let mut checkpoint = Checkpoint::new("MistralForCausalLM");
    checkpoint.tokenizer_config = json!({"bos_token": "<s>"});
    checkpoint.tokenizer = Some(json!({
        "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]},
        "model": {
            "type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "t": 3, "h": 4, "e": 5, "th": 6, "he": 7, "the": 8},
            "merges": ["h e", "t h", "th e", "t he"],
        },
    }));
    let summary = checkpoint.import(FloatType::F32).unwrap();
    assert_eq!(summary.warnings, [Warning::DerivedScores]);
    let metadata = gguf::File::open(&checkpoint.target()).unwrap().metadata().clone();
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("llama"));
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!(scores[6..9], [-1.0, 0.0, -2.0]); // th, he, the
    assert!(scores[3..6].iter().all(|&score| score == -3.0));
    assert_eq!(metadata.u32s("tokenizer.ggml.token_type").unwrap().unwrap()[..4], [2, 3, 6, 1]);
    assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
}
