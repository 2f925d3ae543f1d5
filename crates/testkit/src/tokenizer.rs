//! Small tokenizers that can encode any text: one byte-level BPE, one SentencePiece.

use gguf::{Array, Metadata, Value};

/// Which tokenizer a tiny model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// Byte-level BPE: 256 bytes, a few merges, ChatML's control tokens.
    Bytes,
    /// SentencePiece: byte fallback, letters and a few words, ChatML's control tokens.
    SentencePiece,
}

impl TokenizerKind {
    /// How many tokens at the front of the vocabulary are no text.
    pub(crate) fn leading_control_tokens(self) -> usize {
        match self {
            TokenizerKind::Bytes => 3,
            TokenizerKind::SentencePiece => 5,
        }
    }
}

/// Token types as GGUF numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Pairs merged by the BPE tokenizer, first to last. `Ġ` stands for a space.
const MERGES: &[(&str, &str)] =
    &[("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "a"), ("o", "n"), ("e", "r")];
/// Words of the SentencePiece tokenizer besides single characters, likeliest first. `▁` stands for a space.
const WORDS: &[&str] = &["▁the", "the", "▁a", "th", "in", "on", "er", "▁t"];

/// Adds the tokenizer's keys; returns the size of the vocabulary.
pub fn tokenizer_metadata(kind: TokenizerKind, metadata: &mut Metadata) -> u64 {
    let (tokens, ends) = match kind {
        TokenizerKind::Bytes => bytes(metadata),
        TokenizerKind::SentencePiece => sentence_piece(metadata),
    };
    let count = tokens.len() as u64;
    for (key, token) in ends {
        let id = tokens.iter().position(|known| known == token).expect("it was just added");
        metadata.insert(format!("tokenizer.ggml.{key}"), Value::U32(id as u32));
    }
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    count
}

/// Adds tokens that no text has to a byte-level tokenizer until there are `size`; returns how many there are.
pub(crate) fn fill_up(metadata: &mut Metadata, size: u64) -> u64 {
    let size = size as usize;
    let (tokens, types) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
    let (Some(Value::Array(Array::String(mut names))), Some(Value::Array(Array::I32(mut kinds)))) =
        (metadata.remove(tokens), metadata.remove(types))
    else {
        panic!("a byte-level tokenizer has names and types");
    };
    names.extend((names.len()..size).map(|id| format!("<|unused_{id}|>")));
    kinds.resize(names.len(), UNUSED);
    let count = names.len() as u64;
    metadata.insert(tokens, Value::Array(Array::String(names)));
    metadata.insert(types, Value::Array(Array::I32(kinds)));
    count
}

type Vocabulary = (Vec<String>, &'static [(&'static str, &'static str)]);

fn bytes(metadata: &mut Metadata) -> Vocabulary {
    let mut tokens: Vec<String> =
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].iter().map(|&token| token.to_owned()).collect();
    let mut types = vec![CONTROL; tokens.len()];
    tokens.extend((0..=255).map(|byte| visible(byte).to_string()));
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    types.resize(tokens.len(), NORMAL);
    let merges = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
    metadata.insert("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
    metadata.insert("tokenizer.ggml.pre", Value::String("smollm".to_owned()));
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata.insert("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(false));
    (
        tokens,
        &[
            ("bos_token_id", "<|im_start|>"),
            ("eos_token_id", "<|im_end|>"),
            ("padding_token_id", "<|endoftext|>"),
        ],
    )
}

fn sentence_piece(metadata: &mut Metadata) -> Vocabulary {
    let mut vocabulary: Vec<(String, f32, i32)> = vec![
        ("<unk>".to_owned(), 0.0, UNKNOWN),
        ("<s>".to_owned(), 0.0, CONTROL),
        ("</s>".to_owned(), 0.0, CONTROL),
        ("<|im_start|>".to_owned(), 0.0, CONTROL),
        ("<|im_end|>".to_owned(), 0.0, CONTROL),
    ];
    vocabulary.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    let characters =
        "▁etaoinshrdlucmwfgypbvkjxqzETAOINSHRDLUCMWFGYPBVKJXQZ.,!?'0123456789".chars().map(String::from);
    let pieces = WORDS.iter().map(|&word| word.to_owned()).chain(characters);
    vocabulary.extend(pieces.enumerate().map(|(rank, piece)| (piece, -(rank as f32) - 1.0, NORMAL)));
    metadata.insert("tokenizer.ggml.model", Value::String("llama".to_owned()));
    let scores = vocabulary.iter().map(|(_, score, _)| *score).collect();
    metadata.insert("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    let types = vocabulary.iter().map(|(_, _, token_type)| *token_type).collect();
    metadata.insert("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    metadata.insert("tokenizer.ggml.add_bos_token", Value::Bool(true));
    metadata.insert("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    let tokens = vocabulary.into_iter().map(|(token, _, _)| token).collect();
    (tokens, &[("bos_token_id", "<s>"), ("eos_token_id", "<|im_end|>"), ("unknown_token_id", "<unk>")])
}

/// GPT-2's printable stand-in for a byte: itself where printable in Latin-1, else the next free character from 256 on.
fn visible(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + earlier).expect("256 to 323 are characters")
}
