//! A prompt's text as the tokens that a session starts from.

use text::{Encode, Tokenizer};

/// Encodes `text` as the beginning of something to be continued: with BOS in front where the model wants one, once, even
/// if a template has written it too; without EOS at the end, which would tell the model that nothing follows.
///
/// `parse_special` as in [`Encode`]: for text out of a chat template, not for text that others wrote.
pub fn encode_prompt(tokenizer: &Tokenizer, text: &str, parse_special: bool) -> Vec<u32> {
    let mut tokens = tokenizer.encode(text, Encode { add_special: true, parse_special });
    if let (true, Some(bos)) = (tokenizer.add_bos(), tokenizer.bos())
        && tokens.starts_with(&[bos, bos])
    {
        tokens.remove(0);
    }
    if tokenizer.add_eos() && tokenizer.eos() == tokens.last().copied() {
        tokens.pop();
    }
    tokens
}
