//! `/v1/responses`: answers that have a name, can be asked for again, cancelled and gone on from.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};
use text::Message;

use super::records::{Follower, Record};
use super::responses_types::{ResponseRequest, RetrieveQuery, form, tools};
use super::shared::urgency;
use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::generation::{self, Answer, Ask, Collected, Prompt, Sampling, Start, ToolChoice, Usage, ask};
use crate::ids;

/// A comment is sent after so long without an event.
const SILENCE: Duration = Duration::from_secs(10);

/// What a response object repeats of its request, beyond what is asked of the model.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    instructions: Option<String>,
    previous_response_id: Option<String>,
    metadata: Map<String, Value>,
    background: bool,
}

/// Answers.
///
/// With `stream` its events come as server-sent events; with `background` it is returned at once and made meanwhile.
#[utoipa::path(post, path = "/v1/responses", tag = "OpenAI", request_body = ResponseRequest,
    responses((status = 200, description = "The response object, or its events"), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<ResponseRequest>,
) -> Result<Response, ApiError> {
    let streams = request.stream.unwrap_or(false);
    let store = request.store.unwrap_or(false);
    let background = request.background.unwrap_or(false);
    let (ask, echo, messages) = wish(&app, request).await?;
    let id = ids::new("resp_");
    let model = app.models.find(ask.model.as_deref())?.card.name.clone();
    let record = Record::new(&app.records, &id, base(&model, &ask, &echo), messages, store || background);
    let record = Arc::new(record);
    let start = Start { id, ask, goes_on: store || background, record: Some(Arc::clone(&record)) };
    let answer = generation::start(&app, start).await?;
    match (streams, background) {
        (true, _) => Ok(events(record.follow(0), Some(answer))),
        (false, true) => Ok(axum::Json(record.body()).into_response()),
        (false, false) => {
            Collected::of(answer).await?;
            Ok(axum::Json(record.body()).into_response())
        }
    }
}

/// Gives a response, as far as it is.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "OpenAI",
    params(("id" = String, Path, description = "Its name"), RetrieveQuery),
    responses((status = 200, description = "The response object, or its events"), (status = 404, body = ErrorBody)))]
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<RetrieveQuery>,
) -> Result<Response, ApiError> {
    match (query.stream, app.records.get(&id)) {
        (Some(true), Some(record)) => {
            let from = query.starting_after.map_or(0, |last| last.saturating_add(1));
            Ok(events(record.follow(from), None))
        }
        _ => Ok(axum::Json(app.records.find(&id).await?.body).into_response()),
    }
}

/// Ends a response in the making. What has come of it stays.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = "OpenAI",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "The response object"), (status = 404, body = ErrorBody)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    if let (Some(requests), Some(record)) = (app.active.requests(&id), app.records.get(&id)) {
        requests.into_iter().for_each(|request| app.service.cancel(request));
        let mut follower = record.follow(0);
        while follower.next().await.is_some() {}
    }
    Ok(axum::Json(app.records.find(&id).await?.body).into_response())
}

/// Forgets a response. One in the making ends.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "OpenAI",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is gone"), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let running = app.active.requests(&id);
    running.into_iter().flatten().for_each(|request| app.service.cancel(request));
    match app.records.remove(&id).await {
        true => Ok(axum::Json(json!({"id": id, "object": "response", "deleted": true})).into_response()),
        false => Err(ApiError::not_found("response_not_found", format!("there is no response {id:?}"))),
    }
}

/// What a request asks for, what its response repeats, and the conversation that it goes on from, without instructions.
async fn wish(app: &App, request: ResponseRequest) -> Result<(Ask, Echo, Vec<Message>), ApiError> {
    let (class, deadline) = urgency(request.pouch.as_ref(), request.service_tier.as_deref())?;
    let mut messages = match &request.previous_response_id {
        Some(id) => {
            app.records.find(id).await.map_err(|error| error.with_param("previous_response_id"))?.conversation
        }
        None => Vec::new(),
    };
    let input = request.input.map(|input| input.messages()).transpose()?.unwrap_or_default();
    messages.extend(input);
    let instructions = request.instructions.iter().map(|text| Message::new("system", text));
    let prompt: Vec<Message> = instructions.chain(messages.iter().cloned()).collect();
    if prompt.is_empty() {
        return Err(ApiError::field("input", "there is no input"));
    }
    let logprobs = request.include.iter().flatten().any(|what| what == "message.output_text.logprobs");
    let alternatives = ask::alternatives("top_logprobs", request.top_logprobs)?;
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        ..Sampling::default()
    };
    let variables = request.chat_template_kwargs.unwrap_or_default();
    let ask = Ask {
        model: request.model,
        prompt: Prompt::Messages { messages: prompt, variables },
        sampler: sampling.options()?,
        max_tokens: ask::max_tokens("max_output_tokens", request.max_output_tokens)?,
        stop: Vec::new(),
        ignore_end: false,
        choices: 1,
        logprobs: (logprobs || alternatives > 0).then_some(alternatives),
        bias: Vec::new(),
        form: form(request.text)?,
        tools: tools(request.tools, request.tool_choice.as_ref(), request.parallel_tool_calls)?,
        class,
        deadline,
        context: None,
    };
    let echo = Echo {
        instructions: request.instructions,
        previous_response_id: request.previous_response_id,
        metadata: request.metadata.unwrap_or_default(),
        background: request.background.unwrap_or(false),
    };
    Ok((ask, echo, messages))
}

/// The response object with everything that the request says of it.
pub(crate) fn base(model: &str, ask: &Ask, echo: &Echo) -> Value {
    use crate::generation::Form;
    let format = match &ask.form {
        Form::JsonObject => json!({"type": "json_object"}),
        Form::JsonSchema(schema) => {
            json!({"type": "json_schema", "name": "answer", "schema": schema, "strict": true})
        }
        Form::Text | Form::Regex(_) => json!({"type": "text"}),
    };
    let tool = |tool: &Value| {
        let function = &tool["function"];
        json!({
            "type": "function", "name": function["name"], "description": function["description"],
            "parameters": function["parameters"], "strict": true,
        })
    };
    let list = ask.tools.iter().flat_map(|tools| tools.list.as_array()).flatten();
    let choice = ask.tools.as_ref().map_or_else(|| json!("auto"), |tools| choice_body(&tools.choice));
    json!({
        "object": "response", "created_at": ids::now(), "model": model,
        "background": echo.background, "error": null, "incomplete_details": null,
        "instructions": echo.instructions, "previous_response_id": echo.previous_response_id,
        "metadata": echo.metadata, "max_output_tokens": ask.max_tokens, "output": [],
        "parallel_tool_calls": ask.tools.as_ref().is_none_or(|tools| tools.parallel), "reasoning": {"effort": null, "summary": null},
        "temperature": ask.sampler.temperature, "top_p": ask.sampler.top_p,
        "text": {"format": format}, "tool_choice": choice,
        "tools": list.map(tool).collect::<Vec<Value>>(), "truncation": "disabled", "usage": null,
    })
}

/// `tool_choice` as responses tell it.
pub(crate) fn choice_body(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
    }
}

/// Token counts as responses tell them.
pub(super) fn usage_body(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt, "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion, "output_tokens_details": {"reasoning_tokens": usage.thoughts},
        "total_tokens": usage.prompt + usage.completion,
    })
}

/// A response's events as they come. `answer` is what ends with its reader, if it does.
fn events(follower: Follower, answer: Option<Answer>) -> Response {
    let pieces = stream::unfold((follower, answer), |(mut follower, answer)| async move {
        let piece = match tokio::time::timeout(SILENCE, follower.next()).await {
            Err(_) => ": still at work\n\n".to_owned(),
            Ok(frames) => frames?.concat(),
        };
        Some((Ok::<_, Infallible>(piece), (follower, answer)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
