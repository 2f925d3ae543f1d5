//! The vocabulary as the parser wants it: a trie of the bytes that tokens add to a text.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{INVALID_TOKEN, InferenceCapabilities};
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use text::Tokenizer;

use crate::error::Error;

/// Longer tokens exist (runs of spaces or dashes) and are left out: the parser's stack has 300 places.
const LONGEST: usize = 255;

/// What the bytes of a control token begin with.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// What is copied from a tokenizer, until the trie is needed.
pub(crate) struct Words {
    /// The bytes of each token. Control tokens begin with [`MARKER`]; what can never come is empty.
    bytes: Vec<Vec<u8>>,
    is_control: Vec<bool>,
    ends: Vec<u32>,
}

impl Words {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Words {
        let ids = 0..tokenizer.vocab_size() as u32;
        let is_control: Vec<bool> = ids.clone().map(|id| tokenizer.is_control(id)).collect();
        let bytes = ids.map(|id| {
            let mut word = Vec::new();
            if is_control[id as usize] {
                word.push(MARKER);
                word.extend_from_slice(tokenizer.piece(id).as_bytes());
            } else {
                word.extend_from_slice(&tokenizer.token_bytes(id, false));
            }
            // In text the marker's byte is none of UTF-8; a token of it would let control tokens be spelt.
            let is_spelt = word.iter().skip(usize::from(is_control[id as usize])).any(|&byte| byte == MARKER);
            if word.len() > LONGEST || is_spelt { Vec::new() } else { word }
        });
        Words { bytes: bytes.collect(), is_control, ends: tokenizer.end_of_generation().to_vec() }
    }
}

/// The compiled vocabulary and what makes parsers with it.
pub(crate) struct Vocabulary {
    pub(crate) factory: ParserFactory,
    /// Tokens that are text, and those with which an answer ends.
    pub(crate) plain: Arc<SimpleVob>,
    /// Those with which an answer ends.
    pub(crate) ends: Arc<SimpleVob>,
}

impl Vocabulary {
    /// Builds the trie, and its parts for the insides of JSON strings.
    pub(crate) fn new(words: Words) -> Result<Vocabulary, Error> {
        let Words { bytes, is_control, ends } = words;
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(bytes.len() as u32, end), &bytes);
        let (mut plain, mut end_set) = (trie.alloc_token_set(), trie.alloc_token_set());
        for (id, is_control) in is_control.into_iter().enumerate() {
            plain.set(id, !is_control);
        }
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        for &id in &ends {
            plain.allow_token(id);
            end_set.allow_token(id);
        }

        let tokens: TokEnv = Arc::new(Tokens { trie });
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| Error::Vocabulary { reason: error.to_string() })?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary { factory, plain: Arc::new(plain), ends: Arc::new(end_set) })
    }

    /// The control token that is written so.
    pub(crate) fn control_token(&self, text: &str) -> Option<u32> {
        let word = [&[MARKER], text.as_bytes()].concat();
        self.factory.tok_env().tok_trie().token_id_at_bytes(&word)
    }
}

/// The vocabulary without its rules of cutting: where the grammar leaves one way only, the model still chooses the tokens
/// for it, and it does so as it learned to.
struct Tokens {
    trie: TokTrie,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
