//! What a run has finished, on disk, so that a killed one goes on where it was.
//!
//! A folder beside the target holds the key of the run (what was asked of which source), the finished tensors, and the
//! stream of the calibration text after the last finished block. Every file appears whole or not at all.

use std::path::{Path, PathBuf};

use gguf::AtomicFile;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The folder of one run.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// Opens the folder, emptied unless it belongs to a run with the same `key`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Gguf`] for a full disk and the like.
    pub fn open(folder: &Path, key: &str) -> Result<Journal, Error> {
        let journal = Journal { folder: folder.to_owned() };
        let kept = std::fs::read_to_string(journal.path(KEY)).ok();
        if kept.as_deref() != Some(key) {
            remove(&folder.join(RUN))?;
            let run = folder.join(RUN);
            std::fs::create_dir_all(&run).map_err(|source| Error::io("create", &run, source))?;
            journal.put(KEY, key.as_bytes())?;
        }
        Ok(journal)
    }

    /// Where an entry is, for those that are written by others.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(RUN).join(name)
    }

    /// A finished entry.
    ///
    /// # Errors
    /// [`Error::Io`]; an entry that is not there is `None`.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("read", &path, source)),
        }
    }

    /// Whether an entry is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Finishes an entry.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a full disk and the like.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = AtomicFile::create(&self.path(name))?;
        file.write(bytes)?;
        Ok(file.finish()?)
    }

    /// A finished entry that [`Journal::put_value`] wrote.
    ///
    /// # Errors
    /// Those of [`Journal::get`]. An entry that says nothing sensible counts as none.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        Ok(self.get(name)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Finishes an entry of a few figures.
    ///
    /// # Errors
    /// Those of [`Journal::put`].
    pub fn put_value(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let path = self.path(name);
        let bytes = serde_json::to_vec(value).map_err(|source| Error::io("write", &path, source.into()))?;
        self.put(name, &bytes)
    }

    /// Forgets an entry that is no longer needed.
    pub fn forget(&self, name: &str) {
        // What stays behind is removed with the folder.
        let _ = std::fs::remove_file(self.path(name));
    }

    /// Removes the folder with all it holds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self) -> Result<(), Error> {
        remove(&self.folder)
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, error)),
        _ => Ok(()),
    }
}

/// The part of the folder that belongs to the run; beside it may lie a checkpoint that was converted.
const RUN: &str = "run";

/// The entry that says whose run it is.
const KEY: &str = "key";
