//! The grammar of an answer with calls.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::json;

use super::formats::{Format, Shape};
use super::list::Tool;
use super::{Calls, ToolChoice, ToolFormat};
use crate::constraint::Form;
use crate::error::Error;
use crate::grammars::{Controls, Grammars};
use crate::schema;
use crate::vocabulary::Vocabulary;

/// The markers that may be control tokens.
pub(super) fn markers(format: &Format) -> impl Iterator<Item = &'static str> + use<> {
    let separator = match format.shape {
        Shape::Named { separator } => separator,
        _ => "",
    };
    [format.open, format.close, separator].into_iter().filter(|marker| !marker.is_empty())
}

/// Compiles the constraint for an answer that may call `tools`.
///
/// # Errors
/// Those of [`Grammars::json_schema`] for the tools' schemas.
pub(super) fn compile(
    format: &ToolFormat,
    grammars: &Grammars,
    tools: &[Tool],
    calls: &Calls,
) -> Result<Form, Error> {
    let mut parts = vec![GrammarWithLexer::from_lark(lark(format, grammars.vocabulary()?, tools, calls))];
    for (index, tool) in tools.iter().enumerate() {
        let parameters = schema::prepare(&tool.parameters).map_err(|error| in_tool(tool, error))?;
        let mut part = GrammarWithLexer::from_json_schema(parameters);
        part.name = Some(format!("arguments_{index}"));
        parts.push(part);
    }
    let wrong = |reason| match tools {
        [tool] => in_tool(tool, Error::Schema { reason }),
        _ => Error::Tools { reason },
    };
    grammars.compile(TopLevelGrammar { grammars: parts, max_tokens: None }, Controls::AsWritten, wrong)
}

/// Says of which tool the schema is wrong.
fn in_tool(tool: &Tool, error: Error) -> Error {
    match error {
        Error::Keyword { path, keyword, reason } => {
            let path = path.replacen('#', &format!("{}#", tool.name), 1);
            Error::Keyword { path, keyword, reason }
        }
        Error::Schema { reason } => {
            Error::Schema { reason: format!("parameters of `{}`: {reason}", tool.name) }
        }
        error => error,
    }
}

/// Space between parts of a call, where the family's models put it now and then.
const SPACE: &str = "/[ \\n]{1,4}/?";

/// The grammar in Lark's syntax, with the schema of the arguments of the tool `i` as `@arguments_i`.
fn lark(format: &ToolFormat, vocabulary: &Vocabulary, tools: &[Tool], calls: &Calls) -> String {
    let ToolFormat { format, thinks } = format;
    let marker = |text: &str| Marker::new(vocabulary, text);
    let (open, close) = (marker(format.open), marker(format.close));
    let mut rules: Vec<String> = Vec::new();

    // A call in one way, that of the templates: a choice of spaces would only be a chance to err.
    for (index, tool) in tools.iter().enumerate() {
        let (name, arguments) = (tool.name, format.arguments);
        rules.push(match format.shape {
            Shape::Named { separator } => {
                format!("call_{index}: \"{name}\" {} @arguments_{index}", marker(separator).lark())
            }
            _ => {
                let head = json!(format!("{{\"name\": \"{name}\", \"{arguments}\": "));
                format!("call_{index}: {head} @arguments_{index} \"}}\"")
            }
        });
    }
    let all: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
    rules.push(format!("call: {}", all.join(" | ")));

    // The calls, without the first one's opening marker.
    let one = match format.shape {
        Shape::Objects => format!("{SPACE} call {SPACE} {}", close.lark()),
        _ => "call".to_owned(),
    };
    let separator = match format.shape {
        Shape::Objects => Some(format!("{SPACE} {}", open.lark())),
        Shape::Named { .. } => Some(open.lark()),
        Shape::List => Some("\", \"".to_owned()),
        Shape::Bare => None,
    };
    let more = separator.filter(|_| calls.parallel).map(|separator| format!("({separator} one)*"));
    let several = format!("one {}", more.unwrap_or_default());
    rules.push(format!("one: {one}"));
    rules.push(match format.shape {
        Shape::List => format!("rest: {SPACE} \"[\" {several} \"]\" {}", close.lark()),
        _ => format!("rest: {several}"),
    });

    // Text before them, or in their place. A thought is told from it by its beginning.
    let text = if *thinks { r"/(.|\n)*/ & ~/\s*<think>(.|\n)*/" } else { r"/(.|\n)*/" };
    let is_required = matches!(calls.choice, ToolChoice::Required | ToolChoice::Named(_));
    let body = match (format.shape, is_required, &open) {
        (_, true, open) => format!("{SPACE} {} rest", open.lark()),
        // Where no marker is, an answer that begins with a brace is a call.
        (Shape::Bare, false, _) => {
            rules.push(r"prose: /\s*([^{\s](.|\n)*)?/".to_owned());
            format!("prose | {SPACE} rest")
        }
        (_, false, Marker::Token(id)) => {
            rules.push(format!("PROSE: {text}\nprose: PROSE"));
            format!("prose? (<[{id}]> rest)?")
        }
        (_, false, Marker::Text(marker)) => {
            rules.push(format!("PROSE: {text}\nprose: PROSE"));
            rules.push(format!("PRELUDE: {text} & /(.|\\n)*{}/\nprelude[lazy]: PRELUDE", escape(marker)));
            "prose | prelude rest".to_owned()
        }
    };
    rules.push(match thinks {
        true => format!("thought[lazy]: /\\s*<think>(.|\\n)*<\\/think>/\nstart: thought? ({body})"),
        false => format!("start: {body}"),
    });
    rules.join("\n")
}

/// A marker, which is one control token or just text.
enum Marker {
    Token(u32),
    Text(String),
}

impl Marker {
    fn new(vocabulary: &Vocabulary, text: &str) -> Marker {
        match vocabulary.control_token(text) {
            Some(id) => Marker::Token(id),
            None => Marker::Text(text.to_owned()),
        }
    }

    fn lark(&self) -> String {
        match self {
            Marker::Token(id) => format!("<[{id}]>"),
            Marker::Text(text) => json!(text).to_string(),
        }
    }
}

/// Text inside of a regular expression between slashes.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        if r"\/.+*?()|[]{}^$#&-~".contains(character) {
            out.push('\\');
        }
        out.push(character);
        out
    })
}
