//! The header of one file: parsed from bytes, and checked so that everything after may trust it.

use crate::cursor::Cursor;
use crate::{Error, Metadata, layout};
use std::collections::HashSet;

/// One tensor: its name, shape and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the model: `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes in the file's order: `shape[0]` is the row length (columns), `shape[1]` the rows.
    pub shape: Vec<u64>,
    /// Number format; see [`crate::types`].
    pub type_id: u32,
    /// Which file of the model holds the data, from 0.
    pub part: usize,
    /// First byte of the data, counted from the start of that file.
    pub offset: u64,
    /// Bytes of data.
    pub bytes: u64,
}

/// What one file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes, a power of two.
    pub alignment: u32,
    /// All metadata.
    pub metadata: Metadata,
    /// All tensors in the file's order; `part` is 0.
    pub tensors: Vec<TensorInfo>,
    /// First byte of the data section.
    pub data_offset: u64,
}

/// Bytes of the smallest metadata entry: key length, value type id, one byte of value.
const SMALLEST_ENTRY: u64 = 8 + 4 + 1;
/// Bytes of the smallest tensor entry: name length, rank, one dimension, type id, offset.
const SMALLEST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// Parses and checks the header of a whole file.
///
/// `bytes` is the whole file: tensor data must lie within it. Memory used is bounded by a small multiple of the
/// bytes given, whatever the counts in them say.
///
/// # Errors
/// Any of the format's [`Error`]s; never panics.
pub fn parse(bytes: &[u8]) -> Result<Header, Error> {
    parse_start(bytes, bytes.len() as u64)
}

/// The same of a file of `file_bytes` bytes whose first ones are `bytes`, as many as the header has or more.
///
/// # Errors
/// As [`parse`]; [`Error::Truncated`] or [`Error::Count`] also where more of the file is needed.
pub fn parse_start(bytes: &[u8], file_bytes: u64) -> Result<Header, Error> {
    let mut cursor = Cursor::new(bytes);
    let header = || "the header".to_owned();
    cursor.magic()?;
    let version = cursor.u32(&header)?;
    match (version, version.swap_bytes()) {
        (2 | 3, _) => {}
        (_, version @ 1..=3) => return Err(Error::BigEndian { version }),
        _ => return Err(Error::Version { got: version }),
    }
    let tensor_count = cursor.u64(&header)?;
    let entry_count = cursor.u64(&header)?;
    cursor.check_count(tensor_count, SMALLEST_TENSOR, &|| "the list of tensors".to_owned())?;
    let metadata = read_metadata(&mut cursor, entry_count)?;
    let alignment = layout::alignment(&metadata)?;
    let mut tensors = read_tensors(&mut cursor, tensor_count, alignment)?;

    let end_of_header = cursor.position();
    let data_offset = layout::align(end_of_header, alignment, &|| "the data section's offset".to_owned())?;
    let mut largest_end = end_of_header;
    for tensor in &mut tensors {
        let end = tensor
            .offset
            .checked_add(data_offset)
            .and_then(|offset| {
                tensor.offset = offset;
                offset.checked_add(tensor.bytes)
            })
            .ok_or_else(|| Error::TooLarge { what: format!("the end of tensor '{}'", tensor.name) })?;
        largest_end = largest_end.max(end);
    }
    let actual = file_bytes;
    if largest_end > actual {
        let what = "the data of its tensors".to_owned();
        return Err(Error::Truncated { what, expected: largest_end, actual });
    }
    layout::check_overlap(&tensors)?;
    Ok(Header { version, alignment, metadata, tensors, data_offset })
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, Error> {
    cursor.check_count(count, SMALLEST_ENTRY, &|| "the metadata".to_owned())?;
    let mut metadata = Metadata::new();
    for number in 0..count {
        let key = cursor.key(&|| format!("the key of metadata entry {number}"))?;
        let value = cursor.value(&key)?;
        if metadata.get(&key).is_some() {
            return Err(Error::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// Reads the tensor list; `offset` is still relative to the data section.
fn read_tensors(cursor: &mut Cursor<'_>, count: u64, alignment: u32) -> Result<Vec<TensorInfo>, Error> {
    let count = cursor.check_count(count, SMALLEST_TENSOR, &|| "the list of tensors".to_owned())?;
    let mut tensors = Vec::with_capacity(count);
    for number in 0..count {
        let name = cursor.string(&|| format!("the name of tensor {number}"))?;
        let what = || format!("the description of tensor '{name}'");
        let rank = cursor.u32(&what)?;
        if rank == 0 || rank as usize > crate::MAXIMUM_RANK {
            return Err(Error::Rank { tensor: name, got: rank.into(), maximum: crate::MAXIMUM_RANK });
        }
        let shape = (0..rank).map(|_| cursor.u64(&what)).collect::<Result<Vec<u64>, Error>>()?;
        let type_id = cursor.u32(&what)?;
        let offset = cursor.u64(&what)?;
        let bytes = layout::tensor_bytes(&name, &shape, type_id)?;
        if !offset.is_multiple_of(alignment.into()) {
            return Err(Error::Misaligned { tensor: name, offset, alignment });
        }
        tensors.push(TensorInfo { name, shape, type_id, part: 0, offset, bytes });
    }
    let mut names = HashSet::with_capacity(tensors.len());
    if let Some(double) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(Error::DuplicateTensor { tensor: double.name.clone() });
    }
    Ok(tensors)
}
