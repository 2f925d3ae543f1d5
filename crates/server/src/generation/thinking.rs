//! Thoughts told apart from the answer: models that think write them first, between `<think>` and `</think>`.
//!
//! That a model thinks is what its chat template shows, as llama.cpp has it; some templates open the thoughts themselves.

use text::ChatTemplate;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Whether models with this template think.
pub(super) fn thinks(template: &ChatTemplate) -> bool {
    let source = template.tool_source();
    source.contains(OPEN) && source.contains(CLOSE)
}

/// The tags, for models that have them as tokens.
pub(super) const TAGS: [&str; 2] = [OPEN, CLOSE];

/// Whether a rendered prompt leaves it to the answer to end the thoughts.
pub(super) fn is_open(prompt: &str) -> bool {
    prompt.trim_end().ends_with(OPEN)
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing but white space has come.
    Before,
    Inside,
    /// The thoughts are over; white space after them belongs to neither.
    Between,
    After,
}

/// A part of the answer.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Thought(String),
    Text(String),
}

/// Splits an answer as it comes. What may be the beginning of a tag waits for the rest of it, and white space around thoughts is
/// left out, so the parts are the same however the text is cut.
#[derive(Debug)]
pub(super) struct Thinking {
    stage: Stage,
    /// What is not decided yet.
    held: String,
    /// Whether a thought has come.
    has_thought: bool,
}

impl Thinking {
    /// `is_open` says that the prompt has opened the thoughts.
    pub(super) fn new(is_open: bool) -> Thinking {
        let stage = if is_open { Stage::Inside } else { Stage::Before };
        Thinking { stage, held: String::new(), has_thought: false }
    }

    /// Whether the answer has begun.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::After
    }

    /// Takes more of the answer.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            match self.stage {
                Stage::Before => {
                    let begun = self.held.trim_start();
                    if let Some(rest) = begun.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.stage = Stage::Inside;
                    } else if OPEN.starts_with(begun) {
                        return parts;
                    } else {
                        self.stage = Stage::After;
                    }
                }
                Stage::Inside => match self.held.find(CLOSE) {
                    Some(end) => {
                        let rest = self.held.split_off(end + CLOSE.len());
                        self.held.truncate(end);
                        let thought = self.held.trim_end().len();
                        self.think(thought, &mut parts);
                        self.held = rest;
                        self.stage = Stage::Between;
                    }
                    None => {
                        // White space may be the last, and a tag may have begun.
                        let begun =
                            (1..CLOSE.len()).rev().find(|&count| self.held.ends_with(&CLOSE[..count]));
                        let sure = self.held.len() - begun.unwrap_or(0);
                        let sure = self.held[..sure].trim_end().len();
                        self.think(sure, &mut parts);
                        return parts;
                    }
                },
                Stage::Between => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.stage = Stage::After;
                }
                Stage::After => {
                    if !self.held.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut self.held)));
                    }
                    return parts;
                }
            }
        }
    }

    /// The answer is over: what was held is what it seemed to be.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        match self.stage {
            Stage::Inside => {
                let thought = self.held.trim_end().len();
                self.think(thought, &mut parts);
            }
            _ if self.held.is_empty() => {}
            _ => parts.push(Part::Text(std::mem::take(&mut self.held))),
        }
        parts
    }

    /// The first `count` bytes of what is held are thought.
    fn think(&mut self, count: usize, parts: &mut Vec<Part>) {
        let rest = self.held.split_off(count);
        let thought = std::mem::replace(&mut self.held, rest);
        let thought = if self.has_thought { thought.as_str() } else { thought.trim_start() };
        if !thought.is_empty() {
            self.has_thought = true;
            parts.push(Part::Thought(thought.to_owned()));
        }
    }
}

/// Counts the tokens of an answer's thoughts: from the opening tag, or the beginning where the prompt has opened them, to the closing
/// one. The text of an answer lags behind its tokens, so tokens are followed by their own bytes.
#[derive(Debug)]
pub(super) struct Count {
    thinking: Thinking,
    /// Tokens until the thoughts are over.
    seen: usize,
    /// Whether these are thoughts.
    is_thought: bool,
}

impl Count {
    pub(super) fn new(is_open: bool) -> Count {
        Count { thinking: Thinking::new(is_open), seen: 0, is_thought: is_open }
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if matches!(self.thinking.stage, Stage::Before | Stage::Inside) {
            // A character that is cut is no part of a tag.
            let parts = self.thinking.push(&String::from_utf8_lossy(bytes));
            self.seen += 1;
            self.is_thought |= matches!(self.thinking.stage, Stage::Inside | Stage::Between)
                || matches!(parts.first(), Some(Part::Thought(_)));
        }
    }

    /// So far.
    pub(super) fn tokens(&self) -> usize {
        if self.is_thought { self.seen } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All thoughts and all text.
    fn split(is_open: bool, pieces: &[&str]) -> (String, String) {
        let mut thinking = Thinking::new(is_open);
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| thinking.push(piece)).collect();
        parts.extend(thinking.finish());
        let mut both = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Thought(thought) => both.0 += &thought,
                Part::Text(text) => both.1 += &text,
            }
        }
        both
    }

    #[test]
    fn thoughts_come_first_and_between_tags() {
        for (is_open, text, thoughts, answer) in [
            (false, "<think>\nhm, so\n</think>\n\nYes.", "hm, so", "Yes."),
            (false, "\n <think>a < b</think>c", "a < b", "c"),
            (false, "<think>\n\n</think>\n\nYes.", "", "Yes."),
            (false, "Yes. <think>no</think>", "", "Yes. <think>no</think>"),
            (false, "  Yes.", "", "  Yes."),
            (false, "<thin", "", "<thin"),
            (false, " ", "", " "),
            (false, "<think>cut off </thi", "cut off </thi", ""),
            (true, "\nhm\n</think>\nYes.</think>", "hm", "Yes.</think>"),
            (true, "hm\n\nwell ", "hm\n\nwell", ""),
            (false, "", "", ""),
        ] {
            assert_eq!(split(is_open, &[text]), (thoughts.to_owned(), answer.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn nothing_waits_longer_than_it_must() {
        let mut thinking = Thinking::new(false);
        assert_eq!(thinking.push("<think>one two"), [Part::Thought("one two".to_owned())]);
        assert_eq!(thinking.push(" three </"), [Part::Thought(" three".to_owned())]);
        assert_eq!(thinking.push("b> four</think>"), [Part::Thought(" </b> four".to_owned())]);
        assert_eq!(thinking.push("five"), [Part::Text("five".to_owned())]);
        assert_eq!(thinking.push(" <think>"), [Part::Text(" <think>".to_owned())]);
    }

    #[test]
    fn tokens_of_thoughts_are_those_up_to_the_closing_tag() {
        for (is_open, tokens, expected) in [
            (false, &["<think>", "\n", "hm", "\n", "</think>", "\n\n", "Yes", "."][..], 5),
            (false, &["\n", "<th", "ink>", "a", "</", "thi", "nk", "> Yes", "</think>"], 8),
            (false, &["<think>", "cut", " off", " </"], 4),
            (false, &["<think>so</think>Yes", "."], 1),
            (false, &["Yes", " <think>", "no", "</think>"], 0),
            (false, &["\n", "<thi", "s"], 0),
            (false, &["\n"], 0),
            (true, &["hm", "</think>", "Yes", "</think>"], 2),
            (true, &["hm"], 1),
            (true, &[], 0),
        ] {
            let mut count = Count::new(is_open);
            tokens.iter().for_each(|token| count.push(token.as_bytes()));
            assert_eq!(count.tokens(), expected, "{tokens:?}");
        }
        // Characters that lie in several tokens.
        let mut count = Count::new(false);
        for token in [&b"<think>"[..], b"\xe4\xbd", b"\xa0", b"</think>", b"\xe4", b"\xbd\xa0"] {
            count.push(token);
        }
        assert_eq!(count.tokens(), 4);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            words in prop::collection::vec(
                prop::sample::select(vec!["<think>", "</think>", "<", "</thi", "nk>", " ", "\n", "a", "你", "<think"]),
                0..12,
            ),
            is_open: bool,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text = words.concat();
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| ends[cut.index(ends.len())]).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(split(is_open, &pieces), split(is_open, &[&text]));
        }
    }
}
