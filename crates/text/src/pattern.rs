//! A small backtracking matcher for the patterns by which tokenizers cut text into words.
//!
//! The patterns need Unicode categories, leftmost-first alternatives, counted repeats and lookahead, and
//! nothing else. A general regular expression engine takes milliseconds to compile their Unicode classes,
//! which is a good part of the time in which a small model starts; this one takes microseconds. It keeps its
//! backtracking on a heap stack, so text of any length is safe.

use crate::character_class::CharacterClass;

/// One step of a compiled pattern.
enum Step {
    /// One character of the class.
    One(usize),
    /// As many characters of the class as there are, from `min` to `max`; gives back one at a time.
    Run { class: usize, min: usize, max: usize },
    /// Goes on at `first`; if that fails, at `second`.
    Either { first: usize, second: usize },
    /// Goes on elsewhere.
    Jump(usize),
    /// What follows up to `Accept` must match (or not match) here, without consuming; then goes on at `next`.
    Ahead { negative: bool, next: usize },
    /// The end of the text.
    End,
    /// The pattern has matched.
    Accept,
}

/// A compiled pattern.
pub(crate) struct Pattern {
    steps: Vec<Step>,
    classes: Vec<CharacterClass>,
}

/// What to try when the current attempt fails.
pub(crate) enum Retry {
    At { step: usize, position: usize },
    Shorter { step: usize, min: usize, position: usize },
}

impl Pattern {
    /// Compiles a pattern of the dialect described in [`Parser`]; `None` if it is not of that dialect.
    pub(crate) fn new(source: &str) -> Option<Self> {
        let mut parser = Parser {
            rest: source,
            ignore_case: false,
            pattern: Self { steps: Vec::new(), classes: Vec::new() },
        };
        parser.alternatives()?;
        parser.pattern.steps.push(Step::Accept);
        parser.rest.is_empty().then_some(parser.pattern)
    }

    /// Cuts `text` into the matches of the pattern and what lies between them; all pieces together are `text`.
    pub(crate) fn split<'a>(&self, text: &'a str, stack: &mut Vec<Retry>, mut piece: impl FnMut(&'a str)) {
        let (mut done, mut position) = (0, 0);
        while position < text.len() {
            match self.end_of_match(text, 0, position, stack) {
                Some(end) if end > position => {
                    if done < position {
                        piece(&text[done..position]);
                    }
                    piece(&text[position..end]);
                    (done, position) = (end, end);
                }
                _ => position = self.next_start(text, position),
            }
        }
        if done < text.len() {
            piece(&text[done..]);
        }
    }

    /// Where the search goes on after no match at `position`. A pattern that begins with a run of any length
    /// cannot match inside a run where it failed at the start: skipping it keeps the search linear.
    fn next_start(&self, text: &str, position: usize) -> usize {
        if let Step::Run { class, min: 0 | 1, max: usize::MAX } = self.steps[0] {
            let (end, _) = self.run(text, class, position, usize::MAX);
            if end > position {
                return end;
            }
        }
        position + text[position..].chars().next().map_or(1, char::len_utf8)
    }

    /// The end and the number of characters of a run of one class.
    fn run(&self, text: &str, class: usize, start: usize, max: usize) -> (usize, usize) {
        let (mut position, mut count) = (start, 0);
        while count < max {
            match self.one(text, class, position) {
                Some(next) => position = next,
                None => break,
            }
            count += 1;
        }
        (position, count)
    }

    /// The position behind one character of the class.
    #[inline]
    fn one(&self, text: &str, class: usize, position: usize) -> Option<usize> {
        let class = &self.classes[class];
        let &byte = text.as_bytes().get(position)?;
        if byte < 128 {
            return class.has_ascii(byte).then_some(position + 1);
        }
        let character = text[position..].chars().next()?;
        class.has_wide(character).then_some(position + character.len_utf8())
    }

    /// The end of the match that starts exactly at `position`, from `step` on.
    fn end_of_match(
        &self,
        text: &str,
        mut step: usize,
        mut position: usize,
        stack: &mut Vec<Retry>,
    ) -> Option<usize> {
        let base = stack.len();
        loop {
            let goes_on = match self.steps[step] {
                Step::One(class) => self.one(text, class, position).map(|next| (step + 1, next)),
                Step::Run { class, min, max } => {
                    let (end, count) = self.run(text, class, position, max);
                    if count > min {
                        let min = if min == 0 { position } else { self.run(text, class, position, min).0 };
                        stack.push(Retry::Shorter { step: step + 1, min, position: end });
                    }
                    (count >= min).then_some((step + 1, end))
                }
                Step::Either { first, second } => {
                    stack.push(Retry::At { step: second, position });
                    Some((first, position))
                }
                Step::Jump(next) => Some((next, position)),
                Step::Ahead { negative, next } => {
                    let found = self.end_of_match(text, step + 1, position, stack).is_some();
                    (found != negative).then_some((next, position))
                }
                Step::End => (position == text.len()).then_some((step + 1, position)),
                Step::Accept => {
                    stack.truncate(base);
                    return Some(position);
                }
            };
            (step, position) = match goes_on {
                Some(next) => next,
                None if stack.len() == base => return None,
                None => match stack.pop()? {
                    Retry::At { step, position } => (step, position),
                    Retry::Shorter { step, min, position } => {
                        let before = text[..position].chars().next_back().map_or(1, char::len_utf8);
                        let position = position - before;
                        if position > min {
                            stack.push(Retry::Shorter { step, min, position });
                        }
                        (step, position)
                    }
                },
            };
        }
    }
}

/// Reads a pattern. The dialect: alternatives `|`; groups `(..)`, `(?:..)`, `(?i:..)`; lookahead `(?=..)`,
/// `(?!..)`; the end `$`; repeats `?`, `*`, `+`, `{n}`, `{n,m}` (greedy); classes `[..]`, `[^..]`,
/// `[..&&[^..]]`; `\s`, `\S`, `\d`, `\p{..}`, `\r`, `\n`, `\t` and escaped punctuation.
struct Parser<'a> {
    rest: &'a str,
    ignore_case: bool,
    pattern: Pattern,
}

impl Parser<'_> {
    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn here(&self) -> usize {
        self.pattern.steps.len()
    }

    /// Puts a step in front of those from `at` on, whose targets move along.
    fn insert(&mut self, at: usize, step: Step) {
        self.pattern.steps.insert(at, step);
        let moved = |target: &mut usize| *target += usize::from(*target >= at);
        for step in &mut self.pattern.steps[at + 1..] {
            match step {
                Step::Either { first, second } => {
                    moved(first);
                    moved(second);
                }
                Step::Jump(next) | Step::Ahead { next, .. } => moved(next),
                _ => {}
            }
        }
    }

    fn alternatives(&mut self) -> Option<()> {
        let start = self.here();
        self.sequence()?;
        if self.eat("|") {
            self.insert(start, Step::Either { first: start + 1, second: self.here() + 2 });
            let jump = self.here();
            self.pattern.steps.push(Step::Jump(0));
            self.alternatives()?;
            self.pattern.steps[jump] = Step::Jump(self.here());
        }
        Some(())
    }

    fn sequence(&mut self) -> Option<()> {
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            self.item()?;
        }
        Some(())
    }

    /// One atom with its repeat.
    fn item(&mut self) -> Option<()> {
        let (start, before) = (self.here(), self.rest);
        match self.next()? {
            '(' if self.eat("?=") => return self.ahead(false),
            '(' if self.eat("?!") => return self.ahead(true),
            '(' => self.group()?,
            '$' => {
                self.pattern.steps.push(Step::End);
                return Some(());
            }
            first => {
                let mut class = self.class(first)?;
                if self.ignore_case {
                    class.ignore_ascii_case();
                }
                self.pattern.classes.push(class);
                self.pattern.steps.push(Step::One(self.pattern.classes.len() - 1));
            }
        }
        let atom = &before[..before.len() - self.rest.len()];
        let (min, max) = self.repeat()?;
        match (&self.pattern.steps[start..], min, max) {
            (_, 1, 1) => {}
            (&[Step::One(class)], ..) => self.pattern.steps[start] = Step::Run { class, min, max },
            _ => self.repeat_group(start, atom, min, max)?,
        }
        Some(())
    }

    fn ahead(&mut self, negative: bool) -> Option<()> {
        let start = self.here();
        self.pattern.steps.push(Step::Ahead { negative, next: 0 });
        self.alternatives()?;
        self.pattern.steps.push(Step::Accept);
        self.pattern.steps[start] = Step::Ahead { negative, next: self.here() };
        self.eat(")").then_some(())
    }

    fn group(&mut self) -> Option<()> {
        let outside = self.ignore_case;
        self.ignore_case |= self.eat("?i:");
        self.eat("?:");
        self.alternatives()?;
        self.ignore_case = outside;
        self.eat(")").then_some(())
    }

    fn repeat(&mut self) -> Option<(usize, usize)> {
        for (sign, bounds) in [("?", (0, 1)), ("*", (0, usize::MAX)), ("+", (1, usize::MAX))] {
            if self.eat(sign) {
                return Some(bounds);
            }
        }
        if !self.eat("{") {
            return Some((1, 1));
        }
        let (bounds, rest) = self.rest.split_once('}')?;
        self.rest = rest;
        let (min, max) = bounds.split_once(',').unwrap_or((bounds, bounds));
        Some((min.parse().ok()?, max.parse().ok()?))
    }

    /// Repeats the group compiled from `start` on, whose source is `atom`.
    fn repeat_group(&mut self, start: usize, atom: &str, min: usize, max: usize) -> Option<()> {
        if max == usize::MAX {
            match min {
                0 => {
                    self.insert(start, Step::Either { first: start + 1, second: 0 });
                    self.pattern.steps.push(Step::Jump(start));
                    self.pattern.steps[start] = Step::Either { first: start + 1, second: self.here() };
                }
                1 => {
                    let after = self.here() + 1;
                    self.pattern.steps.push(Step::Either { first: start, second: after });
                }
                _ => return None,
            }
            return Some(());
        }
        // Counted: the group again for each further repeat, each of the optional ones skipping to the end.
        self.pattern.steps.truncate(start);
        let mut skips = Vec::new();
        for count in 0..max {
            if count >= min {
                skips.push(self.here());
                self.pattern.steps.push(Step::Either { first: self.here() + 1, second: 0 });
            }
            let rest = std::mem::take(&mut self.rest);
            let mut again = Parser {
                rest: atom,
                ignore_case: self.ignore_case,
                pattern: std::mem::replace(&mut self.pattern, Pattern { steps: vec![], classes: vec![] }),
            };
            again.item()?;
            self.pattern = again.pattern;
            self.rest = rest;
        }
        let end = self.here();
        for skip in skips {
            self.pattern.steps[skip] = Step::Either { first: skip + 1, second: end };
        }
        Some(())
    }

    /// The class that starts with `first`, which is read already.
    fn class(&mut self, first: char) -> Option<CharacterClass> {
        match first {
            '[' => self.bracket(),
            '\\' => self.escape(),
            '?' | '*' | '+' | '{' => None,
            literal => Some(single(literal)),
        }
    }

    fn escape(&mut self) -> Option<CharacterClass> {
        Some(match self.next()? {
            's' => CharacterClass::whitespace(),
            'S' => {
                let mut class = CharacterClass::whitespace();
                class.negate();
                class
            }
            'd' => CharacterClass::digits(),
            'p' => {
                let (name, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
                self.rest = rest;
                CharacterClass::property(name)?
            }
            'r' => single('\r'),
            'n' => single('\n'),
            't' => single('\t'),
            literal if literal.is_ascii_punctuation() => single(literal),
            _ => return None,
        })
    }

    fn bracket(&mut self) -> Option<CharacterClass> {
        let negated = self.eat("^");
        let mut class = CharacterClass::default();
        while !self.eat("]") {
            if self.eat("&&[^") {
                let mut excluded = CharacterClass::default();
                while !self.eat("]") {
                    let first = self.next()?;
                    excluded.add(&self.class(first)?);
                }
                class.exclude(excluded);
                continue;
            }
            let first = self.next()?;
            if first == '\\' {
                let start = self.rest;
                let escaped = self.escape()?;
                // An escaped character may begin a range: `\--/`.
                match (start.chars().next()?, self.rest.strip_prefix('-')) {
                    (literal, Some(rest)) if literal.is_ascii_punctuation() && !rest.starts_with(']') => {
                        self.rest = rest;
                        class.add_range(literal, self.next()?);
                    }
                    _ => class.add(&escaped),
                }
            } else if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.eat("-");
                class.add_range(first, self.next()?);
            } else {
                class.add_range(first, first);
            }
        }
        if negated {
            class.negate();
        }
        Some(class)
    }
}

fn single(character: char) -> CharacterClass {
    let mut class = CharacterClass::default();
    class.add_range(character, character);
    class
}
