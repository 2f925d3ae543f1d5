//! The model file: GGUF v2 and v3, read by memory map and written as a stream.
//!
//! Raw by design: tensors carry the format's numeric type id; what a type means belongs to `kernels`,
//! what a tensor means belongs to `model`. Every byte of a file is taken for hostile until it is checked:
//! reading answers with an [`Error`] that names the field and says what to do, and never panics.
//!
//! Source: the format description at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod atomic_file;
mod buffers;
mod cursor;
mod direct;
mod error;
mod file;
mod header;
mod layout;
mod map;
mod metadata;
mod parts;
mod pieces;
pub mod types;
mod value;
mod writer;

pub use atomic_file::AtomicFile;
pub use buffers::DirectBuffer;
pub use direct::{DIRECT_ALIGNMENT, DirectFile};
pub use error::Error;
pub use file::File;
pub use header::{Header, TensorInfo, parse, parse_start};
pub use map::{Map, Reading};
pub use metadata::Metadata;
pub use parts::part_path;
pub use pieces::PieceWriter;
pub use value::{Array, Value};
pub use writer::{TensorSpec, Writer};

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version that [`Writer`] writes; 2 is read as well.
pub const VERSION: u32 = 3;
/// Where a file does not say otherwise in `general.alignment`, tensor data starts at multiples of this.
pub const DEFAULT_ALIGNMENT: u32 = 32;
/// A tensor has one to this many dimensions.
pub const MAXIMUM_RANK: usize = 4;
/// Arrays within arrays within ... at most this deep; real files have no nesting at all.
pub const MAXIMUM_ARRAY_DEPTH: usize = 4;
/// Bytes in a metadata key, as the format limits them.
pub const MAXIMUM_KEY_BYTES: usize = 65_535;
/// Bytes in the name of a tensor that is written: other readers hold 64 with a closing zero.
pub const MAXIMUM_NAME_BYTES: usize = 63;
