//! Models in several files: names like `NAME-00002-of-00005.gguf`, and the keys that tie the parts together.

use crate::{Error, Metadata};
use std::path::{Path, PathBuf};

/// Number of parts that a file's metadata announces; 1 for a model in one file.
pub(crate) const COUNT_KEY: &str = "split.count";
/// The part's number in its metadata, from 0.
pub(crate) const NUMBER_KEY: &str = "split.no";
/// Number of tensors in all parts together.
pub(crate) const TENSORS_KEY: &str = "split.tensors.count";

/// A name with a part number taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PartName {
    folder: PathBuf,
    stem: String,
    pub(crate) number: usize, // from 1, as in the name
    pub(crate) count: usize,
}

impl PartName {
    /// Takes `NAME-00002-of-00005.gguf` apart; `None` for any other name.
    pub(crate) fn from_path(path: &Path) -> Option<PartName> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        if number == 0 || number > count {
            return None;
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Some(PartName { folder, stem: stem.to_owned(), number, count })
    }

    /// The path of part `number`, counted from 1.
    pub(crate) fn path(&self, number: usize) -> PathBuf {
        self.folder.join(file_name(&self.stem, number, self.count))
    }
}

/// The path of part `number` of `count`, counted from 1, for a model at `stem` (a path without `.gguf`).
pub fn part_path(stem: &Path, number: usize, count: usize) -> PathBuf {
    let name = stem.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    stem.with_file_name(file_name(&name, number, count))
}

fn file_name(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

fn five_digits(text: &str) -> Option<usize> {
    let plain = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The number of parts that the metadata announces, 1 where it says nothing.
pub(crate) fn count(metadata: &Metadata) -> Result<u64, Error> {
    Ok(metadata.u64(COUNT_KEY)?.unwrap_or(1).max(1))
}

/// Fails unless `key` of the file at `path` is `expected`.
pub(crate) fn check(metadata: &Metadata, path: &Path, key: &'static str, expected: u64) -> Result<(), Error> {
    let found = metadata.u64(key).map_err(|error| error.in_file(path))?;
    if found == Some(expected) {
        return Ok(());
    }
    let got = found.map_or_else(|| "absent".to_owned(), |number| number.to_string());
    Err(Error::PartMismatch { path: path.to_path_buf(), key, expected, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let name = PartName::from_path(Path::new("models/big-model-00002-of-00005.gguf")).unwrap();
        assert_eq!((name.number, name.count), (2, 5));
        assert_eq!(name.path(3), Path::new("models/big-model-00003-of-00005.gguf"));
        assert_eq!(part_path(Path::new("models/big-model"), 3, 5), name.path(3));
    }

    #[test]
    fn other_names_are_not_parts() {
        for name in [
            "model.gguf",
            "model-00001-of-00002.bin",
            "model-1-of-2.gguf",
            "model-00003-of-00002.gguf",
            "model-00000-of-00002.gguf",
            "model-+0001-of-00002.gguf",
        ] {
            assert_eq!(PartName::from_path(Path::new(name)), None, "{name}");
        }
    }
}
