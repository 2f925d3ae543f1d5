//! What the suites share: vocabularies, a reader that chooses at random, a small validator of JSON Schema.
#![allow(dead_code)]

pub(crate) mod validate;

use engine::Constraint;
use gguf::{Array, Metadata, Value};
use grammar::Grammars;
use testkit::{Random, TokenizerKind, tokenizer_metadata};
use text::Tokenizer;

/// A tiny vocabulary with `extra` tokens of the given GGUF types (3 control, 4 user-defined).
pub(crate) fn tokenizer(kind: TokenizerKind, extra: &[(&str, i32)]) -> Tokenizer {
    let mut metadata = Metadata::new();
    tokenizer_metadata(kind, &mut metadata);
    let (tokens, types, scores) =
        ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores");
    let Some(Value::Array(Array::String(mut names))) = metadata.remove(tokens) else { panic!("no tokens") };
    let Some(Value::Array(Array::I32(mut kinds))) = metadata.remove(types) else { panic!("no types") };
    if let Some(Value::Array(Array::F32(mut values))) = metadata.remove(scores) {
        values.extend(extra.iter().map(|_| 0.0));
        metadata.insert(scores, Value::Array(Array::F32(values)));
    }
    names.extend(extra.iter().map(|(name, _)| (*name).to_owned()));
    kinds.extend(extra.iter().map(|(_, kind)| *kind));
    metadata.insert(tokens, Value::Array(Array::String(names)));
    metadata.insert(types, Value::Array(Array::I32(kinds)));
    Tokenizer::from_metadata(&metadata).expect("it is a vocabulary")
}

pub(crate) fn bytes() -> (Tokenizer, Grammars) {
    let tokenizer = tokenizer(TokenizerKind::Bytes, &[]);
    let grammars = Grammars::new(&tokenizer);
    (tokenizer, grammars)
}

/// How an answer ended that was drawn at random.
pub(crate) struct Drawn {
    pub(crate) text: String,
    /// Whether it is whole, rather than cut after `most` tokens.
    pub(crate) is_complete: bool,
    pub(crate) tokens: Vec<u32>,
}

/// Draws an answer as a model would that knows nothing, except that texts end and brackets close: otherwise strings of
/// random characters would have no end. `shown` control tokens are part of the text.
pub(crate) fn draw(
    tokenizer: &Tokenizer,
    constraint: &mut dyn Constraint,
    seed: u64,
    most: usize,
    shown: &[u32],
) -> Drawn {
    let mut random = Random::new(seed);
    let (mut tokens, mut bytes, mut is_complete) = (Vec::new(), Vec::new(), false);
    while tokens.len() < most && !is_complete {
        // More logits than tokens, as models have them whose vocabulary was rounded up.
        let mut logits: Vec<f32> = (0..tokenizer.vocab_size() + 5).map(|_| random.signed()).collect();
        for (id, logit) in logits.iter_mut().enumerate() {
            let bytes = tokenizer.token_bytes(id as u32, false);
            if matches!(&*bytes, b"\"" | b"}" | b"]" | b"<" | b"\xe4" | b"\xbd")
                || tokenizer.is_end_of_generation(id as u32)
            {
                *logit += random.signed();
            }
        }
        constraint.mask(&mut logits).expect("something may follow");
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("there are tokens");
        assert!(best.1.is_finite(), "no token is left");
        let token = best.0 as u32;
        is_complete = constraint.accept(token).expect("what is not masked is accepted");
        tokens.push(token);
        if !tokenizer.is_end_of_generation(token) {
            let is_control = tokenizer.is_control(token);
            assert!(!is_control || shown.contains(&token), "control token {}", tokenizer.piece(token));
            bytes.extend_from_slice(&tokenizer.token_bytes(token, is_control));
        }
    }
    let text = match is_complete {
        true => String::from_utf8(bytes).expect("a complete answer has whole characters"),
        false => String::from_utf8_lossy(&bytes).into_owned(),
    };
    Drawn { text, is_complete, tokens }
}

/// Whether `text` can be written from first to last character, and may end there.
pub(crate) fn fits(tokenizer: &Tokenizer, mut constraint: Box<dyn Constraint>, text: &str) -> bool {
    let mut is_complete = false;
    for token in tokenizer.encode(text, text::Encode { add_special: false, parse_special: true }) {
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        if is_complete || constraint.mask(&mut logits).is_err() || logits[token as usize] != 0.0 {
            return false;
        }
        is_complete = constraint.accept(token).expect("what is not masked is accepted");
    }
    let mut logits = vec![0.0; tokenizer.vocab_size()];
    is_complete
        || constraint.mask(&mut logits).is_ok() && logits[tokenizer.eos().expect("an end") as usize] == 0.0
}
