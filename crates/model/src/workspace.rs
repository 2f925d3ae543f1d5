//! Every buffer that a forward pass writes, allocated once: decoding allocates nothing.
//!
//! A workspace belongs to whoever computes, not to a session: sessions that take turns share one.

use std::ops::Range;

use arrayvec::ArrayVec;
use kernels::Input;
use kernels::ops::attention::AttentionScratch;

use crate::config::Config;
use crate::error::Error;
use crate::experts::ExpertBuffers;
use crate::forward::MOST_SEGMENTS;

/// Models have at most two rotations: of global and of local layers.
pub(crate) const MOST_ROPES: usize = 2;

/// One text's part of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Its tokens in the batch.
    pub(crate) tokens: Range<usize>,
    /// The position of the first of them in the text.
    pub(crate) first_position: usize,
}

/// Buffers for batches of up to [`Workspace::max_batch`] tokens.
#[derive(Debug)]
pub struct Workspace {
    max_batch: usize,
    width: usize,
    vocabulary: usize,
    shape: Sizes,
    /// Tokens of the batch at hand.
    pub(crate) tokens: usize,
    /// The texts that they belong to.
    pub(crate) segments: ArrayVec<Segment, MOST_SEGMENTS>,
    /// What could not be read of the weights when the batch began.
    pub(crate) losses: usize,
    /// The residual stream, `[token][width]`.
    pub(crate) stream: Vec<f32>,
    /// What a block reads (normalised) and yields, `[token][width]`.
    pub(crate) branch: Vec<f32>,
    /// `[token][heads * head_dim]`.
    pub(crate) query: Vec<f32>,
    /// `[token][kv_heads * head_dim]`.
    pub(crate) key: Vec<f32>,
    /// `[token][kv_heads * head_dim]`.
    pub(crate) value: Vec<f32>,
    /// `[token][heads * head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// `[token][feed_forward]`.
    pub(crate) gate: Vec<f32>,
    /// `[token][feed_forward]`.
    pub(crate) up: Vec<f32>,
    /// What the next products read.
    pub(crate) input: Input,
    /// For each rotation, `[token][dimensions / 2][cos, sin]`.
    pub(crate) rotations: ArrayVec<Vec<f32>, MOST_ROPES>,
    pub(crate) experts: Option<ExpertBuffers>,
    /// For caches of up to `scratch_capacity` positions.
    pub(crate) scratch: AttentionScratch,
    scratch_capacity: usize,
    /// `[row][vocabulary]`; grows to the most rows ever asked for, one to begin with.
    pub(crate) logits: Vec<f32>,
}

/// The widths that decide whether a workspace fits a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    width: usize,
    query: usize,
    kv: usize,
    hidden: usize,
    vocabulary: usize,
    ropes: [usize; MOST_ROPES],
    experts: Option<(usize, usize)>,
}

impl Sizes {
    fn of(config: &Config) -> Sizes {
        let mut ropes = [0; MOST_ROPES];
        for (size, rope) in ropes.iter_mut().zip(&config.ropes) {
            *size = rope.dimensions;
        }
        Sizes {
            width: config.width,
            query: config.query_width(),
            kv: config.kv_width(),
            hidden: config.experts.as_ref().map_or(config.feed_forward, |experts| experts.feed_forward),
            vocabulary: config.vocabulary,
            ropes,
            experts: config.experts.as_ref().map(|experts| (experts.count, experts.used)),
        }
    }
}

impl Workspace {
    /// Buffers for batches of up to `max_batch` tokens (at least one) of this model, or of one with the same sizes.
    pub fn new(config: &Config, max_batch: usize) -> Workspace {
        let max_batch = max_batch.max(1);
        let shape = Sizes::of(config);
        let buffer = |width: usize| vec![0.0; max_batch * width];
        Workspace {
            max_batch,
            width: config.width,
            vocabulary: config.vocabulary,
            shape,
            tokens: 0,
            segments: ArrayVec::new(),
            losses: 0,
            stream: buffer(shape.width),
            branch: buffer(shape.width),
            query: buffer(shape.query),
            key: buffer(shape.kv),
            value: buffer(shape.kv),
            attended: buffer(shape.query),
            gate: buffer(shape.hidden),
            up: buffer(shape.hidden),
            input: Input::new(max_batch, shape.width.max(shape.query).max(shape.hidden)),
            rotations: config.ropes.iter().map(|rope| buffer(rope.dimensions)).collect(),
            experts: config
                .experts
                .as_ref()
                .map(|experts| ExpertBuffers::new(experts, config.width, max_batch)),
            scratch: AttentionScratch::default(),
            scratch_capacity: 0,
            logits: vec![0.0; config.vocabulary],
        }
    }

    /// Tokens that one batch may have.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// Tokens of the batch at hand.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The residual stream of the batch at hand, `[token][width]`: what an accelerator that computes a range of
    /// layers takes and gives back.
    pub fn stream_mut(&mut self) -> &mut [f32] {
        &mut self.stream[..self.tokens * self.width]
    }

    /// Bytes of all buffers, but for the rows of floats that only products with float weights read: they are made when first
    /// one comes.
    pub fn bytes(&self) -> usize {
        let plain = [
            &self.stream,
            &self.branch,
            &self.query,
            &self.key,
            &self.value,
            &self.attended,
            &self.gate,
            &self.up,
            &self.logits,
        ];
        let floats: usize = plain.into_iter().chain(&self.rotations).map(Vec::len).sum();
        floats * size_of::<f32>() + self.input.bytes() + self.experts.as_ref().map_or(0, ExpertBuffers::bytes)
    }

    pub(crate) fn fits(&self, config: &Config) -> bool {
        self.shape == Sizes::of(config)
    }

    /// Room for attention over a cache of `capacity` positions, made once for the largest.
    pub(crate) fn reserve_scratch(&mut self, config: &Config, capacity: usize) {
        if self.scratch_capacity < capacity {
            self.scratch = AttentionScratch::new(config.heads, config.head_dim, capacity);
            self.scratch_capacity = capacity;
        }
    }

    /// Room for the logits of `rows` tokens, so that [`Model::logits`](crate::Model::logits) finds it after the layers have run.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn reserve_logits(&mut self, rows: usize) -> Result<(), Error> {
        let needed = rows * self.vocabulary;
        if self.logits.len() < needed {
            let more = needed - self.logits.len();
            self.logits
                .try_reserve_exact(more)
                .map_err(|_| Error::OutOfMemory { what: "the logits", bytes: needed * size_of::<f32>() })?;
            self.logits.resize(needed, 0.0);
        }
        Ok(())
    }
}
