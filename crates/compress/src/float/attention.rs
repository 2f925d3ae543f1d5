//! Causal attention over whole windows in f32, forward and backward, a window a thread.

use faer::{Accum, MatMut, MatRef};
use kernels::ops;
use model::Config;
use rayon::prelude::*;

use super::linear::{multiply_here, view, view_mut};

/// What attention of one layer needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    softcap: Option<f32>,
    window: Option<usize>,
    /// Tokens in a window of text: those of one know nothing of another.
    length: usize,
}

impl Attention {
    pub(crate) fn of(config: &Config, layer: usize, length: usize) -> Attention {
        Attention {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale,
            softcap: config.attention_softcap,
            window: config.layers[layer].window,
            length,
        }
    }

    /// `query` is `[token][heads * head_dim]`, `key` and `value` are `[token][kv_heads * head_dim]`, rotated; the outcome
    /// is like `query`.
    pub(crate) fn forward(&self, query: &[f32], key: &[f32], value: &[f32]) -> Vec<f32> {
        let (wide, narrow) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut out = vec![0.0; query.len()];
        out.par_chunks_mut(self.length * wide)
            .zip(query.par_chunks(self.length * wide))
            .zip(key.par_chunks(self.length * narrow).zip(value.par_chunks(self.length * narrow)))
            .for_each(|((out, query), (key, value))| {
                let tokens = query.len() / wide;
                let mut chances = vec![0.0; tokens * tokens];
                for head in 0..self.heads {
                    let [query, key, value] = self.head(head, query, key, value);
                    self.chances(query, key, &mut chances);
                    let out = self.columns_mut(out, wide, head);
                    multiply_here(out, Accum::Replace, view(&chances, tokens), value, 1.0);
                }
            });
        out
    }

    /// The gradients of query, key and value, given that of the outcome.
    pub(crate) fn backward(&self, query: &[f32], key: &[f32], value: &[f32], dout: &[f32]) -> [Vec<f32>; 3] {
        let (wide, narrow) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (mut dquery, mut dkey, mut dvalue) =
            (vec![0.0; query.len()], vec![0.0; key.len()], vec![0.0; value.len()]);
        let inputs = query
            .par_chunks(self.length * wide)
            .zip(key.par_chunks(self.length * narrow).zip(value.par_chunks(self.length * narrow)));
        let outputs = dquery
            .par_chunks_mut(self.length * wide)
            .zip(dkey.par_chunks_mut(self.length * narrow).zip(dvalue.par_chunks_mut(self.length * narrow)));
        outputs.zip(inputs).zip(dout.par_chunks(self.length * wide)).for_each(
            |(((dquery, (dkey, dvalue)), (query, (key, value))), dout)| {
                let tokens = query.len() / wide;
                let (mut chances, mut slopes) = (vec![0.0; tokens * tokens], vec![0.0; tokens * tokens]);
                for head in 0..self.heads {
                    let kv_head = head / (self.heads / self.kv_heads);
                    let [query, key, value] = self.head(head, query, key, value);
                    let dout = self.columns(dout, wide, head);
                    self.chances(query, key, &mut chances);
                    let p = view(&chances, tokens);
                    multiply_here(
                        self.columns_mut(dvalue, narrow, kv_head),
                        Accum::Add,
                        p.transpose(),
                        dout,
                        1.0,
                    );
                    multiply_here(
                        view_mut(&mut slopes, tokens),
                        Accum::Replace,
                        dout,
                        value.transpose(),
                        1.0,
                    );
                    softmax_backward(&chances, &mut slopes, tokens);
                    self.softcap_backward(query, key, &mut slopes);
                    let slopes = view(&slopes, tokens);
                    multiply_here(self.columns_mut(dquery, wide, head), Accum::Add, slopes, key, self.scale);
                    multiply_here(
                        self.columns_mut(dkey, narrow, kv_head),
                        Accum::Add,
                        slopes.transpose(),
                        query,
                        self.scale,
                    );
                }
            },
        );
        [dquery, dkey, dvalue]
    }

    /// One head's query, and the key and value that it shares with its group.
    fn head<'a>(
        &self,
        head: usize,
        query: &'a [f32],
        key: &'a [f32],
        value: &'a [f32],
    ) -> [MatRef<'a, f32>; 3] {
        let kv_head = head / (self.heads / self.kv_heads);
        let narrow = self.kv_heads * self.head_dim;
        [
            self.columns(query, self.heads * self.head_dim, head),
            self.columns(key, narrow, kv_head),
            self.columns(value, narrow, kv_head),
        ]
    }

    fn columns<'a>(&self, x: &'a [f32], width: usize, head: usize) -> MatRef<'a, f32> {
        view(x, width).subcols(head * self.head_dim, self.head_dim)
    }

    fn columns_mut<'a>(&self, x: &'a mut [f32], width: usize, head: usize) -> MatMut<'a, f32> {
        view_mut(x, width).subcols_mut(head * self.head_dim, self.head_dim)
    }

    /// The positions that the token at `position` attends to.
    fn seen(&self, position: usize) -> std::ops::Range<usize> {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    /// Raw scores, scaled: `[token][token]`.
    fn scores(&self, query: MatRef<'_, f32>, key: MatRef<'_, f32>, out: &mut [f32]) {
        let tokens = query.nrows();
        multiply_here(view_mut(out, tokens), Accum::Replace, query, key.transpose(), self.scale);
    }

    /// What each token gives to each: rows that sum to one, zero where nothing is seen.
    fn chances(&self, query: MatRef<'_, f32>, key: MatRef<'_, f32>, out: &mut [f32]) {
        self.scores(query, key, out);
        let tokens = query.nrows();
        for (position, row) in out.chunks_exact_mut(tokens).enumerate() {
            let seen = self.seen(position);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            if let Some(cap) = self.softcap {
                ops::softcap(&mut row[seen.clone()], cap);
            }
            ops::softmax(&mut row[seen]);
        }
    }

    /// `cap * tanh(s / cap)` has the slope `1 - tanh^2`.
    fn softcap_backward(&self, query: MatRef<'_, f32>, key: MatRef<'_, f32>, slopes: &mut [f32]) {
        let Some(cap) = self.softcap else { return };
        let mut scores = vec![0.0; slopes.len()];
        self.scores(query, key, &mut scores);
        for (slope, score) in slopes.iter_mut().zip(scores) {
            *slope *= 1.0 - (score / cap).tanh().powi(2);
        }
    }
}

/// From the gradients of the chances to those of the scores.
fn softmax_backward(chances: &[f32], slopes: &mut [f32], tokens: usize) {
    for (chances, slopes) in chances.chunks_exact(tokens).zip(slopes.chunks_exact_mut(tokens)) {
        let mean: f32 = chances.iter().zip(&*slopes).map(|(p, slope)| p * slope).sum();
        for (p, slope) in chances.iter().zip(slopes) {
            *slope = p * (*slope - mean);
        }
    }
}
