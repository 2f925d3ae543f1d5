//! From an [`Ask`] to what the engine wants: tokens, options, constraints. All of it computes, so none of it belongs on the
//! threads that serve connections.

use std::time::SystemTime;

use engine::{DEFAULT_CONTEXT, Limits, SessionOptions, Speculation, encode_prompt};
use model::{KvCache, KvType, PAGE};
use text::Render;

use super::ask::{Ask, Form, Prompt};
use super::form::{self, Held};
use super::thinking;
use crate::api_error::ApiError;
use crate::models::Loaded;

/// A request in the engine's terms.
pub(super) struct Prepared {
    pub(super) prompt: Vec<u32>,
    pub(super) options: SessionOptions,
    /// One a choice.
    pub(super) forms: Vec<Held>,
    /// Whether the model thinks before it answers, and if so whether the prompt has opened its thoughts.
    pub(super) thinks: Option<bool>,
    /// Bytes that keys and values of one choice take if it gets as long as it may.
    pub(super) bytes: usize,
}

/// What all requests of a server have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    /// Tokens that a prompt and its answer may have together; the model's own context or the usual one if `None`.
    pub(crate) context: Option<usize>,
    pub(crate) kv_type: KvType,
}

/// # Errors
/// What the request has wrong: a conversation that the template refuses, a prompt longer than the context, a bad schema.
pub(super) fn prepare(common: Common, loaded: &Loaded, ask: &Ask) -> Result<Prepared, ApiError> {
    let model = &loaded.model;
    let (prompt, thinks) = tokens(loaded, ask)?;
    let trained = model.config.context;
    let most = common.context.unwrap_or(DEFAULT_CONTEXT.min(trained));
    let context = ask.context.unwrap_or(most).min(most);
    let room = context.saturating_sub(prompt.len());
    if room == 0 {
        let message = format!(
            "the prompt has {} tokens, and {context} fit together with the answer: shorten it, or start the server with a larger --context",
            prompt.len()
        );
        return Err(ApiError::invalid(message).with_code("context_length_exceeded"));
    }
    if let Some((token, _)) = ask.bias.iter().find(|(token, _)| *token as usize >= model.config.vocabulary) {
        let message = format!("token {token} is outside the vocabulary of {}", model.config.vocabulary);
        return Err(ApiError::field("logit_bias", message));
    }
    let form = || form::hold(loaded, &ask.form, ask.tools.as_ref(), &ask.bias);
    let bytes = |tokens: usize| KvCache::bytes(&model.config, tokens, common.kv_type);
    let memory = loaded.bytes_beside();
    let max_tokens = match ask.max_tokens {
        Some(most) => most.min(room),
        // Who leaves the length to us gets what there is memory for.
        None => (1..=room).rev().step_by(PAGE).find(|most| bytes(prompt.len() + most) <= memory).unwrap_or(1),
    };
    Ok(Prepared {
        bytes: bytes(prompt.len() + max_tokens),
        prompt,
        thinks,
        options: SessionOptions {
            context: None,
            kv_type: common.kv_type,
            sampler: ask.sampler.clone(),
            limits: Limits {
                max_tokens: Some(max_tokens),
                stop: ask.stop.clone(),
                ignore_end: ask.ignore_end,
            },
            speculation: Speculation::default(),
            shown: form::shown(loaded, ask),
        },
        forms: (0..ask.choices).map(|_| form()).collect::<Result<_, _>>()?,
    })
}

/// The prompt's tokens, and [`Prepared::thinks`].
fn tokens(loaded: &Loaded, ask: &Ask) -> Result<(Vec<u32>, Option<bool>), ApiError> {
    let model = &loaded.model;
    let mut thinks = None;
    let tokens = match &ask.prompt {
        Prompt::Tokens(tokens) => {
            let vocabulary = model.config.vocabulary;
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                let message = format!("token {token} is outside the vocabulary of {vocabulary}");
                return Err(ApiError::field("prompt", message));
            }
            tokens.clone()
        }
        Prompt::Text(text) => encode_prompt(&model.tokenizer, text, false),
        Prompt::Messages { messages, variables } => {
            let (messages, tools) = form::conversation(loaded, ask, messages)?;
            let render = Render {
                add_generation_prompt: true,
                tools,
                variables: variables.clone(),
                now: Some(SystemTime::now()),
            };
            let text = model.chat_template.render(&messages, render)?;
            // What is held to a form from its first token on has no room for thoughts.
            if thinking::thinks(&model.chat_template) && ask.form == Form::Text {
                thinks = Some(thinking::is_open(&text));
            }
            encode_prompt(&model.tokenizer, &text, true)
        }
    };
    match tokens.is_empty() {
        // Nothing to go on from: the beginning of a text, for models that have a token for it.
        true => match model.tokenizer.bos() {
            Some(bos) => Ok((vec![bos], thinks)),
            None => Err(ApiError::field("prompt", "the prompt is empty")),
        },
        false => Ok((tokens, thinks)),
    }
}
