//! The thread that puts pages on disk, so that nobody who computes waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use model::Page;

use super::disk::Disk;
use super::key::Key;

/// Bytes of pages that may wait. A page that waits takes memory even where its session is gone; those beyond are not
/// written, which costs nothing but time, some day.
const MOST_WAITING: usize = 256 << 20;

/// A page with its index in its text.
type Waiting = (Key, usize, Arc<Page>);

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// Pages are being written at this moment.
    is_busy: bool,
    is_closed: bool,
    written: u64,
    trouble: Option<String>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn start(disk: Arc<Disk>) -> Writer {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pouch-pages".to_owned());
        let thread = thread.spawn(move || run(&theirs, &disk));
        if let Err(error) = &thread {
            let mut queue = shared.queue();
            queue.is_closed = true;
            queue.trouble = Some(format!("no thread to write them: {error}"));
        }
        Writer { shared, thread: thread.ok() }
    }

    /// Has the pages of a text written, as far as there is room for them to wait.
    pub(super) fn write(&self, text: Vec<(Key, Arc<Page>)>) {
        let mut queue = self.shared.queue();
        for (index, (key, page)) in text.into_iter().enumerate() {
            let bytes = page.bytes().len();
            if queue.is_closed || queue.bytes > 0 && queue.bytes + bytes > MOST_WAITING {
                break;
            }
            queue.bytes += bytes;
            queue.waiting.push((key, index, page));
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    pub(super) fn flush(&self) {
        let mut queue = self.shared.queue();
        while !queue.is_closed && (queue.is_busy || !queue.waiting.is_empty()) {
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Pages written, and why the last could not be, if so.
    pub(super) fn figures(&self) -> (u64, Option<String>) {
        let queue = self.shared.queue();
        (queue.written, queue.trouble.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What waits is written before.
        self.flush();
        self.shared.queue().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, disk: &Disk) {
    let mut queue = shared.queue();
    loop {
        while queue.waiting.is_empty() && !queue.is_closed {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.waiting.is_empty() {
            return;
        }
        let pages = std::mem::take(&mut queue.waiting);
        queue.is_busy = true;
        drop(queue);
        let borrowed: Vec<_> = pages.iter().map(|(key, index, page)| (*key, *index, &**page)).collect();
        let outcome = disk.write(&borrowed);
        drop(borrowed);
        let (count, bytes) =
            (pages.len() as u64, pages.iter().map(|(_, _, page)| page.bytes().len()).sum::<usize>());
        drop(pages);
        queue = shared.queue();
        queue.bytes -= bytes;
        queue.is_busy = false;
        queue.written += if outcome.is_ok() { count } else { 0 };
        queue.trouble = outcome.err().map(|error| format!("{}: {error}", disk.folder().display()));
        shared.changed.notify_all();
    }
}
