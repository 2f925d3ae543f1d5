//! The well-known perplexity tool's file of saved logits: a text's tokens and, for every scored position, the model's
//! log-probabilities in 16 bits. Measuring against such a file compares with a model that this engine never ran.
//!
//! Layout, little-endian (llama.cpp, tools/perplexity/perplexity.cpp, `--save-all-logits`):
//! ```text
//! "_logits_"  i32 context  i32 vocabulary  i32 windows  i32 tokens[windows * context]
//! then, for each window, for each of its context - 1 - context / 2 scored positions:
//! f32 scale  f32 smallest  u16 values[vocabulary, one more if odd]
//! ```
//! A log-probability is `smallest + scale * value`. The writer clamps at 16 nats below the row's largest logit, so a
//! value of -16 or below stands for "unlikely, by however much": see [`CLAMPED`].

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::Error;

const MAGIC: &[u8; 8] = b"_logits_";

/// Saved log-probabilities at or below this may have been clamped. They weigh nothing in a divergence, as in the tool
/// itself, yet are what a scored token's log-probability is taken to be.
pub(crate) const CLAMPED: f32 = -16.0;

/// How far above zero rounding in the writer may lift a row's largest log-probability.
const ROUNDING: f32 = 1e-3;

/// An open file of saved logits, read row by row from the front.
#[derive(Debug)]
pub struct LogitsFile<R> {
    reader: R,
    context: usize,
    vocabulary: usize,
    windows: usize,
    tokens: Vec<u32>,
    row: u64,
    bytes: Vec<u8>,
}

/// Whether the file at `path` starts as one of saved logits does; `false` where it cannot be read.
pub fn is_logits_file(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == MAGIC
}

impl LogitsFile<BufReader<File>> {
    /// Opens the file at `path` and reads its head and tokens.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`LogitsFile::new`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let at = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(at)?;
        let length = file.metadata().map_err(at)?.len();
        LogitsFile::new(BufReader::with_capacity(1 << 20, file), length)
    }
}

impl<R: Read> LogitsFile<R> {
    /// Reads the head and the tokens from `reader`, which gives `length` bytes in all.
    ///
    /// # Errors
    /// [`Error::NotLogits`], [`Error::LogitsField`] and [`Error::LogitsLength`] for what is no such file, before any
    /// memory is taken on its word; [`Error::Read`].
    pub fn new(mut reader: R, length: u64) -> Result<Self, Error> {
        let mut magic = Vec::new();
        reader.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != MAGIC {
            return Err(Error::NotLogits { got: String::from_utf8_lossy(&magic).into_owned() });
        }
        let head = MAGIC.len() as u64 + 3 * 4;
        if length < head {
            return Err(Error::LogitsLength { expected: head, got: length });
        }
        let context = field(&mut reader, "the context", 3, "3 or more")?;
        let vocabulary = field(&mut reader, "the vocabulary", 1, "1 or more")?;
        let windows = field(&mut reader, "the number of windows", 1, "1 or more")?;
        let file = LogitsFile {
            reader,
            context,
            vocabulary,
            windows,
            tokens: Vec::new(),
            row: 0,
            bytes: Vec::new(),
        };
        // Three 31-bit figures and a small factor: no overflow in 128 bits.
        let tokens = windows as u128 * context as u128;
        let expected = u128::from(head) + tokens * 4 + u128::from(file.rows()) * file.row_bytes() as u128;
        if u128::from(length) < expected {
            let expected = u64::try_from(expected).unwrap_or(u64::MAX);
            return Err(Error::LogitsLength { expected, got: length });
        }
        file.read_tokens(tokens as usize)
    }

    fn read_tokens(mut self, count: usize) -> Result<Self, Error> {
        self.tokens.reserve_exact(count);
        for _ in 0..count {
            let token = read_i32(&mut self.reader)?;
            match u32::try_from(token) {
                Ok(id) if (id as usize) < self.vocabulary => self.tokens.push(id),
                _ => {
                    let expected = "an id within the vocabulary";
                    return Err(Error::LogitsField { field: "a token", got: token.into(), expected });
                }
            }
        }
        self.bytes = vec![0; self.row_bytes()];
        Ok(self)
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Windows of text.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// The text's tokens, `context` a window, before a window's first is replaced by BOS.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Rows in the file: scored positions over all windows.
    pub fn rows(&self) -> u64 {
        self.windows as u64 * (self.context - 1 - self.context / 2) as u64
    }

    fn row_bytes(&self) -> usize {
        8 + 2 * self.vocabulary.next_multiple_of(2)
    }

    /// Reads the next row's log-probabilities into `out`, one value a token of the vocabulary; those of -16 or below may
    /// have been clamped by the writer.
    ///
    /// # Errors
    /// [`Error::LogitsEnd`] after the last row, [`Error::RowLength`] if `out` has another length,
    /// [`Error::LogitsRow`] for a row that is no distribution, [`Error::Read`].
    pub fn next_row(&mut self, out: &mut [f32]) -> Result<(), Error> {
        if self.row == self.rows() {
            return Err(Error::LogitsEnd { rows: self.row });
        }
        if out.len() != self.vocabulary {
            return Err(Error::RowLength { tested: out.len(), reference: self.vocabulary });
        }
        self.reader.read_exact(&mut self.bytes)?;
        let (head, values) = self.bytes.split_at(8);
        let scale = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let smallest = f32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let largest = smallest + scale * f32::from(u16::MAX);
        if !(scale >= 0.0 && smallest.is_finite() && largest <= ROUNDING) {
            return Err(Error::LogitsRow { row: self.row, scale, smallest });
        }
        for (out, value) in out.iter_mut().zip(values.chunks_exact(2)) {
            *out = smallest + scale * f32::from(u16::from_le_bytes([value[0], value[1]]));
        }
        self.row += 1;
        Ok(())
    }
}

fn read_i32(reader: &mut impl Read) -> Result<i32, Error> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(i32::from_le_bytes(bytes))
}

fn field(
    reader: &mut impl Read,
    field: &'static str,
    least: i32,
    expected: &'static str,
) -> Result<usize, Error> {
    match read_i32(reader)? {
        value if value >= least => Ok(value as usize),
        value => Err(Error::LogitsField { field, got: value.into(), expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of one window of four tokens (one scored position) over a vocabulary of three.
    fn sample() -> Vec<u8> {
        let mut bytes = b"_logits_".to_vec();
        for value in [4i32, 3, 1, 0, 1, 2, 1] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend((16.0f32 / 65535.0).to_le_bytes());
        bytes.extend((-16.5f32).to_le_bytes());
        for value in [65535u16, 0, 32768, 0] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<LogitsFile<&[u8]>, Error> {
        LogitsFile::new(bytes, bytes.len() as u64)
    }

    #[test]
    fn reads_a_small_file() {
        let bytes = sample();
        let mut file = read(&bytes).unwrap();
        assert_eq!((file.context(), file.vocabulary(), file.windows(), file.rows()), (4, 3, 1, 1));
        assert_eq!(file.tokens(), [0, 1, 2, 1]);
        let mut row = [0.0; 3];
        file.next_row(&mut row).unwrap();
        assert!((row[0] + 0.5).abs() < 1e-5 && (row[2] + 8.5).abs() < 1e-3, "{row:?}");
        assert_eq!(row[1], -16.5);
        assert!(matches!(file.next_row(&mut row), Err(Error::LogitsEnd { rows: 1 })));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let patched = |at: usize, value: i32| {
            let mut bytes = sample();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        assert!(matches!(read(b"GGUF"), Err(Error::NotLogits { .. })));
        assert!(matches!(read(b"_logits_"), Err(Error::LogitsLength { expected: 20, got: 8 })));
        assert!(matches!(read(&patched(8, 2)), Err(Error::LogitsField { field: "the context", got: 2, .. })));
        assert!(matches!(read(&patched(12, -1)), Err(Error::LogitsField { field: "the vocabulary", .. })));
        assert!(matches!(read(&patched(8, i32::MAX)), Err(Error::LogitsLength { .. })));
        assert!(matches!(read(&patched(16, 2)), Err(Error::LogitsLength { .. })));
        assert!(matches!(read(&patched(20, 3)), Err(Error::LogitsField { field: "a token", got: 3, .. })));
        let everything = [i32::MAX; 3].iter().flat_map(|v| v.to_le_bytes());
        let huge: Vec<u8> = b"_logits_".iter().copied().chain(everything).collect();
        assert!(matches!(read(&huge), Err(Error::LogitsLength { expected: u64::MAX, .. })));
        for scale in [f32::NAN, -1.0, 1.0, f32::INFINITY] {
            let bytes = patched(36, scale.to_bits() as i32);
            let row = read(&bytes).unwrap().next_row(&mut [0.0; 3]);
            assert!(matches!(row, Err(Error::LogitsRow { row: 0, .. })), "{scale}");
        }
    }

    #[test]
    fn a_file_on_disk_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved");
        assert!(!is_logits_file(&path));
        std::fs::write(&path, sample()).unwrap();
        assert!(is_logits_file(&path));
        assert_eq!(LogitsFile::open(&path).unwrap().rows(), 1);
        assert!(matches!(LogitsFile::open(&folder.path().join("none")), Err(Error::Io { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(cut in 0usize..60, changes in prop::collection::vec((8usize..52, any::<u8>()), 0..6)) {
            let mut bytes = sample();
            for (at, value) in changes { bytes[at] = value; }
            bytes.truncate(cut);
            if let Ok(mut file) = read(&bytes) {
                let mut row = vec![0.0; file.vocabulary()];
                while file.next_row(&mut row).is_ok() {}
            }
        }
    }
}
