//! Which type each tensor gets.

mod knapsack;
mod predict;
mod sensitivity;

use gguf::TensorInfo;
use kernels::{FORMATS, Format};

use crate::error::Error;
use crate::float::Source;
use crate::inventory::{Kind, values};
use crate::options::Target;
use crate::recipes::{RECIPES, Traits, recipe_named};
use knapsack::Choice;
use predict::{Candidate, candidates};
pub(crate) use sensitivity::Sensitivities;

/// The types that a plan chooses from: those whose products have vector code everywhere, so that a smaller file is also a
/// faster one. Halves are for rows that no block divides.
const TYPES: [&str; 13] = [
    "Q2_K", "Q3_K", "Q4_0", "IQ4_NL", "IQ4_XS", "Q4_K", "Q4_1", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "F16",
];

/// What a tensor becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    /// The type.
    pub(crate) format: &'static Format,
    /// The KL divergence that it alone is predicted to cause, in nats a token, where that was measured.
    pub(crate) divergence: Option<f64>,
}

/// Decides for every tensor, in the order of the file; `None` for those that are kept exact, as all are where a budget is
/// given but sensitivities are not.
///
/// # Errors
/// [`Error::Recipe`], [`Error::Budget`].
pub(crate) fn decide(
    source: &Source,
    kinds: &[Kind],
    target: &Target,
    sensitivities: Option<&Sensitivities>,
) -> Result<Vec<Option<Decision>>, Error> {
    match (target, sensitivities) {
        (Target::Recipe(name), _) => by_recipe(source, kinds, name, sensitivities),
        (_, Some(sensitivities)) => by_budget(source, kinds, budget(source, target), sensitivities),
        (_, None) => Ok(vec![None; kinds.len()]),
    }
}

/// Refuses what can be seen to be impossible before anything is measured.
///
/// # Errors
/// [`Error::Recipe`], [`Error::Budget`].
pub(crate) fn check(source: &Source, kinds: &[Kind], target: &Target) -> Result<(), Error> {
    if let Target::Recipe(name) = target {
        return by_recipe(source, kinds, name, None).map(|_| ());
    }
    let budget = budget(source, target);
    let smallest = |(info, kind): (&TensorInfo, &Kind)| match kind {
        Kind::Exact => info.bytes,
        _ => usable(info.shape[0]).map(|format| bytes_in(info, format)).min().unwrap_or(info.bytes),
    };
    let least = header_bytes(source) + source.file.tensors().iter().zip(kinds).map(smallest).sum::<u64>();
    if budget < least { Err(Error::Budget { asked: budget, least }) } else { Ok(()) }
}

/// Bytes that the file may have.
fn budget(source: &Source, target: &Target) -> u64 {
    match target {
        Target::Size(bytes) => *bytes,
        Target::Bits(bits) => {
            let parameters: u64 = source.file.tensors().iter().map(values).sum();
            header_bytes(source) + (parameters as f64 * bits / 8.0) as u64
        }
        Target::Recipe(_) => u64::MAX,
    }
}

/// The types of a plan whose blocks divide a row.
fn usable(columns: u64) -> impl Iterator<Item = &'static Format> {
    FORMATS
        .iter()
        .filter(move |format| TYPES.contains(&format.name) && columns.is_multiple_of(format.values as u64))
}

/// Bytes of a tensor in a type.
fn bytes_in(info: &TensorInfo, format: &Format) -> u64 {
    values(info) / format.values as u64 * format.bytes as u64
}

/// Bytes of the file that are no tensor's, by the source's, with room for a few changed entries and alignment.
fn header_bytes(source: &Source) -> u64 {
    let data: u64 = source.file.tensors().iter().map(|info| info.bytes).sum();
    source.file.total_bytes() - data + 4096
}

fn by_recipe(
    source: &Source,
    kinds: &[Kind],
    name: &str,
    sensitivities: Option<&Sensitivities>,
) -> Result<Vec<Option<Decision>>, Error> {
    let recipe = recipe_named(name).ok_or_else(|| Error::Recipe {
        name: name.to_owned(),
        known: RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", "),
    })?;
    let config = &source.config;
    let traits = Traits {
        architecture: &config.architecture,
        layers: config.layers.len(),
        heads: config.heads,
        kv_heads: config.kv_heads,
        experts: config.experts.as_ref().map_or(0, |experts| experts.count),
        tied: kinds.iter().any(|kind| matches!(kind, Kind::Output { tied: true })),
        informed: sensitivities.is_some(),
    };
    let tensors = source.file.tensors().iter().zip(kinds).enumerate();
    Ok(tensors
        .map(|(index, (info, kind))| {
            if *kind == Kind::Exact {
                return None;
            }
            let format = recipe.format(&traits, &info.name, &info.shape)?;
            let divergence = sensitivities.and_then(|found| {
                let found = candidates(source, kind, index, found, std::iter::once(format));
                found.first().map(|candidate| candidate.divergence)
            });
            Some(Decision { format, divergence })
        })
        .collect())
}

fn by_budget(
    source: &Source,
    kinds: &[Kind],
    budget: u64,
    sensitivities: &Sensitivities,
) -> Result<Vec<Option<Decision>>, Error> {
    let mut fixed = header_bytes(source);
    let mut items: Vec<(usize, Vec<Candidate>)> = Vec::new();
    for (index, (info, kind)) in source.file.tensors().iter().zip(kinds).enumerate() {
        let found = candidates(source, kind, index, sensitivities, usable(info.shape[0]));
        if found.is_empty() {
            fixed += info.bytes;
        } else {
            items.push((index, found));
        }
    }
    let choices: Vec<Vec<Choice>> = items
        .iter()
        .map(|(_, candidates)| {
            let choice =
                |candidate: &Candidate| Choice { bytes: candidate.bytes, loss: candidate.divergence };
            candidates.iter().map(choice).collect()
        })
        .collect();
    let smallest = |choices: &Vec<Choice>| choices.iter().map(|choice| choice.bytes).min().unwrap_or(0);
    let least = fixed + choices.iter().map(smallest).sum::<u64>();
    let chosen = budget.checked_sub(fixed).and_then(|budget| knapsack::choose(&choices, budget));
    let chosen = chosen.ok_or(Error::Budget { asked: budget, least })?;
    let mut decisions = vec![None; kinds.len()];
    for ((index, candidates), choice) in items.iter().zip(chosen) {
        let Candidate { format, divergence, .. } = candidates[choice];
        decisions[*index] = Some(Decision { format, divergence: Some(divergence) });
    }
    Ok(decisions)
}
