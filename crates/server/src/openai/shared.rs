//! Fields that several of the API's requests and responses have.

use std::time::Duration;

use engine::Class;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::generation::{Finish, Usage};

/// One text or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// What this server has beyond the API.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
pub(crate) struct Extension {
    /// `interactive`, `normal` or `background`.
    pub(crate) priority: Option<String>,
    /// The wish for the first token, in milliseconds.
    pub(crate) deadline_ms: Option<u64>,
}

/// The class and the deadline that a request wishes for.
pub(crate) fn urgency(
    extension: Option<&Extension>,
    service_tier: Option<&str>,
) -> Result<(Class, Option<Duration>), ApiError> {
    let priority = extension.and_then(|extension| extension.priority.as_deref());
    let class = match (priority, service_tier) {
        (Some(priority), _) => priority.parse().map_err(|_| {
            let message =
                format!("pouch.priority = {priority:?}: expected interactive, normal or background");
            ApiError::field("pouch.priority", message)
        })?,
        (None, Some("priority")) => Class::Interactive,
        (None, Some("flex")) => Class::Background,
        (None, _) => Class::Normal,
    };
    let deadline = extension.and_then(|extension| extension.deadline_ms).map(Duration::from_millis);
    Ok((class, deadline))
}

/// Token counts, as chat completions and completions tell them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

/// What is known of the prompt's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PromptTokens {
    /// Found computed, not computed for this request.
    pub(crate) cached_tokens: usize,
    audio_tokens: usize,
}

/// What is known of the answer's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionTokens {
    /// Thoughts that came apart from the answer, their tags included.
    reasoning_tokens: usize,
    audio_tokens: usize,
    /// Guessed ahead and right.
    accepted_prediction_tokens: usize,
    /// Guessed ahead and wrong.
    rejected_prediction_tokens: usize,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> UsageBody {
        let drafts = usage.figures.drafts;
        UsageBody {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            total_tokens: usage.prompt + usage.completion,
            prompt_tokens_details: PromptTokens { cached_tokens: usage.cached, audio_tokens: 0 },
            completion_tokens_details: CompletionTokens {
                reasoning_tokens: usage.thoughts,
                audio_tokens: 0,
                accepted_prediction_tokens: drafts.accepted,
                rejected_prediction_tokens: drafts.drafted - drafts.accepted,
            },
        }
    }
}

/// How fast an answer was, beyond the API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Speed {
    prefill_tok_s: f64,
    decode_tok_s: f64,
    time_to_first_token_ms: Option<f64>,
}

impl From<&Usage> for Speed {
    fn from(usage: &Usage) -> Speed {
        let figures = &usage.figures;
        Speed {
            prefill_tok_s: figures.prefill_tok_s(),
            decode_tok_s: figures.decode_tok_s(),
            time_to_first_token_ms: figures.time_to_first_token.map(|time| time.as_secs_f64() * 1e3),
        }
    }
}

/// `finish_reason` as the API names it. For an answer that was cancelled it has no name; `length` comes nearest.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length | Finish::Cancelled => "length",
        Finish::Calls => "tool_calls",
    }
}
