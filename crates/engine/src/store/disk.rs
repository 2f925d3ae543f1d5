//! Pages as files, one each, in a folder that several processes may share.
//!
//! A file has a header (magic, version, checksum, length, key) and the page's bytes. It appears whole under its name or
//! not at all, is read only if everything about it is right, and is removed if anything is wrong: a page that is missing
//! only costs time. It is not forced to disk, for what a power cut leaves of it is found by its checksum.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::{KvCache, Page};

use super::key::Key;
use crate::lock::lock;

const MAGIC: &[u8; 8] = b"pouch-kv";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 4 + 8 + Key::BYTES;

/// What the names of finished and of unfinished pages end with.
const WHOLE: &str = "page";
const PARTIAL: &str = "partial";

/// Pages of one text are dated so far apart that they sort by age, the first as the newest.
const STEP: Duration = Duration::from_millis(1);

/// The folder.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Bytes of all pages together.
    limit: u64,
}

impl Disk {
    pub(super) fn new(folder: PathBuf, limit: usize) -> Disk {
        Disk { folder, limit: limit as u64 }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The page of this key for `cache`, if it is there and sound; one that is not is removed.
    ///
    /// # Errors
    /// [`model::Error::Budget`] or [`model::Error::OutOfMemory`] if there is no room for it.
    pub(super) fn read(
        &self,
        key: &Key,
        index: usize,
        cache: &KvCache,
    ) -> Result<Option<Page>, model::Error> {
        let path = self.path(key, WHOLE);
        let Ok(mut file) = File::open(&path) else { return Ok(None) };
        match read(&mut file, key, cache) {
            Ok(Some(page)) => {
                // Where that is not allowed, what is used grows old, and is written anew once it was dropped.
                let _ = file.set_modified(date(index));
                Ok(Some(page))
            }
            Ok(None) | Err(model::Error::Io { .. }) => {
                let _ = fs::remove_file(&path);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes pages that are not there yet, each with its index in its text, and removes the oldest others as far as they
    /// need room.
    pub(super) fn write(&self, pages: &[(Key, usize, &Page)]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let _lock = lock(&self.folder)?;
        let text: HashSet<PathBuf> = pages.iter().map(|(key, ..)| self.path(key, WHOLE)).collect();
        let mut room = Room::of(&self.folder, self.limit, &text)?;
        for (key, index, page) in pages {
            let (path, partial) = (self.path(key, WHOLE), self.path(key, PARTIAL));
            if let Ok(file) = File::open(&path) {
                file.set_modified(date(*index))?;
                continue;
            }
            if !room.make((HEADER + page.bytes().len()) as u64)? {
                continue;
            }
            let written = write(&partial, key, *index, page).and_then(|()| fs::rename(&partial, &path));
            if written.is_err() {
                let _ = fs::remove_file(&partial);
            }
            written?;
        }
        Ok(())
    }

    fn path(&self, key: &Key, extension: &str) -> PathBuf {
        self.folder.join(key.name()).with_extension(extension)
    }
}

/// When the page of this index of a text that is used now was used.
fn date(index: usize) -> SystemTime {
    SystemTime::now() - STEP * u32::try_from(index).unwrap_or(u32::MAX)
}

/// Reads and checks a file; `None` if anything in it is wrong.
fn read(file: &mut File, key: &Key, cache: &KvCache) -> Result<Option<Page>, model::Error> {
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut header = [0; HEADER];
    if size != (HEADER + cache.page_bytes()) as u64 || file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let page = cache.read_page(file)?;
    Ok((header == self::header(key, &page)).then_some(page))
}

fn header(key: &Key, page: &Page) -> [u8; HEADER] {
    let length = (page.bytes().len() as u64).to_le_bytes();
    let mut checksum = crc32fast::Hasher::new();
    [&key.0[..], &length, page.bytes()].into_iter().for_each(|bytes| checksum.update(bytes));
    let mut header = [0; HEADER];
    let fields =
        [&MAGIC[..], &VERSION.to_le_bytes(), &checksum.finalize().to_le_bytes(), &length, &key.0].concat();
    header.copy_from_slice(&fields);
    header
}

fn write(path: &Path, key: &Key, index: usize, page: &Page) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&header(key, page))?;
    file.write_all(page.bytes())?;
    file.set_modified(date(index))
}

/// What the folder holds, and how much more may be added. Valid while the folder is locked.
struct Room {
    /// Those that may go, the newest first.
    files: Vec<(SystemTime, PathBuf, u64)>,
    bytes: u64,
    limit: u64,
}

impl Room {
    /// Nothing of the text that is written goes for it: a beginning is worth more than what follows.
    fn of(folder: &Path, limit: u64, text: &HashSet<PathBuf>) -> io::Result<Room> {
        let (mut files, mut bytes) = (Vec::new(), 0);
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                // Nobody writes at this moment: a killed process left it.
                Some(PARTIAL) => fs::remove_file(&path)?,
                Some(WHOLE) => {
                    // Reading processes remove damaged ones at any time.
                    let Ok(metadata) = fs::metadata(&path) else { continue };
                    bytes += metadata.len();
                    if !text.contains(&path) {
                        files.push((metadata.modified()?, path, metadata.len()));
                    }
                }
                _ => {}
            }
        }
        files.sort_by(|a, b| b.cmp(a));
        Ok(Room { files, bytes, limit })
    }

    /// Removes the oldest until `bytes` more fit; `false` if they never do.
    fn make(&mut self, bytes: u64) -> io::Result<bool> {
        while bytes <= self.limit && self.bytes + bytes > self.limit {
            let Some((_, path, freed)) = self.files.pop() else { break };
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.bytes -= freed,
            }
        }
        let fits = self.bytes + bytes <= self.limit;
        self.bytes += if fits { bytes } else { 0 };
        Ok(fits)
    }
}
