//! Mixtures of experts: who visits whom, and experts that are read when their turn comes, for all of them are most of a
//! model.
//!
//! A dense feed forward is the mixture of one expert that every token visits with the weight one, so both pass through the
//! same stages.

use std::borrow::Cow;
use std::sync::Arc;

use gguf::File;
use kernels::ops;
use model::{Choice, Experts, Stored, choose};
use rayon::prelude::*;

use super::block::Role;
use super::linear::Linear;
use super::source::dequantize;

/// The experts of a block, in their file, and the router, which is never rounded.
#[derive(Clone, Debug)]
pub struct Mixture {
    pub(super) file: Arc<File>,
    pub(super) config: Experts,
    /// `[experts][width]`.
    pub(super) router: Linear,
    /// Gate, up and down of each expert.
    pub(super) matrices: Vec<[Stored; 3]>,
}

impl Mixture {
    /// Hidden width of one expert.
    pub(super) fn feed_forward(&self) -> usize {
        self.config.feed_forward
    }

    /// A matrix of an expert.
    pub(super) fn matrix(&self, role: Role, expert: usize) -> Linear {
        let stored = &self.matrices[expert][role as usize - Role::Gate as usize];
        let weight = dequantize(stored.format, stored.file_rows(&self.file), stored.columns);
        Linear { rows: stored.rows, columns: stored.columns, weight, bias: None }
    }

    /// Who visits whom, by the router's word on `input`, `[token][width]`: as the engine chooses.
    pub(super) fn routing(&self, input: &[f32]) -> Routing {
        let Experts { count, used, normalise, scale, .. } = self.config;
        let mut shares = self.router.forward(input);
        let mut chosen = vec![Choice::default(); shares.len() / count * used];
        shares.par_chunks_mut(count).zip(chosen.par_chunks_mut(used)).for_each(|(shares, chosen)| {
            choose(&self.config, shares, chosen);
            if normalise {
                shares.fill(0.0);
                chosen.iter().for_each(|choice| shares[choice.expert] = choice.weight / scale);
            }
        });
        let mut visits = vec![Vec::new(); count];
        for (token, chosen) in chosen.chunks_exact(used).enumerate() {
            for &Choice { expert, weight } in chosen {
                visits[expert].push(Visit { token, weight });
            }
        }
        Routing(Some(Chosen { visits, shares }))
    }

    /// Adds to `dinput` what comes back through the router, given the slope of the weight of every visit, by expert. The
    /// choice itself has none.
    ///
    /// Weights are `scale` times the shares of a softmax, over all experts or over the chosen ones alone, so either way a
    /// score has the slope `w dw - share * sum(w dw)`.
    pub(super) fn backward(&self, routing: &Routing, slopes: &[Vec<f32>], dinput: &mut [f32]) {
        let Routing(Some(Chosen { visits, shares })) = routing else { return };
        let count = self.config.count;
        let mut dscores = vec![0.0; shares.len()];
        for (expert, (visits, slopes)) in visits.iter().zip(slopes).enumerate() {
            for (visit, slope) in visits.iter().zip(slopes) {
                dscores[visit.token * count + expert] = visit.weight * slope;
            }
        }
        dscores.par_chunks_mut(count).zip(shares.par_chunks(count)).for_each(|(dscores, shares)| {
            let sum: f32 = dscores.iter().sum();
            dscores.iter_mut().zip(shares).for_each(|(slope, share)| *slope -= share * sum);
        });
        self.router.backward(&dscores, dinput);
    }
}

/// Which tokens visit which expert.
#[derive(Clone, Debug)]
pub struct Routing(Option<Chosen>);

#[derive(Clone, Debug)]
struct Chosen {
    /// Of each expert, by ascending token.
    visits: Vec<Vec<Visit>>,
    /// What the weights are made of, `[token][expert]`.
    shares: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    token: usize,
    /// Of the expert's word in the sum.
    weight: f32,
}

impl Routing {
    /// Every token visits the only expert.
    pub(super) fn everyone() -> Routing {
        Routing(None)
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.0.as_ref().map_or(1, |chosen| chosen.visits.len())
    }

    /// The rows of `x`, `[token][width]`, that visit an expert.
    pub fn gather<'a>(&self, expert: usize, x: &'a [f32], width: usize) -> Cow<'a, [f32]> {
        let Some(chosen) = &self.0 else { return Cow::Borrowed(x) };
        let mut rows = Vec::with_capacity(chosen.visits[expert].len() * width);
        chosen.visits[expert]
            .iter()
            .for_each(|visit| rows.extend_from_slice(&x[visit.token * width..][..width]));
        Cow::Owned(rows)
    }

    /// Multiplies the rows of an expert's visitors by their weights.
    pub fn weigh(&self, expert: usize, rows: &mut [f32], width: usize) {
        let Some(chosen) = &self.0 else { return };
        rows.chunks_exact_mut(width)
            .zip(&chosen.visits[expert])
            .for_each(|(row, visit)| ops::scale(row, visit.weight));
    }

    /// Adds the rows of an expert's visitors to those of `to`, `[token][width]`.
    pub fn scatter(&self, expert: usize, rows: &[f32], to: &mut [f32], width: usize) {
        let Some(chosen) = &self.0 else { return ops::add(to, rows) };
        rows.chunks_exact(width)
            .zip(&chosen.visits[expert])
            .for_each(|(row, visit)| ops::add(&mut to[visit.token * width..][..width], row));
    }

    /// Some tokens from all over the text, whoever they visit: as many as an expert has visitors on average. None where
    /// everyone visits anyway.
    pub fn passers_by(&self, x: &[f32], width: usize) -> Option<Vec<f32>> {
        let chosen = self.0.as_ref()?;
        let visits: usize = chosen.visits.iter().map(Vec::len).sum();
        let tokens = x.len() / width;
        let taken = (visits / chosen.visits.len()).clamp(1, tokens);
        let row = |index: usize| &x[index * tokens / taken * width..][..width];
        Some((0..taken).flat_map(row).copied().collect())
    }
}
