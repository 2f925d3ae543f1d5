//! The vocabulary of a llama2.c checkpoint: the longest token's length, then score, length and text of each token.
//!
//! It was exported from SentencePiece with two changes that are undone here: the mark for a space became a plain
//! space, and begin and end of text got line ends around them.

use crate::tokenizer::{Kind, Vocabulary, byte_of};
use crate::{Error, input};
use gguf::Metadata;
use std::path::{Path, PathBuf};

const UNKNOWN: u32 = 0;
const BEGIN: u32 = 1;
const END: u32 = 2;

/// The vocabulary file that belongs to a checkpoint: `tokN.bin` for N tokens, else `tokenizer.bin`, beside it.
pub(super) fn find(checkpoint: &Path, tokens: u64) -> Result<PathBuf, Error> {
    let own = checkpoint.with_file_name(format!("tok{tokens}.bin"));
    let common = checkpoint.with_file_name("tokenizer.bin");
    match (own.is_file(), common.is_file()) {
        (true, _) => Ok(own),
        (false, true) => Ok(common),
        (false, false) => Err(Error::MissingFile { path: own, purpose: "it holds the vocabulary" }),
    }
}

/// Reads exactly `tokens` tokens.
pub(super) fn read(path: &Path, tokens: u64) -> Result<Vocabulary, Error> {
    let bytes = input::read_all(path, "it holds the vocabulary")?;
    let actual = bytes.len() as u64;
    let mut rest = &bytes[..];
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count).ok_or_else(|| {
            let expected = actual - rest.len() as u64 + count as u64;
            Error::Length { path: path.to_path_buf(), expected, actual }
        })?;
        rest = after;
        Ok::<&[u8], Error>(taken)
    };
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes); // `take` gives the asked length
    take(4)?; // the longest token's length is of no use
    // Eight bytes is the least a token takes; a larger count than that allows must not be allocated.
    if tokens > actual / 8 {
        let expected = tokens.saturating_mul(8).saturating_add(4);
        return Err(Error::Length { path: path.to_path_buf(), expected, actual });
    }
    let mut vocabulary = Vocabulary::new("llama", "default", tokens);
    vocabulary.scored = true;
    vocabulary.space_prefix = Some(true);
    for id in 0..tokens {
        let score = f32::from_bits(number(take(4)?));
        let length = number(take(4)?);
        let text = std::str::from_utf8(take(length as usize)?);
        let text = text.map_err(|_| Error::vocabulary(path, format!("token {id} is not UTF-8 text")))?;
        let (text, kind) = match id as u32 {
            UNKNOWN => ("<unk>".to_owned(), Kind::Unknown),
            BEGIN => ("<s>".to_owned(), Kind::Control),
            END => ("</s>".to_owned(), Kind::Control),
            _ if byte_of(text).is_some() => (text.to_owned(), Kind::Byte),
            _ if text.is_empty() => (String::new(), Kind::Control),
            _ => (text.replace(' ', "\u{2581}"), Kind::Normal),
        };
        vocabulary.set(path, id, text, kind, score)?;
    }
    if !rest.is_empty() {
        let problem =
            format!("it has more than the checkpoint's {tokens} tokens; the files do not belong together");
        return Err(Error::vocabulary(path, problem));
    }
    Ok(vocabulary)
}

/// Writes the special tokens' keys.
pub(super) fn describe_special(metadata: &mut Metadata) {
    metadata.insert("tokenizer.ggml.unknown_token_id", UNKNOWN);
    metadata.insert("tokenizer.ggml.bos_token_id", BEGIN);
    metadata.insert("tokenizer.ggml.eos_token_id", END);
    // These models were trained on texts strung together by the begin token, so that is also how they end one.
    metadata.insert("tokenizer.ggml.eot_token_id", BEGIN);
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.ggml.add_eos_token", false);
}
