//! What a run has finished, on disk, so that a killed one goes on where it was.
//!
//! A folder beside the target holds the key of the run (what was asked of which source), the finished tensors, and the
//! stream of the calibration text after the last finished block. Every file appears whole or not at all.

use std::io::Read;
use std::path::{Path, PathBuf};

use gguf::AtomicFile;

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
        let kept = std::fs::read_to_string(folder.join(KEY)).ok();
        if kept.as_deref() != Some(key) {
            journal.remove()?;
            std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
            journal.put(KEY, key.as_bytes())?;
        }
        Ok(journal)
    }

    /// A finished entry.
    ///
    /// # Errors
    /// [`Error::Io`]; an entry that is not there is `None`.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.folder.join(name);
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| Error::io("read", &path, source))?;
        Ok(Some(bytes))
    }

    /// Whether an entry is there.
    pub fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// Finishes an entry.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a full disk and the like.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = AtomicFile::create(&self.folder.join(name))?;
        file.write(bytes)?;
        Ok(file.finish()?)
    }

    /// Forgets an entry that is no longer needed.
    pub fn forget(&self, name: &str) {
        // What stays behind is removed with the folder.
        let _ = std::fs::remove_file(self.folder.join(name));
    }

    /// Removes the folder with all it holds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.folder, error))
            }
            _ => Ok(()),
        }
    }
}

/// The entry that says whose folder it is.
const KEY: &str = "key";
