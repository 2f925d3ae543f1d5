//! `POST /v1/completions`: a text goes on.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::completions_types::{
    CompletionChoice, CompletionLogprobs, CompletionRequest, CompletionResponse, PromptBody,
};
use super::messages::form;
use super::shared::{OneOrMany, finish_reason, urgency};
use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::generation::{
    self, Answer, Ask, Collected, Event, Prompt, Render, Sampling, Start, Usage, What, ask, data, respond,
};
use crate::ids;

/// The longest answer where the request does not say: the API's own figure.
const MOST_TOKENS: u32 = 16;

/// Goes on with a text.
///
/// With `stream` the pieces come as server-sent events, `data: [DONE]` last.
#[utoipa::path(post, path = "/v1/completions", tag = "OpenAI", request_body = CompletionRequest,
    responses((status = 200, body = CompletionResponse), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<CompletionRequest>,
) -> Result<Response, ApiError> {
    let streams = request.stream.unwrap_or(false);
    let include_usage = request.stream_options.as_ref().and_then(|options| options.include_usage);
    let echoes = request.echo.unwrap_or(false);
    let ask = ask(request)?;
    let with_logprobs = ask.logprobs.is_some();
    let echo = match (&ask.prompt, echoes) {
        (_, false) => String::new(),
        (Prompt::Text(_), true) if with_logprobs => {
            return Err(ApiError::field(
                "echo",
                "echo: how likely the prompt was is not told; ask for one of echo and logprobs",
            ));
        }
        (Prompt::Text(text), true) => text.clone(),
        _ => return Err(ApiError::field("echo", "echo: only a prompt of text can be repeated")),
    };
    let id = ids::new("cmpl-");
    let answer = generation::start(&app, Start { id, ask, goes_on: false, record: None }).await?;
    if streams {
        let stream = CompletionStream::new(&answer, include_usage.unwrap_or(false), with_logprobs, echo);
        return Ok(respond(answer, stream));
    }
    let (id, created, model) = (answer.id.clone(), answer.created, answer.model.clone());
    let Collected { choices, usage } = Collected::of(answer).await?;
    let choices = choices.into_iter().enumerate().map(|(index, choice)| CompletionChoice {
        index,
        text: format!("{echo}{}", choice.text),
        logprobs: with_logprobs.then(|| CompletionLogprobs::of(&choice.tokens, &mut 0)),
        finish_reason: Some(choice.end.map_or("length", |end| finish_reason(end.finish))),
    });
    let response = CompletionResponse {
        id: &id,
        object: "text_completion",
        created,
        model: &model,
        choices: choices.collect(),
        usage: Some((&usage).into()),
        pouch: Some((&usage).into()),
    };
    Ok(axum::Json(response).into_response())
}

/// What a completion request asks for.
fn ask(request: CompletionRequest) -> Result<Ask, ApiError> {
    let (class, deadline) = urgency(request.pouch.as_ref(), None)?;
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
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "suffix: texts are continued at their end only"));
    }
    if request.best_of.is_some_and(|best_of| best_of != request.n.unwrap_or(1)) {
        return Err(ApiError::field(
            "best_of",
            "best_of: every answer that is made is given, so it must be n",
        ));
    }
    let several = || ApiError::field("prompt", "prompt: one prompt a request");
    let prompt = match request.prompt {
        PromptBody::Text(text) => Prompt::Text(text),
        PromptBody::Texts(texts) => {
            let [text] = <[String; 1]>::try_from(texts).map_err(|_| several())?;
            Prompt::Text(text)
        }
        PromptBody::Tokens(tokens) => Prompt::Tokens(tokens),
        PromptBody::Several(prompts) => {
            let [tokens] = <[Vec<u32>; 1]>::try_from(prompts).map_err(|_| several())?;
            Prompt::Tokens(tokens)
        }
    };
    Ok(Ask {
        model: request.model,
        prompt,
        sampler: sampling.options()?,
        max_tokens: ask::max_tokens("max_tokens", Some(request.max_tokens.unwrap_or(MOST_TOKENS)))?,
        stop: ask::stops(request.stop.map(OneOrMany::into_vec).unwrap_or_default())?,
        ignore_end: request.ignore_eos.unwrap_or(false),
        choices: ask::choices(request.n)?,
        logprobs: match request.logprobs {
            None => None,
            count => Some(ask::alternatives("logprobs", count)?),
        },
        bias: ask::bias(&request.logit_bias.unwrap_or_default())?,
        form: form(request.response_format)?,
        tools: None,
        class,
        deadline,
        context: None,
    })
}

/// A text that goes on as server-sent events.
struct CompletionStream {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    with_logprobs: bool,
    echo: String,
    /// Where each choice's text has come to, in characters.
    offsets: Vec<usize>,
    usage: Usage,
    failed: bool,
}

impl CompletionStream {
    fn new(answer: &Answer, include_usage: bool, with_logprobs: bool, echo: String) -> CompletionStream {
        CompletionStream {
            id: answer.id.clone(),
            created: answer.created,
            model: answer.model.clone(),
            include_usage,
            with_logprobs,
            echo,
            offsets: vec![0; answer.choices],
            usage: Usage::of_prompt(answer.prompt_tokens),
            failed: false,
        }
    }

    fn chunk(&self, choices: Vec<CompletionChoice>) -> CompletionResponse<'_> {
        CompletionResponse {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage: None,
            pouch: None,
        }
    }
}

impl Render for CompletionStream {
    const KIND: &'static str = "text/event-stream";

    fn begin(&mut self, out: &mut String) {
        if self.echo.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.echo);
        for index in 0..self.offsets.len() {
            let choice = CompletionChoice { index, text: text.clone(), logprobs: None, finish_reason: None };
            data(out, &self.chunk(vec![choice]));
        }
    }

    fn event(&mut self, Event { choice, what }: Event, out: &mut String) {
        match what {
            What::Text { text, tokens } => {
                let offset = &mut self.offsets[choice];
                let logprobs = self.with_logprobs.then(|| CompletionLogprobs::of(&tokens, offset));
                let piece = CompletionChoice { index: choice, text, logprobs, finish_reason: None };
                data(out, &self.chunk(vec![piece]));
            }
            // Without tools there are no calls.
            What::Thought(_) | What::CallStart { .. } | What::CallArguments { .. } => {}
            What::End(end) => {
                self.usage.add(&end);
                let last = CompletionChoice {
                    index: choice,
                    text: String::new(),
                    logprobs: None,
                    finish_reason: Some(finish_reason(end.finish)),
                };
                let chunk = self.chunk(vec![last]);
                data(out, &CompletionResponse { pouch: Some((&self.usage).into()), ..chunk });
            }
            What::Failed(error) => {
                self.failed = true;
                data(out, &error.body());
            }
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.include_usage && !self.failed {
            data(out, &CompletionResponse { usage: Some((&self.usage).into()), ..self.chunk(Vec::new()) });
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn idle(&self, out: &mut String) {
        out.push_str(": still at work\n\n");
    }
}
