//! Text out of bytes that arrive in pieces.
//!
//! A token may end in the middle of a character (byte-level vocabularies cut anywhere). What is shown must
//! be whole characters, so an incomplete tail waits here for the bytes that finish it.

/// Collects bytes and gives them back as text as soon as the characters are complete.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// The start of one character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl TextStream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the bytes of a token; returns the text that is complete now. Bytes that can never become a
    /// character are replaced by U+FFFD at once, an incomplete character at the end waits.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(length) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[length..];
                        continue;
                    }
                }
            }
            break;
        }
        let consumed = self.pending.len() - rest.len();
        self.pending.drain(..consumed);
        text
    }

    /// Ends the stream: what is still incomplete comes out as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Whether the start of a character waits for its end.
    pub fn is_incomplete(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_in_four_pieces_comes_out_whole() {
        let mut stream = TextStream::new();
        let bytes = "a🦀b".as_bytes();
        let shown: Vec<String> = bytes.iter().map(|&byte| stream.push(&[byte])).collect();
        assert_eq!(shown, ["a", "", "", "", "🦀", "b"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn an_unfinished_character_is_replaced_at_the_end() {
        let mut stream = TextStream::new();
        assert_eq!(stream.push(&[b'x', 0xE4, 0xB8]), "x");
        assert!(stream.is_incomplete());
        assert_eq!(stream.finish(), "\u{FFFD}");
        assert!(!stream.is_incomplete());
    }

    #[test]
    fn an_impossible_byte_does_not_block_what_follows() {
        let mut stream = TextStream::new();
        assert_eq!(stream.push(&[0xE4, b'o', b'k']), "\u{FFFD}ok");
    }

    proptest! {
        #[test]
        fn pieces_equal_the_lossy_whole(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 1usize..7) {
            let mut stream = TextStream::new();
            let mut text: String = bytes.chunks(cut).map(|piece| stream.push(piece)).collect();
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
