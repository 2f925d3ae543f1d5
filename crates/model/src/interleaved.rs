//! The interleaved copy of a model's matrices, kept as a file beside other caches and mapped: never a copy in
//! anonymous memory where a disk can hold it.
//!
//! The kernels read 16 rows side by side, which no model file offers. The copy is a permutation of the file's bytes,
//! made once and found again under a name that stands for the model's content; a second start only maps it. Where
//! the folder cannot be written, a file without a name serves for this process, and as the last resort memory:
//! [`Residence`] says which, so that the caller can.

mod build;

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gguf::{AtomicFile, DirectFile, Map, PieceWriter, Reading};
use memmap2::{Mmap, MmapMut};

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::model::Options;
use crate::plan::Plan;

/// Raised whenever the kernels' layout or this file's header changes, so that old copies are left alone.
const LAYOUT_VERSION: u64 = 2;
const MAGIC: u64 = u64::from_le_bytes(*b"PouchCpy");

/// Header: magic, layout version, key (2 words), bytes of the whole file, check of all these (2 words); zeros up to
/// a page, so that the matrices keep their alignment.
const HEADER_BYTES: usize = 4096;

const SUFFIX: &str = "interleaved";

/// Told bytes done and bytes in all while a copy is built.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + 'a);

/// Where the interleaved matrices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Residence {
    /// A mapped file that the next start finds again.
    Cached(PathBuf),
    /// A mapped file without a name, gone with this process.
    Temporary,
    /// Anonymous memory, which the system cannot drop and read again.
    Memory,
}

/// The bytes of a copy.
#[derive(Debug)]
enum Bytes {
    Mapped(Map),
    Memory(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(map) => map,
        }
    }
}

/// The mapped copy.
#[derive(Debug)]
pub(crate) struct Interleaved {
    bytes: Bytes,
    start: usize,
    residence: Residence,
}

impl Interleaved {
    /// Maps the copy of `file` that `plan` describes and [`content`] stands for, from the folder if it is there and whole; builds it otherwise.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if neither a folder nor memory can hold it, [`Error::NoCopy`] if only memory could and must not.
    pub(crate) fn open(
        file: &gguf::File,
        plan: &Plan,
        content: u128,
        options: &Options<'_>,
    ) -> Result<Interleaved, Error> {
        let Options { cache_folder: folder, team, progress, needs_file } = *options;
        let build = |write: &mut dyn FnMut(&[u8]) -> Result<(), gguf::Error>| {
            file.expect(Reading::Onwards);
            let built = build::write(file, plan, team, progress, write);
            file.expect(Reading::Scattered);
            built
        };
        if let Some(folder) = folder {
            let key = key(file, plan, content);
            let path = folder.join(name(file, key));
            if let Some(found) = Interleaved::cached(&path, plan, key) {
                return Ok(found);
            }
            let built = std::fs::create_dir_all(folder).is_ok()
                && AtomicFile::create(&path)
                    .and_then(|mut target| {
                        target.write(&header(plan, key))?;
                        build(&mut |bytes| target.write(bytes))?;
                        target.finish()
                    })
                    .is_ok();
            if let Some(found) = built.then(|| Interleaved::cached(&path, plan, key)).flatten() {
                prune(&path);
                return Ok(found);
            }
        }
        if needs_file {
            return Err(Error::NoCopy);
        }
        Interleaved::temporary(plan, &build).map_or_else(|| Interleaved::in_memory(plan, &build), Ok)
    }

    /// The file at `path`, if it is the whole copy with this key.
    fn cached(path: &Path, plan: &Plan, key: u128) -> Option<Interleaved> {
        let map = map(&File::open(path).ok()?)?;
        let whole = map.len() == HEADER_BYTES + plan.bytes() && map[..HEADER_BYTES] == header(plan, key);
        whole.then(|| Interleaved {
            bytes: Bytes::Mapped(map),
            start: HEADER_BYTES,
            residence: Residence::Cached(path.to_owned()),
        })
    }

    /// A file that has lost its name as soon as it is open. Systems on which open files keep theirs get none.
    fn temporary(plan: &Plan, build: Build<'_>) -> Option<Interleaved> {
        let mut writer = PieceWriter::new(tempfile::tempfile().ok()?);
        build(&mut |bytes| {
            std::io::Write::write_all(&mut writer, bytes).map_err(|source| gguf::Error::Io {
                action: "write",
                path: std::env::temp_dir(),
                source,
            })
        })
        .ok()?;
        let map = map(&writer.finish().ok()?).filter(|map| map.len() == plan.bytes())?;
        Some(Interleaved { bytes: Bytes::Mapped(map), start: 0, residence: Residence::Temporary })
    }

    fn in_memory(plan: &Plan, build: Build<'_>) -> Result<Interleaved, Error> {
        let bytes = plan.bytes();
        let lacking = |_| Error::OutOfMemory { what: "the weights", bytes };
        let mut map = MmapMut::map_anon(bytes).map_err(lacking)?;
        let mut end = 0;
        build(&mut |piece| {
            map[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
            Ok(())
        })?;
        Ok(Interleaved {
            bytes: Bytes::Memory(map.make_read_only().map_err(lacking)?),
            start: 0,
            residence: Residence::Memory,
        })
    }

    /// The matrices, as the plan laid them out.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The map, unless the copy is in memory.
    pub(crate) fn map(&self) -> Option<&Map> {
        match &self.bytes {
            Bytes::Mapped(map) => Some(map),
            Bytes::Memory(_) => None,
        }
    }

    /// From now on matrices that cannot be read are zeros, and the map counts them.
    pub(crate) fn guard(&mut self) {
        if let Bytes::Mapped(map) = &mut self.bytes {
            map.guard();
        }
    }

    /// The copy's file, to be read past the page cache, and where in it the matrices start.
    ///
    /// # Errors
    /// [`Error::NoCopy`] if the copy is not a file with a name.
    pub(crate) fn direct(&self) -> Result<(DirectFile, usize), Error> {
        match &self.residence {
            Residence::Cached(path) => Ok((DirectFile::open(path)?, self.start)),
            Residence::Temporary | Residence::Memory => Err(Error::NoCopy),
        }
    }

    pub(crate) fn residence(&self) -> &Residence {
        &self.residence
    }
}

/// Hands the copy to a writer, piece by piece in order.
type Build<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8]) -> Result<(), gguf::Error>) -> Result<(), gguf::Error>;

fn map(file: &File) -> Option<Map> {
    let map = Map::of(file).ok()?;
    // Large pages where the system has them: if it has not, nothing is lost but speed.
    #[cfg(target_os = "linux")]
    map.advise(memmap2::Advice::HugePage);
    Some(map)
}

/// `{hash of the model's path}-{key}.interleaved`: older copies of the same path are found by the first half.
fn name(file: &gguf::File, key: u128) -> String {
    let mut path = Fingerprint::new();
    for part in file.paths() {
        let absolute = std::path::absolute(part).unwrap_or_else(|_| part.clone());
        path.bytes(absolute.as_os_str().as_encoded_bytes());
    }
    format!("{:016x}-{key:032x}.{SUFFIX}", path.finish() as u64)
}

/// Removes copies that the same path had when its content was another.
fn prune(current: &Path) {
    let same_path = |name: &str| name.split_once('-').map(|(path, _)| path.to_owned());
    let Some(name) = current.file_name().and_then(|name| name.to_str()) else { return };
    let Some(folder) = current.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    for entry in folder.flatten() {
        let other = entry.file_name();
        let Some(other) = other.to_str() else { continue };
        if other != name && other.ends_with(SUFFIX) && same_path(other) == same_path(name) {
            // Another process may still have it mapped, which does no harm, or remove it first.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn header(plan: &Plan, key: u128) -> [u8; HEADER_BYTES] {
    let whole = (HEADER_BYTES + plan.bytes()) as u64;
    let words = [MAGIC, LAYOUT_VERSION, (key >> 64) as u64, key as u64, whole];
    let mut check = Fingerprint::new();
    words.iter().for_each(|&word| check.number(word));
    let check = check.finish();
    let mut header = [0; HEADER_BYTES];
    for (place, word) in
        header.chunks_exact_mut(8).zip(words.into_iter().chain([(check >> 64) as u64, check as u64]))
    {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Stands for everything that the copy's bytes depend on.
fn key(file: &gguf::File, plan: &Plan, content: u128) -> u128 {
    let mut key = Fingerprint::new();
    key.number(LAYOUT_VERSION);
    key.number((content >> 64) as u64);
    key.number(content as u64);
    // A change that keeps the size and misses the sample is caught by its time.
    for path in file.paths() {
        let changed = std::fs::metadata(path).and_then(|about| about.modified()).ok();
        let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        key.number(since.as_nanos() as u64);
    }
    plan.identify(&mut key);
    key.finish()
}

/// Bytes looked at for each tensor: the middle, because the ends of some are zeros.
const SAMPLE: usize = 64;

fn sample(bytes: usize) -> Range<usize> {
    let middle = bytes.saturating_sub(SAMPLE) / 2;
    middle..bytes.min(middle + SAMPLE)
}

/// Tensors of so many bytes are vectors, which are read whole when a model is opened.
const SMALL: usize = 64 << 10;

/// Has everything read that opening a model reads of its `file` where the copy is found: a little of each tensor, all at
/// once, for storage answers hundreds of such questions in the time of a few.
pub(crate) fn fetch(file: &gguf::File) {
    file.expect(Reading::Scattered);
    for info in file.tensors() {
        let bytes = file.data(info).len();
        file.fetch(info, if bytes <= SMALL { 0..bytes } else { sample(bytes) });
    }
}

/// Stands for the model's content wherever it lies: every header, the size, and a sample of each tensor.
pub(crate) fn content(file: &gguf::File) -> u128 {
    let mut content = Fingerprint::new();
    content.number(file.total_bytes());
    for (key, value) in file.metadata().iter() {
        content.bytes(key.as_bytes());
        identify_value(value, &mut content);
    }
    for info in file.tensors() {
        content.bytes(info.name.as_bytes());
        info.shape.iter().for_each(|&size| content.number(size));
        content.number(info.type_id.into());
        content.number(info.offset);
        let data = file.data(info);
        content.bytes(&data[sample(data.len())]);
    }
    content.finish()
}

/// Long lists are tokens and merges: their text stands for them, other values are short.
fn identify_value(value: &gguf::Value, content: &mut Fingerprint) {
    match value {
        gguf::Value::String(text) => content.bytes(text.as_bytes()),
        gguf::Value::Array(gguf::Array::String(texts)) => {
            texts.iter().for_each(|text| content.bytes(text.as_bytes()));
        }
        gguf::Value::Array(gguf::Array::F32(numbers)) => {
            numbers.iter().for_each(|number| content.number(number.to_bits().into()));
        }
        gguf::Value::Array(gguf::Array::I32(numbers)) => {
            numbers.iter().for_each(|&number| content.number(number as u64));
        }
        other => content.bytes(format!("{other:?}").as_bytes()),
    }
}
