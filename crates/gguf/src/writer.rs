//! Writing a model as a stream: metadata and the list of tensors first, then their data in order.
//!
//! The whole layout is known before the first byte of data, so a model of any size passes through in small pieces.

use crate::value::for_each_plain_type;
use crate::{
    Array, AtomicFile, Error, MAGIC, MAXIMUM_ARRAY_DEPTH, MAXIMUM_KEY_BYTES, MAXIMUM_NAME_BYTES, Metadata,
    VERSION, Value, layout,
};
use std::collections::HashSet;
use std::path::Path;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, unique in the file, at most [`MAXIMUM_NAME_BYTES`] bytes.
    pub name: String,
    /// Sizes in the file's order: `shape[0]` is the row length (columns).
    pub shape: Vec<u64>,
    /// Number format; see [`crate::types`].
    pub type_id: u32,
}

impl TensorSpec {
    /// Bytes of data that the tensor needs. Errors for impossible shapes and unknown types.
    pub fn bytes(&self) -> Result<u64, Error> {
        layout::tensor_bytes(&self.name, &self.shape, self.type_id)
    }
}

/// A version 3 file being written. It appears under its name with [`Writer::finish`] and never half done: a killed
/// process or a full disk leaves what was there before.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    tensors: Vec<SizedName>,
    current: usize,
    written: u64, // bytes of the current tensor
    alignment: u32,
}

impl Writer {
    /// Writes the header of `target`: all metadata and the list of the tensors, whose data must follow in this
    /// order. `general.alignment` in the metadata is obeyed.
    ///
    /// # Errors
    /// What [`crate::parse`] would refuse is refused here too; [`Error::Busy`], [`Error::Io`].
    pub fn create(target: &Path, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Writer, Error> {
        let alignment = layout::alignment(metadata)?;
        let (header, sizes) = header(metadata, tensors, alignment)?;
        let mut file = AtomicFile::create(target)?;
        file.write(&header)?;
        let mut writer = Writer { file, tensors: sizes, current: 0, written: 0, alignment };
        writer.pad(header.len() as u64)?;
        Ok(writer)
    }

    /// The name of the tensor whose data comes next; `None` once all is written.
    pub fn next_tensor(&self) -> Option<&str> {
        self.tensors.get(self.current).map(|(name, _)| name.as_str())
    }

    /// Writes all data of the tensor whose turn it is.
    ///
    /// # Errors
    /// [`Error::Order`] out of turn, [`Error::DataSize`] where the size is not the announced one, [`Error::Io`].
    pub fn write_tensor(&mut self, name: &str, data: &[u8]) -> Result<(), Error> {
        match self.tensors.get(self.current) {
            Some((next, bytes)) if next == name && self.written == 0 => {
                if data.len() as u64 != *bytes {
                    let (tensor, got) = (name.to_owned(), data.len() as u64);
                    return Err(Error::DataSize { tensor, expected: *bytes, got });
                }
                self.write(data)
            }
            next => {
                let expected = next.map_or_else(|| "none".to_owned(), |(name, _)| format!("'{name}'"));
                Err(Error::Order { expected, got: name.to_owned() })
            }
        }
    }

    /// Writes the next piece of the current tensor's data; once that is whole, the next tensor's turn comes.
    ///
    /// # Errors
    /// [`Error::DataSize`] where the piece goes beyond the tensor, [`Error::Io`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        let piece_bytes = piece.len() as u64;
        let Some(&(ref name, bytes)) = self.tensors.get(self.current) else {
            return Err(Error::DataSize { tensor: "none".to_owned(), expected: 0, got: piece_bytes });
        };
        let written = self.written.saturating_add(piece_bytes);
        if written > bytes {
            return Err(Error::DataSize { tensor: name.clone(), expected: bytes, got: written });
        }
        self.file.write(piece)?;
        self.written = written;
        if written == bytes {
            self.pad(bytes)?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Forces the file to disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::DataSize`] where data is still due (the file is then removed), [`Error::Io`].
    pub fn finish(self) -> Result<(), Error> {
        if let Some((tensor, bytes)) = self.tensors.get(self.current) {
            return Err(Error::DataSize { tensor: tensor.clone(), expected: *bytes, got: self.written });
        }
        self.file.finish()
    }

    /// Fills up to the alignment; sections start aligned, so their length alone decides.
    fn pad(&mut self, length: u64) -> Result<(), Error> {
        let alignment = u64::from(self.alignment);
        let mut missing = (alignment - length % alignment) % alignment;
        while missing > 0 {
            let piece = missing.min(ZEROS.len() as u64);
            self.file.write(&ZEROS[..piece as usize])?;
            missing -= piece;
        }
        Ok(())
    }
}

const ZEROS: [u8; 4096] = [0; 4096];

/// A tensor's name and its bytes of data.
type SizedName = (String, u64);

/// The header's bytes and the size of each tensor.
fn header(
    metadata: &Metadata,
    tensors: &[TensorSpec],
    alignment: u32,
) -> Result<(Vec<u8>, Vec<SizedName>), Error> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        if key.len() > MAXIMUM_KEY_BYTES {
            return Err(Error::KeyLength { got: key.len() as u64, maximum: MAXIMUM_KEY_BYTES });
        }
        put_string(&mut out, key);
        put_value(&mut out, key, value)?;
    }
    let mut names = HashSet::new();
    let mut sizes = Vec::with_capacity(tensors.len());
    let mut offset = 0_u64;
    for tensor in tensors {
        let name = &tensor.name;
        if name.len() > MAXIMUM_NAME_BYTES {
            return Err(Error::NameLength {
                tensor: name.clone(),
                got: name.len(),
                maximum: MAXIMUM_NAME_BYTES,
            });
        }
        if !names.insert(name.as_str()) {
            return Err(Error::DuplicateTensor { tensor: name.clone() });
        }
        let bytes = tensor.bytes()?;
        put_string(&mut out, name);
        out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        for size in &tensor.shape {
            out.extend_from_slice(&size.to_le_bytes());
        }
        out.extend_from_slice(&tensor.type_id.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        let what = || format!("the end of tensor '{name}'");
        let end = offset.checked_add(bytes).ok_or_else(|| Error::TooLarge { what: what() })?;
        offset = layout::align(end, alignment, &what)?;
        sizes.push((name.clone(), bytes));
    }
    Ok((out, sizes))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), Error> {
    out.extend_from_slice(&value.type_id().to_le_bytes());
    macro_rules! put {
        ($(($variant:ident, $type:ty, $id:literal, $name:literal))*) => {
            match value {
                $(Value::$variant(value) => value.put(out),)*
                Value::Array(array) => {
                    if array.depth() > MAXIMUM_ARRAY_DEPTH {
                        return Err(Error::ArrayDepth { key: key.to_owned(), maximum: MAXIMUM_ARRAY_DEPTH });
                    }
                    put_array(out, array);
                }
            }
        };
    }
    for_each_plain_type!(put);
    Ok(())
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend_from_slice(&array.element_id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    macro_rules! put {
        ($(($variant:ident, $type:ty, $id:literal, $name:literal))*) => {
            match array {
                $(Array::$variant(elements) => elements.iter().for_each(|element| element.put(out)),)*
                Array::Nested(elements) => elements.iter().for_each(|element| put_array(out, element)),
            }
        };
    }
    for_each_plain_type!(put);
}

/// A plain value as it stands in the file.
trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! little_endian {
    ($($type:ty)*) => {
        $(impl Put for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        })*
    };
}
little_endian!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Put for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_string(out, self);
    }
}
