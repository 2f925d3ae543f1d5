//! The pages at hand: those used longest ago go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::Page;

use super::key::Key;

/// Pages by key, within a number of bytes.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    bytes: usize,
    pages: HashMap<Key, Kept>,
    /// The keys by when they were last used.
    order: BTreeMap<u64, Key>,
    clock: u64,
}

#[derive(Debug)]
struct Kept {
    page: Arc<Page>,
    used: u64,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Memory {
        Memory { limit, bytes: 0, pages: HashMap::new(), order: BTreeMap::new(), clock: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Page>> {
        self.pages.get(key).map(|kept| Arc::clone(&kept.page))
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.pages.contains_key(key)
    }

    /// Takes in the pages of one text, from its first on, as the ones used last; returns whether each was new. A text's first
    /// page counts as used after its second, and so on, for without it the second is worth nothing.
    pub(super) fn put(&mut self, text: &[(Key, Arc<Page>)]) {
        for (key, page) in text.iter().rev() {
            self.clock += 1;
            let kept = Kept { page: Arc::clone(page), used: self.clock };
            match self.pages.insert(*key, kept) {
                Some(before) => drop(self.order.remove(&before.used)),
                None => self.bytes += page.bytes().len(),
            }
            self.order.insert(self.clock, *key);
        }
        let over = self.bytes.saturating_sub(self.limit);
        self.drop_oldest(over, |_| true);
    }

    /// Drops pages that nobody else holds until `bytes` are free, if there are so many; returns how many came free.
    pub(super) fn make_room(&mut self, bytes: usize) -> usize {
        self.drop_oldest(bytes, |page| Arc::strong_count(page) == 1)
    }

    fn drop_oldest(&mut self, bytes: usize, may_go: impl Fn(&Arc<Page>) -> bool) -> usize {
        let (before, mut left) = (self.bytes, bytes);
        self.order.retain(|_, key| {
            let may_go = |kept: &Kept| may_go(&kept.page);
            if left == 0 || !self.pages.get(key).is_some_and(may_go) {
                return true;
            }
            let freed = self.pages.remove(key).map_or(0, |kept| kept.page.bytes().len());
            left = left.saturating_sub(freed);
            self.bytes -= freed;
            false
        });
        before - self.bytes
    }
}
