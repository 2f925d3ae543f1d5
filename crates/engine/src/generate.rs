//! The plain case in one call: run a session until its answer is over, hand out the text as it comes, measure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Step};
use crate::error::Error;
use crate::session::{EndReason, Session};
use crate::speculation::Drafts;

/// What happens while an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// So much of the prompt is computed.
    Prefilled {
        /// Tokens computed in this turn.
        done: usize,
        /// Tokens to compute in this turn.
        total: usize,
    },
    /// The next piece of the answer: whole characters, never empty.
    Text(&'a str),
}

/// An answer and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The answer.
    pub text: String,
    /// Its tokens, without one that ended it. Where a stop string cut the text they reach further than the text.
    pub token_ids: Vec<u32>,
    /// Why it is over; `None` if it was cancelled.
    pub end: Option<EndReason>,
    /// Counts and times.
    pub figures: Figures,
}

/// Counts and times of one answer. Times are those of the engine's steps: what the caller does with the text in between,
/// such as waiting for a slow terminal, does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: usize,
    /// Tokens before them that an earlier turn had computed.
    pub reused_tokens: usize,
    /// Tokens of the answer.
    pub generated_tokens: usize,
    /// Time of the steps up to the first token of the answer.
    pub prefill: Duration,
    /// Time of the steps after it.
    pub decode: Duration,
    /// From the call until the first token was there, everything counted; `None` if none came.
    pub time_to_first_token: Option<Duration>,
    /// Tokens of the answer that were guessed, and guesses that came to nothing.
    pub drafts: Drafts,
    /// Tokens sampled by the steps that `decode` counts, one that ended the answer among them.
    decoded_tokens: usize,
}

impl Figures {
    /// Tokens of the prompt a second; 0 if none were computed.
    pub fn prefill_tok_s(&self) -> f64 {
        rate(self.prompt_tokens, self.prefill)
    }

    /// Tokens of the answer a second, the first left out, which prefill pays for; 0 for fewer than two.
    pub fn decode_tok_s(&self) -> f64 {
        rate(self.decoded_tokens, self.decode)
    }

    /// Counts tokens of the answer after the first, of a step that took `time`.
    pub(crate) fn count_decoded(&mut self, count: usize, time: Duration) {
        self.decode += time;
        self.decoded_tokens += count;
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if count == 0 || time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Runs `session` until its answer is over or `cancel` is set, which is looked at before each step. A cancelled session is
/// sound: it can be run on, or given a new prompt. An answer that was cancelled and is run on gives its rest.
///
/// # Errors
/// Those of [`Engine::step`].
pub fn generate(
    engine: &mut Engine,
    session: &mut Session,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Generation, Error> {
    let start = Instant::now();
    let mut figures = Figures { reused_tokens: session.reused_len(), ..Figures::default() };
    let (answered, drafts) = (session.answer().len(), session.drafts());
    let mut text = String::new();
    while session.end().is_none() && !cancel.load(Ordering::Relaxed) {
        let (pending, known) = (session.pending().len(), session.tokens().len());
        let step_start = Instant::now();
        let step = engine.step(session)?;
        let time = step_start.elapsed();
        let sampled = session.tokens().len() - known;
        if figures.time_to_first_token.is_some() {
            figures.count_decoded(sampled, time);
        } else if sampled > 0 {
            figures.time_to_first_token = Some(start.elapsed());
            figures.prefill += time;
            figures.prompt_tokens += pending;
        } else if let Step::Prefilled { done, total } = step {
            figures.prefill += time;
            figures.prompt_tokens += pending - session.pending().len();
            on_event(Event::Prefilled { done, total });
        }
        let shown = text.len();
        session.take_text(&mut text);
        if text.len() > shown {
            on_event(Event::Text(&text[shown..]));
        }
    }
    // A character or a possible stop string that was cut short by cancelling is not shown: it may yet go on.
    let token_ids = session.answer()[answered..].to_vec();
    figures.generated_tokens = token_ids.len();
    figures.drafts = session.drafts().since(drafts);
    Ok(Generation { text, token_ids, end: session.end(), figures })
}
