//! Attention over a cache that is read from memory, by one token and by many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernels::Team;
use kernels::ops::attention::{Attention, AttentionScratch, KvType, PAGE, Shape, attend};

use crate::profile::AttentionSpeed;

/// The heads of a middling model: 5 heads of queries share one of keys and values, of which there are as many as threads can share.
const HEAD_DIM: usize = 64;
const KV_HEADS: usize = 8;
const HEADS: usize = 5 * KV_HEADS;

/// Tokens in the cache, and in a batch that begins with an empty one.
const POSITIONS: usize = 2048;
const MANY: usize = 256;

/// Bytes of caches, one after another: more than stays in the processor's own.
const CACHE_BYTES: usize = 64 << 20;

/// How long each is repeated, and how often at least.
const LONG_ENOUGH: Duration = Duration::from_millis(60);
const OFTEN_ENOUGH: usize = 3;

/// Both speeds for each way to keep keys and values.
pub(super) fn speeds(team: &Team) -> Vec<AttentionSpeed> {
    KvType::ALL.into_iter().map(|kv_type| Caches::new(kv_type).speed(team)).collect()
}

/// Layers of zeros: halves, scales and packed values alike.
struct Caches {
    shape: Shape,
    layers: usize,
    pages: Vec<Arc<Vec<u8>>>,
    scratch: AttentionScratch,
    queries: Vec<f32>,
    out: Vec<f32>,
}

impl Caches {
    fn new(kv_type: KvType) -> Caches {
        let shape = Shape { kv_type, head_dim: HEAD_DIM };
        let layer = KV_HEADS * shape.bytes();
        let layers = (CACHE_BYTES / (layer * POSITIONS / PAGE)).max(1);
        let pages = (0..POSITIONS / PAGE).map(|_| Arc::new(vec![1; layers * layer])).collect();
        let values = MANY * HEADS * HEAD_DIM;
        Caches {
            shape,
            layers,
            pages,
            scratch: AttentionScratch::new(HEADS, HEAD_DIM, POSITIONS),
            queries: vec![0.5; values],
            out: vec![0.0; values],
        }
    }

    fn speed(&mut self, team: &Team) -> AttentionSpeed {
        let numbers = 2.0 * (KV_HEADS * HEAD_DIM * POSITIONS) as f64;
        let one = numbers / self.seconds(team, POSITIONS - 1, 1);
        // Token t sees t + 1 positions.
        let seen = (MANY * (MANY + 1) / 2) as f64;
        let many = 2.0 * (HEADS * HEAD_DIM) as f64 * seen / self.seconds(team, 0, MANY);
        AttentionSpeed {
            kv: self.shape.kv_type.name().to_owned(),
            one_token_gnumber_s: one / 1e9,
            many_gmac_s: many / 1e9,
        }
    }

    /// Seconds of `tokens` tokens from a position on: the median, layer by layer.
    fn seconds(&mut self, team: &Team, first_position: usize, tokens: usize) -> f64 {
        let (start, mut times, mut layer) = (Instant::now(), Vec::new(), 0);
        while start.elapsed() < LONG_ENOUGH || times.len() < OFTEN_ENOUGH {
            let values = tokens * HEADS * HEAD_DIM;
            let attention = Attention {
                shape: self.shape,
                pages: &self.pages,
                layer: layer * KV_HEADS * self.shape.bytes(),
                queries: &self.queries[..values],
                heads: HEADS,
                kv_heads: KV_HEADS,
                first_position,
                window: None,
                scale: 0.1,
                softcap: None,
            };
            let begin = Instant::now();
            attend(team, &attention, &mut self.scratch, &mut self.out[..values]);
            times.push(begin.elapsed().as_secs_f64());
            layer = (layer + 1) % self.layers;
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}
