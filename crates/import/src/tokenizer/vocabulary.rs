//! A vocabulary in the making: texts, kinds and scores by id.

use super::json::AddedToken;
use crate::{Error, Warning};
use gguf::Metadata;
use std::collections::HashMap;
use std::path::Path;

/// What a token is, with the ids that SentencePiece and GGUF give the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The mark that SentencePiece writes for a space.
pub(crate) const SPACE: char = '\u{2581}';

/// Scores of tokens that no merge produces.
const LOWEST_SCORE: f32 = -1000.0;

/// Tokens by id; ids without a token are holes until [`Vocabulary::fill_gaps`].
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// `tokenizer.ggml.model`.
    pub(crate) model: &'static str,
    /// `tokenizer.ggml.pre`.
    pub(crate) pre: &'static str,
    tokens: Vec<Option<(String, Kind, f32)>>,
    ids: HashMap<String, u32>,
    /// Whether scores are written.
    pub(crate) scored: bool,
    /// `LEFT RIGHT`, best first.
    pub(crate) merges: Vec<String>,
    /// Whether a space is put before the text.
    pub(crate) space_prefix: Option<bool>,
}

impl Vocabulary {
    /// A vocabulary of `rows` ids without tokens.
    pub(crate) fn new(model: &'static str, pre: &'static str, rows: u64) -> Vocabulary {
        Vocabulary {
            model,
            pre,
            // `rows` is the row count of a tensor that lies in a file, so it is no hostile number.
            tokens: vec![None; rows as usize],
            ids: HashMap::with_capacity(rows as usize),
            scored: false,
            merges: Vec::new(),
            space_prefix: None,
        }
    }

    /// Sets the token of an id. Errors where the id has no row or is taken.
    pub(crate) fn set(
        &mut self,
        path: &Path,
        id: u64,
        text: String,
        kind: Kind,
        score: f32,
    ) -> Result<(), Error> {
        let rows = self.tokens.len();
        let Some(slot) = usize::try_from(id).ok().and_then(|id| self.tokens.get_mut(id)) else {
            let problem = format!(
                "token '{text}' has the id {id}, but the embedding has {rows} rows; the files do not belong together"
            );
            return Err(Error::vocabulary(path, problem));
        };
        if let Some((other, ..)) = slot {
            return Err(Error::vocabulary(
                path,
                format!("tokens '{other}' and '{text}' have the same id {id}"),
            ));
        }
        self.ids.insert(text.clone(), id as u32);
        *slot = Some((text, kind, score));
        Ok(())
    }

    /// The id of a text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The text of an id.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_ref().map(|(text, ..)| text.as_str())
    }

    /// Enters tokens that were added to the trained vocabulary, over what stands at their ids. Those without a
    /// row in the embedding (placeholders for images) are left out.
    pub(crate) fn add_tokens<'a>(
        &mut self,
        added: impl Iterator<Item = &'a AddedToken>,
        warnings: &mut Vec<Warning>,
    ) {
        let mut left_out: Vec<&AddedToken> = Vec::new();
        for token in added {
            let Some(slot) = usize::try_from(token.id).ok().and_then(|id| self.tokens.get_mut(id)) else {
                if left_out.iter().all(|other| other.id != token.id) {
                    left_out.push(token);
                }
                continue;
            };
            let kind = match slot {
                Some((_, kind @ (Kind::Unknown | Kind::Byte), _)) => *kind,
                _ if token.special || looks_special(&token.content) => Kind::Control,
                _ => Kind::UserDefined,
            };
            // Readers look for such tokens in the plain text, where spaces are spaces.
            let plain = kind == Kind::UserDefined;
            let text = if plain { token.content.replace(SPACE, " ") } else { token.content.clone() };
            self.ids.insert(token.content.clone(), token.id as u32);
            *slot = Some((text, kind, LOWEST_SCORE));
        }
        if let Some(example) = left_out.first() {
            warnings.push(Warning::TokensLeftOut { example: example.content.clone(), count: left_out.len() });
        }
    }

    /// Names the ids that have no token: embeddings are often padded to a round number of rows.
    pub(crate) fn fill_gaps(&mut self) {
        for (id, slot) in self.tokens.iter_mut().enumerate() {
            slot.get_or_insert_with(|| (format!("[PAD{id}]"), Kind::Unused, LOWEST_SCORE));
        }
    }

    /// Writes the vocabulary's keys.
    pub(crate) fn describe(self, metadata: &mut Metadata) {
        metadata.insert("tokenizer.ggml.model", self.model);
        metadata.insert("tokenizer.ggml.pre", self.pre);
        let (mut texts, mut kinds, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (text, kind, score) in self.tokens.into_iter().flatten() {
            texts.push(text);
            kinds.push(kind as i32);
            scores.push(score);
        }
        metadata.insert("tokenizer.ggml.tokens", texts);
        metadata.insert("tokenizer.ggml.token_type", kinds);
        if self.scored {
            metadata.insert("tokenizer.ggml.scores", scores);
        }
        if !self.merges.is_empty() {
            metadata.insert("tokenizer.ggml.merges", self.merges);
        }
        if let Some(prefix) = self.space_prefix {
            metadata.insert("tokenizer.ggml.add_space_prefix", prefix);
        }
    }
}

/// Whether a token controls the dialogue although its file calls it plain, as several families' files do.
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}

/// The byte that a token like `<0x0A>` stands for.
pub(crate) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
