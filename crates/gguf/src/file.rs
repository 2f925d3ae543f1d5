//! A model on disk: one file or several parts, mapped into memory and seen as one.

use crate::direct::FileState;
use crate::parts::{self, PartName};
use crate::{Error, Header, Map, Metadata, Reading, TensorInfo, parse};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A model file that has been opened, mapped and checked.
///
/// Tensor data is read from disk when it is first touched. The files must not be changed while they are open:
/// a file that another program cuts short makes the system end this one when the lost bytes are touched, unless it is
/// [guarded](File::guard).
#[derive(Debug)]
pub struct File {
    paths: Vec<PathBuf>,
    maps: Vec<Map>,
    opened: Vec<(std::fs::File, FileState)>,
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
}

impl File {
    /// Opens a model. For one in several files, any part opens all; they lie in one folder.
    ///
    /// # Errors
    /// [`Error::InFile`] around what is wrong with a file's content, [`Error::MissingPart`] and
    /// [`Error::PartMismatch`] for incomplete models, [`Error::Io`].
    pub fn open(path: &Path) -> Result<File, Error> {
        let given = Part::open(path)?;
        let count = parts::count(&given.header.metadata).map_err(|error| error.in_file(path))?;
        let parts = if count == 1 { vec![given] } else { open_others(given, count)? };
        File::join(parts)
    }

    fn join(parts: Vec<Part>) -> Result<File, Error> {
        let total: usize = parts.iter().map(|part| part.header.tensors.len()).sum();
        let first = &parts[0].header;
        let (version, alignment) = (first.version, first.alignment);
        if first.metadata.get(parts::TENSORS_KEY).is_some() {
            parts::check(&first.metadata, &parts[0].path, parts::TENSORS_KEY, total as u64)?;
        }
        let mut file = File {
            paths: Vec::new(),
            maps: Vec::new(),
            opened: Vec::new(),
            version,
            alignment,
            metadata: Metadata::new(),
            tensors: Vec::with_capacity(total),
            index: HashMap::with_capacity(total),
        };
        for (number, part) in parts.into_iter().enumerate() {
            if number == 0 {
                file.metadata = part.header.metadata;
            }
            for tensor in part.header.tensors {
                if file.index.insert(tensor.name.clone(), file.tensors.len()).is_some() {
                    return Err(Error::DuplicateTensor { tensor: tensor.name }.in_file(&part.path));
                }
                file.tensors.push(TensorInfo { part: number, ..tensor });
            }
            file.paths.push(part.path);
            file.maps.push(part.map);
            file.opened.push(part.opened);
        }
        Ok(file)
    }

    /// All metadata; for a model in several files, that of the first.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, part by part in the order of each file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.tensors[at])
    }

    /// The bytes of a tensor of this file; empty for a description that is not this file's.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let range = || {
            let start = usize::try_from(tensor.offset).ok()?;
            let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
            self.maps.get(tensor.part)?.get(start..end)
        };
        range().unwrap_or_default()
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes; for a model in several files, that of the first.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The files, in the order of the parts.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.len() as u64).sum()
    }

    /// Checks that no file was written to or cut short since it was opened: of one that is shorter, the lost bytes must not be
    /// touched.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Io`].
    pub fn check(&self) -> Result<(), Error> {
        self.opened.iter().zip(&self.paths).try_for_each(|((file, state), path)| state.check(file, path))
    }

    /// From now on tensor data that cannot be read, from a device that fails say, is zeros instead of the end of the program,
    /// and [`File::losses`] grows.
    pub fn guard(&mut self) {
        self.maps.iter_mut().for_each(Map::guard);
    }

    /// What of the tensor data was touched and could not be read since [`File::guard`], in pages.
    pub fn losses(&self) -> usize {
        self.maps.iter().map(Map::losses).sum()
    }

    /// The file that has zeros in the place of such data, if one has.
    pub fn damaged(&self) -> Option<&Path> {
        self.maps.iter().position(Map::is_damaged).map(|part| self.paths[part].as_path())
    }

    /// Has data that could not be read be read again.
    pub fn restore(&self) {
        self.maps.iter().for_each(Map::restore);
    }

    /// Tells the system in which way tensor data will be read: of what is [scattered](Reading::Scattered) nothing is read ahead,
    /// which takes a gigabyte for some hundred places where the system reads ahead by megabytes.
    pub fn expect(&self, reading: Reading) {
        self.maps.iter().for_each(|map| map.expect(reading));
    }

    /// Has the bytes of this `range` of a tensor read without waiting for them.
    pub fn fetch(&self, tensor: &TensorInfo, range: Range<usize>) {
        if let (Some(map), Ok(start)) = (self.maps.get(tensor.part), usize::try_from(tensor.offset)) {
            map.fetch(start + range.start..start + range.end);
        }
    }

    /// Gives the data's pages back to the system: what was read to its end and stays open should not count as memory that is
    /// needed. What is read again comes from the file.
    pub fn release(&self) {
        self.maps.iter().for_each(Map::release);
    }
}

/// One file, mapped and parsed.
struct Part {
    path: PathBuf,
    map: Map,
    opened: (std::fs::File, FileState),
    header: Header,
}

impl Part {
    fn open(path: &Path) -> Result<Part, Error> {
        let io = |action| move |source| Error::Io { action, path: path.to_path_buf(), source };
        // Asked before opening: opening a pipe would wait for a writer.
        let about = std::fs::metadata(path).map_err(io("open"))?;
        if !about.is_file() {
            return Err(Error::NotAFile { path: path.to_path_buf() });
        }
        let file = std::fs::File::open(path).map_err(io("open"))?;
        // All reads of the header copy what they check, so a change can falsify tensor data but not break a bound.
        let map = Map::of(&file).map_err(io("map"))?;
        let header = parse(&map).map_err(|error| error.in_file(path))?;
        let state = FileState::of(&file).map_err(io("look at"))?;
        Ok(Part { path: path.to_path_buf(), map, opened: (file, state), header })
    }
}

/// Opens the parts that belong to one of them and checks that they do.
fn open_others(given: Part, count: u64) -> Result<Vec<Part>, Error> {
    let name = PartName::from_path(&given.path)
        .filter(|name| name.count as u64 == count)
        .ok_or_else(|| Error::PartName { path: given.path.clone(), count })?;
    let given_number = name.number;
    let mut given = Some(given);
    let mut parts = Vec::new();
    for number in 1..=name.count {
        let part = match given.take_if(|_| number == given_number) {
            Some(part) => part,
            None => Part::open(&name.path(number)).map_err(|error| missing(error, number, name.count))?,
        };
        let metadata = &part.header.metadata;
        parts::check(metadata, &part.path, parts::COUNT_KEY, count)?;
        parts::check(metadata, &part.path, parts::NUMBER_KEY, number as u64 - 1)?;
        parts.push(part);
    }
    Ok(parts)
}

/// Turns "not found" into a message that says which part to fetch.
fn missing(error: Error, part: usize, count: usize) -> Error {
    match error {
        Error::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::MissingPart { path, part, count }
        }
        other => other,
    }
}
