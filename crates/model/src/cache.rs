//! The keys and values of the tokens seen so far: what a session is made of, separate from the model that all
//! sessions share. Allocated once for its capacity; pages that no position has reached cost no memory.

use kernels::ops::attention::{KvType, Shape};
use memmap2::MmapMut;

use crate::config::Config;
use crate::error::Error;

/// One layer's keys, `[kv_head][key_bytes]`, and values, `[kv_head][value_bytes]`, as the kernels lay them out.
#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(crate) keys: MmapMut,
    pub(crate) values: MmapMut,
}

/// What errors call it.
const CACHE: &str = "the key-value cache";

/// The cache of one session. A batch may be taken back with [`KvCache::truncate`].
#[derive(Debug)]
pub struct KvCache {
    shape: Shape,
    kv_heads: usize,
    len: usize,
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache for `capacity` positions.
    ///
    /// # Errors
    /// [`Error::KvType`] if heads of this width cannot be kept so, [`Error::OutOfMemory`] if the system refuses the
    /// address space.
    pub fn new(config: &Config, capacity: usize, kv_type: KvType) -> Result<KvCache, Error> {
        if !kv_type.fits(config.head_dim) {
            return Err(Error::KvType { kv_type: kv_type.name(), head_dim: config.head_dim });
        }
        let bytes = KvCache::bytes(config, capacity, kv_type);
        if bytes >= isize::MAX as usize {
            return Err(Error::OutOfMemory { what: CACHE, bytes });
        }
        let shape = Shape { kv_type, head_dim: config.head_dim, capacity };
        KvCache::empty(shape, config.kv_heads, config.layers.len())
    }

    /// An empty cache of a size that was found to be sane.
    fn empty(shape: Shape, kv_heads: usize, layers: usize) -> Result<KvCache, Error> {
        let area = |head_bytes: usize| {
            let bytes = (kv_heads * head_bytes).max(1);
            MmapMut::map_anon(bytes).map_err(|_| Error::OutOfMemory { what: CACHE, bytes })
        };
        let layers = (0..layers)
            .map(|_| Ok(LayerCache { keys: area(shape.key_bytes())?, values: area(shape.value_bytes())? }))
            .collect::<Result<Vec<LayerCache>, Error>>()?;
        Ok(KvCache { shape, kv_heads, len: 0, layers })
    }

    /// A cache with the same positions and capacity that goes its own way from here: a fork of the text. What is copied
    /// is what is filled.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system refuses the address space.
    pub fn try_clone(&self) -> Result<KvCache, Error> {
        let mut clone = KvCache::empty(self.shape, self.kv_heads, self.layers.len())?;
        clone.len = self.len;
        // Positions lie in order in the area of a head: a cache that is full with these is a beginning of this one.
        let filled = Shape { capacity: self.len, ..self.shape };
        let copy = |to: &mut [u8], from: &[u8], area_bytes: usize, filled_bytes: usize| {
            for (to, from) in to.chunks_exact_mut(area_bytes).zip(from.chunks_exact(area_bytes)) {
                to[..filled_bytes].copy_from_slice(&from[..filled_bytes]);
            }
        };
        for (to, from) in clone.layers.iter_mut().zip(&self.layers).filter(|_| self.len > 0) {
            copy(&mut to.keys, &from.keys, self.shape.key_bytes(), filled.key_bytes());
            copy(&mut to.values, &from.values, self.shape.value_bytes(), filled.value_bytes());
        }
        Ok(clone)
    }

    /// Bytes that a cache of this capacity takes once it is full; saturates.
    pub fn bytes(config: &Config, capacity: usize, kv_type: KvType) -> usize {
        // Keys and values of any type take less than 8 bytes a value: if this fits, nothing below overflows.
        let heads = config.layers.len().saturating_mul(config.kv_heads);
        let values = capacity.saturating_add(64).saturating_mul(config.head_dim.saturating_add(64));
        if heads.saturating_mul(values).checked_mul(8).is_none() {
            return usize::MAX;
        }
        let shape = Shape { kv_type, head_dim: config.head_dim, capacity };
        heads * (shape.key_bytes() + shape.value_bytes())
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// The number format of keys and values.
    pub fn kv_type(&self) -> KvType {
        self.shape.kv_type
    }

    /// Forgets all positions from `len` on; does nothing if there are none.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Counts `positions` more as filled, at most those that fit, after every layer has stored them.
    pub fn advance(&mut self, positions: usize) {
        self.len = self.len.saturating_add(positions).min(self.capacity());
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the cache was made for this configuration, or one with the same heads.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        (self.layers.len(), self.kv_heads, self.shape.head_dim)
            == (config.layers.len(), config.kv_heads, config.head_dim)
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }
}
