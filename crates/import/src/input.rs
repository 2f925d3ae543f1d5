//! Files that tensors are read from, piece by piece and at any place.
//!
//! Reading, not mapping: each byte is used once, and a file that shrinks meanwhile is an error, not a crash.

use crate::Error;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Most bytes of a JSON file that are read; the largest known tokenizer.json has 33 MB.
const MAXIMUM_TEXT_BYTES: u64 = 256 << 20;

/// A file that tensors are read from.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    file: File,
}

impl Input {
    pub(crate) fn open(path: &Path, purpose: &'static str) -> Result<Input, Error> {
        let (file, bytes) = open(path, purpose)?;
        Ok(Input { path: path.to_path_buf(), bytes, file })
    }

    /// Fills `out` from `offset` on.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(out));
        read.map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => Error::Length {
                path: self.path.clone(),
                expected: offset.saturating_add(out.len() as u64),
                actual: self.bytes,
            },
            _ => Error::io("read", &self.path, source),
        })
    }
}

fn open(path: &Path, purpose: &'static str) -> Result<(File, u64), Error> {
    let about = match std::fs::metadata(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => {
            return Err(Error::MissingFile { path: path.to_path_buf(), purpose });
        }
        about => about.map_err(|source| Error::io("open", path, source))?,
    };
    if !about.is_file() {
        return Err(Error::MissingFile { path: path.to_path_buf(), purpose });
    }
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    Ok((file, about.len()))
}

/// All bytes of a file of moderate size.
pub(crate) fn read_all(path: &Path, purpose: &'static str) -> Result<Vec<u8>, Error> {
    let (file, got) = open(path, purpose)?;
    let maximum = MAXIMUM_TEXT_BYTES;
    if got > maximum {
        return Err(Error::FileSize { path: path.to_path_buf(), purpose, got, maximum });
    }
    let mut bytes = Vec::with_capacity(got as usize);
    file.take(maximum).read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    Ok(bytes)
}

/// A JSON file that must be there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, purpose: &'static str) -> Result<T, Error> {
    let bytes = read_all(path, purpose)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// A JSON file that may be absent.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(
    path: &Path,
    purpose: &'static str,
) -> Result<Option<T>, Error> {
    match read_json(path, purpose) {
        Ok(value) => Ok(Some(value)),
        Err(Error::MissingFile { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
