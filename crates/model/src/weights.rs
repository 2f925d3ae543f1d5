//! Finds a model's tensors, checks them against its configuration, and plans the interleaved copy. After this,
//! every shape is known to fit every other.

use std::collections::HashSet;
use std::ops::Range;

use gguf::{File, TensorInfo};
use kernels::Format;

use crate::config::{Config, Experts};
use crate::error::Error;
use crate::plan::{Plan, Stored};
use crate::rope::Rotation;
use crate::stream::Units;

/// A product and what is added to it.
#[derive(Debug)]
pub struct Projection {
    /// The matrix.
    pub matrix: Stored,
    /// One value a row.
    pub bias: Option<Vec<f32>>,
}

/// The feed-forward half of a layer.
#[derive(Debug)]
pub enum FeedForward {
    /// `down(activation(gate(x)) * up(x))`.
    Dense {
        /// `[feed_forward][width]`.
        gate: Projection,
        /// `[feed_forward][width]`.
        up: Projection,
        /// `[width][feed_forward]`.
        down: Projection,
    },
    /// The same by the experts that the router chooses for each token.
    Experts {
        /// `[count][width]`.
        router: Stored,
        /// One matrix an expert, as the dense ones.
        gate: Vec<Stored>,
        /// One matrix an expert.
        up: Vec<Stored>,
        /// One matrix an expert.
        down: Vec<Stored>,
    },
}

/// The weights of one layer. Norms are `[width]`, those of heads `[head_dim]`.
#[derive(Debug)]
pub struct Layer {
    /// Before attention.
    pub attention_norm: Vec<f32>,
    /// `[heads * head_dim][width]`.
    pub query: Projection,
    /// `[kv_heads * head_dim][width]`.
    pub key: Projection,
    /// `[kv_heads * head_dim][width]`.
    pub value: Projection,
    /// On every query head.
    pub query_norm: Option<Vec<f32>>,
    /// On every key head.
    pub key_norm: Option<Vec<f32>>,
    /// `[width][heads * head_dim]`.
    pub attention_output: Projection,
    /// After attention.
    pub post_attention_norm: Option<Vec<f32>>,
    /// Before the feed-forward block.
    pub feed_forward_norm: Vec<f32>,
    /// The feed-forward block.
    pub feed_forward: FeedForward,
    /// After the feed-forward block.
    pub post_feed_forward_norm: Option<Vec<f32>>,
}

/// Where the embedding table lies in the file: rows are read from there as they are asked for.
#[derive(Debug)]
pub struct Embedding {
    /// Index into the file's tensors.
    pub tensor: usize,
    /// Its number format.
    pub format: &'static Format,
}

/// All weights of a model: small ones in memory, matrices by their place.
#[derive(Debug)]
pub struct Weights {
    /// `[vocabulary][width]`.
    pub embedding: Embedding,
    /// All layers.
    pub layers: Vec<Layer>,
    /// Before the logits.
    pub output_norm: Vec<f32>,
    /// `[vocabulary][width]`.
    pub output: Projection,
    /// One for each of [`Config::ropes`].
    pub rotations: Vec<Rotation>,
}

impl Weights {
    /// The matrices that one token is multiplied with in the layers; of experts, as many as a token visits.
    pub fn layer_matrices(&self, experts_used: usize) -> impl Iterator<Item = &Stored> {
        self.layers.iter().flat_map(move |layer| {
            let attention = [&layer.query, &layer.key, &layer.value, &layer.attention_output];
            let (dense, router, experts): (&[&Projection], _, &[&[Stored]]) = match &layer.feed_forward {
                FeedForward::Dense { gate, up, down } => (&[gate, up, down], None, &[]),
                FeedForward::Experts { router, gate, up, down } => (&[], Some(router), &[gate, up, down]),
            };
            let experts: Vec<&Stored> =
                experts.iter().flat_map(|matrices| matrices.iter().take(experts_used)).collect();
            let dense: Vec<&Stored> =
                attention.iter().chain(dense).map(|projection| &projection.matrix).collect();
            dense.into_iter().chain(router).chain(experts)
        })
    }

    /// What may be streamed: whole layers, or the experts of all layers.
    pub(crate) fn units(&self, header: usize) -> Units {
        let mut units = Units { header, ..Units::default() };
        for layer in &self.layers {
            match &layer.feed_forward {
                // In the order in which they were found.
                FeedForward::Dense { down, .. } => {
                    units.ranges.push(layer.query.matrix.range().start..down.matrix.range().end);
                }
                FeedForward::Experts { gate, down, .. } => {
                    units.experts = gate.len();
                    let experts = gate.iter().zip(down);
                    units.ranges.extend(experts.map(|(gate, down)| gate.range().start..down.range().end));
                }
            }
        }
        units
    }

    /// The weights of `file` by their role, each checked, for whoever reads them from the file rather than multiplies with
    /// them.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::TensorType`], [`Error::UnexpectedTensor`].
    pub fn of_file(file: &File, config: &Config) -> Result<Weights, Error> {
        Weights::find(file, config).map(|(weights, _)| weights)
    }

    /// The same, with the plan of the interleaved copy.
    pub(crate) fn find(file: &File, config: &Config) -> Result<(Weights, Plan), Error> {
        let mut finder = Finder { file, used: HashSet::new(), plan: Plan::default() };
        let (tensor, info, format) = finder.tensor("token_embd.weight")?;
        check_shape(info, &[config.width, config.vocabulary])?;
        let embedding = Embedding { tensor, format };
        let layers = (0..config.layers.len())
            .map(|index| finder.layer(config, &format!("blk.{index}")))
            .collect::<Result<Vec<Layer>, Error>>()?;
        let output_norm = finder.vector("output_norm.weight", config.width)?;
        // A model without its own output matrix uses the embedding table for both.
        let output = if finder.has("output.weight") { "output" } else { "token_embd" };
        let output = Projection {
            matrix: finder.matrix(&format!("{output}.weight"), config.width, config.vocabulary)?,
            bias: finder.optional_vector("output.bias", config.vocabulary)?,
        };
        let rotations = finder.rotations(config)?;
        finder.check_all_used()?;
        Ok((Weights { embedding, layers, output_norm, output, rotations }, finder.plan))
    }
}

struct Finder<'a> {
    file: &'a File,
    used: HashSet<usize>,
    plan: Plan,
}

impl<'a> Finder<'a> {
    fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// The tensor's index, description and format.
    fn tensor(&mut self, name: &str) -> Result<(usize, &'a TensorInfo, &'static Format), Error> {
        let index = self.file.tensors().iter().position(|info| info.name == name);
        let index = index.ok_or_else(|| Error::MissingTensor { tensor: name.to_owned() })?;
        let info = &self.file.tensors()[index];
        let format =
            kernels::format(info.type_id).ok_or_else(|| wrong_type(info, "a supported number format"))?;
        self.used.insert(index);
        Ok((index, info, format))
    }

    /// A small tensor of plain floats, as `f32`.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let (_, info, format) = self.tensor(name)?;
        check_shape(info, &[len])?;
        if !format.is_float() {
            return Err(wrong_type(info, "F32, F16 or BF16"));
        }
        let mut values = vec![0.0; len];
        format.dequantize_row(self.file.data(info), &mut values);
        Ok(values)
    }

    fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error> {
        self.has(name).then(|| self.vector(name, len)).transpose()
    }

    fn matrix(&mut self, name: &str, columns: usize, rows: usize) -> Result<Stored, Error> {
        self.rows(name, &[columns, rows], 0..rows)
    }

    /// Some rows of a tensor of the given shape, whose second and further dimensions count as rows.
    fn rows(&mut self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Stored, Error> {
        let (index, info, format) = self.tensor(name)?;
        check_shape(info, shape)?;
        Ok(self.plan.add(format, index, rows.start, rows.len(), shape[0]))
    }

    /// `{name}.weight` and, if there is one, `{name}.bias`.
    fn projection(&mut self, name: &str, columns: usize, rows: usize) -> Result<Projection, Error> {
        Ok(Projection {
            matrix: self.matrix(&format!("{name}.weight"), columns, rows)?,
            bias: self.optional_vector(&format!("{name}.bias"), rows)?,
        })
    }

    /// Some rows of `{name}.weight` and the same values of `{name}.bias`, which have `total` of them.
    fn part(
        &mut self,
        name: &str,
        columns: usize,
        total: usize,
        rows: Range<usize>,
    ) -> Result<Projection, Error> {
        let bias = self.optional_vector(&format!("{name}.bias"), total)?;
        Ok(Projection {
            matrix: self.rows(&format!("{name}.weight"), &[columns, total], rows.clone())?,
            bias: bias.map(|bias| bias[rows].to_vec()),
        })
    }

    fn layer(&mut self, config: &Config, block: &str) -> Result<Layer, Error> {
        let norm = |finder: &mut Self, name: &str, used: bool, len: usize| {
            used.then(|| finder.vector(&format!("{block}.{name}.weight"), len)).transpose()
        };
        let [query, key, value] = self.attention_inputs(config, block)?;
        Ok(Layer {
            attention_norm: self.vector(&format!("{block}.attn_norm.weight"), config.width)?,
            query,
            key,
            value,
            query_norm: norm(self, "attn_q_norm", config.query_key_norm, config.head_dim)?,
            key_norm: norm(self, "attn_k_norm", config.query_key_norm, config.head_dim)?,
            attention_output: self.projection(
                &format!("{block}.attn_output"),
                config.query_width(),
                config.width,
            )?,
            post_attention_norm: norm(self, "post_attention_norm", config.post_norms, config.width)?,
            feed_forward_norm: self.vector(&format!("{block}.ffn_norm.weight"), config.width)?,
            feed_forward: match &config.experts {
                None => self.dense(config, block)?,
                Some(experts) => self.experts(config, experts, block)?,
            },
            post_feed_forward_norm: norm(self, "post_ffw_norm", config.post_norms, config.width)?,
        })
    }

    /// Query, key and value products: three tensors, or the rows of one.
    fn attention_inputs(&mut self, config: &Config, block: &str) -> Result<[Projection; 3], Error> {
        let (query, kv, width) = (config.query_width(), config.kv_width(), config.width);
        let merged = format!("{block}.attn_qkv");
        if self.has(&format!("{merged}.weight")) {
            let total = query + 2 * kv;
            return Ok([
                self.part(&merged, width, total, 0..query)?,
                self.part(&merged, width, total, query..query + kv)?,
                self.part(&merged, width, total, query + kv..total)?,
            ]);
        }
        Ok([
            self.projection(&format!("{block}.attn_q"), width, query)?,
            self.projection(&format!("{block}.attn_k"), width, kv)?,
            self.projection(&format!("{block}.attn_v"), width, kv)?,
        ])
    }

    /// Without a gate tensor, `ffn_up` holds the gate's rows and then its own.
    fn dense(&mut self, config: &Config, block: &str) -> Result<FeedForward, Error> {
        let (width, hidden) = (config.width, config.feed_forward);
        let up = format!("{block}.ffn_up");
        let (gate, up) = if self.has(&format!("{block}.ffn_gate.weight")) {
            (
                self.projection(&format!("{block}.ffn_gate"), width, hidden)?,
                self.projection(&up, width, hidden)?,
            )
        } else {
            (
                self.part(&up, width, 2 * hidden, 0..hidden)?,
                self.part(&up, width, 2 * hidden, hidden..2 * hidden)?,
            )
        };
        Ok(FeedForward::Dense {
            gate,
            up,
            down: self.projection(&format!("{block}.ffn_down"), hidden, width)?,
        })
    }

    fn experts(&mut self, config: &Config, experts: &Experts, block: &str) -> Result<FeedForward, Error> {
        let (width, hidden) = (config.width, experts.feed_forward);
        let router = self.matrix(&format!("{block}.ffn_gate_inp.weight"), width, experts.count)?;
        let mut one = |name: &str, columns: usize, rows: usize, expert: usize| {
            let name = format!("{block}.{name}.weight");
            self.rows(&name, &[columns, rows, experts.count], expert * rows..(expert + 1) * rows)
        };
        // An expert's matrices stand together in the copy, so that one read has them all.
        let (mut gate, mut up, mut down) = (Vec::new(), Vec::new(), Vec::new());
        for expert in 0..experts.count {
            gate.push(one("ffn_gate_exps", width, hidden, expert)?);
            up.push(one("ffn_up_exps", width, hidden, expert)?);
            down.push(one("ffn_down_exps", hidden, width, expert)?);
        }
        Ok(FeedForward::Experts { router, gate, up, down })
    }

    /// Frequency factors are found by their presence: llama 3's, or longrope's short and long ones.
    fn rotations(&mut self, config: &Config) -> Result<Vec<Rotation>, Error> {
        let pairs = config.ropes[0].dimensions / 2;
        let short = match self.factors("rope_freqs.weight", pairs)? {
            Some(factors) => Some(factors),
            None => self.factors("rope_factors_short.weight", pairs)?,
        };
        let long = self.factors("rope_factors_long.weight", pairs)?;
        Ok(config.ropes.iter().map(|rope| Rotation::new(rope, short.as_deref(), long.as_deref())).collect())
    }

    fn factors(&mut self, name: &str, pairs: usize) -> Result<Option<Vec<f32>>, Error> {
        let factors = self.optional_vector(name, pairs)?;
        if let Some(bad) = factors.iter().flatten().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            return Err(Error::BadValue {
                key: name.to_owned(),
                expected: "positive factors".to_owned(),
                got: bad.to_string(),
            });
        }
        Ok(factors)
    }

    /// A tensor that nothing uses means that the model is not what the table takes it for; its answers would be
    /// wrong without a word.
    fn check_all_used(&self) -> Result<(), Error> {
        match (0..self.file.tensors().len()).find(|index| !self.used.contains(index)) {
            None => Ok(()),
            Some(index) => Err(Error::UnexpectedTensor { tensor: self.file.tensors()[index].name.clone() }),
        }
    }
}

/// Trailing ones do not count.
fn check_shape(info: &TensorInfo, expected: &[usize]) -> Result<(), Error> {
    let sizes = |shape: &[u64]| {
        let len = shape.iter().rposition(|&size| size != 1).map_or(0, |last| last + 1);
        shape[..len].to_vec()
    };
    let expected: Vec<u64> = expected.iter().map(|&size| size as u64).collect();
    if sizes(&info.shape) == sizes(&expected) {
        return Ok(());
    }
    Err(Error::Shape { tensor: info.name.clone(), expected, got: info.shape.clone() })
}

fn wrong_type(info: &TensorInfo, expected: &'static str) -> Error {
    let got = gguf::types::type_info(info.type_id)
        .map_or_else(|| format!("number {}", info.type_id), |known| known.name.to_owned());
    Error::TensorType { tensor: info.name.clone(), expected, got }
}
