//! The whole way from a model to its packed file and certificate.

use std::path::Path;

use kernels::Team;

use crate::certificate::Certificate;
use crate::{Error, Options};

/// What was made.
#[derive(Debug)]
pub struct Packed {
    /// The certificate, as it lies beside the file.
    pub certificate: Certificate,
}

/// Packs the model file `source` into `target` and writes the certificate beside it. A file that is there is written over
/// once the new one is whole.
///
/// # Errors
/// See [`Error`]; `target` is then as it was before, and the work folder holds what a further run continues from.
pub fn pack(_team: &Team, source: &Path, _target: &Path, _options: &Options<'_>) -> Result<Packed, Error> {
    let file = gguf::File::open(source)?;
    let architecture = file.metadata().string("general.architecture")?.unwrap_or_default().to_owned();
    Err(Error::Unpackable { architecture })
}
