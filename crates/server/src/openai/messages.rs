//! Messages and tools as the API has them, and as chat templates want them.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use text::Message;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::generation::{Call, Choice, Form, ToolChoice, Tools};

/// A message of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    role: String,
    content: Option<Content>,
    name: Option<String>,
    tool_call_id: Option<String>,
    /// Calls that the assistant made.
    tool_calls: Option<Vec<ToolCallBody>>,
    /// What the assistant thought before it answered, for templates that look at it.
    reasoning_content: Option<String>,
}

/// A text, or parts of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Part {
    /// `text`; in responses `input_text` or `output_text`.
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// A call of a function.
#[derive(Clone, Debug, Deserialize, serde::Serialize, ToSchema)]
pub(crate) struct ToolCallBody {
    pub(crate) id: Option<String>,
    #[serde(rename = "type", default = "function")]
    pub(crate) kind: String,
    pub(crate) function: FunctionCall,
}

fn function() -> String {
    "function".to_owned()
}

/// Which function, with what.
#[derive(Clone, Debug, Deserialize, serde::Serialize, ToSchema)]
pub(crate) struct FunctionCall {
    pub(crate) name: String,
    /// JSON text.
    pub(crate) arguments: String,
}

/// A tool that the model may use.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Tool {
    /// `function` is the only kind.
    #[serde(rename = "type")]
    kind: String,
    function: Option<Function>,
}

/// A function that the model may call.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// A JSON Schema of the arguments.
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Value>,
}

/// The form of an answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`; `regex` beyond the API.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    json_schema: Option<NamedSchema>,
    /// For `regex`.
    pattern: Option<String>,
}

/// A schema with its name.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NamedSchema {
    #[schema(value_type = Object)]
    schema: Option<Value>,
}

impl Content {
    /// The text of all parts.
    pub(crate) fn text(self, field: &str) -> Result<String, ApiError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        let mut whole = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            let text = match part.kind.as_str() {
                "text" | "input_text" | "output_text" => part.text,
                "refusal" => part.refusal,
                kind => {
                    let message =
                        format!("{field}[{index}]: parts of type {kind:?} are not understood, only text");
                    return Err(ApiError::field(format!("{field}[{index}].type"), message));
                }
            };
            let text = text.ok_or_else(|| {
                ApiError::field(format!("{field}[{index}].text"), format!("{field}[{index}] has no text"))
            })?;
            whole.push_str(&text);
        }
        Ok(whole)
    }
}

/// The role as templates know it.
pub(crate) fn role(role: String, field: &str) -> Result<String, ApiError> {
    match role.as_str() {
        "system" | "user" | "assistant" | "tool" => Ok(role),
        "developer" => Ok("system".to_owned()),
        "function" => Ok("tool".to_owned()),
        other => {
            let message =
                format!("{field}: {other:?} is no role; there are system, developer, user, assistant, tool");
            Err(ApiError::field(field, message))
        }
    }
}

/// A conversation for the chat template.
pub(crate) fn conversation(messages: Vec<ChatMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::field("messages", "messages is empty, expected at least one"));
    }
    let message = |(index, message): (usize, ChatMessage)| -> Result<Message, ApiError> {
        let field = |name: &str| format!("messages[{index}].{name}");
        let mut fields = Map::new();
        let more = [
            ("name", message.name),
            ("tool_call_id", message.tool_call_id),
            ("reasoning_content", message.reasoning_content),
        ];
        fields.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        let calls = message.tool_calls.filter(|calls| !calls.is_empty());
        let content = match (message.content, &calls) {
            (Some(content), _) => content.text(&field("content"))?,
            (None, Some(_)) => String::new(),
            (None, None) => {
                let message = format!("messages[{index}] has neither content nor tool_calls");
                return Err(ApiError::field(field("content"), message));
            }
        };
        Ok(Message {
            role: role(message.role, &field("role"))?,
            content,
            tool_calls: calls.map(|calls| json!(calls)),
            fields,
        })
    };
    messages.into_iter().enumerate().map(message).collect()
}

/// A function as chat templates and grammars want it.
pub(crate) fn function_tool(function: &Function) -> Value {
    json!({"type": "function", "function": {
        "name": function.name,
        "description": function.description.as_deref().unwrap_or_default(),
        "parameters": function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
    }})
}

/// The tools of a chat request.
pub(crate) fn tools(
    list: Option<Vec<Tool>>,
    choice: Option<&Value>,
    parallel: Option<bool>,
) -> Result<Option<Tools>, ApiError> {
    let list = list.unwrap_or_default();
    let function = |(index, tool): (usize, Tool)| match tool {
        Tool { kind, function: Some(function) } if kind == "function" => Ok(function_tool(&function)),
        _ => {
            let message =
                format!("tools[{index}]: only tools of type \"function\" with a function are known");
            Err(ApiError::field(format!("tools[{index}].type"), message))
        }
    };
    let list = list.into_iter().enumerate().map(function).collect::<Result<Vec<Value>, _>>()?;
    chosen(list, choice, parallel)
}

/// Tools with what `tool_choice` says of them: `None` where there are none.
pub(crate) fn chosen(
    list: Vec<Value>,
    choice: Option<&Value>,
    parallel: Option<bool>,
) -> Result<Option<Tools>, ApiError> {
    let wrong = |message: &str| Err(ApiError::field("tool_choice", format!("tool_choice: {message}")));
    let choice = match choice {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            _ => return wrong("expected auto, none, required or a function"),
        },
        Some(Value::Object(object)) => {
            let name =
                object.get("function").and_then(|function| function.get("name")).or(object.get("name"));
            match name.and_then(Value::as_str) {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None => return wrong("expected the function's name"),
            }
        }
        Some(_) => return wrong("expected a word or an object"),
    };
    let is_known = |name: &str| list.iter().any(|tool| tool["function"]["name"] == *name);
    match &choice {
        ToolChoice::Named(name) if !is_known(name) => wrong("the function is not among the tools"),
        ToolChoice::Required if list.is_empty() => wrong("there are no tools"),
        _ if list.is_empty() => Ok(None),
        _ => Ok(Some(Tools { list: Value::Array(list), choice, parallel: parallel.unwrap_or(true) })),
    }
}

/// The form that `response_format` asks for.
pub(crate) fn form(format: Option<ResponseFormat>) -> Result<Form, ApiError> {
    let Some(ResponseFormat { kind, json_schema, pattern }) = format else { return Ok(Form::Text) };
    match (kind.as_str(), json_schema, pattern) {
        ("text", ..) => Ok(Form::Text),
        ("json_object", ..) => Ok(Form::JsonObject),
        ("json_schema", Some(NamedSchema { schema: Some(schema) }), _) => Ok(Form::JsonSchema(schema)),
        ("json_schema", ..) => {
            let field = "response_format.json_schema.schema";
            Err(ApiError::field(field, format!("{field} is missing")))
        }
        ("regex", _, Some(pattern)) => Ok(Form::Regex(pattern)),
        ("regex", ..) => {
            Err(ApiError::field("response_format.pattern", "response_format.pattern is missing"))
        }
        (other, ..) => {
            let message =
                format!("response_format.type = {other:?}: expected text, json_object, json_schema or regex");
            Err(ApiError::field("response_format.type", message))
        }
    }
}

/// An answer as a message of the conversation that goes on from it.
pub(crate) fn answer(choice: &Choice) -> Message {
    let call = |call: &Call| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
    Message {
        tool_calls: (!choice.calls.is_empty()).then(|| choice.calls.iter().map(call).collect()),
        ..Message::new("assistant", choice.text.clone())
    }
}

/// A message as it is kept.
pub(crate) fn message_to_json(message: &Message) -> Value {
    json!({
        "role": message.role, "content": message.content, "tool_calls": message.tool_calls,
        "fields": message.fields,
    })
}

/// A message as it was kept.
pub(crate) fn message_from_json(saved: &Value) -> Message {
    let text = |name: &str| saved[name].as_str().unwrap_or_default().to_owned();
    Message {
        role: text("role"),
        content: text("content"),
        tool_calls: Some(saved["tool_calls"].clone()).filter(|calls| !calls.is_null()),
        fields: saved["fields"].as_object().cloned().unwrap_or_default(),
    }
}
