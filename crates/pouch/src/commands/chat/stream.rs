//! An answer as it comes from a server: shown, and gathered for the document.

use client::Events;
use engine::Drafts;
use serde_json::{Value, json};

use crate::errors::Failure;
use crate::generation::AnswerFigures;
use crate::printer::Printer;

/// The server's code for an answer that it goes on with after its next start.
const STOPPING: &str = "server_stopping";

/// What came.
pub(super) struct Received {
    pub(super) content: String,
    thoughts: String,
    /// The reason as the API gives it.
    finish: Option<String>,
    usage: Value,
    speed: Value,
    pub(super) ending: Ending,
    /// Whether it could be shown.
    pub(super) shown: Result<(), Failure>,
}

impl Default for Received {
    fn default() -> Received {
        Received {
            content: String::new(),
            thoughts: String::new(),
            finish: None,
            usage: Value::Null,
            speed: Value::Null,
            ending: Ending::Open,
            shown: Ok(()),
        }
    }
}

/// How it ended.
pub(super) enum Ending {
    /// Not in any way that was told.
    Open,
    Done,
    /// By Ctrl-C.
    Interrupted,
    /// The server could not go on.
    Failed(String),
    /// The server has gone, or stops: it goes on with the answer after its next start.
    Left(client::Error),
}

/// Shows the text of the events. `named` gets the name by which the server knows the answer, once it is told.
pub(super) fn receive(events: Events, printer: &Printer, mut named: impl FnMut(&str)) -> Received {
    let mut received = Received::default();
    let mut is_named = false;
    for event in events {
        let event = match event {
            Ok(event) => event,
            Err(client::Error::Failed { code, message }) if code.as_deref() != Some(STOPPING) => {
                received.ending = Ending::Failed(message);
                break;
            }
            Err(error) => {
                received.ending = Ending::Left(error);
                break;
            }
        };
        if let (Some(id), false) = (event["id"].as_str(), is_named) {
            is_named = true;
            named(id);
        }
        received.take(&event, printer);
        if received.shown.is_err() {
            break;
        }
    }
    received
}

impl Received {
    fn take(&mut self, event: &Value, printer: &Printer) {
        let choice = &event["choices"][0];
        if let Some(thought) = choice["delta"]["reasoning_content"].as_str() {
            self.thoughts.push_str(thought);
            self.shown = printer.thought(thought);
        }
        if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            if self.content.is_empty() && !self.thoughts.is_empty() {
                self.shown = printer.end_line();
            }
            self.content.push_str(text);
            if self.shown.is_ok() {
                self.shown = printer.text(text);
            }
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            self.finish = Some(finish.to_owned());
            self.ending = Ending::Done;
        }
        for (field, place) in [("usage", &mut self.usage), ("pouch", &mut self.speed)] {
            if event[field].is_object() {
                *place = event[field].clone();
            }
        }
    }

    /// The answer's message, as the page has it.
    pub(super) fn fill(&self, answer: &mut Value) {
        answer["content"] = self.content.as_str().into();
        if !self.thoughts.is_empty() {
            answer["thinking"] = self.thoughts.as_str().into();
        }
        answer["state"] = match &self.ending {
            Ending::Interrupted => "stopped".into(),
            Ending::Failed(message) => {
                answer["error"] = json!({"kind": "errorServer", "detail": message});
                "failed".into()
            }
            _ => "done".into(),
        };
        if let Some(finish) = &self.finish {
            answer["finish"] = finish.as_str().into();
        }
        if self.usage.is_object() {
            let speed = self.speed["decode_tok_s"].as_f64().filter(|speed| *speed > 0.0);
            let first = self.speed["time_to_first_token_ms"].as_f64().map(|time| time / 1e3);
            answer["figures"] =
                json!({"tokens": self.usage["completion_tokens"], "speed": speed, "first": first});
        }
    }

    /// Its figures, if the server told them.
    pub(super) fn figures(&self) -> Option<AnswerFigures<'_>> {
        let count = |value: &Value| value.as_u64().unwrap_or(0) as usize;
        let reused = count(&self.usage["prompt_tokens_details"]["cached_tokens"]);
        let answer = &self.usage["completion_tokens_details"];
        let accepted = count(&answer["accepted_prediction_tokens"]);
        self.usage.is_object().then(|| AnswerFigures {
            prompt: count(&self.usage["prompt_tokens"]).saturating_sub(reused),
            reused,
            prefill_tok_s: self.speed["prefill_tok_s"].as_f64().unwrap_or(0.0),
            answer: count(&self.usage["completion_tokens"]),
            decode_tok_s: self.speed["decode_tok_s"].as_f64().unwrap_or(0.0),
            drafts: Drafts { drafted: accepted + count(&answer["rejected_prediction_tokens"]), accepted },
            first_token_ms: self.speed["time_to_first_token_ms"].as_f64(),
            end: match &self.ending {
                Ending::Interrupted => "interrupted",
                _ => self.finish.as_deref().unwrap_or("interrupted"),
            },
        })
    }
}
