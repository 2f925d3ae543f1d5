//! From a form to the constraint that keeps it.

use std::sync::{Mutex, OnceLock, PoisonError};

use engine::Constraint;
use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use text::Tokenizer;

use crate::constraint::Form;
use crate::error::Error;
use crate::schema;
use crate::vocabulary::{Vocabulary, Words};

/// Bytes in a regular expression or a grammar.
const LONGEST_SOURCE: usize = 64 << 10;

/// The compiler recurses as deeply as schemas and expressions are nested, which [`schema::prepare`] and the parsers bound.
const STACK: usize = 16 << 20;

/// Makes constraints for one model's vocabulary. To be made once a model and shared.
///
/// The vocabulary's trie is built when the first constraint is asked for, which takes a moment (a third of a second for 150,000
/// tokens on a desktop's core); after that a constraint takes about as long as a token.
pub struct Grammars {
    /// Taken when the trie is built.
    words: Mutex<Option<Words>>,
    vocabulary: OnceLock<Result<Vocabulary, Error>>,
}

impl Grammars {
    /// The grammars of a vocabulary.
    pub fn new(tokenizer: &Tokenizer) -> Grammars {
        Grammars { words: Mutex::new(Some(Words::of(tokenizer))), vocabulary: OnceLock::new() }
    }

    /// An answer that is a JSON object, whatever is in it.
    ///
    /// # Errors
    /// [`Error::Vocabulary`].
    pub fn json_object(&self) -> Result<Box<dyn Constraint>, Error> {
        self.json_schema(&json!({"type": "object"}))
    }

    /// An answer that is JSON and fits `schema` (JSON Schema, drafts 4 to 2020-12), object members in the order of
    /// `properties`. What is served and what is not: `docs/structured.md`.
    ///
    /// # Errors
    /// [`Error::Keyword`] for a schema that cannot be kept token by token, with the keyword, [`Error::TooLarge`],
    /// [`Error::Schema`] for one that nothing fits, [`Error::Vocabulary`].
    pub fn json_schema(&self, schema: &Value) -> Result<Box<dyn Constraint>, Error> {
        let schema = schema::prepare(schema)?;
        let wrong = |reason| Error::Schema { reason };
        Ok(Box::new(self.compile(TopLevelGrammar::from_json_schema(schema), Controls::Never, wrong)?))
    }

    /// An answer that matches a regular expression as a whole: syntax of Rust's crate `regex`, no look-around, no
    /// back-references, no anchors.
    ///
    /// # Errors
    /// [`Error::Regex`], [`Error::TooLarge`], [`Error::Vocabulary`].
    pub fn regex(&self, regex: &str) -> Result<Box<dyn Constraint>, Error> {
        check_length("regular expression in bytes", regex)?;
        let wrong = |reason| Error::Regex { reason };
        Ok(Box::new(self.compile(TopLevelGrammar::from_regex(regex), Controls::Never, wrong)?))
    }

    /// An answer that a context-free grammar derives from its rule `start`, in llguidance's variant of Lark's syntax.
    /// Control tokens that the grammar names never come.
    ///
    /// # Errors
    /// [`Error::Grammar`], [`Error::TooLarge`], [`Error::Vocabulary`].
    pub fn lark(&self, grammar: &str) -> Result<Box<dyn Constraint>, Error> {
        check_length("grammar in bytes", grammar)?;
        let wrong = |reason| Error::Grammar { reason };
        Ok(Box::new(self.compile(TopLevelGrammar::from_lark(grammar.to_owned()), Controls::Never, wrong)?))
    }

    /// The vocabulary, built at the first call.
    pub(crate) fn vocabulary(&self) -> Result<&Vocabulary, Error> {
        let build = || {
            let words = self.words.lock().unwrap_or_else(PoisonError::into_inner).take();
            // It is taken once, as this runs once.
            words.map_or_else(
                || Err(Error::Vocabulary { reason: "it could not be read".to_owned() }),
                Vocabulary::new,
            )
        };
        self.vocabulary.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// Compiles a grammar; `wrong` makes the error of what the compiler says.
    pub(crate) fn compile(
        &self,
        grammar: TopLevelGrammar,
        controls: Controls,
        wrong: impl Fn(String) -> Error,
    ) -> Result<Form, Error> {
        let vocabulary = self.vocabulary()?;
        let compile = || vocabulary.factory.create_parser(grammar);
        let parser = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
            let thread = thread.map_err(|error| wrong(error.to_string()))?;
            let parser = thread.join().map_err(|_| wrong("the compiler failed".to_owned()))?;
            parser.map_err(|error| wrong(first_line(&format!("{error:#}"))))
        })?;
        let matcher = Matcher::new(Ok(parser));
        let plain = match controls {
            Controls::Never => Some(vocabulary.plain.clone()),
            Controls::AsWritten => None,
        };
        Ok(Form::new(matcher, plain, vocabulary.ends.clone()))
    }
}

/// Whether an answer may have control tokens that its grammar names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controls {
    Never,
    AsWritten,
}

fn check_length(what: &'static str, source: &str) -> Result<(), Error> {
    match source.len() {
        got if got > LONGEST_SOURCE => Err(Error::TooLarge { what, got, limit: LONGEST_SOURCE }),
        _ => Ok(()),
    }
}

/// What the compiler says, without its traces.
pub(crate) fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    line.chars().take(300).collect()
}
