//! Stop strings over streamed text: what could still become one is withheld until it is decided.
//!
//! A stop string rarely ends on a token's edge, so the text shown must lag behind the text made by the longest tail
//! that begins some stop string; everything before that tail is released at once.

/// Finds the first occurrence of any of several strings in text that arrives in pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text received and not released: always a proper prefix of some stop string.
    held: String,
    matched: Option<usize>,
}

impl StopMatcher {
    /// A matcher for `stops`; empty strings are ignored, as they would end every text at once.
    pub fn new(stops: &[String]) -> StopMatcher {
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        StopMatcher {
            stops: stops.to_vec(),
            // One piece of text beside the longest tail: enough that a usual piece allocates nothing.
            held: String::with_capacity(longest + 256),
            matched: None,
        }
    }

    /// Takes the next piece, appends what is now certain to `out`, and returns the index of the stop string once one is
    /// complete. The stop string itself and what follows it are dropped. The one complete first counts, and of those
    /// complete at one place the longest, so the outcome does not depend on where the pieces were cut.
    pub fn push(&mut self, piece: &str, out: &mut String) -> Option<usize> {
        if self.matched.is_some() {
            return self.matched;
        }
        self.held.push_str(piece);
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(index, stop)| Some((self.held.find(stop.as_str())?, index)))
            .min_by_key(|&(at, index)| (at + self.stops[index].len(), at));
        if let Some((at, index)) = found {
            out.push_str(&self.held[..at]);
            self.held.clear();
            self.matched = Some(index);
            return self.matched;
        }
        let keep = self.undecided_tail();
        let release = self.held.len() - keep;
        out.push_str(&self.held[..release]);
        self.held.drain(..release);
        None
    }

    /// The text ends here for another reason: what was withheld is text after all and goes to `out`.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Which stop string ended the text.
    pub fn matched(&self) -> Option<usize> {
        self.matched
    }

    /// Forgets the text so far and starts anew with the same stop strings.
    pub fn reset(&mut self) {
        self.held.clear();
        self.matched = None;
    }

    /// Length in bytes of the longest tail of the held text that a stop string begins with.
    fn undecided_tail(&self) -> usize {
        let held = self.held.as_bytes();
        let tail_of = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(held.len());
            (1..=longest).rev().find(|&n| held.ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
        };
        let mut keep = self.stops.iter().map(tail_of).max().unwrap_or(0);
        // A byte-wise match always starts on a character's edge, because UTF-8 lead bytes differ from continuation
        // bytes and a stop string starts with a lead byte; the loop states it without relying on that argument.
        while !self.held.is_char_boundary(self.held.len() - keep) {
            keep += 1;
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut out = String::new();
        for piece in pieces {
            if matcher.push(piece, &mut out).is_some() {
                break;
            }
        }
        if matcher.matched().is_none() {
            matcher.finish(&mut out);
        }
        (out, matcher.matched())
    }

    #[test]
    fn cuts_at_a_stop_string_split_over_pieces() {
        assert_eq!(run(&["\nUser:"], &["Hello", ".\n", "Us", "er", ": hi"]), ("Hello.".into(), Some(0)));
    }

    #[test]
    fn releases_a_tail_that_came_to_nothing() {
        let mut matcher = StopMatcher::new(&["STOP".to_string()]);
        let mut out = String::new();
        assert_eq!(matcher.push("a ST", &mut out), None);
        assert_eq!(out, "a ");
        assert_eq!(matcher.push("S", &mut out), None);
        assert_eq!(out, "a ST");
        assert_eq!(matcher.push("TOP", &mut out), Some(0));
        assert_eq!(out, "a ST");
    }

    #[test]
    fn the_first_complete_one_counts_then_the_longest() {
        assert_eq!(run(&["b", "abc", "ab"], &["xabc"]), ("x".into(), Some(2)));
        assert_eq!(run(&["c", "abcd"], &["xabcd"]), ("xab".into(), Some(0)));
    }

    #[test]
    fn handles_multi_byte_text_empty_stops_and_overlaps() {
        assert_eq!(run(&["", "。\n"], &["你好", "。", "再见", "。\n", "x"]), ("你好。再见".into(), Some(1)));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), None));
    }

    proptest! {
        /// However the text is cut into pieces, the outcome is that of the whole text searched at once.
        #[test]
        fn cuts_of_the_stream_do_not_matter(
            text in "[abé]{0,24}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cut in 1usize..6,
        ) {
            let characters: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = characters.chunks(cut).map(|piece| piece.iter().collect()).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (out, matched) = run(&stops, &pieces);
            let first_end = stops.iter().filter_map(|stop| Some(text.find(stop)? + stop.len())).min();
            match (matched, first_end) {
                (Some(index), Some(end)) => prop_assert_eq!(out.clone() + stops[index], &text[..end]),
                (None, None) => prop_assert_eq!(out, text),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
