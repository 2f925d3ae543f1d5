//! Server-sent events, <https://html.spec.whatwg.org/multipage/server-sent-events.html>: the data of each, however the bytes
//! are cut.

use std::collections::VecDeque;

/// Bytes of one event, at most. A stored response with the probabilities of all its tokens stays far below.
pub(crate) const MOST: usize = 16 << 20;

/// An event went on for longer than [`MOST`].
#[derive(Debug, PartialEq)]
pub(crate) struct TooLong;

/// Takes bytes and gives the data of events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that has begun.
    line: Vec<u8>,
    /// The data of the event that has begun, each line with its end.
    data: Vec<u8>,
    /// Whether the byte before was a carriage return: a line feed after it ends no other line.
    after_return: bool,
    /// Whether a line has ended before.
    is_under_way: bool,
    ready: VecDeque<Vec<u8>>,
}

impl Parser {
    /// Reads on. Events that are complete stay to be taken after an error.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() + self.data.len() == MOST => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// Nothing follows: an event that lacks only its empty line counts.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.end_event();
    }

    /// The data of the next complete event, its lines joined by line feeds.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let is_first = !std::mem::replace(&mut self.is_under_way, true);
        let line = line.strip_prefix("\u{feff}".as_bytes()).filter(|_| is_first).unwrap_or(&line);
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        // Names of events, their ids and comments say nothing that the data does not.
        if field == b"data" {
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.push(b'\n');
        }
    }

    fn end_event(&mut self) {
        if self.data.pop().is_some() {
            self.ready.push_back(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        pieces.iter().for_each(|piece| parser.push(piece).unwrap());
        parser.finish();
        std::iter::from_fn(|| parser.next()).map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn events_are_read_as_the_specification_has_them() {
        for (text, expected) in [
            ("data: a\n\ndata: b\n\n", &["a", "b"][..]),
            ("data:a\r\n\r\ndata:  b\r\n\r\n", &["a", " b"]),
            ("data: a\rdata: b\r\r", &["a\nb"]),
            ("data: a\n\r\ndata: b\r\n\n", &["a", "b"]),
            ("\u{feff}data: a\n\n", &["a"]),
            (": comment\nevent: x\nid: 1\nretry: 5\ndata: a\nunknown: y\n\n", &["a"]),
            ("event: nothing\n\n\n\n:\n\n", &[]),
            ("data\n\ndata:\n\n", &["", ""]),
            ("data: a:b: c\ndataset: no\n\n", &["a:b: c"]),
            ("data: last", &["last"]),
            ("data: last\n", &["last"]),
            ("", &[]),
        ] {
            assert_eq!(all(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn an_event_has_an_end() {
        let mut parser = Parser::default();
        parser.push(b"data: a\n\ndata: ").unwrap();
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..64).take_while(|_| parser.push(&piece).is_ok()).count();
        assert_eq!(taken, (MOST >> 20) - 1);
        assert_eq!(parser.next(), Some(b"a".to_vec()));
    }

    proptest! {
        /// Data comes back whole, whatever ends its lines and wherever the bytes are cut.
        #[test]
        fn any_cut_gives_the_same_events(
            events in prop::collection::vec(prop::collection::vec("[^\r\n]{0,12}", 1..4), 0..6),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 1..5),
            comments in prop::collection::vec(any::<bool>(), 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut ends = ends.iter().cycle();
            let mut comments = comments.iter().cycle();
            let mut text = String::new();
            for event in &events {
                for line in event {
                    if *comments.next().unwrap() {
                        text += ": sign of life";
                        text += ends.next().unwrap();
                    }
                    text += "data: ";
                    text += line;
                    text += ends.next().unwrap();
                }
                // A line feed here could belong to the carriage return before it.
                text += if text.ends_with('\r') { "\r" } else { ends.next().unwrap() };
            }
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let expected: Vec<String> = events.iter().map(|lines| lines.join("\n")).collect();
            prop_assert_eq!(all(&pieces), expected);
        }
    }
}
