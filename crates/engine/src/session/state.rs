//! What a session follows from, as a value that can be written down: tokens, settings and the random numbers to come. The
//! keys and values are no part of it, for they follow from the tokens; a [`PageStore`] has them faster.

use std::sync::Arc;

use model::{Budget, Model};
use serde::{Deserialize, Serialize};

use super::{EndReason, Session, SessionOptions};
use crate::error::Error;
use crate::random::Random;
use crate::store::PageStore;

/// A session at rest. [`Engine::restore`](crate::Engine::restore) makes a session of it that goes on to the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The model: [`Model::identity`].
    pub model: String,
    /// With the context that it really has.
    pub options: SessionOptions,
    /// All of them: prompts, answers, and the tokens that ended them.
    pub tokens: Vec<u32>,
    /// Where the answer begins in them.
    pub answer: usize,
    /// What the sampler draws from.
    pub random: Random,
}

impl SessionState {
    /// A session of `model` that is about to answer `prompt`, which must leave room in the options' context.
    pub(crate) fn of_prompt(model: &Model, prompt: Vec<u32>, options: SessionOptions) -> SessionState {
        SessionState {
            model: model.identity(),
            answer: prompt.len(),
            random: Random::new(options.sampler.seed),
            tokens: prompt,
            options,
        }
    }
}

impl Session {
    /// The session as a value. A drafting model, and text that was made of tokens, are no part of it.
    pub fn state(&self) -> SessionState {
        SessionState {
            model: self.model.identity(),
            options: SessionOptions {
                context: Some(self.context()),
                kv_type: self.cache.kv_type(),
                sampler: self.sampler.options().clone(),
                limits: self.limits.clone(),
                speculation: self.speculation,
                shown: self.shown.clone(),
            },
            tokens: self.tokens.clone(),
            answer: self.turn.answer,
            random: self.sampler.random().clone(),
        }
    }

    /// A session in the state given, without what is computed of it. The text of its answer is there to be taken from its
    /// beginning.
    pub(crate) fn restore(
        model: Arc<Model>,
        draft_model: Option<Arc<Model>>,
        state: SessionState,
        budget: &Budget,
    ) -> Result<Session, Error> {
        let SessionState { model: identity, options, tokens, answer, random } = state;
        if identity != model.identity() {
            return Err(Error::OtherModel);
        }
        if answer > tokens.len() {
            let reason = format!("its answer begins at {answer} of {} tokens", tokens.len());
            return Err(Error::Saved { reason });
        }
        let mut session = Session::new(model, draft_model, options, budget)?;
        // The last token sampled needs no place in the cache.
        session.check(tokens.len().saturating_sub(1).max(answer), &tokens)?;
        session.tokens.extend_from_slice(&tokens);
        session.sampler.set_random(random);
        (session.turn.answer, session.turn.decoded) = (answer, answer);
        session.find_end();
        Ok(session)
    }

    /// Finds out whether the answer is over, from its tokens alone.
    fn find_end(&mut self) {
        let last = self.answer().last().copied().filter(|_| !self.limits.ignore_end);
        if let Some(token) = last.filter(|&token| self.model.tokenizer.is_end_of_generation(token)) {
            self.turn.end = Some(EndReason::EndOfGeneration(token));
        } else if !self.limits.stop.is_empty() {
            self.decode();
        }
        self.check_end();
    }

    /// Takes over what `store` has of the tokens that are not computed. Returns how many tokens that spares.
    pub fn fill(&mut self, store: &PageStore) -> usize {
        let found = store.fill(&self.model, &self.tokens, &mut self.cache);
        if found > 0 {
            self.turn.prompt = self.cache.len().min(self.turn.answer);
        }
        found
    }

    /// Has `store` remember what is computed.
    pub fn keep(&self, store: &PageStore) {
        store.keep(&self.model, &self.tokens, &self.cache);
    }

    /// Pages of keys and values that are full.
    pub(crate) fn full_pages(&self) -> usize {
        self.cache.full_pages().len()
    }

    /// What the next draws follow from.
    pub(crate) fn random(&self) -> &Random {
        self.sampler.random()
    }

    /// Another number than ever before whenever tokens were given, rather than sampled: since then they only grew if it is the
    /// same.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }
}

/// The number format of the cache, by its name.
pub(super) mod kv_type {
    use model::KvType;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(kv_type: &KvType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kv_type.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KvType, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = KvType::ALL.into_iter().find(|kv_type| kv_type.name() == name);
        known.ok_or_else(|| D::Error::custom(format!("no cache is kept as {name:?}")))
    }
}
