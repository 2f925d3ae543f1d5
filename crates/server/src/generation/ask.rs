//! What every protocol's requests come to.

use std::time::Duration;

use engine::{Class, SamplerOptions};
pub(crate) use grammar::ToolChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use text::Message;

use crate::api_error::ApiError;

/// Stop strings that one request may have.
const STOPS: usize = 16;
/// Choices that one request may ask for.
const CHOICES: usize = 16;
/// Alternatives of a token that one request may ask for.
const ALTERNATIVES: usize = 20;

/// A wish for answers.
pub(crate) struct Ask {
    /// The model's name; the first model if `None`.
    pub(crate) model: Option<String>,
    pub(crate) prompt: Prompt,
    pub(crate) sampler: SamplerOptions,
    /// As many as the context has room for if `None`.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    /// Whether the answer goes on where the model would end it.
    pub(crate) ignore_end: bool,
    /// How many answers.
    pub(crate) choices: usize,
    /// How many alternatives each token is to have, if probabilities are asked for.
    pub(crate) logprobs: Option<usize>,
    /// Added to the logits of these tokens.
    pub(crate) bias: Vec<(u32, f32)>,
    pub(crate) form: Form,
    pub(crate) tools: Option<Tools>,
    pub(crate) class: Class,
    /// The wish for the first token.
    pub(crate) deadline: Option<Duration>,
    /// Smaller than the server's, if that is wished.
    pub(crate) context: Option<usize>,
}

/// What the model is to go on from.
pub(crate) enum Prompt {
    /// A conversation, and variables for the chat template.
    Messages { messages: Vec<Message>, variables: Map<String, Value> },
    /// A text as it is.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// What the answer is to look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Form {
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema(Value),
    /// Text that a regular expression matches.
    Regex(String),
}

/// The functions that the model may call.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// As the chat completions of the OpenAI API have them.
    pub(crate) list: Value,
    pub(crate) choice: ToolChoice,
    /// Whether one answer may have several calls.
    pub(crate) parallel: bool,
}

/// Sampling as requests state it, every field optional.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) repeat_last_n: Option<i64>,
    pub(crate) seed: Option<i64>,
}

impl Sampling {
    /// The sampler's options: what the request leaves out is as `pouch` has it, the seed another one each time.
    pub(crate) fn options(&self) -> Result<SamplerOptions, ApiError> {
        let defaults = SamplerOptions::default();
        Ok(SamplerOptions {
            temperature: within("temperature", self.temperature, 0.0..=2.0, defaults.temperature)?,
            top_p: within("top_p", self.top_p, 0.0..=1.0, defaults.top_p)?,
            min_p: within("min_p", self.min_p, 0.0..=1.0, defaults.min_p)?,
            top_k: self.top_k.map_or(defaults.top_k, |top_k| top_k as usize),
            repeat_penalty: within(
                "repeat_penalty",
                self.repeat_penalty,
                0.01..=10.0,
                defaults.repeat_penalty,
            )?,
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0..=2.0, 0.0)?,
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0..=2.0, 0.0)?,
            repeat_last_n: match self.repeat_last_n {
                None => defaults.repeat_last_n,
                // Below zero means the whole context, as Ollama has it.
                Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
            },
            seed: self.seed.map_or_else(|| crate::ids::random() >> 32, |seed| seed as u64),
        })
    }
}

/// A number of a request, which must lie in `range`.
fn within(
    field: &'static str,
    value: Option<f32>,
    range: std::ops::RangeInclusive<f32>,
    default: f32,
) -> Result<f32, ApiError> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(&value) => Ok(value),
        Some(value) => {
            let message = format!("{field} = {value}: expected {} to {}", range.start(), range.end());
            Err(ApiError::field(field, message))
        }
    }
}

/// `n` of a request.
pub(crate) fn choices(n: Option<u32>) -> Result<usize, ApiError> {
    match n.unwrap_or(1) as usize {
        n @ 1..=CHOICES => Ok(n),
        n => Err(ApiError::field("n", format!("n = {n}: expected 1 to {CHOICES}"))),
    }
}

/// The stop strings of a request. Empty ones, which would end every answer at once, are left out.
pub(crate) fn stops(stop: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stop.len() > STOPS {
        return Err(ApiError::field(
            "stop",
            format!("{} stop strings: expected at most {STOPS}", stop.len()),
        ));
    }
    Ok(stop.into_iter().filter(|stop| !stop.is_empty()).collect())
}

/// The number of alternatives of each token that a request asks for.
pub(crate) fn alternatives(field: &'static str, count: Option<u32>) -> Result<usize, ApiError> {
    match count.unwrap_or(0) as usize {
        count @ 0..=ALTERNATIVES => Ok(count),
        count => Err(ApiError::field(field, format!("{field} = {count}: expected 0 to {ALTERNATIVES}"))),
    }
}

/// The longest answer that a request allows, which must allow one.
pub(crate) fn max_tokens(field: &'static str, count: Option<u32>) -> Result<Option<usize>, ApiError> {
    match count {
        Some(0) => Err(ApiError::field(field, format!("{field} = 0: expected 1 or more"))),
        count => Ok(count.map(|count| count as usize)),
    }
}

/// `logit_bias` of a request: token ids as text, and what is added to their logits.
pub(crate) fn bias(bias: &Map<String, Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    let entry = |(token, bias): (&String, &Value)| {
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        token.parse().ok().zip(bias.map(|bias| bias as f32)).ok_or_else(|| {
            let message = format!("logit_bias: {token:?} must be a token's number, its value -100 to 100");
            ApiError::field("logit_bias", message)
        })
    };
    bias.iter().map(entry).collect()
}
