//! Any text, any vocabulary: text comes back, nothing panics.

mod support;

use gguf::Metadata;
use proptest::prelude::*;
use support::{TEXT_ONLY, WITH_SPECIAL, byte_level, sentence_piece, tokenizer};
use text::{Encode, TextStream, Tokenizer};

const PRE_TOKENIZERS: &[&str] = &[
    "default",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "gpt-2",
    "smollm",
    "falcon",
    "gpt-4o",
    "tekken",
    "kimi-k2",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "afmoe",
    "youtu",
    "exaone-moe",
    "superbpe",
    "bloom",
    "chameleon",
    "jais-2",
    "tiny_aya",
    "minicpm5",
    "spark2_5",
];

const MERGES: &[&str] =
    &["a b", "Ġ a", "Ġ Ġ", "ab c", "ĠĠ ĠĠ", "Ġa b", "1 2", "12 3", "Ċ Ċ", "' s", "Ã ©", "e Ġ", "Ã ©e"];

/// Text with much of what the rules look at.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ab' 123\n\r\t.,!é]{1,8}",
        Just("<|im_start|>".to_owned()),
        Just("<tool>".to_owned()),
        Just("▁".to_owned()),
        Just("नमस्ते 你好 🦀".to_owned()),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

fn options() -> impl Strategy<Value = Encode> {
    (any::<bool>(), any::<bool>())
        .prop_map(|(add_special, parse_special)| Encode { add_special, parse_special })
}

/// A token or one side of a merge: from few letters, so that they meet.
fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        "[abĠ▁é<>]{0,4}",
        any::<String>(),
        Just("<0x61>".to_owned()),
        Just("<0xZZ>".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("</s>".to_owned()),
    ]
}

/// A vocabulary without any sense.
fn vocabulary() -> impl Strategy<Value = Metadata> {
    let model = prop_oneof![Just("gpt2"), Just("llama"), Just("gemma4"), Just("bert")];
    let score = prop_oneof![any::<f32>(), Just(f32::NAN), Just(0.0)];
    let parts = (
        model,
        prop::sample::select(PRE_TOKENIZERS),
        prop::collection::vec((token(), 0..9i32, score), 0..24),
        prop::collection::vec(
            prop_oneof![(token(), token()).prop_map(|(l, r)| format!("{l} {r}")), token()],
            0..16,
        ),
        prop::collection::vec(-3..40i64, 6),
        any::<(bool, bool, bool)>(),
    );
    parts.prop_map(|(model, pre, tokens, merges, ids, (add_bos, add_eos, add_prefix))| {
        let mut metadata = support::metadata(
            model,
            tokens.iter().map(|(token, ..)| token.clone()).collect(),
            tokens.iter().map(|(_, kind, _)| *kind).collect(),
        );
        metadata.insert("tokenizer.ggml.pre", pre);
        metadata
            .insert("tokenizer.ggml.scores", tokens.iter().map(|(.., score)| *score).collect::<Vec<f32>>());
        metadata.insert("tokenizer.ggml.merges", merges);
        let roles = ["bos", "eos", "eot", "unknown", "fim_pad", "eom"];
        for (role, id) in roles.iter().zip(ids) {
            metadata.insert(format!("tokenizer.ggml.{role}_token_id"), id);
        }
        metadata.insert("tokenizer.ggml.add_bos_token", add_bos);
        metadata.insert("tokenizer.ggml.add_eos_token", add_eos);
        metadata.insert("tokenizer.ggml.add_space_prefix", add_prefix);
        metadata
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn byte_level_text_comes_back(text in text(), pre in prop::sample::select(PRE_TOKENIZERS), parse: bool) {
        let special = [("<|im_start|>", support::CONTROL), ("<tool>", support::USER_DEFINED)];
        let tokenizer = tokenizer(&byte_level(pre, MERGES, &special));
        let ids = tokenizer.encode(&text, Encode { add_special: false, parse_special: parse });
        prop_assert_eq!(tokenizer.decode(&ids, true), text.clone());

        let mut stream = TextStream::new();
        let mut streamed: String =
            ids.iter().map(|&id| stream.push(&tokenizer.token_bytes(id, true))).collect();
        streamed.push_str(&stream.finish());
        prop_assert_eq!(streamed, text);
    }

    #[test]
    fn sentence_piece_text_comes_back(text in text()) {
        let metadata = sentence_piece(&["▁a", "ab", "▁▁", "b▁", "▁", "a", "b", "é"], &[]);
        let tokenizer = tokenizer(&metadata);
        let ids = tokenizer.encode(&text, TEXT_ONLY);
        // The character that stands for a space cannot be told from one.
        prop_assert_eq!(tokenizer.decode(&ids, false), text.replace('▁', " "));
    }

    #[test]
    fn senseless_vocabularies_do_not_panic(
        metadata in vocabulary(), text in text(), options in options(), ids: Vec<u32>,
    ) {
        if let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) {
            let encoded = tokenizer.encode(&text, options);
            prop_assert!(encoded.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            tokenizer.decode(&encoded, options.add_special);
            tokenizer.decode(&ids, true);
            tokenizer.encode_prompt(&text);
        }
    }
}

#[test]
fn long_words_take_no_quadratic_time() {
    let tokenizers = [
        tokenizer(&byte_level("gpt-2", MERGES, &[])),
        tokenizer(&sentence_piece(&["ab", "abab", "a", "b", "▁"], &[])),
    ];
    let text = "ab".repeat(200_000);
    for tokenizer in tokenizers {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text, WITH_SPECIAL), false), text);
    }
}
