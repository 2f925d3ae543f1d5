//! How fast storage is read, block by block, past the page cache where the file system allows it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Error;
use crate::profile::{BlockRate, Figure, Storage};

/// Bytes of the file that is read: more than a device's own cache holds, less than anyone minds.
const FILE_BYTES: usize = 256 << 20;

/// Block sizes in KiB.
const BLOCKS: [usize; 5] = [4, 64, 256, 1024, 4096];

/// How long each size is read.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// Direct reads begin, end and lie in memory at multiples of this: a page, and of any storage a block.
const ALIGNMENT: usize = 4096;

/// Rates of reading.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StorageRates {
    /// Whether the page cache was left aside; else its pages were dropped before each reading.
    pub direct: bool,
    /// By block size.
    pub blocks: Vec<BlockRate>,
}

impl StorageRates {
    /// What a profile keeps; in a row it counts what the best block size gives.
    pub(super) fn to_profile(&self, by: &str) -> Storage {
        let best = self.blocks.iter().map(|block| block.in_a_row_gb_s).fold(0.0, f64::max);
        let kind = if self.direct { "read directly" } else { "read through the page cache" };
        Storage { kind: kind.to_owned(), read_gb_s: Figure::measured(best, by), blocks: self.blocks.clone() }
    }
}

/// Writes a file into `folder`, which goes when this returns, and reads it.
///
/// # Errors
/// [`Error::Io`] if the folder takes no such file or it cannot be read.
pub fn read_rates(folder: &Path) -> Result<StorageRates, Error> {
    read_rates_of(folder, FILE_BYTES)
}

fn read_rates_of(folder: &Path, bytes: usize) -> Result<StorageRates, Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io {
        action: "create",
        path: folder.to_owned(),
        source,
    })?;
    let path = folder.join(format!("probe-{}.tmp", std::process::id()));
    let rates = write(&path, bytes).and_then(|()| read_all(&path, bytes));
    // Nothing is lost if it stays, and an error above is worth more than one here.
    let _ = std::fs::remove_file(&path);
    rates.map_err(|source| Error::Io { action: "measure reading of", path, source })
}

/// Bytes that no storage compresses.
fn write(path: &Path, bytes: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = 1u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len()) {
        for word in block.chunks_exact_mut(8) {
            // Xorshift (Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()
}

fn read_all(path: &Path, bytes: usize) -> std::io::Result<StorageRates> {
    let direct = open(path, true).filter(|file| read(file, 0, &mut Buffer::new(ALIGNMENT)).is_ok());
    let is_direct = direct.is_some();
    let file = match direct {
        Some(file) => file,
        None => File::open(path)?,
    };
    let rate = |kib: usize, scattered: bool| -> std::io::Result<f64> {
        let size = kib << 10;
        let blocks = (bytes / size).max(1);
        let mut buffer = Buffer::new(size);
        if !is_direct {
            drop_pages(&file);
        }
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < LONG_ENOUGH && (is_direct || done < blocks) {
            // A step that has no divisor in common with the number of blocks visits all of them, far apart.
            let block = if scattered { done * 7919 % blocks } else { done % blocks };
            read(&file, (block * size) as u64, &mut buffer)?;
            done += 1;
        }
        Ok((done * size) as f64 / start.elapsed().as_secs_f64() / 1e9)
    };
    let blocks = BLOCKS
        .into_iter()
        .filter(|kib| kib << 10 <= bytes)
        .map(|kib| Ok(BlockRate { kib, in_a_row_gb_s: rate(kib, false)?, scattered_gb_s: rate(kib, true)? }))
        .collect::<std::io::Result<Vec<BlockRate>>>()?;
    Ok(StorageRates { direct: is_direct, blocks })
}

/// A buffer that direct reads can go to.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Buffer {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Buffer { bytes, start, len }
    }

    fn slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Opens past the page cache; `None` where the system or the file system has no such thing.
fn open(path: &Path, direct: bool) -> Option<File> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if direct { rustix::fs::OFlags::DIRECT.bits() as i32 } else { 0 };
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = direct;
        let _ = path;
        None
    }
}

fn read(file: &File, at: u64, buffer: &mut Buffer) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer.slice(), at)
    }
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(buffer.slice())
    }
}

/// Has the system forget what it keeps of the file in memory, as far as nobody has it mapped.
pub fn drop_pages(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // A hint: where it is refused, the rates are those of the page cache, and the profile says that they may be.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = file;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_size_that_fits_is_read_and_the_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let rates = read_rates_of(folder.path(), 1 << 20).unwrap();
        let sizes: Vec<usize> = rates.blocks.iter().map(|block| block.kib).collect();
        assert_eq!(sizes, [4, 64, 256, 1024]);
        assert!(rates.blocks.iter().all(|block| block.in_a_row_gb_s > 0.0 && block.scattered_gb_s > 0.0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = read_rates_of(&file.join("inside"), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("inside"), "{error}");
    }

    #[test]
    fn buffers_lie_where_direct_reads_can_reach_them() {
        for len in [4096, 65_536] {
            let mut buffer = Buffer::new(len);
            let slice = buffer.slice();
            assert_eq!((slice.len(), slice.as_ptr().align_offset(ALIGNMENT)), (len, 0));
        }
    }
}
