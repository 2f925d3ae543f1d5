//! A file that appears under its name only when it is whole.
//!
//! Bytes go to `NAME.partial` beside the target, are forced to disk and then renamed over it. A process that is
//! killed or a disk that fills up therefore leaves the old file as it was; the partial file is reused next time.

use crate::{Error, PieceWriter};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file being written; see the module's description. Dropped without [`AtomicFile::finish`], it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    partial: PathBuf,
    file: Option<PieceWriter>, // None once finished
}

impl AtomicFile {
    /// Starts writing `target`; nothing is changed under that name before [`AtomicFile::finish`].
    ///
    /// # Errors
    /// [`Error::Busy`] while another writer works on the same target, [`Error::Io`].
    pub fn create(target: &Path) -> Result<AtomicFile, Error> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = target.with_file_name(name);
        let file = open_locked(&partial, target)?;
        let mut atomic = AtomicFile { target: target.to_path_buf(), partial, file: None };
        // What a killed writer left behind is overwritten from the start.
        file.set_len(0).map_err(|source| atomic.failed("write", source))?;
        atomic.file = Some(PieceWriter::new(file));
        Ok(atomic)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`], for instance on a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(|source| self.failed("write", source)),
            None => Ok(()), // unreachable: only `finish` and `drop` take the file
        }
    }

    /// Overwrites bytes at `position` and goes back to the end: for headers known only at last.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn overwrite(&mut self, position: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut overwrite = || -> io::Result<()> {
            file.seek(SeekFrom::Start(position))?;
            file.write_all(bytes)?;
            file.seek(SeekFrom::End(0)).map(|_| ())
        };
        overwrite().map_err(|source| self.failed("write", source))
    }

    /// Forces everything to disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`]; the target is then as it was before.
    pub fn finish(mut self) -> Result<(), Error> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let completed = || -> io::Result<()> {
            let file = file.finish()?;
            file.sync_all()?;
            std::fs::rename(&self.partial, &self.target)
        };
        completed().map_err(|source| {
            let _ = std::fs::remove_file(&self.partial);
            self.failed("write", source)
        })?;
        sync_folder(&self.target);
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io { action, path: self.target.clone(), source }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file); // without flushing: the bytes are not wanted any more
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Opens the partial file and locks it, so that two writers never mix their bytes.
fn open_locked(partial: &Path, target: &Path) -> Result<File, Error> {
    let failed = |source| Error::Io { action: "create", path: partial.to_path_buf(), source };
    loop {
        // Not truncated here: until the lock is held, the bytes may be another writer's.
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(partial).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: target.to_path_buf() }),
            Err(TryLockError::Error(source)) if source.kind() == io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The other writer may have finished between our opening and locking: the file then bears the target's
        // name by now and must not be touched.
        if still_named(&file, partial) {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn still_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(opened), Ok(named)) => (opened.dev(), opened.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn still_named(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Forces the new name to disk. Some file systems refuse to sync a folder; the data itself is safe by then.
fn sync_folder(target: &Path) {
    #[cfg(unix)]
    {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
            let _ = folder.sync_all();
        }
    }
    #[cfg(not(unix))]
    let _ = target;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_changes_only_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        std::fs::write(&target, "old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write(b"nex").unwrap();
        file.overwrite(2, b"w").unwrap();
        file.write(b"er").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert!(matches!(AtomicFile::create(&target), Err(Error::Busy { .. })));
        file.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"newer");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_file_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let mut file = AtomicFile::create(&target).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_writer_left_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        std::fs::write(folder.path().join("file.partial"), "left behind").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.write(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
    }
}
