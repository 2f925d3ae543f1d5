//! Calls found in the text of an answer while it comes.

use super::ToolFormat;
use super::call::{Call, Step, Value};
use super::formats::Shape;
use super::list::is_name;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text for the reader.
    Text(String),
    /// A call begins.
    CallStart {
        /// Which of the answer's calls, from 0.
        index: usize,
        /// Its name for messages with results: nine letters and digits, which every template takes.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// The next piece of a call's arguments, which together are JSON.
    Arguments {
        /// Which of the answer's calls.
        index: usize,
        /// The piece.
        delta: String,
    },
}

/// Reads calls out of text. How the text is cut changes nothing, except that pieces may come in several.
#[derive(Debug)]
pub struct ToolParser {
    format: ToolFormat,
    seed: u64,
    /// Calls so far.
    count: usize,
    state: State,
    /// What came and is not looked at, or not decided without what follows it.
    held: String,
    /// What was looked at and looks like a call. It is text if it comes to nothing.
    undecided: String,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum State {
    /// Nothing but space, or a thought, has come.
    Start,
    /// Text; a marker may begin anywhere.
    Text,
    /// Text to the end.
    Plain,
    /// In a thought, where no marker counts.
    Thought,
    /// Before the bracket of a list of calls.
    List,
    /// Before the object of a call, or in it.
    Call(Call),
    /// Between two objects of a list.
    Between,
    /// In a name that stands alone.
    Name(String),
    /// In arguments that stand alone.
    Arguments(Value),
    /// Where the closing marker is expected.
    Close,
    /// After a call, or a list of them. Space is dropped if nothing else follows.
    After,
}

const THOUGHT: &str = "<think>";
const THOUGHT_END: &str = "</think>";

impl ToolParser {
    pub(super) fn new(format: ToolFormat, seed: u64) -> ToolParser {
        ToolParser {
            format,
            seed,
            count: 0,
            state: State::Start,
            held: String::new(),
            undecided: String::new(),
            pieces: Vec::new(),
        }
    }

    /// The parts that the next piece of the answer's text completes.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        while self.advance() {}
        std::mem::take(&mut self.pieces)
    }

    /// The parts left at the answer's end: what was held back because it could have become a call.
    pub fn finish(&mut self) -> Vec<Piece> {
        let text = std::mem::take(&mut self.undecided) + &std::mem::take(&mut self.held);
        let is_rest = matches!(self.state, State::After | State::Close);
        if !(is_rest && text.trim().is_empty()) {
            self.text(&text);
        }
        self.state = State::Plain;
        std::mem::take(&mut self.pieces)
    }

    /// Calls found so far.
    pub fn calls(&self) -> usize {
        self.count
    }

    /// Takes something off what is held; `false` if that needs what comes next.
    fn advance(&mut self) -> bool {
        let (space, next) = {
            let rest = self.held.trim_start();
            (self.held.len() - rest.len(), rest.chars().next())
        };
        match (&mut self.state, next) {
            (State::Plain, _) => {
                let text = std::mem::take(&mut self.held);
                self.text(&text);
                false
            }
            (State::Thought, _) => self.thought(),
            (State::Call(_) | State::Arguments(_), _) => self.json(),
            // Everywhere else space is nothing by itself.
            (_, None) => false,
            (State::Start | State::Text | State::After, Some(_)) => self.watch(space),
            (State::List, Some('[')) | (State::Between, Some(',')) => {
                self.undecide(space + 1);
                self.state = State::Call(Call::new(self.format.format.arguments));
                true
            }
            (State::Between, Some(']')) => {
                self.held.drain(..space + 1);
                self.undecided.clear();
                self.state = State::Close;
                true
            }
            (State::List | State::Between, Some(_)) => self.fail(),
            (State::Name(_), Some(character)) => self.name(space, character),
            (State::Close, Some(_)) => self.close(space),
        }
    }

    /// Text up to a marker. Held is `space` bytes of it, then something else.
    fn watch(&mut self, space: usize) -> bool {
        let format = self.format.format;
        let word = &self.held[space..];
        let is_start = matches!(self.state, State::Start);
        if is_start && self.format.thinks && THOUGHT.starts_with(word) && word != THOUGHT {
            return false;
        }
        if is_start && self.format.thinks && word.starts_with(THOUGHT) {
            self.text_from_held(space + THOUGHT.len());
            self.state = State::Thought;
            return true;
        }
        let is_bare = format.shape == Shape::Bare;
        if is_bare && (!is_start || !word.starts_with('{')) {
            self.state = State::Plain;
            return true;
        }
        if word.starts_with(format.open) {
            self.undecide(space + format.open.len());
            self.state = match format.shape {
                Shape::Objects | Shape::Bare => State::Call(Call::new(format.arguments)),
                Shape::List => State::List,
                Shape::Named { .. } => State::Name(String::new()),
            };
            return true;
        }
        if format.open.starts_with(word) {
            return false;
        }
        let first = word.chars().next().map_or(0, char::len_utf8);
        self.text_from_held(space + first);
        self.state = State::Text;
        true
    }

    fn thought(&mut self) -> bool {
        if let Some(end) = self.held.find(THOUGHT_END) {
            self.text_from_held(end + THOUGHT_END.len());
            self.state = State::Start;
            return true;
        }
        // What may be the beginning of the end stays.
        let starts = (0..self.held.len()).filter(|&start| self.held.is_char_boundary(start));
        let kept = starts.into_iter().find(|&start| THOUGHT_END.starts_with(&self.held[start..]));
        self.text_from_held(kept.unwrap_or(self.held.len()));
        false
    }

    /// The next character of a call's object, or of arguments that stand alone.
    fn json(&mut self) -> bool {
        let Some(character) = self.held.chars().next() else { return false };
        let (step, name, delta) = match &mut self.state {
            State::Call(call) => {
                let was_named = call.name.is_some();
                let step = call.push(character);
                let name = if was_named { None } else { call.name.clone() };
                let delta =
                    if call.name.is_some() { std::mem::take(&mut call.arguments) } else { String::new() };
                (step, name, delta)
            }
            State::Arguments(value) if value.is_empty() && character.is_ascii_whitespace() => {
                (Step::Open, None, String::new())
            }
            State::Arguments(value) if value.is_empty() && character != '{' => {
                (Step::Failed, None, String::new())
            }
            State::Arguments(value) => (value.push(character), None, character.to_string()),
            _ => return false,
        };
        if step == Step::Failed {
            return self.fail();
        }
        self.undecide(character.len_utf8());
        if let Some(name) = name {
            self.start_call(name);
        }
        if !matches!(&self.state, State::Call(call) if call.name.is_none()) {
            self.undecided.clear();
            self.arguments(delta);
        }
        if step == Step::Done {
            self.state = match self.format.format.shape {
                Shape::List => State::Between,
                _ => State::Close,
            };
        }
        true
    }

    fn name(&mut self, space: usize, character: char) -> bool {
        let Shape::Named { separator } = self.format.format.shape else { return self.fail() };
        let State::Name(name) = &mut self.state else { return false };
        let word = &self.held[space..];
        if space == 0 && is_name(character) {
            name.push(character);
            self.undecide(character.len_utf8());
            true
        } else if !name.is_empty() && word.starts_with(separator) {
            let name = std::mem::take(name);
            self.held.drain(..space + separator.len());
            self.undecided.clear();
            self.start_call(name);
            self.state = State::Arguments(Value::default());
            true
        } else if !name.is_empty() && separator.starts_with(word) {
            false
        } else {
            self.fail()
        }
    }

    fn close(&mut self, space: usize) -> bool {
        let close = self.format.format.close;
        let word = &self.held[space..];
        if !close.is_empty() && word.starts_with(close) {
            self.held.drain(..space + close.len());
        } else if !close.is_empty() && close.starts_with(word) {
            return false;
        }
        self.state = State::After;
        true
    }

    /// What looked like a call is text, and so may be what follows.
    fn fail(&mut self) -> bool {
        let text = std::mem::take(&mut self.undecided);
        self.text(&text);
        self.state = State::Text;
        true
    }

    /// Moves so many bytes from what is held to what is undecided.
    fn undecide(&mut self, bytes: usize) {
        self.undecided.extend(self.held.drain(..bytes));
    }

    fn text_from_held(&mut self, bytes: usize) {
        let text: String = self.held.drain(..bytes).collect();
        self.text(&text);
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn start_call(&mut self, name: String) {
        self.pieces.push(Piece::CallStart { index: self.count, id: id(self.seed, self.count), name });
        self.count += 1;
    }

    fn arguments(&mut self, text: String) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Arguments { delta, .. }) => delta.push_str(&text),
            _ => self.pieces.push(Piece::Arguments { index: self.count.saturating_sub(1), delta: text }),
        }
    }
}

/// Letters of a call's id.
pub(super) const ID_LENGTH: usize = 9;

/// Letters and digits, drawn by splitmix64.
pub(super) fn id(seed: u64, index: usize) -> String {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (0..ID_LENGTH)
        .map(|_| {
            let digit = DIGITS[(z % 62) as usize];
            z /= 62;
            char::from(digit)
        })
        .collect()
}
