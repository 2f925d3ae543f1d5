//! One call as it is being written: `{"name": .., "arguments": ..}`, character by character.
//!
//! Members may come in any order and others may stand between them: an answer need not have been held to a grammar. Text inside
//! of the arguments is passed on as it is, not checked beyond its brackets and strings.

use super::list::is_name;

/// What a character led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More is needed.
    Open,
    /// The call is complete with this character.
    Done,
    /// This is no call.
    Failed,
}

/// A call being read.
#[derive(Debug)]
pub(super) struct Call {
    /// What the arguments are called.
    arguments_key: &'static str,
    place: Place,
    pub(super) name: Option<String>,
    /// Arguments that came and were not taken.
    pub(super) arguments: String,
    /// Whether there were any.
    has_arguments: bool,
}

#[derive(Debug)]
enum Place {
    /// Before the brace.
    Before,
    /// Where a key or the end is expected; the end not after a comma.
    Key {
        may_end: bool,
    },
    InKey(Text),
    Colon(String),
    Value(String, Value),
    After,
}

impl Call {
    pub(super) fn new(arguments_key: &'static str) -> Call {
        Call {
            arguments_key,
            place: Place::Before,
            name: None,
            arguments: String::new(),
            has_arguments: false,
        }
    }

    pub(super) fn push(&mut self, character: char) -> Step {
        // A number or a word is over only with what follows it.
        if let Place::Value(_, value) = &self.place
            && value.ends_before(character)
            && self.end_value() == Step::Failed
        {
            return Step::Failed;
        }
        let is_space = character.is_ascii_whitespace();
        match (&mut self.place, character) {
            (Place::Before | Place::Key { .. } | Place::Colon(_) | Place::After, _) if is_space => {}
            (Place::Before, '{') => self.place = Place::Key { may_end: true },
            (Place::Key { .. }, '"') => self.place = Place::InKey(Text::default()),
            (Place::Key { may_end: true } | Place::After, '}') => return self.end(),
            (Place::InKey(key), _) => {
                if let Some(key) = key.push(character) {
                    self.place = Place::Colon(key);
                }
            }
            (Place::Colon(key), ':') => self.place = Place::Value(std::mem::take(key), Value::default()),
            (Place::Value(key, value), _) => {
                if value.is_empty() && is_space {
                    return Step::Open;
                }
                if *key == self.arguments_key {
                    self.arguments.push(character);
                    self.has_arguments = true;
                }
                match value.push(character) {
                    Step::Done => return self.end_value(),
                    step => return step,
                }
            }
            (Place::After, ',') => self.place = Place::Key { may_end: false },
            _ => return Step::Failed,
        }
        Step::Open
    }

    fn end_value(&mut self) -> Step {
        if let Place::Value(key, value) = std::mem::replace(&mut self.place, Place::After)
            && key == "name"
        {
            match serde_json::from_str::<String>(&value.start) {
                Ok(name) if !name.is_empty() && name.chars().all(is_name) => self.name = Some(name),
                _ => return Step::Failed,
            }
        }
        Step::Open
    }

    fn end(&mut self) -> Step {
        if self.name.is_none() {
            return Step::Failed;
        }
        if !self.has_arguments {
            self.arguments.push_str("{}");
        }
        Step::Done
    }
}

/// The inside of a JSON string.
#[derive(Debug, Default)]
struct Text {
    raw: String,
    is_escaped: bool,
}

impl Text {
    /// The text, once its closing quote is there.
    fn push(&mut self, character: char) -> Option<String> {
        if character == '"' && !self.is_escaped {
            return Some(std::mem::take(&mut self.raw));
        }
        self.is_escaped = character == '\\' && !self.is_escaped;
        self.raw.push(character);
        None
    }
}

/// A JSON value of any kind, followed by its brackets and quotes.
#[derive(Debug, Default)]
pub(super) struct Value {
    /// Its first characters, enough for any name.
    start: String,
    /// The brackets that are open, as what closes them.
    closers: Vec<char>,
    is_string: bool,
    is_escaped: bool,
}

impl Value {
    /// Brackets within each other.
    const DEEPEST: usize = 256;

    pub(super) fn is_empty(&self) -> bool {
        self.start.is_empty()
    }

    /// Whether this character belongs to the value no more: only a number or a word ends so.
    fn ends_before(&self, character: char) -> bool {
        let is_plain = !self.is_empty() && !self.is_string && self.closers.is_empty();
        is_plain && (matches!(character, ',' | '}' | ']') || character.is_ascii_whitespace())
    }

    pub(super) fn push(&mut self, character: char) -> Step {
        if self.start.len() < 512 {
            self.start.push(character);
        }
        if self.is_string {
            self.is_string = character != '"' || self.is_escaped;
            self.is_escaped = character == '\\' && !self.is_escaped;
            return if self.is_string || !self.closers.is_empty() { Step::Open } else { Step::Done };
        }
        match character {
            '"' => self.is_string = true,
            '{' => self.closers.push('}'),
            '[' => self.closers.push(']'),
            '}' | ']' if self.closers.pop() == Some(character) => {
                return if self.closers.is_empty() { Step::Done } else { Step::Open };
            }
            '}' | ']' => return Step::Failed,
            _ => {}
        }
        if self.closers.len() > Value::DEEPEST { Step::Failed } else { Step::Open }
    }
}
