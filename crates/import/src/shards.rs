//! The tensors of a safetensors folder, in one file or in shards with an index.
//!
//! The format: <https://huggingface.co/docs/safetensors>. Of the `safetensors` crate only the header's types and
//! checks serve here; the data is read piece by piece.

use crate::Error;
use crate::float::Stored;
use crate::input::{self, Input};
use crate::plan::StoredTensor;
use safetensors::tensor::{Dtype, Metadata};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// Most bytes of a header, as the format limits it.
const MAXIMUM_HEADER_BYTES: u64 = 100_000_000;
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a checkpoint by name, and the files they are in.
#[derive(Debug)]
pub(crate) struct Shards {
    pub(crate) inputs: Vec<Input>,
    pub(crate) tensors: BTreeMap<String, Entry>,
}

/// One tensor; its number type may still turn out to be unusable.
#[derive(Debug)]
pub(crate) struct Entry {
    input: usize,
    offset: u64,
    dtype: Dtype,
    pub(crate) shape: Vec<u64>,
}

impl Entry {
    /// The tensor as floats. Errors for integers, booleans and the very small floats of quantized checkpoints.
    pub(crate) fn stored(&self, name: &str) -> Result<StoredTensor, Error> {
        let stored = match self.dtype {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            other => return Err(Error::NumberType { tensor: name.to_owned(), got: format!("{other:?}") }),
        };
        Ok(StoredTensor { input: self.input, offset: self.offset, stored, shape: self.shape.clone() })
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    pub(crate) fn open(folder: &Path) -> Result<Shards, Error> {
        let mut shards = Shards { inputs: Vec::new(), tensors: BTreeMap::new() };
        let whole = folder.join(WHOLE);
        if whole.exists() {
            shards.add(&whole)?;
            return Ok(shards);
        }
        let path = folder.join(INDEX);
        let Some(index) = input::read_json_if_there::<Index>(&path, "it names the shards")? else {
            return Err(Error::MissingFile { path: whole, purpose: "it holds the weights" });
        };
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        for file in files {
            // A name from a file may not lead out of the folder.
            let mut parts = Path::new(file).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(Error::Safetensors { path, problem: format!("it names the file '{file}'") });
            }
            shards.add(&folder.join(file))?;
        }
        if let Some(tensor) = index.weight_map.keys().find(|name| !shards.tensors.contains_key(*name)) {
            return Err(Error::MissingTensor { tensor: tensor.clone() });
        }
        Ok(shards)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let input = Input::open(path, "it holds weights")?;
        let mut length = [0; 8];
        input.read(0, &mut length)?;
        let header_bytes = u64::from_le_bytes(length);
        let damaged = |problem: String| Error::Safetensors { path: path.to_path_buf(), problem };
        if header_bytes > MAXIMUM_HEADER_BYTES {
            return Err(damaged(format!("it claims to have {header_bytes} bytes")));
        }
        let data_offset = 8 + header_bytes;
        if data_offset > input.bytes {
            return Err(Error::Length {
                path: path.to_path_buf(),
                expected: data_offset,
                actual: input.bytes,
            });
        }
        let mut header = vec![0; header_bytes as usize];
        input.read(8, &mut header)?;
        // Deserializing checks offsets against shapes and types, and that tensors neither overlap nor leave gaps.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let expected = data_offset.saturating_add(metadata.data_len() as u64);
        if expected != input.bytes {
            return Err(Error::Length { path: path.to_path_buf(), expected, actual: input.bytes });
        }
        let number = self.inputs.len();
        for (name, info) in metadata.tensors() {
            let shape = info.shape.iter().map(|&size| size as u64).collect();
            let offset = data_offset + info.data_offsets.0 as u64;
            let entry = Entry { input: number, offset, dtype: info.dtype, shape };
            if self.tensors.contains_key(&name) {
                return Err(Error::DuplicateTensor { tensor: name });
            }
            self.tensors.insert(name, entry);
        }
        self.inputs.push(input);
        Ok(())
    }
}
