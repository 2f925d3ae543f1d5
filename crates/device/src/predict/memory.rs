//! Bytes by what they are for, and by what the system can do about them.

use model::{KvCache, Resident, Workspace};
use serde::Serialize;

use super::Setting;
use crate::profile::System;
use crate::{LayerShape, MatrixShape, Shape};

/// What one touch of the model file brings into memory, of which nothing is read ahead. Where the page cache has all of the
/// file, as when it was just fetched, Linux maps the pages around too (`fault_around_bytes`), which it can drop as well.
const PAGE: u64 = 4 << 10;

/// The program itself: its code as far as it runs, and the heap of everything that is small.
const PROGRAM_MAPPED: u64 = 8 << 20;
const PROGRAM_ANONYMOUS: u64 = 2 << 20;

/// What is touched of a thread's stack and of its own buffer for panels of weights.
const THREAD: u64 = 180 << 10;

/// What a token of the vocabulary and a merge rule take besides their text: entries of lists and of the tables that find
/// them, measured.
const TOKEN: u64 = 75;
const MERGE: u64 = 66;

/// Layers that streaming holds besides the resident ones: one that is computed with, one that is being read.
const LAYERS_IN_FLIGHT: u64 = 2;

/// What the system holds of a mapped file beside a layer that stays: its pages of up to 2 MB hang over both ends. Of layers that
/// are small neighbours share them.
const OVERHANG: u64 = 2 << 20;
const OVERHANG_SHARE: u64 = 16;

/// What a buffer is larger than what it is for: direct reads are of whole blocks.
const BLOCKS: u64 = 2 * 4096;

/// What the program takes in memory, in bytes, once the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryTable {
    /// Weights in the layout that the kernels read: a mapped file that the system can drop and read again.
    pub weights_bytes: u64,
    /// Of the model file what stays: the embeddings of the tokens that occur; mapped likewise.
    pub file_bytes: u64,
    /// The program's code, mapped.
    pub program_bytes: u64,
    /// Keys and values.
    pub kv_cache_bytes: u64,
    /// What a pass writes: activations, logits.
    pub buffers_bytes: u64,
    /// The tokenizer.
    pub vocabulary_bytes: u64,
    /// Everything else: threads, small weights, the heap.
    pub other_bytes: u64,
    /// Layers on their way from storage, or experts that are held for a while; 0 where all stays in memory.
    pub streaming_bytes: u64,
}

impl MemoryTable {
    /// With all layers in memory.
    pub(crate) fn of(shape: &Shape, setting: &Setting, threads: usize) -> MemoryTable {
        let config = &shape.config;
        let context = setting.context.max(1);
        let batch = setting.batch.clamp(1, context);
        // Freshly allocated zeros are no memory yet, so asking costs nothing.
        let mut buffers = Workspace::new(config, batch).bytes();
        if shape.matrices().any(|matrix| matrix.format.is_float()) {
            let widest = shape.matrices().map(|matrix| matrix.columns).max().unwrap_or(0);
            buffers += batch * widest * size_of::<f32>();
        }
        let vocabulary = &shape.vocabulary;
        let text = vocabulary.text_bytes as u64;
        MemoryTable {
            weights_bytes: shape.weight_bytes(),
            file_bytes: embeddings_touched(shape, context),
            program_bytes: PROGRAM_MAPPED,
            kv_cache_bytes: KvCache::bytes(config, context, setting.kv_type) as u64,
            buffers_bytes: buffers as u64,
            vocabulary_bytes: vocabulary.tokens as u64 * TOKEN + vocabulary.merges as u64 * MERGE + text,
            other_bytes: PROGRAM_ANONYMOUS + threads as u64 * THREAD,
            streaming_bytes: 0,
        }
    }

    /// With so much of the weights in memory, and buffers for the rest, which is read when it is its turn. Layers and experts
    /// differ in size: none is taken for smaller than the largest.
    #[must_use]
    pub fn keeping(self, shape: &Shape, resident: Resident) -> MemoryTable {
        let layers = shape.layers.iter().map(LayerShape::bytes);
        match resident {
            Resident::Layers(count) if count < shape.layers.len() => {
                let (largest, all) = (layers.clone().max().unwrap_or(0), layers.sum::<u64>());
                let overhang = OVERHANG.min(largest / OVERHANG_SHARE);
                MemoryTable {
                    weights_bytes: shape.head.bytes() + (count as u64 * (largest + overhang)).min(all),
                    streaming_bytes: LAYERS_IN_FLIGHT * (largest + BLOCKS),
                    ..self
                }
            }
            Resident::Experts(count) => MemoryTable {
                weights_bytes: shape.weight_bytes()
                    - shape.expert_matrices().map(MatrixShape::bytes).sum::<u64>(),
                streaming_bytes: count as u64 * (shape.expert_bytes() + BLOCKS),
                ..self
            },
            Resident::Layers(_) | Resident::All => {
                MemoryTable { weights_bytes: shape.weight_bytes(), streaming_bytes: 0, ..self }
            }
        }
    }

    /// Mapped files: the system can drop them and read them again.
    pub fn mapped_bytes(&self) -> u64 {
        self.weights_bytes + self.file_bytes + self.program_bytes
    }

    /// What cannot be dropped.
    pub fn anonymous_bytes(&self) -> u64 {
        self.kv_cache_bytes
            + self.buffers_bytes
            + self.vocabulary_bytes
            + self.other_bytes
            + self.streaming_bytes
    }

    /// Everything.
    pub fn resident_bytes(&self) -> u64 {
        self.mapped_bytes() + self.anonymous_bytes()
    }

    /// What the system counts against the program.
    pub fn counted_bytes(&self, system: System) -> u64 {
        if system.counts_mapped() { self.resident_bytes() } else { self.anonymous_bytes() }
    }
}

/// Bytes of the embedding table that a text of `context` tokens brings into memory. Tokens follow Zipf's law, and vocabularies
/// have the frequent ones first: a token's logarithm is spread evenly.
fn embeddings_touched(shape: &Shape, context: usize) -> u64 {
    let rows = shape.config.vocabulary.max(2) as f64;
    let windows = shape.embedding_bytes.div_ceil(PAGE);
    let rows_a_window = rows / windows.max(1) as f64;
    let touched: f64 = (0..windows)
        .map(|window| {
            let (first, end) = (window as f64 * rows_a_window, (window + 1) as f64 * rows_a_window);
            let share = ((end + 1.0) / (first + 1.0)).ln() / (rows + 1.0).ln();
            1.0 - (1.0 - share.min(1.0)).powf(context as f64)
        })
        .sum();
    ((touched * PAGE as f64) as u64).min(shape.embedding_bytes)
}
