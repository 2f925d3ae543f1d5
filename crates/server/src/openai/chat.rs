//! `POST /v1/chat/completions`: the next message of a conversation.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::chat_types::{
    AssistantMessage, CallDelta, ChatChoice, ChatChunk, ChatLogprobs, ChatRequest, ChatResponse, ChunkChoice,
    Delta, FunctionDelta,
};
use super::messages::{conversation, form, tools};
use super::records::Record;
use super::shared::{OneOrMany, finish_reason, urgency};
use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::generation::{
    self, Answer, Ask, Choice, Collected, Event, Prompt, Render, Sampling, Start, Usage, What, ask, data,
    respond,
};
use crate::ids;

/// Answers a conversation.
///
/// With `stream` the pieces come as server-sent events, `data: [DONE]` last.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "OpenAI", request_body = ChatRequest,
    responses((status = 200, body = ChatResponse), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<ChatRequest>,
) -> Result<Response, ApiError> {
    let streams = request.stream.unwrap_or(false);
    let include_usage = request.stream_options.as_ref().and_then(|options| options.include_usage);
    let store = request.store.unwrap_or(false);
    let ask = ask(request)?;
    let with_logprobs = ask.logprobs.is_some();
    let id = ids::new("chatcmpl-");
    let record = match store {
        true => Some(Arc::new(Record::new(&app.records, &id, base(&app, &ask)?, said(&ask), true))),
        false => None,
    };
    let answer = generation::start(&app, Start { id, ask, goes_on: store, record }).await?;
    if streams {
        let stream = ChatStream::new(&answer, include_usage.unwrap_or(false), with_logprobs);
        return Ok(respond(answer, stream));
    }
    let (id, created, model) = (answer.id.clone(), answer.created, answer.model.clone());
    let Collected { choices, usage } = Collected::of(answer).await?;
    let choices = choices.into_iter().enumerate();
    let response = ChatResponse {
        id,
        object: "chat.completion",
        created,
        model,
        choices: choices.map(|(index, choice)| chat_choice(index, choice, with_logprobs)).collect(),
        usage: (&usage).into(),
        pouch: (&usage).into(),
    };
    Ok(axum::Json(response).into_response())
}

/// What a chat request asks for.
fn ask(request: ChatRequest) -> Result<Ask, ApiError> {
    let (class, deadline) = urgency(request.pouch.as_ref(), request.service_tier.as_deref())?;
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repeat_penalty: request.repeat_penalty,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        repeat_last_n: None,
        seed: request.seed,
    };
    let alternatives = ask::alternatives("top_logprobs", request.top_logprobs)?;
    let logprobs = match (request.logprobs, request.top_logprobs) {
        (Some(true), _) => Some(alternatives),
        (_, Some(1..)) => {
            return Err(ApiError::field("top_logprobs", "top_logprobs needs logprobs to be true"));
        }
        _ => None,
    };
    let variables = request.chat_template_kwargs.unwrap_or_default();
    Ok(Ask {
        model: request.model,
        prompt: Prompt::Messages { messages: conversation(request.messages)?, variables },
        sampler: sampling.options()?,
        max_tokens: match request.max_completion_tokens {
            None => ask::max_tokens("max_tokens", request.max_tokens)?,
            most => ask::max_tokens("max_completion_tokens", most)?,
        },
        stop: ask::stops(request.stop.map(OneOrMany::into_vec).unwrap_or_default())?,
        ignore_end: request.ignore_eos.unwrap_or(false),
        choices: ask::choices(request.n)?,
        logprobs,
        bias: ask::bias(&request.logit_bias.unwrap_or_default())?,
        form: form(request.response_format)?,
        tools: tools(request.tools, request.tool_choice.as_ref(), request.parallel_tool_calls)?,
        class,
        deadline,
        context: None,
    })
}

fn chat_choice(index: usize, choice: Choice, with_logprobs: bool) -> ChatChoice {
    let calls: Vec<_> = choice.calls.into_iter().map(Into::into).collect();
    ChatChoice {
        index,
        logprobs: with_logprobs.then(|| ChatLogprobs::of(&choice.tokens)),
        message: AssistantMessage {
            role: "assistant",
            // Calls alone come without text.
            content: (calls.is_empty() || !choice.text.is_empty()).then_some(choice.text),
            reasoning_content: (!choice.thoughts.is_empty()).then_some(choice.thoughts),
            refusal: None,
            tool_calls: calls,
        },
        finish_reason: choice.end.map_or("length", |end| finish_reason(end.finish)),
    }
}

/// A conversation's answer as server-sent events.
struct ChatStream {
    id: String,
    created: u64,
    model: String,
    choices: usize,
    include_usage: bool,
    with_logprobs: bool,
    usage: Usage,
    failed: bool,
}

impl ChatStream {
    fn new(answer: &Answer, include_usage: bool, with_logprobs: bool) -> ChatStream {
        ChatStream {
            id: answer.id.clone(),
            created: answer.created,
            model: answer.model.clone(),
            choices: answer.choices,
            include_usage,
            with_logprobs,
            usage: Usage::of_prompt(answer.prompt_tokens),
            failed: false,
        }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk<'_> {
        ChatChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then_some(None),
            pouch: None,
        }
    }

    fn delta(&self, index: usize, delta: Delta, logprobs: Option<ChatLogprobs>, out: &mut String) {
        data(out, &self.chunk(vec![ChunkChoice { index, delta, logprobs, finish_reason: None }]));
    }
}

impl Render for ChatStream {
    const KIND: &'static str = "text/event-stream";

    fn begin(&mut self, out: &mut String) {
        for index in 0..self.choices {
            let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
            self.delta(index, delta, None, out);
        }
    }

    fn event(&mut self, Event { choice, what }: Event, out: &mut String) {
        let call = |call| Delta { tool_calls: Some([call]), ..Delta::default() };
        match what {
            What::Text { text, tokens } => {
                let logprobs = (self.with_logprobs && !tokens.is_empty()).then(|| ChatLogprobs::of(&tokens));
                self.delta(choice, Delta { content: Some(text), ..Delta::default() }, logprobs, out);
            }
            What::Thought(thought) => {
                self.delta(choice, Delta { reasoning_content: Some(thought), ..Delta::default() }, None, out);
            }
            What::CallStart { index, id, name } => {
                let function = FunctionDelta { name: Some(name), arguments: String::new() };
                let delta = call(CallDelta { index, id: Some(id), kind: Some("function"), function });
                self.delta(choice, delta, None, out);
            }
            What::CallArguments { index, delta } => {
                let function = FunctionDelta { name: None, arguments: delta };
                self.delta(choice, call(CallDelta { index, id: None, kind: None, function }), None, out);
            }
            What::End(end) => {
                self.usage.add(&end);
                let finish_reason = Some(finish_reason(end.finish));
                let last =
                    ChunkChoice { index: choice, delta: Delta::default(), logprobs: None, finish_reason };
                data(out, &ChatChunk { pouch: Some((&self.usage).into()), ..self.chunk(vec![last]) });
            }
            What::Failed(error) => {
                self.failed = true;
                data(out, &error.body());
            }
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.include_usage && !self.failed {
            data(out, &ChatChunk { usage: Some(Some((&self.usage).into())), ..self.chunk(Vec::new()) });
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn idle(&self, out: &mut String) {
        out.push_str(": still at work\n\n");
    }
}

/// The conversation that a request goes on from.
fn said(ask: &Ask) -> Vec<text::Message> {
    match &ask.prompt {
        Prompt::Messages { messages, .. } => messages.clone(),
        Prompt::Text(_) | Prompt::Tokens(_) => Vec::new(),
    }
}

/// The beginning of the response object under which a stored answer is kept.
fn base(app: &App, ask: &Ask) -> Result<serde_json::Value, ApiError> {
    let model = &app.models.find(ask.model.as_deref())?.card.name;
    Ok(super::responses::base(model, ask, &super::responses::Echo::default()))
}
