//! The tokenizer on small vocabularies: merges, special tokens, decoding, roles.

mod support;

use support::{
    CONTROL, NORMAL, TEXT_ONLY, USER_DEFINED, WITH_SPECIAL, byte_level, metadata, pieces, sentence_piece,
    tokenizer,
};
use text::{Error, Tokenizer};

#[test]
fn merges_apply_in_the_order_of_their_ranks() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &["b c", "a b", "a bc", "Ġ a"], &[]));
    assert_eq!(pieces(&tokenizer, "abc", TEXT_ONLY), ["abc"]);
    assert_eq!(pieces(&tokenizer, "abab", TEXT_ONLY), ["ab", "ab"]);
    assert_eq!(pieces(&tokenizer, " ab", TEXT_ONLY), ["Ġ", "ab"]);
    assert_eq!(pieces(&tokenizer, " a", TEXT_ONLY), ["Ġa"]);
}

#[test]
fn of_equal_merges_the_leftmost_applies() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &["a a"], &[]));
    assert_eq!(pieces(&tokenizer, "aaa", TEXT_ONLY), ["aa", "a"]);
}

#[test]
fn merges_through_texts_that_are_no_tokens_still_lead_on() {
    let mut metadata = byte_level("gpt-2", &["a b", "ab c"], &[]);
    let mut tokens = support::alphabet();
    tokens.push("abc".to_owned());
    metadata.insert("tokenizer.ggml.token_type", vec![NORMAL; tokens.len()]);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    let tokenizer = tokenizer(&metadata);
    assert_eq!(pieces(&tokenizer, "abc", TEXT_ONLY), ["abc"]);
    assert_eq!(pieces(&tokenizer, "abd", TEXT_ONLY), ["a", "b", "d"]);
}

#[test]
fn whole_words_go_before_merges_where_the_rules_say_so() {
    let mut metadata = byte_level("llama-bpe", &["a b"], &[("abc", NORMAL)]);
    assert_eq!(pieces(&tokenizer(&metadata), "abc", TEXT_ONLY), ["abc"]);
    metadata.insert("tokenizer.ggml.pre", "gpt-2");
    assert_eq!(pieces(&tokenizer(&metadata), "abc", TEXT_ONLY), ["ab", "c"]);
}

#[test]
fn repeated_words_give_the_same_tokens() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &["t h", "th e", "Ġ the"], &[]));
    let once = tokenizer.encode(" the", TEXT_ONLY);
    assert_eq!(tokenizer.encode(&" the".repeat(50), TEXT_ONLY), once.repeat(50));
}

#[test]
fn control_tokens_are_parsed_on_request_and_user_defined_ones_always() {
    let special = [("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ("<tool>", USER_DEFINED)];
    let tokenizer = tokenizer(&byte_level("gpt-2", &[], &special));
    assert_eq!(pieces(&tokenizer, "<|im_end|><tool>", WITH_SPECIAL), ["<|im_end|>", "<tool>"]);
    assert_eq!(pieces(&tokenizer, "a<tool>", TEXT_ONLY), ["a", "<tool>"]);
    assert_eq!(tokenizer.encode("<|im_end|>", TEXT_ONLY).len(), 10);
}

#[test]
fn the_longest_special_token_is_taken() {
    let special = [("<a>", CONTROL), ("<a><b>", CONTROL), ("<a><b", CONTROL), ("<", USER_DEFINED)];
    let tokenizer = tokenizer(&byte_level("gpt-2", &[], &special));
    assert_eq!(pieces(&tokenizer, "<a><b><a><c<a", WITH_SPECIAL), ["<a><b>", "<a>", "<", "c", "<", "a"]);
}

#[test]
fn special_tokens_of_phi3_swallow_the_space_behind_them() {
    let mut metadata = sentence_piece(&["▁", "a"], &[("<|user|>", CONTROL)]);
    assert_eq!(pieces(&tokenizer(&metadata), "<|user|>\n a", WITH_SPECIAL)[2], "▁");
    metadata.insert("general.name", "Phi-3 mini");
    assert_eq!(pieces(&tokenizer(&metadata), "<|user|>\n a", WITH_SPECIAL), ["<s>", "<|user|>", "▁", "a"]);
}

#[test]
fn sentence_piece_merges_the_best_score_first_and_falls_back_to_bytes() {
    let tokenizer = tokenizer(&sentence_piece(&["▁ab", "bc", "▁a", "▁", "a", "b", "c"], &[]));
    assert_eq!(pieces(&tokenizer, "abc", TEXT_ONLY), ["▁a", "bc"]);
    assert_eq!(pieces(&tokenizer, "aé", TEXT_ONLY), ["▁a", "<0xC3>", "<0xA9>"]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("aé b", TEXT_ONLY), false), "aé b");
}

#[test]
fn a_leading_space_is_added_once_and_taken_off_again() {
    let metadata = sentence_piece(&["▁a", "▁", "a"], &[("<x>", CONTROL)]);
    let tokenizer = tokenizer(&metadata);
    assert_eq!(pieces(&tokenizer, "a a", WITH_SPECIAL), ["<s>", "▁a", "▁a"]);
    assert_eq!(pieces(&tokenizer, " a<x>a", WITH_SPECIAL), ["<s>", "▁", "▁a", "<x>", "▁a"]);
    for text in ["a a", " a", "a<x>a", "", " "] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, WITH_SPECIAL), true), format!("<s>{text}"));
    }
}

#[test]
fn begin_and_end_are_added_as_the_file_asks() {
    let mut metadata = byte_level("gpt-2", &[], &[("<s>", CONTROL), ("</s>", CONTROL)]);
    metadata.insert("tokenizer.ggml.bos_token_id", 256u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 257u32);
    assert_eq!(pieces(&tokenizer(&metadata), "a", WITH_SPECIAL), ["a"]);
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.ggml.add_eos_token", true);
    let tokenizer = tokenizer(&metadata);
    assert!(tokenizer.add_bos() && tokenizer.add_eos());
    assert_eq!(pieces(&tokenizer, "a", WITH_SPECIAL), ["<s>", "a", "</s>"]);
    assert_eq!(tokenizer.encode("a", TEXT_ONLY).len(), 1);
    // A prompt gets the beginning once, and no end.
    assert_eq!(tokenizer.encode_prompt("a"), [256, 97]);
    assert_eq!(tokenizer.encode_prompt("<s>a"), [256, 97]);
}

#[test]
fn generation_ends_at_the_ids_and_at_the_names() {
    let special = [("<eot>", CONTROL), ("<|im_end|>", NORMAL), ("</s>", CONTROL), ("x", CONTROL)];
    let mut metadata = byte_level("gpt-2", &[], &special);
    metadata.insert("tokenizer.ggml.eot_token_id", 256u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 4_000_000u32);
    let tokenizer = tokenizer(&metadata);
    assert_eq!(tokenizer.end_of_generation(), [256, 257, 258]);
    assert!(tokenizer.is_end_of_generation(257) && !tokenizer.is_end_of_generation(259));
    assert_eq!(tokenizer.eos(), None);
    // The name makes it a control token: hidden in text although the file calls it normal.
    assert!(tokenizer.is_control(257));
    assert_eq!(tokenizer.decode(&[257], false), "");
    assert_eq!(tokenizer.decode(&[257], true), "<|im_end|>");
}

#[test]
fn the_end_of_a_channel_does_not_end_generation() {
    let special = ["<|end|>", "<|return|>", "<|call|>", "<|channel|>"].map(|name| (name, CONTROL));
    let tokenizer = tokenizer(&byte_level("gpt-4o", &[], &special));
    assert_eq!(tokenizer.end_of_generation(), [257, 258]);
    assert_eq!(tokenizer.decode(&[259], false), "<|channel|>");
}

#[test]
fn tokens_give_bytes() {
    let tokenizer = tokenizer(&byte_level("gpt-2", &[], &[("<s>", CONTROL)]));
    let ids = tokenizer.encode("é", TEXT_ONLY);
    assert_eq!(tokenizer.token_bytes(ids[0], false).as_ref(), [0xC3]);
    assert_eq!(tokenizer.token_bytes(256, false).as_ref(), b"");
    assert_eq!(tokenizer.token_bytes(256, true).as_ref(), b"<s>");
    assert_eq!(tokenizer.token_bytes(u32::MAX, true).as_ref(), b"");
    assert_eq!(tokenizer.piece(u32::MAX), "");
    assert_eq!(tokenizer.decode(&[ids[0]], false), "\u{FFFD}");
    assert_eq!(tokenizer.vocab_size(), 257);
}

#[test]
fn gemma4_merges_plain_text_and_keeps_lines_apart() {
    let tokens = ["<bos>", "▁", "a", "b", "▁a", "\n", "\n\n", "<0xC3>", "<0xA9>"].map(str::to_owned).to_vec();
    let types = vec![CONTROL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, support::BYTE, support::BYTE];
    let mut metadata = metadata("gemma4", tokens, types);
    metadata.insert("tokenizer.ggml.merges", vec!["▁ a".to_owned()]);
    metadata.insert("tokenizer.ggml.bos_token_id", 0u32);
    metadata.insert("tokenizer.ggml.add_bos_token", false);
    let tokenizer = tokenizer(&metadata);
    let expected = ["<bos>", "▁a", "b", "\n\n", "▁a", "<0xC3>", "<0xA9>"];
    assert_eq!(pieces(&tokenizer, " ab\n\n aé", WITH_SPECIAL), expected);
    assert_eq!(tokenizer.decode(&tokenizer.encode(" ab\n\n aé", TEXT_ONLY), false), " ab\n\n aé");
}

#[test]
fn what_is_missing_or_unknown_is_told() {
    let build = Tokenizer::from_metadata;
    let mut metadata = byte_level("gpt-2", &["a b"], &[]);
    metadata.insert("tokenizer.ggml.pre", "rules of tomorrow");
    assert!(!build(&metadata).unwrap().pre_tokenizer_is_known());
    for (key, is_needed) in [
        ("tokenizer.ggml.pre", false),
        ("tokenizer.ggml.token_type", false),
        ("tokenizer.ggml.merges", true),
        ("tokenizer.ggml.tokens", true),
        ("tokenizer.ggml.model", true),
    ] {
        metadata.remove(key);
        match build(&metadata) {
            Err(Error::MissingKey { key: missing }) => assert!(is_needed && missing == key),
            other => assert!(other.is_ok() && !is_needed, "{key}"),
        }
    }
    let unsupported = build(&support::metadata("t5", vec!["a".into()], vec![NORMAL]));
    assert!(matches!(unsupported, Err(Error::UnsupportedModel { model, .. }) if model == "t5"));
    let empty = build(&support::metadata("llama", vec![], vec![]));
    assert!(matches!(empty, Err(Error::VocabularySize { got: 0, .. })));
    let short = build(&support::metadata("llama", vec!["a".into(), "b".into()], vec![NORMAL]));
    assert!(matches!(short, Err(Error::WrongLength { expected: 2, got: 1, .. })));
    let mut wrong = byte_level("gpt-2", &[], &[]);
    wrong.insert("tokenizer.ggml.tokens", 7u32);
    assert!(matches!(build(&wrong), Err(Error::Metadata(_))));
}
