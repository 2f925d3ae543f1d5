//! Answers of a given form: where what a request says of its answer's form, and of the functions that may be called, becomes a
//! constraint on its tokens, and where calls are read out of its text.

use engine::Constraint;
use grammar::{Calls, ToolFormat, ToolParser};
use serde_json::Value;
use text::Message;

use super::ask::{Ask, Form, ToolChoice};
use crate::api_error::ApiError;
use crate::models::Loaded;

/// What holds one answer to its form, and what reads calls out of it.
pub(super) struct Held {
    pub(super) constraint: Option<Box<dyn Constraint>>,
    pub(super) parser: Option<ToolParser>,
}

/// The form of one answer.
///
/// # Errors
/// For schemas and expressions that cannot be held to.
pub(super) fn of(loaded: &Loaded, ask: &Ask) -> Result<Held, ApiError> {
    let grammars = &loaded.grammars;
    let form = match &ask.form {
        Form::Text => None,
        Form::JsonObject => Some(grammars.json_object()),
        Form::JsonSchema(schema) => Some(grammars.json_schema(schema)),
        Form::Regex(pattern) => Some(grammars.regex(pattern)),
    };
    let form = form.transpose().map_err(|error| ApiError::field("response_format", error.to_string()))?;
    let Some(tools) = &ask.tools else { return Ok(Held { constraint: form, parser: None }) };
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
    match ask.tools.as_ref().is_some_and(|tools| tools.choice != ToolChoice::None) {
        true => ToolFormat::of(&loaded.model.chat_template).shown(&loaded.model.tokenizer),
        false => Vec::new(),
    }
}

fn tool_error(error: grammar::Error) -> ApiError {
    ApiError::field("tools", error.to_string())
}
