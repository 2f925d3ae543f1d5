//! One decoder block in f32, in the stages between which matrices can be exchanged: each stage makes the input of the
//! next products, so that a caller may look at it, round the matrices, and go on with the rounded ones.

use std::borrow::Cow;

use model::{Config, Rotation};
use rayon::prelude::*;

use super::attention::Attention;
use super::backward::Norm;
use super::linear::Linear;
use super::mixture::{Mixture, Routing};
use super::pointwise;
use crate::error::Error;

/// The matrices of a block, in the order in which a token meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `[heads * head_dim][width]`.
    Query,
    /// `[kv_heads * head_dim][width]`.
    Key,
    /// `[kv_heads * head_dim][width]`.
    Value,
    /// `[width][heads * head_dim]`.
    AttentionOutput,
    /// `[feed_forward][width]`.
    Gate,
    /// `[feed_forward][width]`.
    Up,
    /// `[width][feed_forward]`.
    Down,
}

/// All roles, in order.
pub const ROLES: [Role; 7] =
    [Role::Query, Role::Key, Role::Value, Role::AttentionOutput, Role::Gate, Role::Up, Role::Down];

/// The norms of a block; weights are `[width]`, those of heads `[head_dim]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Norms {
    /// Before attention.
    pub attention: Vec<f32>,
    /// On every query head.
    pub query: Option<Vec<f32>>,
    /// On every key head.
    pub key: Option<Vec<f32>>,
    /// After attention.
    pub post_attention: Option<Vec<f32>>,
    /// Before the feed-forward block.
    pub feed_forward: Vec<f32>,
    /// After the feed-forward block.
    pub post_feed_forward: Option<Vec<f32>>,
}

impl Norms {
    /// The norm in this place, if the block has one there.
    pub fn get_mut(&mut self, norm: Norm) -> Option<&mut Vec<f32>> {
        match norm {
            Norm::Attention => Some(&mut self.attention),
            Norm::Query => self.query.as_mut(),
            Norm::Key => self.key.as_mut(),
            Norm::PostAttention => self.post_attention.as_mut(),
            Norm::FeedForward => Some(&mut self.feed_forward),
            Norm::PostFeedForward => self.post_feed_forward.as_mut(),
        }
    }
}

/// A decoder block: its norms and its matrices by [`Role`]. A gradient of one has the same form.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The norms.
    pub norms: Norms,
    /// One for each of [`ROLES`]; gate, up and down are empty where there are experts.
    pub matrices: [Linear; ROLES.len()],
    /// The experts, where the block has them.
    pub mixture: Option<Mixture>,
}

/// What a block's stages need beside its weights.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The model's.
    pub config: &'a Config,
    /// The block's place.
    pub layer: usize,
    /// How heads turn in this layer.
    pub rotation: &'a Rotation,
    /// `[length][dimensions / 2][cos, sin]`.
    pub angles: &'a [f32],
    /// Tokens in a window; windows lie one after another and know nothing of each other.
    pub length: usize,
}

/// Query, key and value as attention reads them.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
    pub(crate) value: Vec<f32>,
}

impl Block {
    /// The matrix in this role.
    pub fn matrix(&self, role: Role) -> &Linear {
        &self.matrices[role as usize]
    }

    /// The matrix in this role, to be changed.
    pub fn matrix_mut(&mut self, role: Role) -> &mut Linear {
        &mut self.matrices[role as usize]
    }

    /// The matrix in this role, of an expert where that says which: a dense block counts as one expert, number 0.
    pub fn expert(&self, role: Role, expert: usize) -> Cow<'_, Linear> {
        match &self.mixture {
            Some(mixture) if role >= Role::Gate => Cow::Owned(mixture.matrix(role, expert)),
            _ => Cow::Borrowed(self.matrix(role)),
        }
    }

    /// The residual stream `[token][width]` after this block.
    pub fn forward(&self, setting: &Setting<'_>, stream: &mut [f32]) {
        let input = self.attention_input(setting, stream);
        let attended = self.attended(setting, &input);
        self.add_attention(setting, &attended, stream);
        let input = self.feed_forward_input(setting, stream);
        let routing = self.routing(&input);
        let mut branch = vec![0.0; stream.len()];
        for expert in 0..routing.experts() {
            let input = routing.gather(expert, &input, setting.config.width);
            let (gate, up) = self.gate_and_up(expert, &input);
            let hidden = self.activated(setting, gate, &up);
            add_outcome(&self.expert(Role::Down, expert), &routing, expert, &hidden, &mut branch);
        }
        self.add_feed_forward(setting, branch, stream);
    }

    /// What query, key and value are computed from.
    pub fn attention_input(&self, setting: &Setting<'_>, stream: &[f32]) -> Vec<f32> {
        norm_rows(stream, &self.norms.attention, setting.config.norm_epsilon)
    }

    /// What the output product of attention is computed from.
    pub fn attended(&self, setting: &Setting<'_>, input: &[f32]) -> Vec<f32> {
        let heads = self.heads(setting, input);
        let attention = Attention::of(setting.config, setting.layer, setting.length);
        attention.forward(&heads.query, &heads.key, &heads.value)
    }

    pub(crate) fn heads(&self, setting: &Setting<'_>, input: &[f32]) -> Heads {
        let mut query = self.matrix(Role::Query).forward(input);
        let mut key = self.matrix(Role::Key).forward(input);
        turn(setting, &mut query, self.matrix(Role::Query).rows, self.norms.query.as_deref());
        turn(setting, &mut key, self.matrix(Role::Key).rows, self.norms.key.as_deref());
        Heads { query, key, value: self.matrix(Role::Value).forward(input) }
    }

    /// Adds attention's outcome to the stream.
    pub fn add_attention(&self, setting: &Setting<'_>, attended: &[f32], stream: &mut [f32]) {
        let out = self.matrix(Role::AttentionOutput).forward(attended);
        join(out, self.norms.post_attention.as_deref(), setting.config, stream);
    }

    /// What gate and up are computed from.
    pub fn feed_forward_input(&self, setting: &Setting<'_>, stream: &[f32]) -> Vec<f32> {
        norm_rows(stream, &self.norms.feed_forward, setting.config.norm_epsilon)
    }

    /// Which tokens visit which expert; `input` is what gate and up are computed from.
    pub fn routing(&self, input: &[f32]) -> Routing {
        self.mixture.as_ref().map_or_else(Routing::everyone, |mixture| mixture.routing(input))
    }

    /// An expert's products of the `input` of its visitors, `[visit][feed_forward]`.
    pub(crate) fn gate_and_up(&self, expert: usize, input: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let product = |role: Role| self.expert(role, expert).forward(input);
        (product(Role::Gate), product(Role::Up))
    }

    /// What the down product is computed from.
    pub fn activated(&self, setting: &Setting<'_>, mut gate: Vec<f32>, up: &[f32]) -> Vec<f32> {
        let width = self.mixture.as_ref().map_or(self.matrix(Role::Gate).rows, Mixture::feed_forward);
        gate.par_chunks_mut(width)
            .zip(up.par_chunks(width))
            .for_each(|(gate, up)| pointwise::activate(setting.config.activation, gate, up));
        gate
    }

    /// Adds the feed-forward block's outcome, `[token][width]`, to the stream.
    pub fn add_feed_forward(&self, setting: &Setting<'_>, outcome: Vec<f32>, stream: &mut [f32]) {
        join(outcome, self.norms.post_feed_forward.as_deref(), setting.config, stream);
    }
}

/// Adds what an expert makes of its visitors to the feed-forward block's outcome: `down` is its matrix, `hidden` what that
/// multiplies.
pub(crate) fn add_outcome(
    down: &Linear,
    routing: &Routing,
    expert: usize,
    hidden: &[f32],
    outcome: &mut [f32],
) {
    let mut rows = down.forward(hidden);
    routing.weigh(expert, &mut rows, down.rows);
    routing.scatter(expert, &rows, outcome, down.rows);
}

/// RMS norm of every row.
pub(crate) fn norm_rows(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(weight.len())
        .zip(x.par_chunks(weight.len()))
        .for_each(|(out, x)| kernels::ops::rms_norm(x, weight, epsilon, out));
    out
}

/// Normalises where the model does, then rotates, every head of every token; `x` is `[token][width]`.
fn turn(setting: &Setting<'_>, x: &mut [f32], width: usize, norm: Option<&[f32]>) {
    let (config, dimensions) = (setting.config, setting.rotation.dimensions);
    x.par_chunks_mut(width).enumerate().for_each(|(token, row)| {
        let angles = &setting.angles[token % setting.length * dimensions..][..dimensions];
        for head in row.chunks_exact_mut(config.head_dim) {
            if let Some(norm) = norm {
                kernels::ops::rms_norm_in_place(head, norm, config.norm_epsilon);
            }
            pointwise::rotate(setting.rotation.style, &mut head[..dimensions], angles);
        }
    });
}

fn join(mut branch: Vec<f32>, norm: Option<&[f32]>, config: &Config, stream: &mut [f32]) {
    let width = config.width;
    branch.par_chunks_mut(width).zip(stream.par_chunks_mut(width)).for_each(|(branch, stream)| {
        if let Some(norm) = norm {
            kernels::ops::rms_norm_in_place(branch, norm, config.norm_epsilon);
        }
        kernels::ops::add(stream, branch);
    });
}

/// Refuses what would spread unseen.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn check_finite(values: &[f32], what: impl FnOnce() -> String) -> Result<(), Error> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(Error::NotFinite { what: what() }),
    }
}
