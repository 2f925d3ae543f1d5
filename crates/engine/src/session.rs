//! A session: one text in the making, as a value.
//!
//! It holds everything that belongs to the text and nothing of the machinery that makes it: its tokens, their keys and
//! values, its sampler, its limits. Whoever has an [`Engine`](crate::Engine) advances it step by step and may put it aside
//! after any step; another session's steps in between change nothing.
//!
//! There is one list of tokens. Those that the cache counts have been computed; those after it are pending, be it a
//! prompt or the one token sampled last. So a session needs no mode: with much pending a step prefills, with one it decodes.

mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Budget, KvCache, KvType, Model};
use serde::{Deserialize, Serialize};
use text::TextStream;

use crate::choices::{Choice, Choices};
use crate::constraint::Constraint;
use crate::engine::Step;
use crate::error::Error;
use crate::sampler::{Sampler, SamplerOptions};
use crate::speculation::{DraftModel, Drafts, Moment, Speculation, Speculator};
use crate::stop::StopMatcher;

pub use state::SessionState;

/// The context of a session that asks for none, unless the model was trained for less. The cache takes memory only as it
/// fills, but models of 128k positions would reserve more address space than small machines grant.
pub const DEFAULT_CONTEXT: usize = 8192;

/// What a new session is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionOptions {
    /// Tokens that fit, prompt and answers together; the smaller of the model's context and [`DEFAULT_CONTEXT`] if `None`.
    pub context: Option<usize>,
    /// The number format of the cached keys and values.
    #[serde(with = "state::kv_type")]
    pub kv_type: KvType,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// When an answer ends.
    pub limits: Limits,
    /// How many tokens are guessed and computed together. Changes the speed of answers and nothing else of them.
    pub speculation: Speculation,
    /// Control tokens that are part of the answer's text, such as a family's markers of tool calls; others are left out of it.
    pub shown: Vec<u32>,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            context: None,
            kv_type: KvType::F16,
            sampler: SamplerOptions::default(),
            limits: Limits::default(),
            speculation: Speculation::default(),
            shown: Vec::new(),
        }
    }
}

/// What ends an answer, beside the model itself and the context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens in one answer; as many as fit if `None`.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer and are left out of it.
    pub stop: Vec<String>,
    /// Go on past the tokens with which the model ends: for measurements.
    pub ignore_end: bool,
}

/// Why an answer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The model said so with this token, which is in the history but no part of the answer.
    EndOfGeneration(u32),
    /// The stop string of this index appeared; the text before it is the answer.
    StopString(usize),
    /// [`Limits::max_tokens`] was reached.
    MaxTokens,
    /// The context has no room for another token.
    ContextFull,
    /// The constraint's form is complete.
    Complete,
}

impl EndReason {
    /// A stable name for machine-readable output.
    pub fn name(&self) -> &'static str {
        match self {
            EndReason::EndOfGeneration(_) => "end_of_generation",
            EndReason::StopString(_) => "stop_string",
            EndReason::MaxTokens => "max_tokens",
            EndReason::ContextFull => "context_full",
            EndReason::Complete => "complete",
        }
    }
}

/// One text in the making. See the module's words on how it works.
#[derive(Debug)]
pub struct Session {
    pub(crate) model: Arc<Model>,
    /// All tokens in order: prompts, answers, and the tokens that ended them.
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: KvCache,
    pub(crate) sampler: Sampler,
    pub(crate) speculator: Option<Speculator>,
    /// The form of the answer in the making.
    constraint: Option<Box<dyn Constraint>>,
    /// What was chosen from, for whoever asked.
    choices: Option<Choices>,
    speculation: Speculation,
    limits: Limits,
    /// Control tokens that are part of the answer's text.
    shown: Vec<u32>,
    turn: Turn,
    /// Another number, never used before, whenever tokens are given rather than sampled.
    revision: u64,
}

/// The next [`Session::revision`].
static REVISIONS: AtomicU64 = AtomicU64::new(0);

/// One prompt and its answer. Positions count from the session's first token.
#[derive(Debug)]
struct Turn {
    /// Where the tokens begin that this turn must prefill.
    prompt: usize,
    /// Where the answer begins.
    answer: usize,
    /// Up to where the answer has been turned into text.
    decoded: usize,
    end: Option<EndReason>,
    stream: TextStream,
    stops: StopMatcher,
    /// Text of the answer that is certain and nobody has taken.
    text: String,
}

impl Session {
    /// A session of `model`; `draft_model` guesses for it, unless the options want no guesses. Their keys and values count
    /// against `budget`.
    pub(crate) fn new(
        model: Arc<Model>,
        draft_model: Option<Arc<Model>>,
        options: SessionOptions,
        budget: &Budget,
    ) -> Result<Session, Error> {
        let SessionOptions { context, kv_type, sampler, limits, speculation, shown } = options;
        let context = context.unwrap_or(DEFAULT_CONTEXT.min(model.config.context));
        if context == 0 {
            return Err(Error::Setting { name: "context", got: 0.0, expected: "1 or more" });
        }
        let vocabulary = model.config.vocabulary;
        let new_sampler = || -> Result<Sampler, Error> {
            let mut made = Sampler::new(sampler.clone())?;
            made.reserve(vocabulary, context);
            Ok(made)
        };
        let new_draft_model = |draft_model: Arc<Model>| -> Result<DraftModel, Error> {
            let cache = KvCache::with_budget(&draft_model.config, context, kv_type, budget)?;
            Ok(DraftModel::new(draft_model, cache, new_sampler()?, vocabulary))
        };
        let draft_model = draft_model.filter(|_| speculation != Speculation::Off);
        let draft_model = draft_model.map(new_draft_model).transpose()?;
        Ok(Session {
            cache: KvCache::with_budget(&model.config, context, kv_type, budget)?,
            // The last token sampled needs no place in the cache, but one here.
            tokens: Vec::with_capacity(context + 1),
            sampler: new_sampler()?,
            speculator: Speculator::new(speculation, context, draft_model),
            speculation,
            turn: Turn {
                prompt: 0,
                answer: 0,
                decoded: 0,
                end: None,
                stream: TextStream::new(),
                stops: StopMatcher::new(&limits.stop),
                text: String::new(),
            },
            constraint: None,
            choices: None,
            limits,
            shown,
            model,
            revision: REVISIONS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Adds tokens to be continued. After an answer they open the next turn; before one they lengthen the prompt.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if they do not fit, [`Error::Token`] for an id the model does not have; the session is then
    /// as it was.
    pub fn push(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.check(self.tokens.len() + tokens.len(), tokens)?;
        let answered = self.turn.answer < self.tokens.len() || self.turn.end.is_some();
        self.tokens.extend_from_slice(tokens);
        self.revision = REVISIONS.fetch_add(1, Ordering::Relaxed);
        if answered {
            self.open_turn(self.cache.len());
        } else {
            (self.turn.answer, self.turn.decoded) = (self.tokens.len(), self.tokens.len());
        }
        Ok(())
    }

    /// Makes `tokens` the whole history, to be continued, and keeps what is already computed of a common beginning.
    /// Returns how many tokens that spares. At least one token stays pending, for its logits.
    ///
    /// # Errors
    /// [`Error::Empty`] for no tokens, and as [`Session::push`]; the session is then as it was.
    pub fn replace(&mut self, tokens: &[u32]) -> Result<usize, Error> {
        let Some(last) = tokens.len().checked_sub(1) else { return Err(Error::Empty) };
        self.check(tokens.len(), tokens)?;
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common.min(last));
        if let Some(speculator) = &mut self.speculator {
            speculator.replace(&self.cache);
        }
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.revision = REVISIONS.fetch_add(1, Ordering::Relaxed);
        self.open_turn(self.cache.len());
        Ok(self.cache.len())
    }

    /// Holds the next answer to a form. To be called after its prompt was given, or after the session was restored, with a
    /// constraint at its beginning.
    ///
    /// # Errors
    /// [`Error::Constraint`] if the answer so far, of a session that was restored, does not have the form.
    pub fn constrain(&mut self, mut constraint: Box<dyn Constraint>) -> Result<(), Error> {
        let mut is_complete = false;
        for &token in &self.tokens[self.turn.answer..] {
            is_complete = constraint.accept(token)?;
        }
        if is_complete && self.turn.end.is_none() {
            self.turn.end = Some(EndReason::Complete);
        }
        self.constraint = Some(constraint);
        Ok(())
    }

    /// Notes for each token chosen from now on how likely it was, and the `alternatives` likeliest tokens beside it:
    /// see [`Session::take_choices`].
    pub fn record_choices(&mut self, alternatives: usize) {
        self.choices = Some(Choices { alternatives, made: Vec::new() });
    }

    /// The choices made since the last call, in order, one that ended the answer among them; empty unless
    /// [`Session::record_choices`] was called.
    pub fn take_choices(&mut self) -> Vec<Choice> {
        self.choices.as_mut().map(|choices| std::mem::take(&mut choices.made)).unwrap_or_default()
    }

    /// Checks that a history of `length` tokens fits and that `added` are tokens of the model.
    fn check(&self, length: usize, added: &[u32]) -> Result<(), Error> {
        if length > self.cache.capacity() {
            return Err(Error::ContextFull { needed: length, capacity: self.cache.capacity() });
        }
        let vocabulary = self.model.config.vocabulary;
        match added.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(Error::Token { token, vocabulary }),
            None => Ok(()),
        }
    }

    fn open_turn(&mut self, prompt: usize) {
        let turn = &mut self.turn;
        turn.prompt = prompt;
        (turn.answer, turn.decoded) = (self.tokens.len(), self.tokens.len());
        self.constraint = None;
        turn.end = None;
        turn.stream = TextStream::new();
        turn.stops.reset();
        turn.text.clear();
    }

    /// All tokens so far: prompts, answers, and the tokens that ended them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of the answer in the making, without one that ended it.
    pub fn answer(&self) -> &[u32] {
        let ended = matches!(self.turn.end, Some(EndReason::EndOfGeneration(_)));
        &self.tokens[self.turn.answer..self.tokens.len() - usize::from(ended)]
    }

    /// Tokens of this turn's prompt, without those that an earlier turn had computed.
    pub fn prompt_len(&self) -> usize {
        self.turn.answer - self.turn.prompt
    }

    /// Tokens at the front that this turn found computed.
    pub fn reused_len(&self) -> usize {
        self.turn.prompt
    }

    /// Tokens given or sampled but not computed.
    pub fn pending(&self) -> &[u32] {
        &self.tokens[self.cache.len()..]
    }

    /// Tokens that fit.
    pub fn context(&self) -> usize {
        self.cache.capacity()
    }

    /// The number format of its keys and values.
    pub(crate) fn kv_type(&self) -> KvType {
        self.cache.kv_type()
    }

    /// Bytes of its keys and values, in whole pages.
    pub fn kv_bytes(&self) -> usize {
        self.cache.bytes_held()
    }

    /// Forgets all keys and values, which can be computed again, or had from a store.
    pub(crate) fn give_back(&mut self) {
        self.cache.clear();
        if let Some(speculator) = &mut self.speculator {
            speculator.truncate(&self.cache);
        }
    }

    /// Why the answer is over, if it is.
    pub fn end(&self) -> Option<EndReason> {
        self.turn.end
    }

    /// When an answer ends.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The model that the session talks to.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens that were drafted and accepted in the whole session.
    pub fn drafts(&self) -> Drafts {
        self.speculator.as_ref().map_or_else(Drafts::default, |speculator| speculator.drafts)
    }

    /// Appends to `out` the answer's text since the last call: whole characters, and nothing that a stop string could
    /// still swallow. After the end, all that is left.
    pub fn take_text(&mut self, out: &mut String) {
        self.decode();
        let turn = &mut self.turn;
        if turn.end.is_some() {
            let rest = turn.stream.finish();
            turn.stops.push(&rest, &mut turn.text);
            turn.stops.finish(&mut turn.text);
        }
        out.push_str(&turn.text);
        turn.text.clear();
    }

    /// Turns new tokens of the answer into text; ends the turn at a stop string.
    fn decode(&mut self) {
        let end = self.turn.answer + self.answer().len();
        let turn = &mut self.turn;
        for &token in &self.tokens[turn.decoded..end] {
            let is_shown = self.shown.contains(&token);
            let piece = turn.stream.push(&self.model.tokenizer.token_bytes(token, is_shown));
            if let Some(index) = turn.stops.push(&piece, &mut turn.text) {
                turn.end = Some(EndReason::StopString(index));
            }
        }
        turn.decoded = end;
    }

    /// How much of the prompt is computed, and how much there is.
    pub(crate) fn prefilled(&self) -> (usize, usize) {
        // Less than was found computed may be left of it, where the memory went to somebody else.
        (self.cache.len().min(self.turn.answer).saturating_sub(self.turn.prompt), self.prompt_len())
    }

    /// Why no further token may be computed, if so.
    pub(crate) fn check_end(&mut self) -> Option<EndReason> {
        if self.turn.end.is_none() {
            if self.limits.max_tokens.is_some_and(|most| self.answer().len() >= most) {
                self.turn.end = Some(EndReason::MaxTokens);
            } else if self.tokens.len() > self.cache.capacity() {
                self.turn.end = Some(EndReason::ContextFull);
            }
        }
        self.turn.end
    }

    /// The speculator, and what it drafts for: a batch of at most `most` tokens with the last one sampled, within the limits
    /// of answer and context.
    pub(crate) fn speculate(&mut self, most: usize) -> Option<(&mut Speculator, Moment<'_>)> {
        let answered = self.answer().len();
        // A pass gives a token more than were drafted.
        let left = self.limits.max_tokens.map_or(usize::MAX, |most| most.saturating_sub(answered));
        let room = self.cache.capacity() - self.cache.len();
        let limit = most.min(left).min(room).saturating_sub(1);
        let speculator = self.speculator.as_mut()?;
        let Session { tokens, sampler, turn, .. } = self;
        Some((speculator, Moment { tokens, sampler, answer: turn.answer, limit }))
    }

    /// Chooses tokens from the logits of the last position computed and of those of `drafted` that were guessed to follow,
    /// for as long as the guesses come true. What the cache holds beyond the tokens chosen is forgotten.
    ///
    /// # Errors
    /// [`Error::NoFiniteLogit`], [`Error::Constraint`]; the session has then no new token.
    pub(crate) fn choose(&mut self, logits: &mut [f32], drafted: &[u32]) -> Result<Step, Error> {
        let (answered, position) = (self.answer().len(), self.tokens.len() - 1);
        let (mut accepted, mut is_rejected, mut end, mut failure) = (0, false, None, None);
        for logits in logits.chunks_exact_mut(self.model.config.vocabulary) {
            match self.choose_one(logits) {
                Ok(Some((token, reason))) => {
                    end = reason;
                    let guess = drafted.get(accepted);
                    let is_accepted = guess == Some(&token);
                    is_rejected = guess.is_some() && !is_accepted;
                    accepted += usize::from(is_accepted);
                    if end.is_some() || !is_accepted {
                        break;
                    }
                }
                // Where a guessed token leads to no choice, the next step finds that again, with the token in its place.
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // Whatever happened, the last token is the one that is pending.
        self.cache.truncate(self.tokens.len() - 1);
        if let Some(speculator) = &mut self.speculator {
            speculator.truncate(&self.cache);
            speculator.learn(drafted.len(), accepted, is_rejected);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        match (self.tokens.len() - 1 - position, self.answer().len() - answered, end) {
            (0, ..) => Err(Error::NoFiniteLogit { position }),
            (_, 0, Some(end)) => Ok(Step::End(end)),
            (_, count, _) => Ok(Step::Tokens(count)),
        }
    }

    /// One token from the logits of one position, and why the answer is over with it, if so; `None` if none is possible.
    fn choose_one(&mut self, logits: &mut [f32]) -> Result<Option<(u32, Option<EndReason>)>, Error> {
        // Whoever wants to know gets what the model said, before constraint and sampler change it.
        let said = self.choices.is_some().then(|| logits.to_vec());
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(logits)?;
        }
        let Some(token) = self.sampler.sample(logits, &self.tokens) else { return Ok(None) };
        if let (Some(choices), Some(said)) = (&mut self.choices, said) {
            choices.made.push(Choice::of(&said, token, choices.alternatives));
        }
        let is_complete = match &mut self.constraint {
            Some(constraint) => constraint.accept(token)?,
            None => false,
        };
        let end = self.accept(token);
        if end.is_none() && is_complete {
            self.turn.end = Some(EndReason::Complete);
        }
        Ok(Some((token, self.turn.end)))
    }

    /// Adds a sampled token. Returns why the answer is over, if it is now.
    fn accept(&mut self, token: u32) -> Option<EndReason> {
        self.tokens.push(token);
        if !self.limits.ignore_end && self.model.tokenizer.is_end_of_generation(token) {
            self.turn.end = Some(EndReason::EndOfGeneration(token));
        } else if !self.limits.stop.is_empty() {
            // Text costs an allocation or two a token, so it is made here only where it decides something.
            self.decode();
        }
        self.check_end()
    }
}
