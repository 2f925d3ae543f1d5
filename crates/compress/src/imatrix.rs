//! Importance matrices: the squares of what each column of each matrix is multiplied with, summed over a text.
//!
//! Two file forms are read. The current one is a GGUF file whose `general.type` is `imatrix`: for a tensor NAME, `NAME.in_sum2`
//! holds the sums of squares, `[matrix][column]` (several matrices in tensors of experts), and `NAME.counts` how many
//! activations each matrix has seen. The older one is a list of names and values without a magic number. Written is the
//! current form, which llama.cpp's tools accept.

use std::collections::BTreeMap;
use std::path::Path;

use gguf::types::F32;
use gguf::{File, Metadata, TensorSpec, Writer};

use crate::Error;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const KIND: &str = "imatrix";

/// The importance of the columns of a model's matrices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance {
    /// By the tensor's name in the model, as `blk.0.ffn_down.weight`.
    pub tensors: BTreeMap<String, Squares>,
    /// The texts that were read, as their paths were given.
    pub datasets: Vec<String>,
    /// Pieces of text that were read.
    pub chunks: u32,
    /// Tokens of such a piece; 0 where the file does not say.
    pub chunk_size: u32,
}

/// What one tensor's columns were multiplied with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Squares {
    /// Columns of a matrix.
    pub columns: usize,
    /// Sums of squares, `[matrix][column]`.
    pub sums: Vec<f32>,
    /// How many activations the sums of each matrix are made of; not whole in some files, for they are written as floats.
    pub counts: Vec<f32>,
}

impl Squares {
    /// The mean square of each column of a matrix (0, or the expert's number); `None` if nothing ever reached it.
    pub fn mean(&self, matrix: usize) -> Option<Vec<f32>> {
        let count = *self.counts.get(matrix)?;
        let sums = self.sums.chunks_exact(self.columns).nth(matrix)?;
        (count > 0.0).then(|| sums.iter().map(|sum| sum / count).collect())
    }
}

impl Importance {
    /// Reads a file of either form.
    ///
    /// # Errors
    /// [`Error::Importance`] for what is no such file, [`Error::Gguf`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Importance, Error> {
        let wrong = |problem: String| Error::Importance { path: path.to_path_buf(), problem };
        let io = |source| Error::Io { action: "read", path: path.to_path_buf(), source };
        let bytes = std::fs::read(path).map_err(io)?;
        let importance = if bytes.starts_with(&gguf::MAGIC) {
            drop(bytes);
            from_gguf(&File::open(path)?).map_err(wrong)?
        } else {
            from_list(&bytes).map_err(wrong)?
        };
        importance.check().map_err(wrong)?;
        Ok(importance)
    }

    /// Writes the current form; under its name only once it is whole.
    ///
    /// # Errors
    /// [`Error::Gguf`], among them names of tensors that are too long.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut metadata = Metadata::new();
        metadata.insert("general.type", KIND);
        metadata.insert("imatrix.datasets", self.datasets.clone());
        metadata.insert("imatrix.chunk_count", self.chunks);
        metadata.insert("imatrix.chunk_size", self.chunk_size);
        let mut specs = Vec::new();
        for (name, squares) in &self.tensors {
            let matrices = squares.counts.len() as u64;
            let spec = |end, columns| TensorSpec {
                name: format!("{name}{end}"),
                shape: vec![columns, matrices],
                type_id: F32,
            };
            specs.extend([spec(SUMS, squares.columns as u64), spec(COUNTS, 1)]);
        }
        let mut writer = Writer::create(path, &metadata, &specs)?;
        for (specs, squares) in specs.chunks_exact(2).zip(self.tensors.values()) {
            for (spec, values) in specs.iter().zip([&squares.sums, &squares.counts]) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                writer.write_tensor(&spec.name, &bytes)?;
            }
        }
        Ok(writer.finish()?)
    }

    /// Sizes that fit each other, numbers that can be sums of squares.
    fn check(&self) -> Result<(), String> {
        if self.tensors.is_empty() {
            return Err("it has no tensors".to_owned());
        }
        for (name, squares) in &self.tensors {
            let Squares { columns, sums, counts } = squares;
            if *columns == 0 || counts.is_empty() || sums.len() != columns * counts.len() {
                let (values, matrices) = (sums.len(), counts.len());
                return Err(format!(
                    "{name} has {values} values for {matrices} matrices of {columns} columns"
                ));
            }
            if let Some(odd) = sums.iter().chain(counts).find(|value| !(value.is_finite() && **value >= 0.0))
            {
                return Err(format!("{name} holds {odd}, which is no sum of squares"));
            }
        }
        Ok(())
    }
}

fn from_gguf(file: &File) -> Result<Importance, String> {
    let text = |error: gguf::Error| error.to_string();
    let metadata = file.metadata();
    match metadata.string("general.type").map_err(text)? {
        Some(KIND) => {}
        other => return Err(format!("its general.type is {}, not {KIND}", other.unwrap_or("not given"))),
    }
    let number = |key| metadata.u32(key).map_err(text).map(Option::unwrap_or_default);
    let mut importance = Importance {
        tensors: BTreeMap::new(),
        datasets: metadata.strings("imatrix.datasets").map_err(text)?.unwrap_or_default().to_vec(),
        chunks: number("imatrix.chunk_count")?,
        chunk_size: number("imatrix.chunk_size")?,
    };
    for tensor in file.tensors() {
        let floats = || {
            if tensor.type_id != F32 {
                return Err(format!("{} is not of type F32", tensor.name));
            }
            let (values, _) = file.data(tensor).as_chunks();
            Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        };
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            let squares = importance.tensors.entry(name.to_owned()).or_default();
            squares.sums = floats()?;
            squares.columns = tensor.shape.first().map_or(0, |&columns| columns as usize);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            importance.tensors.entry(name.to_owned()).or_default().counts = floats()?;
        }
        // Others are further statistics, which rounding does not need.
    }
    Ok(importance)
}

/// The older form, all numbers little-endian, counts and lengths of 32 bits: the number of tensors; of each its name with
/// its length before it, the number of calls, the number of values, and the values, which are mean squares times calls. At
/// the end may stand the number of chunks, and the dataset's name with its length before it.
///
/// It does not say how many matrices a tensor has: all count as one row of columns until [`Squares::split`].
fn from_list(bytes: &[u8]) -> Result<Importance, String> {
    let mut list = List { bytes };
    let mut importance = Importance::default();
    let tensors = list.number("the number of tensors")?;
    for _ in 0..tensors {
        let name = list.text("the name of a tensor")?;
        let calls = list.number("the number of calls")?;
        let count = list.number("the number of values")?;
        let (values, _) = list.take(count.saturating_mul(4), "the values of a tensor")?.as_chunks();
        let sums = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let squares = Squares { columns: count, sums, counts: vec![calls as f32] };
        if importance.tensors.insert(name.clone(), squares).is_some() {
            return Err(format!("it has {name} twice"));
        }
    }
    if !list.bytes.is_empty() {
        importance.chunks = list.number("the number of chunks")? as u32;
    }
    if !list.bytes.is_empty() {
        importance.datasets.push(list.text("the name of the dataset")?);
    }
    Ok(importance)
}

impl Squares {
    /// The same values as those of `matrices` matrices, where they were read as those of one; as they are if they do not
    /// divide so.
    #[must_use]
    pub fn split(mut self, matrices: usize) -> Squares {
        if self.counts.len() == 1 && matrices > 1 && self.columns.is_multiple_of(matrices) {
            self.columns /= matrices;
            self.counts = vec![self.counts[0]; matrices];
        }
        self
    }
}

/// What is left of a file in the older form.
struct List<'a> {
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(format!("it ends within {what}, or is no importance matrix"));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self, what: &str) -> Result<usize, String> {
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4, what)?);
        usize::try_from(i32::from_le_bytes(number))
            .map_err(|_| format!("{what} is negative; this is no importance matrix"))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let length = self.number(what)?;
        let text = self.take(length, what)?.to_vec();
        String::from_utf8(text).map_err(|_| format!("{what} is no text; this is no importance matrix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Importance {
        let squares = |columns: usize, counts: &[f32]| Squares {
            columns,
            sums: (0..columns * counts.len()).map(|i| i as f32 * 0.5).collect(),
            counts: counts.to_vec(),
        };
        Importance {
            tensors: BTreeMap::from([
                ("blk.0.attn_q.weight".to_owned(), squares(8, &[512.0])),
                ("blk.0.ffn_down_exps.weight".to_owned(), squares(4, &[100.0, 0.0, 412.0])),
            ]),
            datasets: vec!["a text".to_owned(), "ein zweiter".to_owned()],
            chunks: 3,
            chunk_size: 512,
        }
    }

    fn list(tensors: &[(&str, i32, &[f32])], end: &[u8]) -> Vec<u8> {
        let mut bytes = (tensors.len() as i32).to_le_bytes().to_vec();
        for (name, calls, values) in tensors {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(calls.to_le_bytes());
            bytes.extend((values.len() as i32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes.extend(end);
        bytes
    }

    fn open(bytes: &[u8]) -> Result<Importance, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix");
        std::fs::write(&path, bytes).unwrap();
        Importance::open(&path)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        example().write(&path).unwrap();
        assert_eq!(Importance::open(&path).unwrap(), example());
    }

    #[test]
    fn means_are_those_of_each_matrix() {
        let importance = example();
        let experts = &importance.tensors["blk.0.ffn_down_exps.weight"];
        assert_eq!(experts.mean(0), Some(vec![0.0, 0.005, 0.01, 0.015]));
        assert_eq!(experts.mean(1), None);
        assert_eq!(experts.mean(2).unwrap()[1], 4.5 / 412.0);
        assert_eq!(experts.mean(3), None);
    }

    #[test]
    fn the_older_form_is_read() {
        let mut end = 7i32.to_le_bytes().to_vec();
        end.extend(5i32.to_le_bytes());
        end.extend(b"wiki!");
        let tensors: [(&str, i32, &[f32]); 2] =
            [("a.weight", 2, &[1.0, 3.0]), ("b", 4, &[8.0, 4.0, 0.0, 2.0])];
        let importance = open(&list(&tensors, &end)).unwrap();
        assert_eq!((importance.chunks, &*importance.datasets), (7, &["wiki!".to_owned()][..]));
        assert_eq!(importance.tensors["a.weight"].mean(0), Some(vec![0.5, 1.5]));
        let experts = importance.tensors["b"].clone().split(2);
        assert_eq!((experts.mean(0), experts.mean(1)), (Some(vec![2.0, 1.0]), Some(vec![0.0, 0.5])));
        assert_eq!(importance.tensors["b"].clone().split(3), importance.tensors["b"]);
        // The oldest files end after the tensors.
        assert_eq!(open(&list(&tensors, &[])).unwrap().chunks, 0);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = list(&[("a", 2, &[1.0, 3.0]), ("b", 4, &[8.0])], &[]);
        for length in 0..whole.len() {
            assert!(matches!(open(&whole[..length]), Err(Error::Importance { .. })), "{length}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        example().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // The last tensor's three counts are followed by nothing but zeros up to the alignment.
        for length in 0..=whole.len() - 32 + 11 {
            assert!(open(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_no_importance_matrix_is_refused() {
        let message = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
        assert!(message(b"<!DOCTYPE html>").contains("no importance matrix"));
        assert!(message(&[0xff; 64]).contains("negative"));
        assert!(message(&list(&[], &[])).contains("no tensors"));
        assert!(message(&list(&[("a", 1, &[]), ("b", 1, &[1.0])], &[])).contains("0 columns"));
        assert!(message(&list(&[("a", 1, &[1.0]), ("a", 1, &[1.0])], &[])).contains("twice"));
        assert!(message(&list(&[("a", 1, &[f32::NAN])], &[])).contains("NaN"));
        assert!(message(&list(&[("a", 1, &[-1.0])], &[])).contains("-1"));
        assert!(message(&list(&[("a", 1, &[f32::INFINITY])], &[])).contains("inf"));
        assert!(message(&list(&[("a", 1, &[1.0])], &[0xff; 4])).contains("chunks"));
        // A count that memory could not hold.
        let number = i32::to_le_bytes;
        let huge = [number(1), number(4), *b"aaaa", number(1), number(i32::MAX)].concat();
        assert!(message(&huge).contains("ends within"));
    }

    #[test]
    fn a_model_or_half_an_entry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let write = |kind: &str, names: &[&str], type_id| {
            let mut metadata = Metadata::new();
            metadata.insert("general.type", kind);
            let spec = |name: &&str| TensorSpec { name: (*name).to_owned(), shape: vec![2], type_id };
            let specs: Vec<TensorSpec> = names.iter().map(spec).collect();
            let mut writer = Writer::create(&path, &metadata, &specs).unwrap();
            for spec in &specs {
                writer.write_tensor(&spec.name, &vec![0; spec.bytes().unwrap() as usize]).unwrap();
            }
            writer.finish().unwrap();
            Importance::open(&path).unwrap_err().to_string()
        };
        assert!(write("model", &["a"], F32).contains("general.type is model"));
        assert!(write(KIND, &["a.in_sum2"], F32).contains("0 matrices"));
        assert!(write(KIND, &["a.counts"], F32).contains("0 columns"));
        assert!(write(KIND, &["a.in_sum2"], 1).contains("not of type F32"));
        assert!(write(KIND, &["unrelated"], F32).contains("no tensors"));
    }
}
