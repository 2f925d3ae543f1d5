//! Everything that can be wrong with a model file, in words that say what to do next.

use std::path::PathBuf;

/// What went wrong while a GGUF file was opened, checked, queried or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A problem found in one named file.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Error>,
    },

    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb ("open", "write").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// Somebody wrote to the file, or cut it short, while it was in use.
    #[error("{} was changed while it was in use; start again to use what it holds now", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },

    /// The system could not read a part of a mapped file.
    #[error(
        "a part of {} cannot be read any more: its device fails, or the file was cut short; start again once it is whole", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
    },

    /// A folder, a device or a pipe was given.
    #[error("{} is not a regular file; give the path of a .gguf file", path.display())]
    NotAFile {
        /// The path that was given.
        path: PathBuf,
    },

    /// The file does not begin with `GGUF`.
    #[error(
        "not a GGUF file: it begins with {got:02x?} instead of \"GGUF\"; check that the download is the model \
         itself and not a web page or another format"
    )]
    NotGguf {
        /// Up to the first four bytes.
        got: Vec<u8>,
    },

    /// A version that this reader does not know.
    #[error(
        "GGUF version {got} is not supported (versions 2 and 3 are); convert the model again with a current tool"
    )]
    Version {
        /// The version in the file.
        got: u32,
    },

    /// A file written for big-endian machines.
    #[error(
        "a big-endian GGUF file (version {version}); get the little-endian one, which is the usual download"
    )]
    BigEndian {
        /// The version, once its bytes are turned round.
        version: u32,
    },

    /// The file ends before what it announces.
    #[error(
        "the file is cut short: {what} needs at least {expected} bytes, the file has {actual}; download or copy \
         it again"
    )]
    Truncated {
        /// What could not be read.
        what: String,
        /// Size in bytes the file must have at least.
        expected: u64,
        /// Size in bytes it has.
        actual: u64,
    },

    /// A count that cannot fit into what is left of the file.
    #[error(
        "{what} announces {count} entries, but only {remaining} bytes follow; the file is damaged, download it again"
    )]
    Count {
        /// What is counted.
        what: String,
        /// The number in the file.
        count: u64,
        /// Bytes from there to the file's end.
        remaining: u64,
    },

    /// A key longer than the format allows.
    #[error(
        "a metadata key of {got} bytes (at most {maximum} are allowed); the file is damaged, download it again"
    )]
    KeyLength {
        /// Bytes in the key.
        got: u64,
        /// The limit.
        maximum: usize,
    },

    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8 text; the file is damaged or was written by a faulty tool")]
    NotText {
        /// Where.
        what: String,
    },

    /// A value type id that the format does not have.
    #[error(
        "metadata '{key}' has the unknown value type {id}; the file is damaged or newer than this program"
    )]
    UnknownValueType {
        /// The metadata key.
        key: String,
        /// The id in the file.
        id: u32,
    },

    /// A boolean that is neither 0 nor 1.
    #[error(
        "metadata '{key}' holds the boolean {got} (0 or 1 is allowed); the file is damaged, download it again"
    )]
    NotBoolean {
        /// The metadata key.
        key: String,
        /// The byte in the file.
        got: u8,
    },

    /// Arrays nested too deeply.
    #[error(
        "metadata '{key}' nests arrays more than {maximum} deep; no model needs that, the file is damaged"
    )]
    ArrayDepth {
        /// The metadata key.
        key: String,
        /// The limit.
        maximum: usize,
    },

    /// The same metadata key twice.
    #[error("metadata '{key}' stands in the file twice; the file is damaged or was written by a faulty tool")]
    DuplicateKey {
        /// The metadata key.
        key: String,
    },

    /// The same tensor name twice.
    #[error(
        "tensor '{tensor}' stands in the model twice; the file is damaged or was written by a faulty tool"
    )]
    DuplicateTensor {
        /// The tensor's name.
        tensor: String,
    },

    /// A metadata value of another type than the caller needs.
    #[error(
        "metadata '{key}' should be {expected} but is {got}; the model was converted wrongly, convert it again"
    )]
    WrongType {
        /// The metadata key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What is there.
        got: String,
    },

    /// `general.alignment` is not a power of two.
    #[error("general.alignment is {got}, which is no power of two; the file is damaged, download it again")]
    Alignment {
        /// The value in the file.
        got: u64,
    },

    /// A tensor without dimensions or with more than four.
    #[error("tensor '{tensor}' has {got} dimensions (1 to {maximum} are allowed); the file is damaged")]
    Rank {
        /// The tensor's name.
        tensor: String,
        /// The number of dimensions in the file.
        got: u64,
        /// The limit.
        maximum: usize,
    },

    /// A dimension of zero, or more values than 64 bits count.
    #[error("tensor '{tensor}' has the impossible shape {shape:?}; the file is damaged, download it again")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The shape in the file, row length first.
        shape: Vec<u64>,
    },

    /// A number format that the table in [`crate::types`] does not have.
    #[error(
        "tensor '{tensor}' is in number format {id}, which this program does not know; get another \
         quantization of the model (Q4_K_M, Q8_0, F16) or a newer program"
    )]
    UnknownTensorType {
        /// The tensor's name.
        tensor: String,
        /// The id in the file.
        id: u32,
    },

    /// A row that is not a whole number of blocks.
    #[error(
        "tensor '{tensor}': rows of {columns} values are no multiple of {format}'s block of {block}; the file is damaged"
    )]
    RowLength {
        /// The tensor's name.
        tensor: String,
        /// Values in a row.
        columns: u64,
        /// Name of the number format.
        format: &'static str,
        /// Values in a block.
        block: u64,
    },

    /// Data that does not start at a multiple of the alignment.
    #[error(
        "tensor '{tensor}' starts at offset {offset}, no multiple of the alignment {alignment}; the file is damaged"
    )]
    Misaligned {
        /// The tensor's name.
        tensor: String,
        /// The offset within the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u32,
    },

    /// Two tensors share bytes.
    #[error(
        "tensors '{first}' and '{second}' share bytes of the file; the file is damaged, download it again"
    )]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts within it.
        second: String,
    },

    /// A size or an offset that 64 bits cannot hold.
    #[error("{what} is larger than any file can be; the file is damaged, download it again")]
    TooLarge {
        /// What overflowed.
        what: String,
    },

    /// A part of a model in several files has a name from which the others cannot be derived.
    #[error(
        "{} is one of {count} parts of a model but is not named like NAME-00001-of-{count:05}.gguf; give the \
         parts their original names back", path.display()
    )]
    PartName {
        /// The file.
        path: PathBuf,
        /// The number of parts it announces.
        count: u64,
    },

    /// A part of a model in several files is not there.
    #[error("part {part} of {count} is missing: {} not found; download it into the same folder", path.display())]
    MissingPart {
        /// The file that was looked for.
        path: PathBuf,
        /// Its number, from 1.
        part: usize,
        /// The number of parts.
        count: usize,
    },

    /// A part does not belong to the others.
    #[error(
        "{}: {key} is {got}, expected {expected}; the parts are of different models, download them again",
        path.display()
    )]
    PartMismatch {
        /// The file.
        path: PathBuf,
        /// The metadata key that differs.
        key: &'static str,
        /// What the other parts or the file's name ask for.
        expected: u64,
        /// What the file says ("nothing" where the key is absent).
        got: String,
    },

    /// Another process is writing the same file.
    #[error("{} is being written by another process; wait for it or choose another name", path.display())]
    Busy {
        /// The target file.
        path: PathBuf,
    },

    /// A name that other readers could not hold.
    #[error("tensor name '{tensor}' has {got} bytes (at most {maximum} are allowed); shorten it")]
    NameLength {
        /// The tensor's name.
        tensor: String,
        /// Bytes in the name.
        got: usize,
        /// The limit.
        maximum: usize,
    },

    /// Tensor data handed to the writer out of turn or in the wrong amount.
    #[error(
        "tensor '{tensor}' needs {expected} bytes but got {got}; write each announced tensor once, in order and whole"
    )]
    DataSize {
        /// The tensor whose turn it is.
        tensor: String,
        /// Bytes it needs.
        expected: u64,
        /// Bytes it was given.
        got: u64,
    },

    /// Tensors handed to the writer in another order than announced.
    #[error(
        "tensor '{got}' was written when it was the turn of {expected}; write the tensors in the announced order"
    )]
    Order {
        /// The tensor whose turn it is, quoted, or "none".
        expected: String,
        /// The tensor that was written.
        got: String,
    },
}

impl Error {
    /// Says in which file the problem is, unless the error does so by itself.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Error {
        match self {
            Error::InFile { .. }
            | Error::Io { .. }
            | Error::NotAFile { .. }
            | Error::PartName { .. }
            | Error::MissingPart { .. }
            | Error::PartMismatch { .. }
            | Error::Busy { .. } => self,
            error => Error::InFile { path: path.to_path_buf(), error: Box::new(error) },
        }
    }

    /// The problem itself, without the file it was found in.
    pub fn cause(&self) -> &Error {
        match self {
            Error::InFile { error, .. } => error.cause(),
            error => error,
        }
    }
}
