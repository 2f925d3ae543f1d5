//! Files written in large aligned pieces, so that the system may keep them in large pages.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// The size of a large page where pages have 4 KiB. A file system that supports large pages in its cache makes one of
/// a single call that writes a whole one; a map of such a file costs one entry of the processor's tables instead of
/// 512, and is touched for the first time in a fraction of the time.
const PIECE: usize = 2 << 20;

/// Gathers what is written and hands it to the file piece by piece. What was not flushed is lost when it is dropped.
#[derive(Debug)]
pub struct PieceWriter {
    file: File,
    gathered: Vec<u8>,
}

impl PieceWriter {
    /// Writes to `file`, which is empty.
    pub fn new(file: File) -> PieceWriter {
        PieceWriter { file, gathered: Vec::new() }
    }

    /// Writes out what is left and returns the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        Ok(self.file)
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..count]);
        if self.gathered.len() == PIECE {
            self.write_out()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.flush()
    }
}

impl Seek for PieceWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.write_out()?;
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn all_bytes_arrive_in_order() {
        let mut writer = PieceWriter::new(tempfile::tempfile().unwrap());
        let bytes: Vec<u8> = (0..PIECE * 2 + 999).map(|at| (at % 251) as u8).collect();
        for part in bytes.chunks(700_001) {
            writer.write_all(part).unwrap();
        }
        let mut file = writer.finish().unwrap();
        let mut read = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }
}
