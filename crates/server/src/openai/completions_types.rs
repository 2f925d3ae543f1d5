//! The objects of `/v1/completions`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat_types::finite;
use super::messages::ResponseFormat;
use super::shared::{Extension, OneOrMany, Speed, UsageBody};
use crate::generation::Token;

/// A request to go on with a text. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The first model if left out.
    pub(super) model: Option<String>,
    pub(super) prompt: PromptBody,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<super::chat_types::StreamOptions>,
    /// 16 if left out.
    pub(super) max_tokens: Option<u32>,
    pub(super) n: Option<u32>,
    pub(super) best_of: Option<u32>,
    /// Whether the answer begins with the prompt.
    pub(super) echo: Option<bool>,
    pub(super) suffix: Option<String>,
    pub(super) stop: Option<OneOrMany>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) seed: Option<i64>,
    /// How many alternatives each token is to have.
    pub(super) logprobs: Option<u32>,
    #[schema(value_type = Option<Object>)]
    pub(super) logit_bias: Option<Map<String, Value>>,
    /// Beyond the API, as in chat completions.
    pub(super) response_format: Option<ResponseFormat>,
    /// Beyond the API, as in chat completions.
    pub(super) top_k: Option<u32>,
    /// Beyond the API, as in chat completions.
    pub(super) min_p: Option<f32>,
    /// Beyond the API, as in chat completions.
    pub(super) repeat_penalty: Option<f32>,
    /// Beyond the API: the answer goes on past its natural end.
    pub(super) ignore_eos: Option<bool>,
    pub(super) pouch: Option<Extension>,
}

/// A text, its tokens, or a list of one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, a list of one text, or a list of tokens")]
pub(crate) enum PromptBody {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Several(Vec<Vec<u32>>),
}

/// The text that follows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionResponse<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pouch: Option<Speed>,
}

/// One of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    pub(super) index: usize,
    pub(super) text: String,
    pub(super) logprobs: Option<CompletionLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

/// How likely each token was.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    #[schema(value_type = Vec<Object>)]
    top_logprobs: Vec<Map<String, Value>>,
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// `offset` is where the first token's text begins, in characters; it is moved to where the last one's ends.
    pub(super) fn of(tokens: &[Token], offset: &mut usize) -> CompletionLogprobs {
        let mut body = CompletionLogprobs::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for token in tokens {
            let top = token.top.iter().map(|(bytes, logprob)| (text(bytes), finite(*logprob).into()));
            body.top_logprobs.push(top.collect());
            body.token_logprobs.push(finite(token.logprob));
            body.text_offset.push(*offset);
            let token = text(&token.bytes);
            *offset += token.chars().count();
            body.tokens.push(token);
        }
        body
    }
}
