//! `POST /api/generate`: an answer to one prompt.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use text::Message;
use utoipa::ToSchema;

use super::errors::{self, OllamaError, OllamaErrorBody};
use super::shared::{OllamaOptions, Totals, done_reason, form, line, time, variables};
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::Json;
use crate::generation::{self, Answer, Collected, Event, Prompt, Render, Start, Usage, What, respond};
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

/// A piece of the answer, or all of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerateResponse<'a> {
    model: &'a str,
    created_at: String,
    response: String,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    totals: Option<Totals>,
}

/// Answers a prompt. Unless `stream` is false the pieces come as lines of JSON.
#[utoipa::path(post, path = "/api/generate", tag = "Ollama", request_body = GenerateRequest,
    responses((status = 200, body = GenerateResponse), (status = "4XX", body = OllamaErrorBody)))]
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
        let response = GenerateResponse {
            model: &loaded.name,
            created_at: time(ids::now()),
            response: String::new(),
            done: true,
            done_reason: Some("load"),
            totals: None,
        };
        return Ok(axum::Json(response).into_response());
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
        let stream = Lines::new(&answer, asked);
        return Ok(respond(answer, stream));
    }
    let model = answer.model.clone();
    let Collected { mut choices, usage } = Collected::of(answer).await?;
    let choice = choices.pop().unwrap_or_default();
    let response = GenerateResponse {
        model: &model,
        created_at: time(ids::now()),
        done: true,
        done_reason: choice.end.as_ref().map(|end| done_reason(end.finish)),
        response: choice.text,
        totals: Some(Totals::of(&usage, asked)),
    };
    Ok(axum::Json(response).into_response())
}

/// An answer as lines of JSON.
struct Lines {
    model: String,
    asked: Instant,
    usage: Usage,
}

impl Lines {
    fn new(answer: &Answer, asked: Instant) -> Lines {
        Lines { model: answer.model.clone(), asked, usage: Usage::of_prompt(answer.prompt_tokens) }
    }

    fn piece(&self, response: String) -> GenerateResponse<'_> {
        GenerateResponse {
            model: &self.model,
            created_at: time(ids::now()),
            response,
            done: false,
            done_reason: None,
            totals: None,
        }
    }
}

impl Render for Lines {
    const KIND: &'static str = "application/x-ndjson";

    fn begin(&mut self, _: &mut String) {}

    fn event(&mut self, Event { what, .. }: Event, out: &mut String) {
        match what {
            What::Text { text, .. } if text.is_empty() => {}
            What::Text { text, .. } => line(out, &self.piece(text)),
            // Without tools there are no calls.
            What::CallStart { .. } | What::CallArguments { .. } => {}
            What::End(end) => {
                self.usage.add(&end);
                let last = GenerateResponse {
                    done: true,
                    done_reason: Some(done_reason(end.finish)),
                    totals: Some(Totals::of(&self.usage, self.asked)),
                    ..self.piece(String::new())
                };
                line(out, &last);
            }
            What::Failed(error) => line(out, &errors::body(&error)),
        }
    }

    fn end(&mut self, _: &mut String) {}

    /// There is no line that means nothing.
    fn idle(&self, _: &mut String) {}
}
