//! The objects of `/v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::messages::{ChatMessage, ResponseFormat, Tool};
use super::shared::{Extension, OneOrMany, Speed, UsageBody};
use crate::generation::{Call, Token};

/// A request for the next message of a conversation. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The first model if left out.
    pub(super) model: Option<String>,
    pub(super) messages: Vec<ChatMessage>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) n: Option<u32>,
    pub(super) stop: Option<OneOrMany>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) seed: Option<i64>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u32>,
    #[schema(value_type = Option<Object>)]
    pub(super) logit_bias: Option<Map<String, Value>>,
    pub(super) response_format: Option<ResponseFormat>,
    pub(super) tools: Option<Vec<Tool>>,
    /// `auto`, `none`, `required`, or `{"type": "function", "function": {"name": ..}}`.
    #[schema(value_type = Option<Object>)]
    pub(super) tool_choice: Option<Value>,
    /// Whether one answer may have several calls; true if left out.
    pub(super) parallel_tool_calls: Option<bool>,
    /// Keeps the answer and goes on with it when the client has gone; `GET /v1/responses/{id}` gives it.
    pub(super) store: Option<bool>,
    /// `flex` is background priority, `priority` is interactive.
    pub(super) service_tier: Option<String>,
    /// Beyond the API: only the K likeliest tokens are chosen from.
    pub(super) top_k: Option<u32>,
    /// Beyond the API: tokens less than this times as likely as the likeliest are left out.
    pub(super) min_p: Option<f32>,
    /// Beyond the API: makes recent tokens less likely.
    pub(super) repeat_penalty: Option<f32>,
    /// Beyond the API: the answer goes on past its natural end.
    pub(super) ignore_eos: Option<bool>,
    /// Beyond the API: variables of the chat template, such as `enable_thinking`.
    #[schema(value_type = Option<Object>)]
    pub(super) chat_template_kwargs: Option<Map<String, Value>>,
    pub(super) pouch: Option<Extension>,
}

/// What a stream contains besides the answer.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether a last piece tells the usage.
    pub(super) include_usage: Option<bool>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatResponse {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<ChatChoice>,
    pub(super) usage: UsageBody,
    pub(super) pouch: Speed,
}

/// One of the answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    pub(super) index: usize,
    pub(super) message: AssistantMessage,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: &'static str,
}

/// The assistant's message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssistantMessage {
    pub(super) role: &'static str,
    pub(super) content: Option<String>,
    /// Beyond the API: what the model thought before it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<CallBody>,
}

/// A call that the model makes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction,
}

/// The function called.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalledFunction {
    name: String,
    /// JSON text.
    arguments: String,
}

impl From<Call> for CallBody {
    fn from(call: Call) -> CallBody {
        let function = CalledFunction { name: call.name, arguments: call.arguments };
        CallBody { id: call.id, kind: "function", function }
    }
}

/// How likely each token was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    content: Vec<TokenBody>,
    refusal: Option<String>,
}

/// A token and its place's likeliest ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenBody {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopToken>,
}

/// A token that could have been chosen.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl From<&Token> for TokenBody {
    fn from(token: &Token) -> TokenBody {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let top = token.top.iter().map(|(bytes, logprob)| TopToken {
            token: text(bytes),
            logprob: finite(*logprob),
            bytes: bytes.clone(),
        });
        TokenBody {
            token: text(&token.bytes),
            logprob: finite(token.logprob),
            bytes: token.bytes.clone(),
            top_logprobs: top.collect(),
        }
    }
}

/// JSON has no infinity: what cannot happen has the logarithm that the API gives it.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

impl ChatLogprobs {
    pub(super) fn of(tokens: &[Token]) -> ChatLogprobs {
        ChatLogprobs { content: tokens.iter().map(TokenBody::from).collect(), refusal: None }
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<ChunkChoice>,
    /// Only where it was asked for: null in all pieces but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pouch: Option<Speed>,
}

/// What a piece adds to one of the answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

/// What it adds.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    /// Beyond the API: what the model thinks before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<[CallDelta; 1]>,
}

/// A piece of a call: id and name with the first, arguments with the others.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallDelta {
    pub(super) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionDelta,
}

/// A piece of a function's call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}
