//! The thread that brings lines to disk.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::worker::{Desk, Worker};

/// How often lines are handed to the system, which keeps them should the process be killed.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// How often what was written is forced to disk, which keeps it should the power fail.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Writer {
    worker: Worker<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    files: HashMap<PathBuf, Pending>,
    removed: Vec<PathBuf>,
    /// Something waits that is not to wait long.
    is_urgent: bool,
    /// The thread has work in hand, or lines that are not forced to disk yet.
    is_busy: bool,
}

/// A file and what is to be appended to it.
#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    /// Bytes that are in the file and sound.
    length: u64,
    /// Bytes that it is to have, and of these those that are forced to disk.
    wanted: u64,
    forced: u64,
    trouble: Option<String>,
}

impl Writer {
    /// For files in `folder`.
    pub(super) fn start(folder: &Path) -> io::Result<Writer> {
        let files = Files { folder: folder.to_owned(), open: HashMap::new() };
        Ok(Writer { worker: Worker::start("pouch-journal", move |desk| files.run(desk))? })
    }

    /// A file is there and has so many sound bytes.
    pub(super) fn know(&self, path: &Path, length: u64) {
        let file = Pending { length, wanted: length, forced: length, ..Pending::default() };
        self.worker.queue().files.insert(path.to_owned(), file);
    }

    /// Has what `write` appends appended to the file, unless it is in trouble.
    pub(super) fn append(&self, path: &Path, is_urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.worker.queue();
        if !queue.files.contains_key(path) {
            queue.files.insert(path.to_owned(), Pending::default());
        }
        if let Some(file) = queue.files.get_mut(path).filter(|file| file.trouble.is_none()) {
            let before = file.lines.len();
            write(&mut file.lines);
            file.wanted += (file.lines.len() - before) as u64;
        }
        queue.is_urgent |= is_urgent;
        // The thread need not wake for each token: it looks again when it has waited long enough.
        let wakes = is_urgent || !queue.is_busy;
        queue.is_busy = true;
        drop(queue);
        if wakes {
            self.worker.tell();
        }
    }

    /// Removes the file, and what is to be appended to it.
    pub(super) fn remove(&self, path: &Path) {
        let mut queue = self.worker.queue();
        queue.files.remove(path);
        queue.removed.push(path.to_owned());
        (queue.is_urgent, queue.is_busy) = (true, true);
        drop(queue);
        self.worker.tell();
    }

    /// Why nothing more is appended to the file, if so.
    pub(super) fn trouble(&self, path: &Path) -> Option<String> {
        self.worker.queue().files.get(path)?.trouble.clone()
    }

    /// Waits until what was appended to the file so far is forced to disk. The error says why it cannot be.
    pub(super) fn settle(&self, path: &Path) -> Result<(), String> {
        let mut queue = self.worker.queue();
        let wanted = queue.files.get(path).map_or(0, |file| file.wanted);
        (queue.is_urgent, queue.is_busy) = (true, true);
        self.worker.tell();
        loop {
            match queue.files.get(path) {
                // Without lines to wait for, or removed meanwhile.
                None => return Ok(()),
                Some(Pending { trouble: Some(trouble), .. }) => return Err(trouble.clone()),
                Some(file) if file.forced >= wanted => return Ok(()),
                Some(_) => {}
            }
            queue = self.worker.wait(queue);
        }
    }

    /// Waits until nothing is to be written or forced to disk.
    pub(super) fn flush(&self) {
        let mut queue = self.worker.queue();
        while queue.is_busy {
            queue.is_urgent = true;
            self.worker.tell();
            queue = self.worker.wait(queue);
        }
    }
}

/// The thread's own.
struct Files {
    folder: PathBuf,
    /// Open files, and whether they have bytes that are not forced to disk.
    open: HashMap<PathBuf, (File, bool)>,
}

impl Files {
    fn run(mut self, desk: &Desk<Queue>) {
        let mut synced = Instant::now();
        let mut queue = desk.queue();
        loop {
            while !queue.is_busy && !desk.is_closed() {
                queue = desk.wait(queue);
            }
            if !queue.is_busy {
                return;
            }
            queue = desk.wait_while(queue, WRITE_EVERY, |queue| !queue.is_urgent && !desk.is_closed());
            let is_urgent = std::mem::take(&mut queue.is_urgent) || desk.is_closed();
            let removed = std::mem::take(&mut queue.removed);
            let lines = queue.files.iter_mut().filter(|(_, file)| !file.lines.is_empty());
            let lines: Vec<(PathBuf, u64, Vec<u8>)> = lines
                .map(|(path, file)| (path.clone(), file.length, std::mem::take(&mut file.lines)))
                .collect();
            drop(queue);
            removed.iter().for_each(|path| self.remove(path));
            let mut outcomes: Vec<_> = lines
                .into_iter()
                .map(|(path, length, lines)| {
                    let outcome = self.append(&path, length, &lines).map(|()| length + lines.len() as u64);
                    (path, outcome)
                })
                .collect();
            let forces = is_urgent || synced.elapsed() >= SYNC_EVERY;
            if forces {
                outcomes.extend(self.sync());
                synced = Instant::now();
            }
            queue = desk.queue();
            for (path, outcome) in outcomes {
                let Some(file) = queue.files.get_mut(&path) else { continue };
                match outcome {
                    Ok(length) => file.length = length,
                    Err(error) => {
                        file.trouble = Some(error.to_string());
                        file.lines = Vec::new();
                    }
                }
            }
            if forces {
                let sound = queue.files.values_mut().filter(|file| file.trouble.is_none());
                sound.for_each(|file| file.forced = file.length);
                desk.tell();
            }
            let is_waiting = queue.files.values().any(|file| !file.lines.is_empty());
            let is_dirty = self.open.values().any(|(_, is_dirty)| *is_dirty);
            queue.is_busy = is_waiting || is_dirty || !queue.removed.is_empty();
            if !queue.is_busy {
                // Sessions come and go: no file stays open that is not written to.
                self.open.clear();
                desk.tell();
            }
        }
    }

    /// Appends to a file with so many sound bytes. If that fails, they are what it has.
    fn append(&mut self, path: &Path, length: u64, lines: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(path) {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            self.open.insert(path.to_owned(), (file, true));
        }
        let Some((file, is_dirty)) = self.open.get_mut(path) else { return Ok(()) };
        *is_dirty = true;
        let written = file.seek(SeekFrom::Start(length)).and_then(|_| file.write_all(lines));
        if written.is_err() {
            let _ = file.set_len(length);
            self.open.remove(path);
        }
        written
    }

    /// Forces to disk what is not; the files for which that failed.
    fn sync(&mut self) -> Vec<(PathBuf, io::Result<u64>)> {
        let mut failed = Vec::new();
        for (path, (file, is_dirty)) in self.open.iter_mut().filter(|(_, (_, is_dirty))| *is_dirty) {
            *is_dirty = false;
            if let Err(error) = file.sync_data() {
                failed.push((path.clone(), Err(error)));
            }
        }
        // New names are forced to disk too. Some file systems refuse that; the data is safe by then.
        if let Ok(folder) = File::open(&self.folder) {
            let _ = folder.sync_all();
        }
        failed
    }

    fn remove(&mut self, path: &Path) {
        self.open.remove(path);
        // If that fails it is recovered once more, and can be removed then.
        let _ = fs::remove_file(path);
    }
}
