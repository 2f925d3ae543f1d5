//! The folder of fetched models: where each file lies, a record beside each, locks between processes.
//!
//! `models/NAME/FILE` for catalogue names, `models/hf/OWNER/REPO/REVISION/FILE` and the like for the rest. `FILE.json` is
//! written after the file is complete and checked, so a model counts as present only with it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::download::{hex, partial_path, tag_path, with_suffix};
use crate::{Error, Event, Reference, Source};

/// A complete model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The reference it was asked for by; asks for it again.
    pub name: String,
    /// The file, or its first part.
    pub path: PathBuf,
    /// Size of all parts in bytes.
    pub bytes: u64,
    /// SHA-256 of the (first) file as it arrived, lower-case hex.
    pub sha256: String,
    /// Where it came from.
    pub source: String,
    /// Its licence, where the catalogue knows it.
    pub licence: Option<String>,
}

/// What is written beside each file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) licence: Option<String>,
}

const RECORD: &str = ".json";
const LOCK: &str = ".lock";
const DERIVED: &str = ".derived";

/// The folder of a reference's files.
pub(crate) fn folder(models: &Path, reference: &Reference) -> PathBuf {
    match reference {
        Reference::Catalogue(model) => models.join(model.name),
        Reference::Remote(Source::HuggingFace { repo, revision, .. }) => {
            models.join("hf").join(repo).join(revision)
        }
        Reference::Remote(Source::ModelScope { repo, revision, .. }) => {
            models.join("ms").join(repo).join(revision)
        }
        // Two addresses may end in the same file name.
        Reference::Remote(source) => {
            models.join("url").join(&hex(&Sha256::digest(source.reference().as_bytes()))[..16])
        }
        Reference::Path(path) => path.clone(),
    }
}

/// The folder for what is computed from a model file: beside it if it lies in the cache, so that it goes with the model, and
/// one common folder for the user's own files, whose folders are not ours to write in.
pub(crate) fn derived_folder(cache: &Path, models: &Path, file: &Path) -> PathBuf {
    if file.starts_with(models) { with_suffix(file, DERIVED) } else { common_derived_folder(cache) }
}

pub(crate) fn common_derived_folder(cache: &Path) -> PathBuf {
    cache.join("derived")
}

/// Deletes a folder of computed files, which holds no folders. Returns the bytes freed.
pub(crate) fn remove_derived(folder: &Path) -> Result<u64, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(0);
        }
        entries => entries.map_err(|source| Error::io("read", folder, source))?,
    };
    let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    let freed = sizes.sum();
    fs::remove_dir_all(folder).map_err(|source| Error::io("delete", folder, source))?;
    Ok(freed)
}

/// The first file of a reference if all its files are complete.
pub(crate) fn find(models: &Path, reference: &Reference) -> Option<PathBuf> {
    let folder = folder(models, reference);
    let files: Vec<PathBuf> = reference.files().iter().map(|file| folder.join(file)).collect();
    files.iter().all(|file| is_complete(file)).then(|| files.into_iter().next())?
}

/// Whether a file and its record are there and agree on its size.
pub(crate) fn is_complete(target: &Path) -> bool {
    let size = fs::metadata(target).map(|data| data.len()).ok();
    size.is_some() && read_record(&with_suffix(target, RECORD)).map(|record| record.bytes) == size
}

pub(crate) fn write_record(target: &Path, record: &Record) -> Result<(), Error> {
    let path = with_suffix(target, RECORD);
    let fail = |source| Error::io("write", &path, source);
    let text = serde_json::to_string_pretty(record).map_err(|error| fail(error.into()))?;
    let unfinished = with_suffix(&path, ".partial");
    fs::write(&unfinished, text).map_err(fail)?;
    fs::rename(&unfinished, &path).map_err(fail)
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Takes the lock of a file, waiting for whoever holds it. Held until dropped, and let go by the system if the process dies.
pub(crate) fn lock(target: &Path, events: &mut dyn FnMut(Event)) -> Result<File, Error> {
    let path = with_suffix(target, LOCK);
    let fail = |source| Error::io("lock", &path, source);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            events(Event::WaitingForOther { path: target.to_owned() });
            file.lock().map_err(fail)?;
        }
        // Some network and phone file systems have no locks: a single process works there as ever.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    Ok(file)
}

/// Every complete model, by name.
pub(crate) fn list(models: &Path) -> Result<Vec<Entry>, Error> {
    let mut found: Vec<(Record, PathBuf)> = Vec::new();
    let mut folders = vec![models.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|source| Error::io("read", &folder, source))?,
        };
        for entry in entries {
            let path = entry.map_err(|source| Error::io("read", &folder, source))?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let target = path.with_extension("");
                if let Some(record) = read_record(&path).filter(|_| is_complete(&target)) {
                    found.push((record, target));
                }
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    let mut entries: Vec<Entry> = Vec::new();
    for (record, path) in found {
        match entries.last_mut() {
            Some(entry) if entry.name == record.name => entry.bytes += record.bytes,
            _ => entries.push(Entry {
                name: record.name,
                path,
                bytes: record.bytes,
                sha256: record.sha256,
                source: record.source,
                licence: record.licence,
            }),
        }
    }
    Ok(entries)
}

/// Deletes the files of a reference, finished or not, and the folders this leaves empty. Returns the bytes freed.
pub(crate) fn remove(models: &Path, reference: &Reference) -> Result<u64, Error> {
    let folder = folder(models, reference);
    let mut freed = 0;
    let mut found = false;
    for file in reference.files() {
        let target = folder.join(file);
        let partial = partial_path(&target);
        // The record first: without it the rest no longer counts as a model, wherever a crash may fall.
        for path in [
            with_suffix(&target, RECORD),
            tag_path(&partial),
            partial,
            target.clone(),
            with_suffix(&target, LOCK),
        ] {
            let size = fs::metadata(&path).map(|data| data.len());
            match fs::remove_file(&path) {
                Ok(()) => {
                    found |= path.extension().is_none_or(|extension| extension != "lock");
                    freed += size.unwrap_or(0);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Error::io("delete", &path, error)),
            }
        }
        freed += remove_derived(&with_suffix(&target, DERIVED))?;
        // `remove_dir` takes only empty folders, so nothing of anyone else's can go.
        let mut empty = target.parent();
        while let Some(folder) = empty.filter(|folder| *folder != models && folder.starts_with(models)) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
            empty = folder.parent();
        }
    }
    if found { Ok(freed) } else { Err(Error::NotInCache { name: reference.to_string() }) }
}
