//! A file that is read past the page cache, straight into memory: what is read again and again in turn, and is larger than
//! memory, only pushes other pages out of it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Error;

/// Reads begin, end and lie in memory at multiples of this: a page, and of any storage a block.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// An open file that is read directly where the system and the file system can, and otherwise through the page cache, from
/// which what was read is dropped again.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    path: PathBuf,
    is_direct: bool,
    state: FileState,
}

impl DirectFile {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<DirectFile, Error> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let direct = open_direct(path).filter(can_read);
        let is_direct = direct.is_some();
        let file = match direct {
            Some(file) => file,
            None => File::open(path).map_err(io("open"))?,
        };
        let state = FileState::of(&file).map_err(io("look at"))?;
        Ok(DirectFile { file, path: path.to_owned(), is_direct, state })
    }

    /// Whether reads leave the page cache aside.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Bytes of the file when it was opened.
    pub fn len(&self) -> u64 {
        self.state.len
    }

    /// Whether the file was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.state.len == 0
    }

    /// Checks that the file is as long and as old as when it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Io`].
    pub fn check(&self) -> Result<(), Error> {
        self.state.check(&self.file, &self.path)
    }

    /// Fills `out` from position `at`, of which the last bytes may lie behind the end of the file and are then left as they
    /// are. `at`, the length of `out` and its place in memory are multiples of [`DIRECT_ALIGNMENT`].
    ///
    /// # Errors
    /// [`Error::Changed`] if the file is shorter than it was, [`Error::Io`].
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> Result<(), Error> {
        debug_assert_eq!((at as usize | out.len() | out.as_ptr() as usize) % DIRECT_ALIGNMENT, 0);
        let io = |source| Error::Io { action: "read", path: self.path.clone(), source };
        let there = self.state.len.saturating_sub(at).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < there {
            match read(&self.file, at + done as u64, &mut out[done..]) {
                // Direct reads end off a block only at the end of the file.
                Ok(read) if done + read >= there => done = there,
                Ok(read) if read > 0 && read % DIRECT_ALIGNMENT == 0 => done += read,
                Ok(_) => return Err(Error::Changed { path: self.path.clone() }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
        if !self.is_direct {
            drop_pages(&self.file, at, out.len() as u64);
        }
        Ok(())
    }

    /// Has the system forget what it keeps of the file in memory, as far as nobody has it mapped.
    pub fn drop_pages(&self) {
        drop_pages(&self.file, 0, 0);
    }
}

/// What tells that a file is still the one that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    len: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    pub(crate) fn of(file: &File) -> io::Result<FileState> {
        let about = file.metadata()?;
        Ok(FileState { len: about.len(), modified: about.modified().ok() })
    }

    pub(crate) fn check(&self, file: &File, path: &Path) -> Result<(), Error> {
        let now = FileState::of(file).map_err(|source| Error::Io {
            action: "look at",
            path: path.to_owned(),
            source,
        })?;
        if now == *self { Ok(()) } else { Err(Error::Changed { path: path.to_owned() }) }
    }
}

/// Opens past the page cache; `None` where the system or the file system has no such thing.
fn open_direct(path: &Path) -> Option<File> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        File::options().read(true).custom_flags(flags).open(path).ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = path;
        None
    }
}

/// Some file systems open a file for direct reads and then refuse them.
fn can_read(file: &File) -> bool {
    memmap2::MmapMut::map_anon(DIRECT_ALIGNMENT).is_ok_and(|mut block| read(file, 0, &mut block).is_ok())
}

fn read(file: &File, at: u64, out: &mut [u8]) -> io::Result<usize> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_at(file, out, at)
    }
    #[cfg(windows)]
    {
        std::os::windows::fs::FileExt::seek_read(file, out, at)
    }
}

/// `len` 0 means to the end.
fn drop_pages(file: &File, at: u64, len: u64) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // A hint: where it is refused, pages stay until the system needs them.
    let _ = rustix::fs::fadvise(file, at, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (file, at, len);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use memmap2::MmapMut;

    use super::*;

    fn written(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let content: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&content).unwrap();
        (file, content)
    }

    /// Directly if this file system can, and through the page cache, as if it could not.
    #[test]
    fn every_part_is_read_and_what_lies_behind_the_end_stays() {
        let (file, content) = written(3 * DIRECT_ALIGNMENT + 77);
        let direct = DirectFile::open(file.path()).unwrap();
        let cached = File::open(file.path()).unwrap();
        let cached = DirectFile { file: cached, path: file.path().to_owned(), is_direct: false, ..direct };
        for read in [DirectFile::open(file.path()).unwrap(), cached] {
            assert_eq!((read.len() as usize, read.is_empty()), (content.len(), false));
            let mut out = MmapMut::map_anon(4 * DIRECT_ALIGNMENT).unwrap();
            read.read_at(0, &mut out).unwrap();
            assert_eq!(out[..content.len()], content);
            read.read_at(2 * DIRECT_ALIGNMENT as u64, &mut out[..DIRECT_ALIGNMENT]).unwrap();
            assert_eq!(out[..DIRECT_ALIGNMENT], content[2 * DIRECT_ALIGNMENT..3 * DIRECT_ALIGNMENT]);
            read.drop_pages();
            assert!(read.check().is_ok());
        }
    }

    #[test]
    fn a_file_that_is_cut_short_or_written_to_is_noticed() {
        let (file, _) = written(4 * DIRECT_ALIGNMENT);
        let direct = DirectFile::open(file.path()).unwrap();
        file.as_file().set_len(DIRECT_ALIGNMENT as u64 + 5).unwrap();
        let mut out = MmapMut::map_anon(4 * DIRECT_ALIGNMENT).unwrap();
        assert!(matches!(direct.read_at(0, &mut out), Err(Error::Changed { .. })));
        assert!(matches!(direct.check(), Err(Error::Changed { .. })));

        let (file, _) = written(DIRECT_ALIGNMENT);
        let direct = DirectFile::open(file.path()).unwrap();
        file.as_file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let error = direct.check().unwrap_err().to_string();
        assert!(error.contains("changed"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = DirectFile::open(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
