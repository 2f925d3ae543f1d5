//! A page: the keys and values of 64 positions in all layers and heads.

use std::io::Read;
use std::ops::Range;

use kernels::ops::attention::Shape;
use memmap2::MmapMut;

use super::budget::{Budget, Grant};
use crate::config::Config;
use crate::error::Error;

/// What errors call it.
pub(super) const CACHE: &str = "the key-value cache";

/// What a page of some model holds: for each layer, for each key-value head, keys and then values of
/// [`PAGE`](kernels::ops::attention::PAGE) positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    pub(crate) kv_heads: usize,
    pub(crate) layers: usize,
}

impl Layout {
    /// # Errors
    /// [`Error::KvType`] if heads of this width cannot be kept so.
    pub(crate) fn of(config: &Config, shape: Shape) -> Result<Layout, Error> {
        if !shape.kv_type.fits(config.head_dim) {
            return Err(Error::KvType { kv_type: shape.kv_type.name(), head_dim: config.head_dim });
        }
        Ok(Layout { shape, kv_heads: config.kv_heads, layers: config.layers.len() })
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self) -> usize {
        self.layers * self.layer_bytes()
    }

    /// Where a layer's areas lie, `[kv_head]`.
    pub(crate) fn layer(&self, index: usize) -> Range<usize> {
        let bytes = self.layer_bytes();
        index * bytes..(index + 1) * bytes
    }

    fn layer_bytes(&self) -> usize {
        self.kv_heads * self.shape.bytes()
    }
}

/// The memory of one page, counted against a [`Budget`]. Caches share pages that are full: what several hold behind an
/// `Arc` never changes.
#[derive(Debug)]
pub struct Page {
    /// Its own mapping: costs memory as it fills, and goes back to the system when the page is dropped.
    bytes: MmapMut,
    _grant: Grant,
}

impl Page {
    /// A page of zeros.
    pub(super) fn new(bytes: usize, budget: &Budget) -> Result<Page, Error> {
        let grant = budget.take(CACHE, bytes)?;
        let bytes = MmapMut::map_anon(bytes.max(1)).map_err(|_| Error::OutOfMemory { what: CACHE, bytes })?;
        Ok(Page { bytes, _grant: grant })
    }

    /// A page with the same content.
    pub(super) fn copy(&self, budget: &Budget) -> Result<Page, Error> {
        let mut page = Page::new(self.bytes.len(), budget)?;
        page.bytes.copy_from_slice(&self.bytes);
        Ok(page)
    }

    /// A page of what `source` gives, for a cache whose pages have so many bytes.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::OutOfMemory`]; the reason of `source` otherwise, with an error of the system inside.
    pub(super) fn read(bytes: usize, budget: &Budget, source: &mut dyn Read) -> Result<Page, Error> {
        let mut page = Page::new(bytes, budget)?;
        source.read_exact(&mut page.bytes).map_err(|source| Error::Io { path: CACHE.into(), source })?;
        Ok(page)
    }

    /// The content, in the order of the layers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
