//! `POST /api/chat`: the next message of a conversation.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use text::Message;
use utoipa::ToSchema;

use super::errors::{OllamaError, OllamaErrorBody};
use super::shared::{Lines, OllamaLine, OllamaOptions, Said, Totals, done_reason, form, variables};
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::Json;
use crate::generation::{self, Call, Collected, Prompt, Start, ToolChoice, Tools, respond};
use crate::ids;

/// A request for the next message of a conversation. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct OllamaChatRequest {
    model: Option<String>,
    messages: Option<Vec<OllamaMessage>>,
    /// True if left out.
    stream: Option<bool>,
    /// `"json"` or a JSON Schema.
    #[schema(value_type = Option<Object>)]
    format: Option<Value>,
    options: Option<OllamaOptions>,
    /// Functions that the model may call, as in the OpenAI API.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    think: Option<bool>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct OllamaMessage {
    role: String,
    content: Option<String>,
    images: Option<Vec<String>>,
    tool_calls: Option<Vec<OllamaCall>>,
    tool_name: Option<String>,
}

/// A call of a function.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct OllamaCall {
    function: OllamaFunction,
}

/// Which function, with what.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct OllamaFunction {
    name: String,
    /// An object.
    #[schema(value_type = Object)]
    arguments: Value,
}

/// What a line of the answer says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatPiece {
    message: AnswerMessage,
}

/// The assistant's message, or a piece of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerMessage {
    role: &'static str,
    content: String,
    /// What the model thinks before it answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<OllamaCall>,
}

impl ChatPiece {
    fn new(Said { text, thoughts, calls }: Said) -> ChatPiece {
        let tool_calls = calls.iter().map(OllamaCall::of).collect();
        let message = AnswerMessage { role: "assistant", content: text, thinking: thoughts, tool_calls };
        ChatPiece { message }
    }
}

impl OllamaCall {
    /// Arguments that were cut off by the answer's end are no JSON; they are told as text.
    fn of(call: &Call) -> OllamaCall {
        let arguments = serde_json::from_str(&call.arguments);
        let arguments = arguments.unwrap_or_else(|_| Value::String(call.arguments.clone()));
        OllamaCall { function: OllamaFunction { name: call.name.clone(), arguments } }
    }
}

/// Answers a conversation. Unless `stream` is false the pieces come as lines of JSON.
#[utoipa::path(post, path = "/api/chat", tag = "Ollama", request_body = OllamaChatRequest,
    responses((status = 200, body = OllamaLine<ChatPiece>), (status = "4XX", body = OllamaErrorBody)))]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    request: Result<Json<OllamaChatRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let asked = Instant::now();
    let Json(request) = request?;
    let streams = request.stream.unwrap_or(true);
    let messages = request.messages.unwrap_or_default();
    if messages.is_empty() {
        // Ollama's way to load a model.
        let loaded = app.models.get(request.model.as_deref()).await?;
        let piece = ChatPiece::new(Said::default());
        return Ok(axum::Json(OllamaLine::new(&loaded.name, piece, Some("load"), None)).into_response());
    }
    let messages = messages.into_iter().enumerate().map(message).collect::<Result<Vec<_>, ApiError>>()?;
    let list = request.tools.filter(|tools| !tools.is_empty());
    let tools = list.map(|list| Tools { list: list.into(), choice: ToolChoice::Auto, parallel: true });
    let prompt = Prompt::Messages { messages, variables: variables(request.think) };
    let options = request.options.unwrap_or_default();
    let ask = options.ask(request.model, prompt, form(request.format)?, tools)?;
    let start = Start { id: ids::new("ollama-"), ask, goes_on: false, record: None };
    let answer = generation::start(&app, start).await?;
    if streams {
        let stream = Lines::new(&answer, asked, ChatPiece::new);
        return Ok(respond(answer, stream));
    }
    let model = answer.model.clone();
    let Collected { mut choices, usage } = Collected::of(answer).await?;
    let choice = choices.pop().unwrap_or_default();
    let reason = choice.end.as_ref().map(|end| done_reason(end.finish));
    let piece = ChatPiece::new(choice.into());
    let totals = Totals::of(&usage, asked);
    Ok(axum::Json(OllamaLine::new(&model, piece, reason, Some(totals))).into_response())
}

fn message((index, message): (usize, OllamaMessage)) -> Result<Message, ApiError> {
    if message.images.is_some_and(|images| !images.is_empty()) {
        let field = format!("messages[{index}].images");
        return Err(ApiError::field(&field, format!("{field}: images are not understood, only text")));
    }
    let role = crate::openai::role(message.role, &format!("messages[{index}].role"))?;
    let call = |call: OllamaCall| json!({"type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}});
    let calls = message.tool_calls.filter(|calls| !calls.is_empty());
    let mut rendered = Message::new(role, message.content.unwrap_or_default());
    rendered.tool_calls = calls.map(|calls| calls.into_iter().map(call).collect());
    if let Some(name) = message.tool_name {
        rendered.fields.insert("name".to_owned(), name.into());
    }
    Ok(rendered)
}
