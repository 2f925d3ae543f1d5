//! The gradients of a decoder block, derived by hand: what training and the sensitivities of matrices are made of.
//!
//! Who walks many blocks keeps the stream before each and computes its stages again ([`Block::backward`]), so that memory
//! stays that of one block however many there are (Chen et al., 2016, arXiv 1604.06174). Who has the memory keeps a
//! [`Trace`] and computes them once.

use rayon::prelude::*;

use super::attention::Attention;
use super::block::{Block, Heads, Role, Setting, add_outcome};
use super::mixture::Routing;
use super::pointwise;

/// Told what a gradient needs: for every product its input `[token][columns]` and the gradient of its outcome
/// `[token][rows]`, of experts those of their visitors.
pub trait Observer {
    /// One product's. The gradient of the weight is `gradient^T input`, that of the bias the sum of the gradient's rows.
    /// Experts that nobody visits have none; what is no expert has the number 0.
    fn product(&mut self, role: Role, expert: usize, input: &[f32], gradient: &[f32]);

    /// The gradient of a norm's weight; `pick` finds the norm in a block.
    fn norm(&mut self, pick: Norm, gradient: &[f32]);
}

/// The norms of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Before attention.
    Attention,
    /// On every query head.
    Query,
    /// On every key head.
    Key,
    /// After attention.
    PostAttention,
    /// Before the feed-forward block.
    FeedForward,
    /// After the feed-forward block.
    PostFeedForward,
}

/// What the backward pass needs of the forward pass of one block.
#[derive(Debug)]
pub struct Trace {
    attention_input: Vec<f32>,
    heads: Heads,
    attended: Vec<f32>,
    /// The stream between the halves.
    middle: Vec<f32>,
    feed_forward_input: Vec<f32>,
    routing: Routing,
    experts: Vec<Gated>,
}

/// What an expert makes of its visitors, `[visit][feed_forward]`.
#[derive(Debug)]
struct Gated {
    gate: Vec<f32>,
    up: Vec<f32>,
    hidden: Vec<f32>,
}

impl Block {
    /// The forward pass, kept; `stream` is the stream before the block.
    pub fn trace(&self, setting: &Setting<'_>, stream: &[f32]) -> Trace {
        let attention_input = self.attention_input(setting, stream);
        let heads = self.heads(setting, &attention_input);
        let attention = Attention::of(setting.config, setting.layer, setting.length);
        let attended = attention.forward(&heads.query, &heads.key, &heads.value);
        let mut middle = stream.to_vec();
        self.add_attention(setting, &attended, &mut middle);
        let feed_forward_input = self.feed_forward_input(setting, &middle);
        let routing = self.routing(&feed_forward_input);
        let gated = |expert| {
            let input = routing.gather(expert, &feed_forward_input, setting.config.width);
            let (gate, up) = self.gate_and_up(expert, &input);
            let hidden = self.activated(setting, gate.clone(), &up);
            Gated { gate, up, hidden }
        };
        let experts = (0..routing.experts()).map(gated).collect();
        Trace { attention_input, heads, attended, middle, feed_forward_input, routing, experts }
    }

    /// The stream after the block.
    pub fn outcome(&self, setting: &Setting<'_>, trace: &Trace) -> Vec<f32> {
        let mut stream = trace.middle.clone();
        let outcome = self.gathered(&trace.routing, &trace.experts, stream.len());
        self.add_feed_forward(setting, outcome, &mut stream);
        stream
    }

    /// The outcome of all experts together.
    fn gathered(&self, routing: &Routing, experts: &[Gated], size: usize) -> Vec<f32> {
        let mut outcome = vec![0.0; size];
        for (expert, Gated { hidden, .. }) in experts.iter().enumerate() {
            add_outcome(&self.expert(Role::Down, expert), routing, expert, hidden, &mut outcome);
        }
        outcome
    }

    /// Turns `gradient` of the stream after the block into that before it; `stream` is the stream before the block,
    /// `[token][width]` both.
    pub fn backward(
        &self,
        setting: &Setting<'_>,
        stream: &[f32],
        gradient: &mut [f32],
        observer: &mut dyn Observer,
    ) {
        self.backward_along(setting, stream, self.trace(setting, stream), gradient, observer);
    }

    /// The same, where the forward pass was kept.
    pub fn backward_along(
        &self,
        setting: &Setting<'_>,
        stream: &[f32],
        trace: Trace,
        gradient: &mut [f32],
        observer: &mut dyn Observer,
    ) {
        let config = setting.config;
        let attention = Attention::of(config, setting.layer, setting.length);
        let Trace { attention_input, heads, attended, middle, feed_forward_input, routing, experts } = trace;

        // The feed-forward half.
        let dout = self.through_post_norm(
            setting,
            self.norms.post_feed_forward.as_deref(),
            Norm::PostFeedForward,
            || self.gathered(&routing, &experts, stream.len()),
            gradient,
            observer,
        );
        let mut dinput = vec![0.0; feed_forward_input.len()];
        let mut slopes = Vec::new();
        for (expert, gated) in experts.into_iter().enumerate() {
            let input = routing.gather(expert, &feed_forward_input, config.width);
            let dout = routing.gather(expert, &dout, config.width).into_owned();
            slopes.push(match input.is_empty() {
                true => Vec::new(),
                false => {
                    let (slopes, dvisitors) =
                        self.back_from_expert(setting, &routing, expert, (&input, gated), dout, observer);
                    routing.scatter(expert, &dvisitors, &mut dinput, config.width);
                    slopes
                }
            });
        }
        if let Some(mixture) = &self.mixture {
            mixture.backward(&routing, &slopes, &mut dinput);
        }
        let norm = &self.norms.feed_forward;
        let dnorm = norm_backward(&middle, norm, config.norm_epsilon, &dinput, gradient);
        observer.norm(Norm::FeedForward, &dnorm);

        // The attention half.
        let output = self.matrix(Role::AttentionOutput);
        let dout = self.through_post_norm(
            setting,
            self.norms.post_attention.as_deref(),
            Norm::PostAttention,
            || output.forward(&attended),
            gradient,
            observer,
        );
        observer.product(Role::AttentionOutput, 0, &attended, &dout);
        let mut dattended = vec![0.0; attended.len()];
        output.backward(&dout, &mut dattended);
        let [mut dquery, mut dkey, dvalue] =
            attention.backward(&heads.query, &heads.key, &heads.value, &dattended);
        self.turn_back(setting, Role::Query, &attention_input, &mut dquery, observer);
        self.turn_back(setting, Role::Key, &attention_input, &mut dkey, observer);
        let mut dinput = vec![0.0; attention_input.len()];
        for (role, dy) in [(Role::Query, &dquery), (Role::Key, &dkey), (Role::Value, &dvalue)] {
            observer.product(role, 0, &attention_input, dy);
            self.matrix(role).backward(dy, &mut dinput);
        }
        let norm = &self.norms.attention;
        let dnorm = norm_backward(stream, norm, config.norm_epsilon, &dinput, gradient);
        observer.norm(Norm::Attention, &dnorm);
    }

    /// The slopes of the weights of an expert's visits, and the gradient of its visitors' `input`, given that of the
    /// outcome of their visits before it is weighed.
    fn back_from_expert(
        &self,
        setting: &Setting<'_>,
        routing: &Routing,
        expert: usize,
        (input, Gated { mut gate, mut up, hidden }): (&[f32], Gated),
        mut dout: Vec<f32>,
        observer: &mut dyn Observer,
    ) -> (Vec<f32>, Vec<f32>) {
        let config = setting.config;
        let down = self.expert(Role::Down, expert);
        let width = down.columns;
        let mut dhidden = vec![0.0; hidden.len()];
        down.backward(&dout, &mut dhidden);
        // The slope of a weight is the gradient along the expert's word, `dout . (down h)`, which is `(down^T dout) . h`.
        let slopes = dhidden
            .chunks_exact(width)
            .zip(hidden.chunks_exact(width))
            .map(|(dhidden, hidden)| dhidden.iter().zip(hidden).map(|(dh, h)| dh * h).sum())
            .collect();
        routing.weigh(expert, &mut dout, config.width);
        routing.weigh(expert, &mut dhidden, width);
        observer.product(Role::Down, expert, &hidden, &dout);
        gate.par_chunks_mut(width)
            .zip(up.par_chunks_mut(width))
            .zip(dhidden.par_chunks(width))
            .for_each(|((gate, up), dy)| pointwise::activate_backward(config.activation, gate, up, dy));
        let mut dinput = vec![0.0; input.len()];
        for (role, dy) in [(Role::Gate, &gate), (Role::Up, &up)] {
            observer.product(role, expert, input, dy);
            self.expert(role, expert).backward(dy, &mut dinput);
        }
        (slopes, dinput)
    }

    /// The gradient of a branch before its norm, if it has one, given that of the stream that it joined.
    fn through_post_norm(
        &self,
        setting: &Setting<'_>,
        norm: Option<&[f32]>,
        pick: Norm,
        branch: impl FnOnce() -> Vec<f32>,
        gradient: &[f32],
        observer: &mut dyn Observer,
    ) -> Vec<f32> {
        let Some(norm) = norm else { return gradient.to_vec() };
        let mut dbranch = vec![0.0; gradient.len()];
        let epsilon = setting.config.norm_epsilon;
        let dnorm = norm_backward(&branch(), norm, epsilon, gradient, &mut dbranch);
        observer.norm(pick, &dnorm);
        dbranch
    }

    /// Gradients of rotated heads become those of the product that they came from.
    fn turn_back(
        &self,
        setting: &Setting<'_>,
        role: Role,
        input: &[f32],
        gradient: &mut [f32],
        observer: &mut dyn Observer,
    ) {
        let (norm, pick) = match role {
            Role::Query => (self.norms.query.as_deref(), Norm::Query),
            _ => (self.norms.key.as_deref(), Norm::Key),
        };
        let (config, rotation) = (setting.config, setting.rotation);
        let (width, dimensions) = (self.matrix(role).rows, rotation.dimensions);
        gradient.par_chunks_mut(width).enumerate().for_each(|(token, row)| {
            let mut angles = setting.angles[token % setting.length * dimensions..][..dimensions].to_vec();
            angles.iter_mut().skip(1).step_by(2).for_each(|sin| *sin = -*sin);
            for head in row.chunks_exact_mut(config.head_dim) {
                pointwise::rotate(rotation.style, &mut head[..dimensions], &angles);
            }
        });
        if let Some(norm) = norm {
            let x = self.matrix(role).forward(input);
            let mut dx = vec![0.0; gradient.len()];
            let dnorm = norm_backward(&x, norm, config.norm_epsilon, gradient, &mut dx);
            observer.norm(pick, &dnorm);
            gradient.copy_from_slice(&dx);
        }
    }
}

/// Adds the gradient through the norm of every row of `x` to `dx`, and returns that of the norm's weight.
pub(crate) fn norm_backward(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let width = weight.len();
    // Rows by the hundred, so that the sum's order does not depend on the threads.
    const ROWS: usize = 128;
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width).zip(dy.par_chunks(ROWS * width)))
        .map(|(dx, (x, dy))| {
            let mut dweight = vec![0.0; width];
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            for (dx, (x, dy)) in dx.chunks_exact_mut(width).zip(rows) {
                pointwise::rms_norm_backward(x, weight, epsilon, dy, dx, &mut dweight);
            }
            dweight
        })
        .collect();
    let mut dweight = vec![0.0; width];
    parts.iter().for_each(|part| kernels::ops::add(&mut dweight, part));
    dweight
}
