//! Whether a packed file is what its certificate says.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::certificate::{Certificate, Tensor, beside, consistency, sha256_of_files, type_name};

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// The certificate's file.
    pub path: PathBuf,
    /// What it says.
    pub certificate: Certificate,
    /// What does not hold; empty for a file that is as certified.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether everything holds.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One thing that is not as certified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The certificate's text was changed after it was written.
    Seal,
    /// Figures of the certificate contradict one another.
    Contradiction(String),
    /// The file has another size.
    Size {
        /// Bytes by the certificate.
        certified: u64,
        /// Bytes of the file.
        got: u64,
    },
    /// The file has other content.
    Content {
        /// SHA-256 by the certificate.
        certified: String,
        /// SHA-256 of the file.
        got: String,
    },
    /// The file is no model any more.
    Unreadable(String),
    /// A certified tensor is not in the file.
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor of the file is not in the certificate.
    Uncertified {
        /// Its name.
        tensor: String,
    },
    /// A tensor has another shape or number format.
    Tensor {
        /// Its name.
        tensor: String,
        /// By the certificate.
        certified: String,
        /// In the file.
        got: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Seal => f.write_str("the certificate was changed after it was written"),
            Problem::Contradiction(what) => write!(f, "the certificate contradicts itself: {what}"),
            Problem::Size { certified, got } => {
                write!(f, "the file has {got} bytes; {certified} were certified")
            }
            Problem::Content { certified, got } => write!(
                f,
                "the file was changed after it was certified: its SHA-256 is {got}, certified was {certified}"
            ),
            Problem::Unreadable(reason) => write!(f, "the file cannot be read as a model: {reason}"),
            Problem::Missing { tensor } => write!(f, "tensor {tensor} is certified but not in the file"),
            Problem::Uncertified { tensor } => write!(f, "tensor {tensor} is in the file but not certified"),
            Problem::Tensor { tensor, certified, got } => {
                write!(f, "tensor {tensor} is {got}; certified was {certified}")
            }
        }
    }
}

/// Compares the packed model at `file` with the certificate beside it: size, content, tensors with shapes and types; and
/// the certificate with its seal and its own figures. Reads the whole file once.
///
/// # Errors
/// [`Error::NoCertificate`], [`Error::Certificate`] and [`Error::CertificateFormat`] where there is nothing to compare
/// with; [`Error::Io`]. What does not hold is no error but a [`Problem`].
pub fn check(file: &Path) -> Result<Report, Error> {
    let bytes = std::fs::metadata(file).map_err(|source| Error::io("read", file, source))?.len();
    let (path, _) = beside(file);
    let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NoCertificate { file: file.to_owned(), path: path.clone() },
        _ => Error::io("read", &path, source),
    })?;
    let (certificate, whole) = Certificate::from_json(&text, &path)?;

    let mut problems = Vec::new();
    if !whole {
        problems.push(Problem::Seal);
    }
    problems.extend(consistency::contradictions(&certificate).into_iter().map(Problem::Contradiction));
    let output = &certificate.output;
    if bytes != output.bytes {
        problems.push(Problem::Size { certified: output.bytes, got: bytes });
    }
    let got = sha256_of_files(&[file])?;
    if got != output.sha256 {
        problems.push(Problem::Content { certified: output.sha256.clone(), got });
    }
    match gguf::File::open(file) {
        Ok(model) => compare_tensors(&certificate.tensors, model.tensors(), &mut problems),
        Err(error) => problems.push(Problem::Unreadable(error.to_string())),
    }
    Ok(Report { path, certificate, problems })
}

/// Checks that the files of a model are those that were packed: figures beside another original would mean nothing.
///
/// # Errors
/// [`Error::OtherOriginal`], [`Error::Io`].
pub fn check_original(certificate: &Certificate, files: &[PathBuf]) -> Result<(), Error> {
    let got = sha256_of_files(files)?;
    if got == certificate.source.sha256 {
        return Ok(());
    }
    let path = files.first().cloned().unwrap_or_default();
    Err(Error::OtherOriginal {
        path,
        packed: certificate.source.file.clone(),
        sha256: certificate.source.sha256.clone(),
    })
}

fn compare_tensors(certified: &[Tensor], got: &[gguf::TensorInfo], problems: &mut Vec<Problem>) {
    let mut left: HashMap<&str, &gguf::TensorInfo> =
        got.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for tensor in certified {
        let Some(found) = left.remove(tensor.name.as_str()) else {
            problems.push(Problem::Missing { tensor: tensor.name.clone() });
            continue;
        };
        let stated = described(&tensor.type_name, &tensor.shape);
        let actual = described(&type_name(found.type_id), &found.shape);
        if stated != actual {
            let tensor = tensor.name.clone();
            problems.push(Problem::Tensor { tensor, certified: stated, got: actual });
        }
    }
    let uncertified = got.iter().filter(|tensor| left.contains_key(tensor.name.as_str()));
    problems.extend(uncertified.map(|tensor| Problem::Uncertified { tensor: tensor.name.clone() }));
}

/// `Q4_K of 896 x 4864`.
fn described(type_name: &str, shape: &[u64]) -> String {
    let sizes = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
    format!("{type_name} of {sizes}")
}
