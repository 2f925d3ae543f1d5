//! Keys and values by the text that they belong to, so that no beginning of a text is computed twice: a system prompt that
//! many requests share, a document, a conversation of yesterday.
//!
//! A page of a cache follows from the model, the kind of cache and all tokens up to its end, and from nothing else, however
//! they were computed. So its [key](key) is a hash of these, a page is found wherever its text comes up again, and what
//! is found is what would be computed, bit for bit. Pages lie in memory, shared with the caches that use them, and on disk,
//! shared with other processes; both forget what was used longest ago.

mod disk;
mod key;
mod memory;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{KvCache, Model, PAGE, Page};

use disk::Disk;
use key::Key;
use memory::Memory;
use writer::Writer;

/// Where pages are kept and how many.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The folder on disk; pages are kept in memory alone if `None`.
    pub folder: Option<PathBuf>,
    /// Bytes in memory at most. Pages that sessions hold as well take no memory of their own, but count.
    pub memory: usize,
    /// Bytes on disk at most, of all processes that share the folder.
    pub disk: usize,
}

/// What a store holds and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Bytes in memory.
    pub memory_bytes: usize,
    /// Positions that were asked for, and those among them that were known.
    pub asked: u64,
    /// See above.
    pub found: u64,
    /// Pages that were written to disk, or were there already.
    pub written: u64,
    /// Why the last pages could not be kept on disk, if so: the store goes on with what can be read and with memory.
    pub trouble: Option<String>,
}

/// The store; clones are the same one.
#[derive(Clone, Debug)]
pub struct PageStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    disk: Option<Arc<Disk>>,
    writer: Option<Writer>,
    asked: AtomicU64,
    found: AtomicU64,
}

impl PageStore {
    /// A store. Nothing is wrong with a folder that does not exist, is full or cannot be written to:
    /// [`StoreFigures::trouble`] tells.
    pub fn open(options: StoreOptions) -> PageStore {
        let StoreOptions { folder, memory, disk } = options;
        let disk = folder.map(|folder| Arc::new(Disk::new(folder, disk)));
        let writer = disk.as_ref().map(|disk| Writer::start(Arc::clone(disk)));
        let memory = Mutex::new(Memory::new(memory));
        let (asked, found) = (AtomicU64::new(0), AtomicU64::new(0));
        PageStore { shared: Arc::new(Shared { memory, disk, writer, asked, found }) }
    }

    /// Lengthens `cache`, which holds a beginning of `tokens`, by what is known of them in whole pages, but leaves at least
    /// the last token to be computed, for its logits. Returns how many positions that adds.
    pub fn fill(&self, model: &Model, tokens: &[u32], cache: &mut KvCache) -> usize {
        let (before, full) = (cache.len(), cache.full_pages().len());
        let useful = &tokens[..tokens.len().saturating_sub(1).min(cache.capacity())];
        let mut text = Vec::new();
        for (index, key) in Key::of_pages(model, cache, useful).enumerate() {
            let page = match cache.full_pages().get(index) {
                Some(page) => Some(Arc::clone(page)),
                None => self.find(&key, index, cache),
            };
            let Some(page) = page.filter(|page| page.bytes().len() == cache.page_bytes()) else { break };
            text.push((key, page));
        }
        let found = (text.len() - full.min(text.len())) * PAGE;
        self.shared.asked.fetch_add(useful.len().saturating_sub(before) as u64, Ordering::Relaxed);
        self.shared.found.fetch_add(found as u64, Ordering::Relaxed);
        if text.len() * PAGE > before {
            self.memory().put(&text);
            // Their sizes and number were looked at above.
            let _ = cache.adopt(text.into_iter().map(|(_, page)| page).collect());
        }
        cache.len() - before
    }

    fn find(&self, key: &Key, index: usize, cache: &KvCache) -> Option<Arc<Page>> {
        let known = self.memory().get(key);
        known.or_else(|| {
            // Without room for it, it counts as not known.
            let page = self.shared.disk.as_ref()?.read(key, index, cache).ok()??;
            Some(Arc::new(page))
        })
    }

    /// Remembers the full pages of `cache`, which holds a beginning of `tokens`: in memory at once, on disk soon.
    pub fn keep(&self, model: &Model, tokens: &[u32], cache: &KvCache) {
        let keys = Key::of_pages(model, cache, tokens);
        let text: Vec<_> = keys.zip(cache.full_pages().iter().cloned()).collect();
        let mut memory = self.memory();
        let is_known = text.iter().all(|(key, _)| memory.has(key));
        memory.put(&text);
        drop(memory);
        if let Some(writer) = self.shared.writer.as_ref().filter(|_| !is_known) {
            writer.write(text);
        }
    }

    /// Drops pages from memory that no session holds until `bytes` are free, those used longest ago first; returns how many
    /// came free. They stay on disk.
    pub fn make_room(&self, bytes: usize) -> usize {
        self.memory().make_room(bytes)
    }

    /// Waits until what was kept is on disk, or could not be put there.
    pub fn flush(&self) {
        if let Some(writer) = &self.shared.writer {
            writer.flush();
        }
    }

    /// What it holds and has done.
    pub fn figures(&self) -> StoreFigures {
        let (written, trouble) = self.shared.writer.as_ref().map_or((0, None), Writer::figures);
        StoreFigures {
            memory_bytes: self.memory().bytes(),
            asked: self.shared.asked.load(Ordering::Relaxed),
            found: self.shared.found.load(Ordering::Relaxed),
            written,
            trouble,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
