//! How fast storage is read, block by block, past the page cache where the file system allows it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use gguf::{DirectBuffer, DirectFile};
use serde::Serialize;

use crate::Error;
use crate::profile::{BlockRate, Figure, Storage};

/// Bytes of the file that is read: more than a device's own cache holds, less than anyone minds.
const FILE_BYTES: usize = 256 << 20;

/// Block sizes in KiB.
const BLOCKS: [usize; 5] = [4, 64, 256, 1024, 4096];

/// Bytes of memory that is read into, place after place: a buffer that stays in the processor's cache is filled a third faster
/// than those that weights are streamed to.
const BUFFER_BYTES: usize = 64 << 20;

/// How long each size is read.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

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
    let rates = write(&path, bytes)
        .map_err(|source| Error::Io { action: "write", path: path.clone(), source })
        .and_then(|()| Ok(read_all(&path, bytes)?));
    // Nothing is lost if it stays, and an error above is worth more than one here.
    let _ = std::fs::remove_file(&path);
    rates
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

fn read_all(path: &Path, bytes: usize) -> Result<StorageRates, gguf::Error> {
    let file = DirectFile::open(path)?;
    let largest = BLOCKS.into_iter().max().unwrap_or(0) << 10;
    let memory = |source| gguf::Error::Io { action: "read", path: path.to_owned(), source };
    let mut buffer = DirectBuffer::new(largest.max(BUFFER_BYTES)).map_err(memory)?;
    // Or else the first round would count the system's handing out of pages.
    buffer.fill(1);
    let mut rate = |kib: usize, scattered: bool| -> Result<f64, gguf::Error> {
        let size = kib << 10;
        let blocks = (bytes / size).max(1);
        if !file.is_direct() {
            file.drop_pages();
        }
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < LONG_ENOUGH && (file.is_direct() || done < blocks) {
            // A step that has no divisor in common with the number of blocks visits all of them, far apart.
            let block = if scattered { done * 7919 % blocks } else { done % blocks };
            let place = done % (buffer.len() / size) * size;
            file.read_at((block * size) as u64, &mut buffer[place..place + size])?;
            done += 1;
        }
        Ok((done * size) as f64 / start.elapsed().as_secs_f64() / 1e9)
    };
    let blocks = BLOCKS
        .into_iter()
        .filter(|kib| kib << 10 <= bytes)
        .map(|kib| Ok(BlockRate { kib, in_a_row_gb_s: rate(kib, false)?, scattered_gb_s: rate(kib, true)? }))
        .collect::<Result<Vec<BlockRate>, gguf::Error>>()?;
    Ok(StorageRates { direct: file.is_direct(), blocks })
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
}
