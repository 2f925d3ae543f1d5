//! `POST /api/generate`: an answer to one prompt.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use text::Message;
use utoipa::ToSchema;

use super::errors::{OllamaError, OllamaErrorBody};
use super::shared::{Lines, OllamaLine, OllamaOptions, Said, Totals, done_reason, form, variables};
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::Json;
use crate::generation::{self, Collected, Prompt, Start, respond};
use crate::ids;

/// A request for an answer. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct GenerateRequest {
    model: Option<String>,
    prompt: Option<String>,
    system: Option<String>,
    /// Goes on with the prompt as it is, without the chat template.
    raw: Option<bool>,
    images: Option<Vec<String>>,
    suffix: Option<String>,
    /// True if left out.
    stream: Option<bool>,
    /// `"json"` or a JSON Schema.
    #[schema(value_type = Option<Object>)]
    format: Option<Value>,
    options: Option<OllamaOptions>,
    think: Option<bool>,
}

/// What a line of the answer says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GeneratePiece {
    response: String,
    /// What the model thinks before it answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
}

impl GeneratePiece {
    /// Without tools there are no calls.
    fn new(Said { text, thoughts, .. }: Said) -> GeneratePiece {
        GeneratePiece { response: text, thinking: thoughts }
    }
}

/// Answers a prompt. Unless `stream` is false the pieces come as lines of JSON.
#[utoipa::path(post, path = "/api/generate", tag = "Ollama", request_body = GenerateRequest,
    responses((status = 200, body = OllamaLine<GeneratePiece>), (status = "4XX", body = OllamaErrorBody)))]
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    request: Result<Json<GenerateRequest>, ApiError>,
) -> Result<Response, OllamaError> {
    let asked = Instant::now();
    let Json(request) = request?;
    let streams = request.stream.unwrap_or(true);
    if request.images.is_some_and(|images| !images.is_empty()) {
        return Err(ApiError::field("images", "images are not understood, only text").into());
    }
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "texts are continued at their end only").into());
    }
    let text = request.prompt.unwrap_or_default();
    if text.is_empty() {
        // Ollama's way to load a model.
        let loaded = app.models.get(request.model.as_deref()).await?;
        let piece = GeneratePiece::new(Said::default());
        return Ok(axum::Json(OllamaLine::new(&loaded.name, piece, Some("load"), None)).into_response());
    }
    let prompt = match request.raw {
        Some(true) => Prompt::Text(text),
        _ => {
            let system = request.system.iter().filter(|system| !system.is_empty());
            let system = system.map(|system| Message::new("system", system));
            let messages = system.chain([Message::new("user", text)]).collect();
            Prompt::Messages { messages, variables: variables(request.think) }
        }
    };
    let ask = request.options.unwrap_or_default().ask(request.model, prompt, form(request.format)?, None)?;
    let start = Start { id: ids::new("ollama-"), ask, goes_on: false, record: None };
    let answer = generation::start(&app, start).await?;
    if streams {
        let stream = Lines::new(&answer, asked, GeneratePiece::new);
        return Ok(respond(answer, stream));
    }
    let model = answer.model.clone();
    let Collected { mut choices, usage } = Collected::of(answer).await?;
    let choice = choices.pop().unwrap_or_default();
    let reason = choice.end.as_ref().map(|end| done_reason(end.finish));
    let piece = GeneratePiece::new(choice.into());
    let totals = Totals::of(&usage, asked);
    Ok(axum::Json(OllamaLine::new(&model, piece, reason, Some(totals))).into_response())
}
