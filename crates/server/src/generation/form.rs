//! Answers of a given form: where what a request says of its answer's form, and of the functions that may be called, becomes a
//! constraint on its tokens, and where calls are read out of its text.

use engine::Constraint;
use grammar::{Calls, ToolFormat, ToolParser};
use serde_json::Value;
use text::Message;

use super::ask::{Ask, Form, ToolChoice, Tools};
use super::thinking;
use crate::api_error::ApiError;
use crate::models::Loaded;

/// What holds one answer to its form, and what reads calls out of it.
pub(super) struct Held {
    pub(super) constraint: Option<Box<dyn Constraint>>,
    pub(super) parser: Option<ToolParser>,
}

/// What `form`, `tools` and `bias` of an [`Ask`] mean for one answer.
///
/// # Errors
/// For schemas and expressions that cannot be held to.
pub(super) fn hold(
    loaded: &Loaded,
    form: &Form,
    tools: Option<&Tools>,
    bias: &[(u32, f32)],
) -> Result<Held, ApiError> {
    let held = hold_unbiased(loaded, form, tools)?;
    Ok(Held { constraint: Biased::around(held.constraint, bias), ..held })
}

fn hold_unbiased(loaded: &Loaded, form: &Form, tools: Option<&Tools>) -> Result<Held, ApiError> {
    let grammars = &loaded.grammars;
    let form = match form {
        Form::Text => None,
        Form::JsonObject => Some(grammars.json_object()),
        Form::JsonSchema(schema) => Some(grammars.json_schema(schema)),
        Form::Regex(pattern) => Some(grammars.regex(pattern)),
    };
    let form = form.transpose().map_err(|error| ApiError::field("response_format", error.to_string()))?;
    let Some(tools) = tools else { return Ok(Held { constraint: form, parser: None }) };
    if tools.choice == ToolChoice::None {
        return Ok(Held { constraint: form, parser: None });
    }
    if form.is_some() {
        let message = "an answer is held to a form or may call functions, not both";
        return Err(ApiError::field("response_format", message));
    }
    let format = ToolFormat::of(&loaded.model.chat_template);
    let calls = Calls { choice: tools.choice.clone(), parallel: tools.parallel };
    let constraint = format.constraint(grammars, &tools.list, &calls).map_err(tool_error)?;
    Ok(Held { constraint, parser: Some(format.parser(crate::ids::random())) })
}

/// A conversation in which functions may be called, as the model's template takes it: with the tools that are to be rendered.
pub(super) fn conversation(
    loaded: &Loaded,
    ask: &Ask,
    messages: &[Message],
) -> Result<(Vec<Message>, Option<Value>), ApiError> {
    let tools = ask.tools.as_ref().filter(|tools| tools.choice != ToolChoice::None);
    let were_called =
        || messages.iter().any(|message| message.tool_calls.is_some() || message.role == "tool");
    let nothing = Value::Array(Vec::new());
    match tools.map(|tools| &tools.list).or_else(|| were_called().then_some(&nothing)) {
        None => Ok((messages.to_vec(), None)),
        Some(list) => {
            let format = ToolFormat::of(&loaded.model.chat_template);
            format.prompt(messages.to_vec(), list).map_err(tool_error)
        }
    }
}

/// The control tokens that are part of an answer's text.
pub(super) fn shown(loaded: &Loaded, ask: &Ask) -> Vec<u32> {
    let tokenizer = &loaded.model.tokenizer;
    let mut shown = match ask.tools.as_ref().is_some_and(|tools| tools.choice != ToolChoice::None) {
        true => ToolFormat::of(&loaded.model.chat_template).shown(tokenizer),
        false => Vec::new(),
    };
    if thinking::thinks(&loaded.model.chat_template) {
        let tags = thinking::TAGS.iter().filter_map(|tag| tokenizer.id(tag));
        shown.extend(tags.filter(|&id| tokenizer.is_control(id)));
    }
    shown
}

fn tool_error(error: grammar::Error) -> ApiError {
    ApiError::field("tools", error.to_string())
}

/// Adds to the logits of some tokens before another constraint, if there is one, has its say.
#[derive(Debug)]
struct Biased {
    bias: Vec<(u32, f32)>,
    inner: Option<Box<dyn Constraint>>,
}

impl Biased {
    fn around(inner: Option<Box<dyn Constraint>>, bias: &[(u32, f32)]) -> Option<Box<dyn Constraint>> {
        match bias {
            [] => inner,
            bias => Some(Box::new(Biased { bias: bias.to_vec(), inner })),
        }
    }
}

impl Constraint for Biased {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), engine::Error> {
        for &(token, bias) in &self.bias {
            logits[token as usize] += bias;
        }
        self.inner.as_mut().map_or(Ok(()), |inner| inner.mask(logits))
    }

    fn accept(&mut self, token: u32) -> Result<bool, engine::Error> {
        self.inner.as_mut().map_or(Ok(false), |inner| inner.accept(token))
    }
}
