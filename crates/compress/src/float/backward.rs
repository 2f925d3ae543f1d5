//! The gradients of a decoder block, derived by hand: what training and the sensitivities of matrices are made of.
//!
//! Who walks many blocks keeps the stream before each and computes its stages again ([`Block::backward`]), so that memory
//! stays that of one block however many there are (Chen et al., 2016, arXiv 1604.06174). Who has the memory keeps a
//! [`Trace`] and computes them once.

use rayon::prelude::*;

use super::attention::Attention;
use super::block::{Block, Heads, Role, Setting};
use super::pointwise;

/// Told what a gradient needs: for every product its input `[token][columns]` and the gradient of its outcome
/// `[token][rows]`.
pub trait Observer {
    /// One product's. The gradient of the weight is `gradient^T input`, that of the bias the sum of the gradient's rows.
    fn product(&mut self, role: Role, input: &[f32], gradient: &[f32]);

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
        let gate = self.matrix(Role::Gate).forward(&feed_forward_input);
        let up = self.matrix(Role::Up).forward(&feed_forward_input);
        let hidden = self.activated(setting, gate.clone(), &up);
        Trace { attention_input, heads, attended, middle, feed_forward_input, gate, up, hidden }
    }

    /// The stream after the block.
    pub fn outcome(&self, setting: &Setting<'_>, trace: &Trace) -> Vec<f32> {
        let mut stream = trace.middle.clone();
        self.add_feed_forward(setting, &trace.hidden, &mut stream);
        stream
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
        let Trace { attention_input, heads, attended, middle, feed_forward_input, mut gate, mut up, hidden } =
            trace;

        // The feed-forward half.
        let down = self.matrix(Role::Down);
        let dout = self.through_post_norm(
            setting,
            self.norms.post_feed_forward.as_deref(),
            Norm::PostFeedForward,
            || down.forward(&hidden),
            gradient,
            observer,
        );
        observer.product(Role::Down, &hidden, &dout);
        let mut dhidden = vec![0.0; hidden.len()];
        down.backward(&dout, &mut dhidden);
        let width = down.columns;
        gate.par_chunks_mut(width)
            .zip(up.par_chunks_mut(width))
            .zip(dhidden.par_chunks(width))
            .for_each(|((gate, up), dy)| pointwise::activate_backward(config.activation, gate, up, dy));
        let mut dinput = vec![0.0; feed_forward_input.len()];
        for (role, dy) in [(Role::Gate, &gate), (Role::Up, &up)] {
            observer.product(role, &feed_forward_input, dy);
            self.matrix(role).backward(dy, &mut dinput);
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
        observer.product(Role::AttentionOutput, &attended, &dout);
        let mut dattended = vec![0.0; attended.len()];
        output.backward(&dout, &mut dattended);
        let [mut dquery, mut dkey, dvalue] =
            attention.backward(&heads.query, &heads.key, &heads.value, &dattended);
        self.turn_back(setting, Role::Query, &attention_input, &mut dquery, observer);
        self.turn_back(setting, Role::Key, &attention_input, &mut dkey, observer);
        let mut dinput = vec![0.0; attention_input.len()];
        for (role, dy) in [(Role::Query, &dquery), (Role::Key, &dkey), (Role::Value, &dvalue)] {
            observer.product(role, &attention_input, dy);
            self.matrix(role).backward(dy, &mut dinput);
        }
        let norm = &self.norms.attention;
        let dnorm = norm_backward(stream, norm, config.norm_epsilon, &dinput, gradient);
        observer.norm(Norm::Attention, &dnorm);
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
