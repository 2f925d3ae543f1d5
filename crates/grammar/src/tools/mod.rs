//! Calls of tools, in the form that each family of models was trained to write.

mod call;
mod formats;
mod grammar;
mod list;
mod parser;
mod prompt;
#[cfg(test)]
mod tests;

use engine::Constraint;
use serde_json::Value;
use text::{ChatTemplate, Message, Tokenizer};

pub use parser::{Piece, ToolParser};

use crate::error::Error;
use crate::grammars::Grammars;
use formats::Format;

/// Whether an answer calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// At least one, whichever.
    Required,
    /// This one.
    Named(String),
}

/// What calls an answer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Whether, and of what.
    pub choice: ToolChoice,
    /// Several in one answer, where the family's form has that.
    pub parallel: bool,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls { choice: ToolChoice::Auto, parallel: true }
    }
}

/// How the models with a certain chat template write calls of tools.
#[derive(Clone, Copy, Debug)]
pub struct ToolFormat {
    format: &'static Format,
    /// Whether an answer may begin with a stretch of thought between `<think>` and `</think>`.
    thinks: bool,
}

impl ToolFormat {
    /// The format of a model.
    pub fn of(template: &ChatTemplate) -> ToolFormat {
        ToolFormat::of_source(&template.tool_source())
    }

    /// The format of the models whose chat template, as Jinja source, this is.
    pub fn of_source(template: &str) -> ToolFormat {
        ToolFormat { format: formats::of_template(template), thinks: template.contains("<think>") }
    }

    /// A short name of the family's form.
    pub fn name(&self) -> &'static str {
        self.format.name
    }

    /// What to render: the conversation and the tools for [`text::Render::tools`]. Where the template knows no tools, or not all
    /// about them, they, their calls and their results come as text.
    ///
    /// Not to be called where no tool may be called ([`ToolChoice::None`] or no tools) and none was before.
    ///
    /// # Errors
    /// [`Error::Tools`].
    pub fn prompt(
        &self,
        messages: Vec<Message>,
        tools: &Value,
    ) -> Result<(Vec<Message>, Option<Value>), Error> {
        list::Tool::list(tools)?;
        Ok(prompt::prepare(self.format, messages, tools))
    }

    /// The constraint that holds an answer to well-formed calls of `tools` (as in the OpenAI API:
    /// `[{"type": "function", "function": {"name", "description", "parameters"}}]`) with arguments that fit their schemas;
    /// `None` if nothing has to be held to. With [`ToolChoice::Auto`] text comes first, until the family's marker.
    ///
    /// # Errors
    /// [`Error::Tools`] for a malformed list, [`Error::NoTool`], and those of [`Grammars::json_schema`] for the schemas.
    pub fn constraint(
        &self,
        grammars: &Grammars,
        tools: &Value,
        calls: &Calls,
    ) -> Result<Option<Box<dyn Constraint>>, Error> {
        let mut tools = list::Tool::list(tools)?;
        match &calls.choice {
            ToolChoice::None => return Ok(None),
            ToolChoice::Named(name) => {
                tools.retain(|tool| tool.name == name);
                if tools.is_empty() {
                    return Err(Error::NoTool { name: name.clone() });
                }
            }
            ToolChoice::Required if tools.is_empty() => {
                return Err(Error::Tools { reason: "one must be called, but there is none".to_owned() });
            }
            _ if tools.is_empty() => return Ok(None),
            _ => {}
        }
        Ok(Some(Box::new(grammar::compile(self, grammars, &tools, calls)?)))
    }

    /// What reads the calls out of an answer's text. The same `seed` gives the same ids of calls; it should be another one
    /// for each answer of a conversation.
    pub fn parser(&self, seed: u64) -> ToolParser {
        ToolParser::new(*self, seed)
    }

    /// The control tokens among the family's markers. The text of an answer leaves out control tokens, but [`ToolParser`] needs
    /// these: they are to be shown as text.
    pub fn shown(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let markers = grammar::markers(self.format);
        markers.filter_map(|marker| tokenizer.id(marker)).filter(|&id| tokenizer.is_control(id)).collect()
    }
}
