//! The thread that puts pages on disk, so that nobody who computes waits for it.

use std::sync::Arc;

use model::Page;

use super::disk::Disk;
use super::key::Key;
use crate::worker::{Desk, Worker};

/// Bytes of pages that may wait. A page that waits takes memory even where its session is gone; those beyond are not
/// written, which costs nothing but time, some day.
const MOST_WAITING: usize = 256 << 20;

/// A page with its index in its text.
type Waiting = (Key, usize, Arc<Page>);

#[derive(Debug)]
pub(super) struct Writer {
    /// Or why there is none.
    worker: Result<Worker<Queue>, String>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    bytes: usize,
    /// Pages are being written at this moment.
    is_busy: bool,
    written: u64,
    trouble: Option<String>,
}

impl Writer {
    pub(super) fn start(disk: Arc<Disk>) -> Writer {
        let worker = Worker::start("pouch-pages", move |desk| run(desk, &disk));
        Writer { worker: worker.map_err(|error| format!("no thread to write them: {error}")) }
    }

    /// Has the pages of a text written, as far as there is room for them to wait.
    pub(super) fn write(&self, text: Vec<(Key, Arc<Page>)>) {
        let Ok(worker) = &self.worker else { return };
        let mut queue = worker.queue();
        for (index, (key, page)) in text.into_iter().enumerate() {
            let bytes = page.bytes().len();
            if queue.bytes > 0 && queue.bytes + bytes > MOST_WAITING {
                break;
            }
            queue.bytes += bytes;
            queue.waiting.push((key, index, page));
        }
        drop(queue);
        worker.tell();
    }

    pub(super) fn flush(&self) {
        let Ok(worker) = &self.worker else { return };
        let mut queue = worker.queue();
        while queue.is_busy || !queue.waiting.is_empty() {
            queue = worker.wait(queue);
        }
    }

    /// Pages written, and why the last could not be, if so.
    pub(super) fn figures(&self) -> (u64, Option<String>) {
        match &self.worker {
            Ok(worker) => {
                let queue = worker.queue();
                (queue.written, queue.trouble.clone())
            }
            Err(trouble) => (0, Some(trouble.clone())),
        }
    }
}

fn run(desk: &Desk<Queue>, disk: &Disk) {
    let mut queue = desk.queue();
    loop {
        while queue.waiting.is_empty() && !desk.is_closed() {
            queue = desk.wait(queue);
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
        queue = desk.queue();
        queue.bytes -= bytes;
        queue.is_busy = false;
        queue.written += if outcome.is_ok() { count } else { 0 };
        queue.trouble = outcome.err().map(|error| format!("{}: {error}", disk.folder().display()));
        desk.tell();
    }
}
