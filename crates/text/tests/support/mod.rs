//! Small vocabularies for tests.
#![allow(dead_code)] // each test file uses a part

use gguf::Metadata;
use text::{Encode, Tokenizer};

/// Token types of the file format.
pub(crate) const NORMAL: i32 = 1;
pub(crate) const UNKNOWN: i32 = 2;
pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;
pub(crate) const BYTE: i32 = 6;

pub(crate) const TEXT_ONLY: Encode = Encode { add_special: false, parse_special: false };
pub(crate) const WITH_SPECIAL: Encode = Encode { add_special: true, parse_special: true };

/// The byte-level alphabet, written down independently of the crate's own table.
pub(crate) fn alphabet() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0xFF;
    let character = |byte| {
        let code = if printable(byte) {
            byte
        } else {
            next += 1;
            next
        };
        char::from_u32(code).unwrap().to_string()
    };
    (0..256).map(character).collect()
}

/// A vocabulary from its parts.
pub(crate) fn metadata(model: &str, tokens: Vec<String>, types: Vec<i32>) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", model);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata
}

/// A byte-level vocabulary: 256 bytes, the results of the merges, then the special tokens with their types.
pub(crate) fn byte_level(pre: &str, merges: &[&str], special: &[(&str, i32)]) -> Metadata {
    let mut tokens = alphabet();
    for merge in merges {
        let whole = merge.replacen(' ', "", 1);
        if !tokens.contains(&whole) {
            tokens.push(whole);
        }
    }
    let mut types = vec![NORMAL; tokens.len()];
    for (token, kind) in special {
        tokens.push((*token).to_owned());
        types.push(*kind);
    }
    let mut metadata = metadata("gpt2", tokens, types);
    metadata.insert("tokenizer.ggml.pre", pre);
    metadata
        .insert("tokenizer.ggml.merges", merges.iter().map(|merge| merge.to_string()).collect::<Vec<_>>());
    metadata
}

/// A SentencePiece vocabulary: unknown, begin, end, 256 bytes, then pieces with falling scores, then special
/// tokens.
pub(crate) fn sentence_piece(pieces: &[&str], special: &[(&str, i32)]) -> Metadata {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let mut types = vec![UNKNOWN, CONTROL, CONTROL];
    types.resize(tokens.len(), BYTE);
    let mut scores = vec![0.0f32; tokens.len()];
    for (rank, piece) in pieces.iter().enumerate() {
        tokens.push(piece.to_string());
        types.push(NORMAL);
        scores.push(-(rank as f32));
    }
    for (token, kind) in special {
        tokens.push(token.to_string());
        types.push(*kind);
        scores.push(0.0);
    }
    let mut metadata = metadata("llama", tokens, types);
    metadata.insert("tokenizer.ggml.scores", scores);
    metadata
}

pub(crate) fn tokenizer(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).unwrap()
}

/// The tokens of a text, as the vocabulary writes them.
pub(crate) fn pieces(tokenizer: &Tokenizer, text: &str, options: Encode) -> Vec<String> {
    tokenizer.encode(text, options).into_iter().map(|id| tokenizer.piece(id).to_owned()).collect()
}
