//! From one position's logits to the next token: penalties, truncation, temperature, one seeded draw.
//!
//! The order is that of the field's well-known local engine: penalties, top-k, top-p, min-p, and temperature last, so that
//! what may be said at all does not depend on how freely it is said. A vocabulary has up to 262,144 tokens and a phone
//! perhaps 10 ms for a token, so nothing here sorts it: see [`candidates`].

mod candidates;
mod penalties;
mod weights;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::random::Random;
use candidates::{Candidate, gather_above, gather_top, mass, maximum, select_by_mass};
use penalties::Penalties;

/// How the next token is chosen. Every field has a value that switches it off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplerOptions {
    /// Divides the logits before the draw; 0 takes the likeliest token always, 1 the model's own distribution.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens stay; 0 is off.
    pub top_k: usize,
    /// Only the fewest likeliest tokens whose probabilities reach this sum stay, after top-k; 1 is off.
    pub top_p: f32,
    /// Only tokens at least this likely, relative to the likeliest, stay; 0 is off.
    pub min_p: f32,
    /// A recent token's logit is divided by this if positive and multiplied if negative; 1 is off.
    /// Source: Keskar et al., "CTRL", 2019, section 4.1.
    pub repeat_penalty: f32,
    /// Taken from a recent token's logit for each time it occurred; 0 is off.
    pub frequency_penalty: f32,
    /// Taken once from the logit of every recent token; 0 is off.
    pub presence_penalty: f32,
    /// How many of the last tokens, prompt included, the three penalties look at; `usize::MAX` is all.
    pub repeat_last_n: usize,
    /// The draws follow from this and nothing else.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// The common defaults of local engines: some freedom, long tails cut, no penalties.
    fn default() -> SamplerOptions {
        SamplerOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// The likeliest token always: no chance, no penalties.
    pub fn greedy() -> SamplerOptions {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    /// Refuses settings without a meaning, NaN among them.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let rules: [(&'static str, f32, bool, &'static str); 6] = [
            ("temperature", self.temperature, (0.0..=f32::MAX).contains(&self.temperature), "0 or more"),
            ("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "0 to 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(),
                "more than 0",
            ),
            ("frequency_penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "a number"),
            ("presence_penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a number"),
        ];
        for (name, got, valid, expected) in rules {
            if !valid {
                return Err(Error::Setting { name, got: got.into(), expected });
            }
        }
        Ok(())
    }
}

/// The state of one session's sampling: its settings, its random numbers, its buffers.
///
/// Deterministic: equal options and equal sequences of logits give equal tokens. Choosing costs a pass over the logits with
/// top-k or min-p, and an exponential for each token of the vocabulary where only top-p or nothing truncates.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    penalties: Penalties,
    random: Random,
    candidates: Vec<Candidate>,
    /// Used where nothing truncates.
    masses: Vec<f64>,
}

impl Sampler {
    /// A sampler at the start of its random sequence, or [`Error::Setting`].
    pub fn new(options: SamplerOptions) -> Result<Sampler, Error> {
        options.check()?;
        Ok(Sampler {
            penalties: Penalties::new(&options),
            random: Random::new(options.seed),
            candidates: Vec::new(),
            masses: Vec::new(),
            options,
        })
    }

    /// Makes room for logits of `vocabulary` tokens and a history of `context` tokens, after which
    /// [`sample`](Sampler::sample) allocates nothing. Where only top-p or min-p truncates, the room is the whole
    /// vocabulary's, yet the system gives memory only to the part that is ever written: most choices touch little of it.
    pub fn reserve(&mut self, vocabulary: usize, context: usize) {
        self.penalties.reserve(context);
        let (candidates, masses) = match self.bounded_top_k(vocabulary) {
            _ if self.is_greedy() => (0, 0),
            Some(k) => (candidates::room_for_top(k), 0),
            None if self.truncates(vocabulary) => (vocabulary, 0),
            None => (0, weights::room(vocabulary)),
        };
        self.candidates.clear();
        self.candidates.reserve_exact(candidates);
        self.masses.clear();
        self.masses.reserve_exact(masses);
    }

    /// The settings it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// What the next draws follow from.
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    /// Makes the next draws follow from `random`.
    pub(crate) fn set_random(&mut self, random: Random) {
        self.random = random;
    }

    /// Makes the next draws those that `other` is about to make.
    pub fn draw_like(&mut self, other: &Sampler) {
        self.random.clone_from(&other.random);
    }

    /// Chooses the next token from `logits` (one value a token of the vocabulary; penalties change them in place) after
    /// the tokens of `history`. NaN counts as impossible and plus infinity as certain; `None` if no token is possible.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Option<u32> {
        self.penalties.apply(logits, history);
        let (best, max) = maximum(logits)?;
        if self.is_greedy() || max == f32::INFINITY {
            return Some(best);
        }
        let fraction = self.random.next_f64();
        let temperature = self.options.temperature;
        if !self.truncates(logits.len()) {
            return weights::draw(logits, max, temperature, fraction, &mut self.masses).or(Some(best));
        }
        self.gather(logits, max);
        let weigh = tempered(max, temperature);
        let target = fraction * mass(&self.candidates, weigh);
        let chosen = select_by_mass(&mut self.candidates, target, weigh);
        self.candidates.get(chosen).map(Candidate::id)
    }

    /// The distribution that [`sample`](Sampler::sample) would draw from, likeliest first, without drawing:
    /// token and probability. Empty if no token is possible.
    pub fn probabilities(&mut self, logits: &mut [f32], history: &[u32]) -> Vec<(u32, f64)> {
        self.penalties.apply(logits, history);
        let Some((best, max)) = maximum(logits) else { return Vec::new() };
        if self.is_greedy() || max == f32::INFINITY {
            return vec![(best, 1.0)];
        }
        self.gather(logits, max);
        let weigh = tempered(max, self.options.temperature);
        let total = mass(&self.candidates, weigh);
        // Public for inspection, not for the decode loop: only here are the survivors sorted.
        self.candidates.sort_unstable();
        self.candidates.iter().map(|c| (c.id(), weigh(c.logit()) / total)).collect()
    }

    fn is_greedy(&self) -> bool {
        self.options.temperature == 0.0 || self.options.top_k == 1
    }

    /// Whether top-k, top-p or min-p leaves out anything.
    fn truncates(&self, vocabulary: usize) -> bool {
        self.bounded_top_k(vocabulary).is_some() || self.options.top_p < 1.0 || self.options.min_p > 0.0
    }

    /// `top_k` where it truncates a vocabulary of this size.
    fn bounded_top_k(&self, vocabulary: usize) -> Option<usize> {
        Some(self.options.top_k).filter(|&k| k > 0 && k < vocabulary)
    }

    /// Fills the candidates with the tokens that top-k, top-p and min-p leave, in no particular order. `max` is the largest
    /// logit, finite.
    fn gather(&mut self, logits: &[f32], max: f32) {
        let SamplerOptions { top_p, min_p, .. } = self.options;
        let min_p_floor = max + min_p.ln(); // minus infinity where it is off
        let weigh = tempered(max, 1.0);
        let total = match self.bounded_top_k(logits.len()) {
            Some(k) => {
                gather_top(logits, k, &mut self.candidates);
                mass(&self.candidates, weigh)
            }
            None => {
                // No count bounds the candidates, so leave out at once what no later stage could keep. Let V be the
                // vocabulary and weights be relative to the largest, hence their sum at least 1: tokens below
                // (1 - top_p) / V together weigh less than 1 - top_p, so top-p is reached without them.
                let top_p_floor = max + (1.0 - top_p).ln() - (logits.len() as f32).ln();
                let floor = min_p_floor.max(top_p_floor).max(f32::MIN);
                gather_above(logits, floor, &mut self.candidates);
                if top_p < 1.0 { weights::mass(logits, max) } else { 0.0 }
            }
        };
        if top_p < 1.0 {
            let target = f64::from(top_p) * total;
            let last = select_by_mass(&mut self.candidates, target, weigh);
            self.candidates.truncate(last + 1);
        }
        if min_p > 0.0 {
            self.candidates.retain(|candidate| candidate.logit() >= min_p_floor);
        }
    }
}

/// The weight of a logit relative to the largest, at a temperature.
fn tempered(max: f32, temperature: f32) -> impl Fn(f32) -> f64 + Copy {
    move |logit| f64::from(((logit - max) / temperature).exp())
}

#[cfg(test)]
mod tests;
