//! The objects of `/v1/responses`.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use text::Message;
use utoipa::{IntoParams, ToSchema};

use super::messages::{self, Content, Function, function_tool};
use super::shared::Extension;
use crate::api_error::ApiError;
use crate::generation::{Form, Tools};

/// A request for a response. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponseRequest {
    /// The first model if left out.
    pub(super) model: Option<String>,
    pub(super) input: Option<Input>,
    pub(super) instructions: Option<String>,
    pub(super) previous_response_id: Option<String>,
    pub(super) stream: Option<bool>,
    /// Returns at once; `GET /v1/responses/{id}` tells what has become of it.
    pub(super) background: Option<bool>,
    /// Keeps the response on disk and goes on with it when the client has gone. Without it the last few are kept in memory.
    pub(super) store: Option<bool>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_logprobs: Option<u32>,
    /// `message.output_text.logprobs` asks for how likely each token was.
    pub(super) include: Option<Vec<String>>,
    pub(super) text: Option<TextOptions>,
    pub(super) tools: Option<Vec<ResponseTool>>,
    /// `auto`, `none`, `required`, or `{"type": "function", "name": ..}`.
    #[schema(value_type = Option<Object>)]
    pub(super) tool_choice: Option<Value>,
    /// Whether one answer may have several calls; true if left out.
    pub(super) parallel_tool_calls: Option<bool>,
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// `flex` is background priority, `priority` is interactive.
    pub(super) service_tier: Option<String>,
    /// Beyond the API, as in chat completions.
    pub(super) seed: Option<i64>,
    /// Beyond the API, as in chat completions.
    #[schema(value_type = Option<Object>)]
    pub(super) chat_template_kwargs: Option<Map<String, Value>>,
    pub(super) pouch: Option<Extension>,
}

/// A text, or a list of messages, calls and what calls gave.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of items")]
pub(crate) enum Input {
    Text(String),
    Items(Vec<InputItem>),
}

/// One of them, by its `type`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InputItem {
    /// `message` if left out, `function_call` or `function_call_output`.
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

/// What the text is to look like.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TextOptions {
    pub(super) format: Option<TextFormat>,
}

/// Its form.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TextFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[schema(value_type = Option<Object>)]
    pub(super) schema: Option<Value>,
}

/// A function that the model may call, without the wrapping that chat completions have.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponseTool {
    /// `function` is the only kind.
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
}

/// How a response is asked for again.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct RetrieveQuery {
    /// Its events instead of the object.
    pub(super) stream: Option<bool>,
    /// Only those after the event of this number.
    pub(super) starting_after: Option<usize>,
}

impl Input {
    /// The conversation that it is.
    pub(super) fn messages(self) -> Result<Vec<Message>, ApiError> {
        let items = match self {
            Input::Text(text) => return Ok(vec![Message::new("user", text)]),
            Input::Items(items) => items,
        };
        let mut all: Vec<Message> = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            item.add_to(&mut all, &format!("input[{index}]"))?;
        }
        Ok(all)
    }
}

impl InputItem {
    fn add_to(self, all: &mut Vec<Message>, place: &str) -> Result<(), ApiError> {
        let missing =
            |name: &str| ApiError::field(format!("{place}.{name}"), format!("{place}.{name} is missing"));
        match self.kind.as_deref().unwrap_or("message") {
            "message" => {
                let role =
                    messages::role(self.role.ok_or_else(|| missing("role"))?, &format!("{place}.role"))?;
                let content = self.content.ok_or_else(|| missing("content"))?;
                all.push(Message::new(role, content.text(&format!("{place}.content"))?));
            }
            "function_call" => {
                let name = self.name.ok_or_else(|| missing("name"))?;
                let arguments = self.arguments.ok_or_else(|| missing("arguments"))?;
                let call = json!({
                    "id": self.call_id, "type": "function", "function": {"name": name, "arguments": arguments},
                });
                // Calls belong to the assistant's message before them.
                match all.last_mut() {
                    Some(Message { role, tool_calls: Some(Value::Array(calls)), .. })
                        if role == "assistant" =>
                    {
                        calls.push(call);
                    }
                    Some(Message { role, tool_calls: calls @ None, .. }) if role == "assistant" => {
                        *calls = Some(json!([call]));
                    }
                    _ => {
                        let tool_calls = Some(json!([call]));
                        all.push(Message { tool_calls, ..Message::new("assistant", "") });
                    }
                }
            }
            "function_call_output" => {
                let output =
                    self.output.ok_or_else(|| missing("output"))?.text(&format!("{place}.output"))?;
                let mut message = Message::new("tool", output);
                if let Some(id) = self.call_id {
                    message.fields.insert("tool_call_id".to_owned(), id.into());
                }
                all.push(message);
            }
            // What a reasoning model thought is not told to it again.
            "reasoning" => {}
            kind => {
                let message = format!(
                    "{place}.type = {kind:?}: expected message, function_call or function_call_output"
                );
                return Err(ApiError::field(format!("{place}.type"), message));
            }
        }
        Ok(())
    }
}

/// The form that `text.format` asks for.
pub(super) fn form(options: Option<TextOptions>) -> Result<Form, ApiError> {
    let Some(TextFormat { kind, schema, .. }) = options.and_then(|options| options.format) else {
        return Ok(Form::Text);
    };
    match (kind.as_str(), schema) {
        ("text", _) => Ok(Form::Text),
        ("json_object", _) => Ok(Form::JsonObject),
        ("json_schema", Some(schema)) => Ok(Form::JsonSchema(schema)),
        ("json_schema", None) => Err(ApiError::field("text.format.schema", "text.format.schema is missing")),
        (other, _) => {
            let message = format!("text.format.type = {other:?}: expected text, json_object or json_schema");
            Err(ApiError::field("text.format.type", message))
        }
    }
}

/// The tools of a request.
pub(super) fn tools(
    list: Option<Vec<ResponseTool>>,
    choice: Option<&Value>,
    parallel: Option<bool>,
) -> Result<Option<Tools>, ApiError> {
    let tool = |(index, tool): (usize, ResponseTool)| match tool {
        ResponseTool { kind, name: Some(name), description, parameters } if kind == "function" => {
            Ok(function_tool(&Function { name, description, parameters }))
        }
        _ => {
            let message = format!("tools[{index}]: only tools of type \"function\" with a name are known");
            Err(ApiError::field(format!("tools[{index}].type"), message))
        }
    };
    let list = list.unwrap_or_default().into_iter().enumerate().map(tool);
    messages::chosen(list.collect::<Result<_, _>>()?, choice, parallel)
}
