//! The keys and values of the tokens seen so far: what a session is made of, separate from the model that all
//! sessions share.
//!
//! A cache is a list of pages of 64 positions. Full ones may be shared, by forks of a text or by texts with a common
//! beginning, for no position that is filled changes; what is to be written to and is shared is copied before. So
//! memory follows what is filled, not the capacity, and each page counts against a [`Budget`].

mod budget;
mod page;

use std::io::Read;
use std::sync::Arc;

use kernels::ops::attention::{KvType, PAGE, Shape};
use memmap2::MmapMut;

use crate::config::Config;
use crate::error::Error;
pub use budget::{Budget, Grant};
use page::CACHE;
pub(crate) use page::Layout;
pub use page::Page;

/// The cache of one session. A batch may be taken back with [`KvCache::truncate`]. A clone shares the pages and goes its
/// own way from there: a fork of the text.
#[derive(Clone, Debug)]
pub struct KvCache {
    layout: Layout,
    capacity: usize,
    len: usize,
    /// At least those that the filled positions need.
    pages: Vec<Arc<Page>>,
    budget: Budget,
}

impl KvCache {
    /// An empty cache for `capacity` positions, with a budget of its own that only counts.
    ///
    /// # Errors
    /// [`Error::KvType`] if heads of this width cannot be kept so, [`Error::OutOfMemory`] if the system would refuse the
    /// address space of the whole capacity.
    pub fn new(config: &Config, capacity: usize, kv_type: KvType) -> Result<KvCache, Error> {
        KvCache::with_budget(config, capacity, kv_type, &Budget::unlimited())
    }

    /// An empty cache for `capacity` positions, whose pages count against `budget` as they are made.
    ///
    /// # Errors
    /// As for [`KvCache::new`].
    pub fn with_budget(
        config: &Config,
        capacity: usize,
        kv_type: KvType,
        budget: &Budget,
    ) -> Result<KvCache, Error> {
        let layout = Layout::of(config, Shape { kv_type, head_dim: config.head_dim })?;
        let bytes = KvCache::bytes(config, capacity, kv_type);
        // Nothing is kept of this: it is better to hear now that a capacity is absurd than in the middle of a text.
        if bytes >= isize::MAX as usize || MmapMut::map_anon(bytes.max(1)).is_err() {
            return Err(Error::OutOfMemory { what: CACHE, bytes });
        }
        Ok(KvCache { layout, capacity, len: 0, pages: Vec::new(), budget: budget.clone() })
    }

    /// Bytes that a cache of this capacity takes once it is full, in whole pages; saturates.
    pub fn bytes(config: &Config, capacity: usize, kv_type: KvType) -> usize {
        // Keys and values of any type take less than 8 bytes a value: if this fits, nothing below overflows.
        let heads = config.layers.len().saturating_mul(config.kv_heads);
        let values = capacity.saturating_add(PAGE).saturating_mul(config.head_dim.saturating_add(64));
        if heads.saturating_mul(values).checked_mul(8).is_none() {
            return usize::MAX;
        }
        capacity.div_ceil(PAGE) * heads * Shape { kv_type, head_dim: config.head_dim }.bytes()
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
        self.capacity
    }

    /// The number format of keys and values.
    pub fn kv_type(&self) -> KvType {
        self.layout.shape.kv_type
    }

    /// What its pages count against.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of one page.
    pub fn page_bytes(&self) -> usize {
        self.layout.page_bytes()
    }

    /// Bytes of its pages, those that it shares among them.
    pub fn bytes_held(&self) -> usize {
        self.pages.len() * self.page_bytes()
    }

    /// Makes sure that the next `positions` can be written: that there are pages for them, and that nobody else has the one
    /// that is partly filled.
    ///
    /// # Errors
    /// [`Error::ContextFull`], [`Error::Budget`], [`Error::OutOfMemory`]; the cache is then as it was.
    pub fn reserve(&mut self, positions: usize) -> Result<(), Error> {
        let needed = self.len.saturating_add(positions);
        if needed > self.capacity {
            return Err(Error::ContextFull { needed, capacity: self.capacity });
        }
        let (first, before) = (self.len / PAGE, self.pages.len());
        for index in first..needed.div_ceil(PAGE) {
            let made = match self.pages.get_mut(index) {
                Some(page) if Arc::strong_count(page) == 1 => continue,
                Some(page) => page.copy(&self.budget).map(|copy| *page = Arc::new(copy)),
                None => Page::new(self.layout.page_bytes(), &self.budget)
                    .map(|page| self.pages.push(Arc::new(page))),
            };
            if let Err(error) = made {
                self.pages.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The pages that are full, in order.
    pub fn full_pages(&self) -> &[Arc<Page>] {
        &self.pages[..self.len / PAGE]
    }

    /// Becomes exactly these full pages, of another cache of the same model and type, or read by
    /// [`KvCache::read_page`] of one.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for pages of another size, [`Error::ContextFull`]; the cache is then as it was.
    pub fn adopt(&mut self, pages: Vec<Arc<Page>>) -> Result<(), Error> {
        let len = pages.len() * PAGE;
        if pages.iter().any(|page| page.bytes().len() != self.page_bytes()) {
            return Err(Error::Mismatch { what: "page" });
        }
        if len > self.capacity {
            return Err(Error::ContextFull { needed: len, capacity: self.capacity });
        }
        (self.pages, self.len) = (pages, len);
        Ok(())
    }

    /// A page for this cache out of what [`Page::bytes`] gave once, counted against the same budget.
    ///
    /// # Errors
    /// [`Error::Budget`], [`Error::OutOfMemory`]; [`Error::Io`] with what `source` says, or if it ends too early.
    pub fn read_page(&self, source: &mut dyn Read) -> Result<Page, Error> {
        Page::read(self.page_bytes(), &self.budget, source)
    }

    /// Forgets all positions from `len` on, and gives back pages that no position is left in; does nothing if there are
    /// none.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Counts `positions` more as filled, at most those reserved, after every layer has stored them.
    pub fn advance(&mut self, positions: usize) {
        self.len = self.len.saturating_add(positions).min(self.capacity).min(self.pages.len() * PAGE);
    }

    /// What lies where in a page.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the cache was made for this configuration, or one with the same heads.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        Layout::of(config, Shape { head_dim: config.head_dim, ..self.layout.shape })
            .is_ok_and(|layout| layout == self.layout)
    }

    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// The pages of the next `positions`, to be written to with [`written`].
    ///
    /// # Panics
    /// If they are not reserved.
    pub(crate) fn next_pages(&mut self, positions: usize) -> &mut [Arc<Page>] {
        &mut self.pages[self.len / PAGE..(self.len + positions).div_ceil(PAGE)]
    }
}

/// The bytes of a page that [`KvCache::reserve`] has made sure nobody shares.
///
/// # Panics
/// If somebody does.
pub(crate) fn written(page: &mut Arc<Page>) -> &mut [u8] {
    Arc::get_mut(page).expect("a page that is reserved is not shared").bytes_mut()
}
