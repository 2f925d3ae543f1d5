//! The one place where the engine's updates become events: tool calls are told apart from text, tokens get their names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{EndReason, Figures, Update};
use grammar::{Piece, ToolParser};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::thinking::{Count, Part, Thinking};
use crate::api_error::ApiError;
use crate::metrics::Timer;
use crate::models::Loaded;
use crate::openai::records::Record;

/// The code of the error that ends an answer when the server does: what was to be stored goes on with the next server.
pub(crate) const STOPPING: &str = "server_stopping";

/// What happens to one of a request's answers.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Which of them.
    pub(crate) choice: usize,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The next piece of text, and the tokens chosen since the last one. Either may be empty: a stop string that may come
    /// withholds text, and a token may end within a character.
    Text { text: String, tokens: Vec<Token> },
    /// The next piece of what the model thinks before it answers.
    Thought(String),
    /// The model begins to call a function.
    CallStart { index: usize, id: String, name: String },
    /// More of the JSON text of a call's arguments.
    CallArguments { index: usize, delta: String },
    /// The answer is over.
    End(End),
    /// The request failed; no event follows.
    Failed(ApiError),
}

/// A chosen token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub(crate) logprob: f32,
    /// The likeliest tokens at its place, likeliest first.
    pub(crate) top: Vec<(Vec<u8>, f32)>,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) figures: Figures,
    /// Of the tokens, how many were thoughts.
    pub(crate) thought_tokens: usize,
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, or a stop string.
    Stop,
    /// It is as long as it may be.
    Length,
    /// The model calls functions and waits for what they give.
    Calls,
    /// Somebody cancelled it.
    Cancelled,
}

/// Turns the updates of one answer into events.
pub(super) struct Translator {
    loaded: Arc<Loaded>,
    /// Of a model that thinks.
    thinking: Option<Thinking>,
    thoughts: Option<Count>,
    parser: Option<ToolParser>,
    calls: usize,
    timer: Timer,
    /// Whether the server stops.
    is_stopping: Arc<AtomicBool>,
}

impl Translator {
    /// `thinks` is whether the prompt has opened the thoughts, if the model thinks.
    pub(super) fn new(
        loaded: Arc<Loaded>,
        thinks: Option<bool>,
        parser: Option<ToolParser>,
        timer: Timer,
        is_stopping: Arc<AtomicBool>,
    ) -> Translator {
        let (thinking, thoughts) = (thinks.map(Thinking::new), thinks.map(Count::new));
        Translator { loaded, thinking, thoughts, parser, calls: 0, timer, is_stopping }
    }

    /// The events of one update. `true` if it is the last one.
    fn translate(&mut self, update: Update, out: &mut Vec<What>) -> bool {
        match update {
            Update::Prefilled { .. } | Update::Embedding(_) => false,
            Update::Tokens { text, tokens, choices } => {
                self.timer.tokens(tokens.len());
                if let Some(count) = &mut self.thoughts {
                    let tokenizer = &self.loaded.model.tokenizer;
                    tokens.iter().for_each(|token| count.push(&tokenizer.token_bytes(*token, true)));
                }
                let told: Vec<Token> = choices.iter().map(|choice| self.token(choice)).collect();
                match (&mut self.thinking, &self.parser) {
                    (None, None) if text.is_empty() && told.is_empty() => {}
                    (None, None) => out.push(What::Text { text, tokens: told }),
                    (thinking, _) => {
                        let parts = match thinking {
                            Some(thinking) => thinking.push(&text),
                            None => vec![Part::Text(text)],
                        };
                        // Tokens are told of the answer, not of the thoughts.
                        if !told.is_empty() && self.thinking.as_ref().is_none_or(Thinking::is_over) {
                            out.push(What::Text { text: String::new(), tokens: told });
                        }
                        self.parts(parts, out);
                    }
                }
                false
            }
            Update::End { end, figures } => {
                if let Some(thinking) = &mut self.thinking {
                    let parts = thinking.finish();
                    self.parts(parts, out);
                }
                if let Some(parser) = &mut self.parser {
                    let pieces = parser.finish();
                    self.pieces(pieces, out);
                }
                self.timer.end(&figures, end.is_none());
                let finish = match end {
                    None if self.is_stopping.load(Ordering::Relaxed) => {
                        out.push(What::Failed(stopping()));
                        return true;
                    }
                    None => Finish::Cancelled,
                    Some(EndReason::MaxTokens | EndReason::ContextFull) => Finish::Length,
                    Some(_) if self.calls > 0 => Finish::Calls,
                    Some(_) => Finish::Stop,
                };
                let thought_tokens = self.thoughts.as_ref().map_or(0, Count::tokens);
                out.push(What::End(End { finish, figures, thought_tokens }));
                true
            }
            Update::Failed(error) => {
                self.timer.failed();
                out.push(What::Failed(ApiError::from(error)));
                true
            }
        }
    }

    fn parts(&mut self, parts: Vec<Part>, out: &mut Vec<What>) {
        for part in parts {
            match (part, &mut self.parser) {
                (Part::Thought(thought), _) => out.push(What::Thought(thought)),
                (Part::Text(text), None) => out.push(What::Text { text, tokens: Vec::new() }),
                (Part::Text(text), Some(parser)) => {
                    let pieces = parser.push(&text);
                    self.pieces(pieces, out);
                }
            }
        }
    }

    fn pieces(&mut self, pieces: Vec<Piece>, out: &mut Vec<What>) {
        out.extend(pieces.into_iter().filter_map(|piece| match piece {
            Piece::Text(text) => (!text.is_empty()).then(|| What::Text { text, tokens: Vec::new() }),
            Piece::CallStart { index, id, name } => {
                self.calls += 1;
                Some(What::CallStart { index, id, name })
            }
            Piece::Arguments { index, delta } => Some(What::CallArguments { index, delta }),
        }));
    }

    fn token(&self, choice: &engine::Choice) -> Token {
        let bytes = |token| self.loaded.model.tokenizer.token_bytes(token, true).into_owned();
        Token {
            bytes: bytes(choice.token),
            logprob: choice.logprob,
            top: choice.alternatives.iter().map(|&(token, logprob)| (bytes(token), logprob)).collect(),
        }
    }
}

/// Translates the updates of a request's answers until all are over, or one failed. `record` sees every event before the reader.
pub(super) async fn pump(
    mut updates: UnboundedReceiver<(usize, Update)>,
    mut answers: Vec<Translator>,
    record: Option<Arc<Record>>,
    reader: UnboundedSender<Event>,
) {
    let mut running = answers.len();
    let mut events = Vec::new();
    while running > 0 {
        let (choice, is_last) = match updates.recv().await {
            Some((choice, update)) => (choice, answers[choice].translate(update, &mut events)),
            None => {
                events.push(What::Failed(stopping()));
                (0, true)
            }
        };
        for what in events.drain(..) {
            if let What::Failed(_) = what {
                running = 1;
            }
            let event = Event { choice, what };
            if let Some(record) = &record {
                record.apply(&event);
            }
            // A stored answer goes on when its reader has left.
            let _ = reader.send(event);
        }
        running -= usize::from(is_last);
    }
}

/// What those are told whose answers the end of the server cuts off.
fn stopping() -> ApiError {
    ApiError::unavailable(STOPPING, "the server stops")
}
