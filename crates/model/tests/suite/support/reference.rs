//! The same transformers in straight loops and `f64`, written from the models' descriptions and not from the code
//! under test: whole rows of scores, no cache, no batches, every token anew.

use std::collections::HashMap;

use testkit::{TinyModel, TinyOptions};

/// Radians a position that a pair turns by: from whether the layer is local, and the pair's index.
type Frequency<'a> = Box<dyn Fn(bool, usize) -> f64 + 'a>;

/// A model and how its architecture differs from the plain one.
pub(crate) struct Reference<'a> {
    options: &'a TinyOptions,
    /// Values of each tensor in the file's order.
    tensors: HashMap<&'a str, Vec<f64>>,
    /// Can be replaced to test scaling.
    pub(crate) frequency: Frequency<'a>,
    /// Factor on rotated values.
    pub(crate) magnitude: f64,
    /// Leading values of a head that turn.
    pub(crate) rotated: usize,
    /// Pairs are `2i, 2i + 1`.
    adjacent: bool,
    gemma: bool,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(options: &'a TinyOptions, model: &'a TinyModel) -> Reference<'a> {
        let tensors = model.tensors.iter().map(|(spec, data)| {
            let format = kernels::format(spec.type_id).unwrap();
            let mut values = vec![0.0; spec.shape.iter().product::<u64>() as usize];
            let columns = spec.shape[0] as usize;
            for (row, out) in data.chunks(format.row_bytes(columns)).zip(values.chunks_mut(columns)) {
                format.dequantize_row(row, out);
            }
            (spec.name.as_str(), values.into_iter().map(f64::from).collect())
        });
        let gemma = options.architecture == "gemma3";
        let dimensions = options.head_dim as f64;
        Reference {
            options,
            tensors: tensors.collect(),
            frequency: Box::new(move |local, pair| {
                let base: f64 = if gemma && !local { 1e6 } else { 1e4 };
                base.powf(-2.0 * pair as f64 / dimensions)
            }),
            magnitude: 1.0,
            rotated: options.head_dim as usize,
            adjacent: options.architecture == "llama",
            gemma,
        }
    }

    fn tensor(&self, name: &str) -> &[f64] {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// `matrix * x`, where the matrix is rows `from..` of a tensor, as many as `rows`.
    fn product(&self, name: &str, from: usize, rows: usize, x: &[f64]) -> Vec<f64> {
        let matrix = &self.tensor(name)[from * x.len()..(from + rows) * x.len()];
        matrix.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
        x.iter().zip(self.tensor(name)).map(|(value, weight)| value / (mean + 1e-6).sqrt() * weight).collect()
    }

    /// Logits of all tokens, `[token][vocabulary]`.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let width = self.options.width as usize;
        let scale = if self.gemma { (width as f64).sqrt() } else { 1.0 };
        let embedding = self.tensor("token_embd.weight");
        let mut stream: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&token| {
                embedding[token as usize * width..][..width].iter().map(|value| value * scale).collect()
            })
            .collect();
        for layer in 0..self.options.layers as usize {
            let attended = self.attention(layer, &stream);
            self.add(&mut stream, attended, &format!("blk.{layer}.post_attention_norm.weight"));
            let fed = stream.iter().map(|x| self.feed_forward(layer, x)).collect();
            self.add(&mut stream, fed, &format!("blk.{layer}.post_ffw_norm.weight"));
        }
        let output = if self.options.tied { "token_embd.weight" } else { "output.weight" };
        let vocabulary = embedding.len() / width;
        stream
            .iter()
            .flat_map(|x| self.product(output, 0, vocabulary, &self.norm("output_norm.weight", x)))
            .collect()
    }

    fn add(&self, stream: &mut [Vec<f64>], branch: Vec<Vec<f64>>, post_norm: &str) {
        for (x, branch) in stream.iter_mut().zip(branch) {
            let branch = if self.gemma { self.norm(post_norm, &branch) } else { branch };
            x.iter_mut().zip(branch).for_each(|(x, branch)| *x += branch);
        }
    }

    fn attention(&self, layer: usize, stream: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let TinyOptions { heads, kv_heads, head_dim, .. } = *self.options;
        let (heads, kv_heads, head_dim) = (heads as usize, kv_heads as usize, head_dim as usize);
        let block = |name: &str| format!("blk.{layer}.{name}");
        let local = self.gemma && self.options.window.is_some() && layer % 6 != 5;
        let window = if local || !self.gemma { self.options.window } else { None };
        let project = |x: &[f64], name: &str, merged_from: usize, count: usize| {
            let rows = count * head_dim;
            let mut out = if self.options.architecture == "phi3" {
                self.product(&block("attn_qkv.weight"), merged_from * head_dim, rows, x)
            } else {
                self.product(&block(&format!("{name}.weight")), 0, rows, x)
            };
            if let Some(bias) = self.tensors.get(block(&format!("{name}.bias")).as_str()) {
                out.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
            out
        };
        let turned = |mut x: Vec<f64>, norm: &str, position: usize| {
            for head in x.chunks_mut(head_dim) {
                if self.tensors.contains_key(block(norm).as_str()) {
                    head.copy_from_slice(&self.norm(&block(norm), head));
                }
                self.rotate(head, local, position);
            }
            x
        };
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = self.norm(&block("attn_norm.weight"), x);
            queries.push(turned(project(&x, "attn_q", 0, heads), "attn_q_norm.weight", position));
            let key = turned(project(&x, "attn_k", heads, kv_heads), "attn_k_norm.weight", position);
            keys.push(key.into_iter().map(half).collect::<Vec<f64>>());
            let value = project(&x, "attn_v", heads + kv_heads, kv_heads);
            values.push(value.into_iter().map(half).collect::<Vec<f64>>());
        }
        let one = |position: usize, query: &[f64]| {
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
            let mut out = vec![0.0; heads * head_dim];
            for (head, out) in out.chunks_mut(head_dim).enumerate() {
                let kv = head / (heads / kv_heads) * head_dim;
                let query = &query[head * head_dim..(head + 1) * head_dim];
                let scores = (first..=position).map(|other| {
                    let key = &keys[other][kv..kv + head_dim];
                    query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt()
                });
                for (other, weight) in (first..).zip(softmax(scores.collect())) {
                    out.iter_mut().zip(&values[other][kv..]).for_each(|(out, value)| *out += weight * value);
                }
            }
            self.product(&block("attn_output.weight"), 0, self.options.width as usize, &out)
        };
        queries.iter().enumerate().map(|(position, query)| one(position, query)).collect()
    }

    fn rotate(&self, head: &mut [f64], local: bool, position: usize) {
        let half = self.rotated / 2;
        for pair in 0..half {
            let (first, second) = if self.adjacent { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            let (sin, cos) = (position as f64 * (self.frequency)(local, pair)).sin_cos();
            let (a, b) = (head[first], head[second]);
            head[first] = (a * cos - b * sin) * self.magnitude;
            head[second] = (a * sin + b * cos) * self.magnitude;
        }
    }

    fn feed_forward(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let (width, hidden) = (self.options.width as usize, self.options.feed_forward as usize);
        let block = |name: &str| format!("blk.{layer}.{name}.weight");
        let x = self.norm(&block("ffn_norm"), x);
        let run = |gate: (&str, usize), up: (&str, usize), down: (&str, usize)| {
            let gate = self.product(&block(gate.0), gate.1, hidden, &x);
            let up = self.product(&block(up.0), up.1, hidden, &x);
            let inner: Vec<f64> = gate.iter().zip(up).map(|(gate, up)| self.activation(*gate) * up).collect();
            self.product(&block(down.0), down.1, width, &inner)
        };
        if let Some((count, used)) = self.options.experts {
            let weights = softmax(self.product(&block("ffn_gate_inp"), 0, count as usize, &x));
            let mut order: Vec<usize> = (0..count as usize).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            let chosen = &order[..used as usize];
            let total: f64 = chosen.iter().map(|&expert| weights[expert]).sum();
            let mut out = vec![0.0; width];
            for &expert in chosen {
                let from = expert * hidden;
                let one =
                    run(("ffn_gate_exps", from), ("ffn_up_exps", from), ("ffn_down_exps", expert * width));
                out.iter_mut().zip(one).for_each(|(out, one)| *out += weights[expert] / total * one);
            }
            return out;
        }
        if self.options.architecture == "phi3" {
            return run(("ffn_up", 0), ("ffn_up", hidden), ("ffn_down", 0));
        }
        run(("ffn_gate", 0), ("ffn_up", 0), ("ffn_down", 0))
    }

    fn activation(&self, x: f64) -> f64 {
        if self.gemma {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        } else {
            x / (1.0 + (-x).exp())
        }
    }
}

fn softmax(scores: Vec<f64>) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The nearest half-precision number: 11 significant bits, multiples of 2^-24 at the least.
fn half(value: f64) -> f64 {
    let exponent = value.abs().max(2f64.powi(-14)).log2().floor();
    let step = 2f64.powf(exponent - 10.0);
    (value / step).round_ties_even() * step
}
