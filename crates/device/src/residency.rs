//! What of a model stays in memory, how its keys and values are kept, and how much they may take: decided here and nowhere
//! else, by arithmetic, before anything is loaded.
//!
//! Of all that fits, what costs least is taken. A smaller batch makes prompts slower. Keys and values in 8 bits cost some
//! accuracy, a shorter context is for those who did not ask for one, and layers that are read from storage for every token
//! cost most of the speed.

use kernels::ops::attention::KvType;
use model::{Config, Resident};

use crate::predict::{MemoryTable, Setting};
use crate::{Room, Shape};

/// The smallest batch that is chosen: below it prompts are read at the speed of answers.
const LEAST_BATCH: usize = 32;

/// What is asked for, as far as it takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Tokens that there had better be room for; no more than the model was trained for, unless there must.
    pub context: usize,
    /// Tokens that there must be room for.
    pub least_context: usize,
    /// How keys and values are kept; chosen if `None`.
    pub kv_type: Option<KvType>,
    /// Tokens of a prompt that are computed together at most.
    pub batch: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes that are left to others for as long as the model runs: keys, values and buffers of a model that drafts for it.
    pub beside: u64,
}

/// How a model is run within a [`Room`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// Tokens that there is room for.
    pub context: usize,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Tokens of a prompt that are computed together.
    pub batch: usize,
    /// What of the weights stays in memory; the rest is read from storage when it is its turn.
    pub resident: Resident,
    /// Bytes that keys, values and buffers of passes may take: what everything else leaves of the room.
    pub budget_bytes: u64,
    /// What is taken once the context is full.
    pub memory: MemoryTable,
}

impl Residency {
    /// Whether weights are read from storage for every token.
    pub fn streams(&self) -> bool {
        self.resident != Resident::All
    }

    /// What the model takes besides keys, values and buffers of passes.
    pub fn fixed_bytes(&self) -> u64 {
        let MemoryTable { kv_cache_bytes, buffers_bytes, .. } = self.memory;
        self.memory.resident_bytes() - kv_cache_bytes - buffers_bytes
    }
}

/// Nothing that could be done makes the model fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model does not fit: even with the least of its weights in memory it takes {} with a context of {context} tokens, and \
     {by} leaves {}; {} are missing. It would run with a limit of {}{}", mb(*.needed), mb(*.room), mb(*.missing), mb(*.least_limit),
    helps.iter().map(|help| format!(", or {help}")).collect::<String>()
)]
pub struct Refusal {
    /// Tokens that there must be room for.
    pub context: usize,
    /// Bytes that it takes at least.
    pub needed: u64,
    /// Bytes that there are.
    pub room: u64,
    /// Who says so: see [`Room::by`].
    pub by: &'static str,
    /// Bytes that are missing.
    pub missing: u64,
    /// The smallest limit with which it would run.
    pub least_limit: u64,
    /// What else would help, each in words that follow "or".
    pub helps: Vec<String>,
}

/// How the model of this `shape` is run within `room`.
///
/// # Errors
/// [`Refusal`] if it cannot be.
pub fn residency(shape: &Shape, demand: &Demand, room: &Room) -> Result<Residency, Refusal> {
    let choices = Choices::of(&shape.config, demand);
    let bytes = room.bytes.saturating_sub(demand.beside);
    let planned =
        |may_stream| choices.all().find_map(|choice| fit(shape, choice, demand.threads, bytes, may_stream));
    let found = planned(false).or_else(|| planned(true));
    found.ok_or_else(|| refusal(shape, demand, &choices, &Room { bytes, ..room.clone() }))
}

/// How much of the weights can stay within `bytes`, beside everything else that `memory` says and the buffers for what
/// cannot; `None` where not even the rest fits.
pub fn resident(shape: &Shape, memory: &MemoryTable, bytes: u64) -> Option<Resident> {
    let needs = |resident| memory.keeping(shape, resident).resident_bytes();
    if needs(Resident::All) <= bytes {
        return Some(Resident::All);
    }
    let Some(experts) = &shape.config.experts else {
        return (0..shape.layers.len()).rev().map(Resident::Layers).find(|&layers| needs(layers) <= bytes);
    };
    let (one, two) = (needs(Resident::Experts(1)), needs(Resident::Experts(2)));
    let more = bytes.checked_sub(one)? / (two - one).max(1);
    let count = usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1);
    // A token holds all its experts at once.
    (count >= experts.used).then(|| Resident::Experts(count.min(shape.experts())))
}

/// What is kept of this model where there is least room.
pub fn least(shape: &Shape) -> Resident {
    match &shape.config.experts {
        Some(experts) => Resident::Experts(experts.used),
        None => Resident::Layers(0),
    }
}

/// What may be chosen from, best first.
struct Choices {
    contexts: Vec<usize>,
    kv_types: Vec<KvType>,
    batches: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Choice {
    context: usize,
    kv_type: KvType,
    batch: usize,
}

impl Choices {
    fn of(config: &Config, demand: &Demand) -> Choices {
        let least = demand.least_context.max(1);
        let most = demand.context.min(config.context).max(least);
        // More tokens than the text has are never computed together.
        let batch = demand.batch.clamp(1, most);
        let packed = Some(KvType::Q8_0).filter(|packed| packed.fits(config.head_dim));
        Choices {
            contexts: halves(most, least),
            kv_types: match demand.kv_type {
                Some(kv_type) => vec![kv_type],
                None => [KvType::F16].into_iter().chain(packed).collect(),
            },
            batches: halves(batch, LEAST_BATCH.min(batch)),
        }
    }

    fn all(&self) -> impl Iterator<Item = Choice> {
        self.contexts.iter().flat_map(move |&context| {
            self.kv_types.iter().flat_map(move |&kv_type| {
                self.batches.iter().map(move |&batch| Choice { context, kv_type, batch })
            })
        })
    }

    /// The one that takes least.
    fn least(&self) -> Choice {
        let last = |list: &[usize]| list.last().copied().unwrap_or(1);
        let kv_type = self.kv_types.last().copied().unwrap_or(KvType::F16);
        Choice { context: last(&self.contexts), kv_type, batch: last(&self.batches) }
    }
}

/// From `most` down to `least`, each about half of the one before.
fn halves(most: usize, least: usize) -> Vec<usize> {
    let next = |&size: &usize| (size > least).then(|| (size / 2).max(least));
    std::iter::successors(Some(most), next).collect()
}

fn table(shape: &Shape, Choice { context, kv_type, batch }: Choice, threads: usize) -> MemoryTable {
    let setting = Setting { context, kv_type, batch, prompt: context, at_context: 0, threads: Some(threads) };
    MemoryTable::of(shape, &setting, threads)
}

fn fit(shape: &Shape, choice: Choice, threads: usize, bytes: u64, may_stream: bool) -> Option<Residency> {
    let whole = table(shape, choice, threads);
    let resident = resident(shape, &whole, bytes).filter(|&kept| may_stream || kept == Resident::All)?;
    let memory = whole.keeping(shape, resident);
    let Choice { context, kv_type, batch } = choice;
    let mut residency = Residency { context, kv_type, batch, resident, budget_bytes: 0, memory };
    residency.budget_bytes = bytes - residency.fixed_bytes();
    Some(residency)
}

/// Says what is missing and what would help.
fn refusal(shape: &Shape, demand: &Demand, choices: &Choices, room: &Room) -> Refusal {
    let needs = |choice: Choice| {
        let whole = table(shape, choice, demand.threads);
        whole.resident_bytes().min(whole.keeping(shape, least(shape)).resident_bytes())
    };
    let fits = |choice: &Choice| needs(*choice) <= room.bytes;
    let least = choices.least();
    let needed = needs(least);
    let mut helps = Vec::new();
    let shorter = halves(least.context, 64.min(least.context)).into_iter().skip(1);
    if let Some(choice) = shorter.map(|context| Choice { context, ..least }).find(fits) {
        helps.push(format!("a context of {} tokens", choice.context));
    }
    let packed = Choice { kv_type: KvType::Q8_0, ..least };
    if least.kv_type == KvType::F16 && KvType::Q8_0.fits(shape.config.head_dim) && fits(&packed) {
        helps.push("keys and values in 8 bits (--kv q8_0)".to_owned());
    }
    helps.push("a smaller model".to_owned());
    Refusal {
        context: least.context,
        needed,
        room: room.bytes,
        by: room.by,
        missing: needed - room.bytes,
        least_limit: room.limit_for(needed + demand.beside),
        helps,
    }
}

/// Megabytes, rounded up.
fn mb(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests;
