//! What chats and completions have in common.

use std::time::{Duration, Instant};

use engine::Class;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use text::format_time;
use utoipa::ToSchema;

use super::errors;
use crate::api_error::ApiError;
use crate::generation::{
    Answer, Ask, Call, Choice, Event, Finish, Form, Prompt, Render, Sampling, Tools, Usage, What, ask,
};
use crate::ids;

/// How to answer. Fields that are not listed here are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct OllamaOptions {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<i64>,
    /// The longest answer; below zero, as long as fits.
    num_predict: Option<i64>,
    /// Tokens of prompt and answer together, if less than the server's.
    num_ctx: Option<usize>,
    stop: Option<Vec<String>>,
}

impl OllamaOptions {
    /// With these options, what is asked for.
    pub(super) fn ask(
        self,
        model: Option<String>,
        prompt: Prompt,
        form: Form,
        tools: Option<Tools>,
    ) -> Result<Ask, ApiError> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repeat_last_n: self.repeat_last_n,
            seed: self.seed,
        };
        Ok(Ask {
            model,
            prompt,
            sampler: sampling.options()?,
            max_tokens: self.num_predict.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0),
            stop: ask::stops(self.stop.unwrap_or_default())?,
            ignore_end: false,
            choices: 1,
            logprobs: None,
            bias: Vec::new(),
            form,
            tools,
            class: Class::Normal,
            deadline: None,
            context: self.num_ctx.filter(|context| *context > 0),
        })
    }
}

/// The form that `format` asks for: nothing, `"json"` or a schema.
pub(super) fn form(format: Option<Value>) -> Result<Form, ApiError> {
    match format {
        None | Some(Value::Null) => Ok(Form::Text),
        Some(Value::String(word)) if word.is_empty() => Ok(Form::Text),
        Some(Value::String(word)) if word == "json" => Ok(Form::JsonObject),
        Some(schema @ Value::Object(_)) => Ok(Form::JsonSchema(schema)),
        Some(_) => Err(ApiError::field("format", "format: expected \"json\" or a JSON Schema")),
    }
}

/// The template variable that `think` sets.
pub(super) fn variables(think: Option<bool>) -> Map<String, Value> {
    think.map(|think| ("enable_thinking".to_owned(), think.into())).into_iter().collect()
}

/// Counts and times at the end of an answer, in nanoseconds.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Totals {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
}

impl Totals {
    pub(super) fn of(usage: &Usage, asked: Instant) -> Totals {
        let nanoseconds = |time: Duration| time.as_nanos() as u64;
        Totals {
            total_duration: nanoseconds(asked.elapsed()),
            load_duration: 0,
            prompt_eval_count: usage.prompt,
            prompt_eval_duration: nanoseconds(usage.figures.prefill),
            eval_count: usage.completion,
            eval_duration: nanoseconds(usage.figures.decode),
        }
    }
}

/// What one line says.
#[derive(Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) thoughts: String,
    pub(super) calls: Vec<Call>,
}

impl From<Choice> for Said {
    fn from(choice: Choice) -> Said {
        Said { text: choice.text, thoughts: choice.thoughts, calls: choice.calls }
    }
}

/// An answer as lines of JSON.
pub(super) struct Lines<P> {
    model: String,
    asked: Instant,
    usage: Usage,
    /// The calls so far: they are told whole.
    choice: Choice,
    piece: P,
}

impl<P> Lines<P> {
    /// `piece` makes the fields of one line that differ between chats and completions.
    pub(super) fn new(answer: &Answer, asked: Instant, piece: P) -> Lines<P> {
        let usage = Usage::of_prompt(answer.prompt_tokens);
        Lines { model: answer.model.clone(), asked, usage, choice: Choice::default(), piece }
    }
}

impl<P, T> Lines<P>
where
    P: Fn(Said) -> T,
    T: Serialize,
{
    fn line(&self, said: Said, end: Option<Finish>, out: &mut String) {
        let totals = end.map(|_| Totals::of(&self.usage, self.asked));
        line(out, &OllamaLine::new(&self.model, (self.piece)(said), end.map(done_reason), totals));
    }
}

impl<P, T> Render for Lines<P>
where
    P: Fn(Said) -> T + Send + 'static,
    T: Serialize,
{
    const KIND: &'static str = "application/x-ndjson";

    fn begin(&mut self, _: &mut String) {}

    fn event(&mut self, Event { what, .. }: Event, out: &mut String) {
        match what {
            What::Text { text, .. } if text.is_empty() => {}
            What::Text { text, .. } => self.line(Said { text, ..Said::default() }, None, out),
            What::Thought(thoughts) => self.line(Said { thoughts, ..Said::default() }, None, out),
            What::CallStart { .. } | What::CallArguments { .. } => self.choice.apply(&what),
            What::End(end) => {
                self.usage.add(&end);
                let calls = std::mem::take(&mut self.choice.calls);
                if !calls.is_empty() {
                    self.line(Said { calls, ..Said::default() }, None, out);
                }
                self.line(Said::default(), Some(end.finish), out);
            }
            What::Failed(error) => line(out, &errors::body(&error)),
        }
    }

    fn end(&mut self, _: &mut String) {}

    /// There is no line that means nothing.
    fn idle(&self, _: &mut String) {}
}

/// A piece of an answer, or all of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaLine<'a, T> {
    model: &'a str,
    created_at: String,
    #[serde(flatten)]
    piece: T,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    totals: Option<Totals>,
}

impl<'a, T> OllamaLine<'a, T> {
    /// The last one, if it has a reason.
    pub(super) fn new(
        model: &'a str,
        piece: T,
        done_reason: Option<&'static str>,
        totals: Option<Totals>,
    ) -> OllamaLine<'a, T> {
        let done = done_reason.is_some();
        OllamaLine { model, created_at: time(ids::now()), piece, done, done_reason, totals }
    }
}

/// `done_reason` as Ollama names it.
pub(super) fn done_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Calls => "stop",
        Finish::Length | Finish::Cancelled => "length",
    }
}

/// Seconds since 1970 as `2026-11-22T21:40:00Z`.
pub(super) fn time(seconds: u64) -> String {
    format_time(std::time::UNIX_EPOCH + Duration::from_secs(seconds), "%FT%H:%M:%SZ")
}

/// Appends a line of JSON.
pub(super) fn line(out: &mut String, object: &impl Serialize) {
    // Our own objects have text keys and no failing parts.
    out.push_str(&serde_json::to_string(object).unwrap_or_default());
    out.push('\n');
}
