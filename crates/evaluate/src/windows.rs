//! A text as windows of tokens, each scored in its second half.

use std::ops::Range;

use text::{Encode, Tokenizer};

use crate::Options;
use crate::error::Error;

/// The smallest window with a scored position: with three tokens the second predicts the third.
const LEAST_CONTEXT: usize = 3;

/// The windows of one text.
pub(crate) struct Windows {
    tokens: Vec<u32>,
    context: usize,
    count: usize,
    bos: Option<u32>,
}

impl Windows {
    /// Tokenizes `text` once (special tokens as the file asks, none parsed out of the text) and cuts it.
    pub(crate) fn of_text(tokenizer: &Tokenizer, text: &str, options: &Options) -> Result<Windows, Error> {
        let context = options.context;
        if context < LEAST_CONTEXT {
            return Err(Error::ContextTooSmall { got: context, least: LEAST_CONTEXT });
        }
        let tokens = tokenizer.encode(text, Encode { add_special: true, parse_special: false });
        let needed = 2 * context;
        if tokens.len() < needed {
            return Err(Error::TextTooShort { got: tokens.len(), needed, context });
        }
        Ok(Windows::of_tokens(tokenizer, tokens, context, options.windows))
    }

    /// Windows of tokens that are already cut; what does not fill a window at the end is left out.
    pub(crate) fn of_tokens(
        tokenizer: &Tokenizer,
        tokens: Vec<u32>,
        context: usize,
        limit: Option<usize>,
    ) -> Windows {
        let count = (tokens.len() / context).min(limit.unwrap_or(usize::MAX));
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        Windows { tokens, context, count, bos }
    }

    /// Tokens in the text.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens in a window.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// Windows to score.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The tokens of a window as the model is fed them, in `out`.
    pub(crate) fn fill(&self, window: usize, out: &mut Vec<u32>) {
        out.clear();
        out.extend_from_slice(&self.tokens[window * self.context..][..self.context]);
        if let (Some(first), Some(bos)) = (out.first_mut(), self.bos) {
            *first = bos;
        }
    }

    /// The positions in a window whose logits are scored, each on the token after it.
    pub(crate) fn scored(&self) -> Range<usize> {
        self.context / 2..self.context - 1
    }
}
