//! The certificate as files: JSON with a seal, and the page beside it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::certificate::{Certificate, FORMAT, html, sha256};

/// The certificate's JSON and the HTML page that belong to a packed file: `small.gguf` has `small.certificate.json` and
/// `small.certificate.html`.
pub fn beside(file: &Path) -> (PathBuf, PathBuf) {
    let bare = match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("gguf") => file.with_extension(""),
        _ => file.to_owned(),
    };
    let named = |ending: &str| {
        let mut name = bare.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        bare.with_file_name(name)
    };
    (named(".certificate.json"), named(".certificate.html"))
}

/// The JSON's last field.
const SEAL: &str = "seal";

/// The certificate as it is read and written: with the seal.
#[derive(Serialize, Deserialize)]
struct Sealed<C> {
    #[serde(flatten)]
    certificate: C,
    seal: String,
}

impl Certificate {
    /// The JSON text, sealed.
    ///
    /// # Errors
    /// [`Error::Uncertifiable`] for a figure that is no number.
    pub fn to_json(&self) -> Result<String, Error> {
        let sealed = Sealed { certificate: self, seal: String::new() };
        let internal = |source| Error::Certificate { path: PathBuf::from(&self.output.file), source };
        let object = serde_json::to_value(&sealed).map_err(internal)?;
        if let Some(field) = not_finite(&object, "certificate") {
            return Err(Error::Uncertifiable { field });
        }
        let open = serde_json::to_string_pretty(&sealed).map_err(internal)? + "\n";
        // The empty seal is the text's last pair of quotes.
        let at = open.rfind('"').unwrap_or(open.len());
        Ok(format!("{}{}{}", &open[..at], sha256(open.as_bytes()), &open[at..]))
    }

    /// Reads a JSON text; tells also whether its seal is whole.
    ///
    /// # Errors
    /// [`Error::Certificate`] for a text that is none, [`Error::CertificateFormat`] for one of a newer program.
    pub fn from_json(text: &str, path: &Path) -> Result<(Certificate, bool), Error> {
        let unreadable = |source| Error::Certificate { path: path.to_owned(), source };
        let object: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
        // Before the rest is looked at: a newer layout may have other fields.
        match object.get("format").and_then(serde_json::Value::as_u64) {
            Some(got) if got > FORMAT.into() => {
                return Err(Error::CertificateFormat { path: path.to_owned(), got, known: FORMAT });
            }
            _ => {}
        }
        let seal = object.get(SEAL).and_then(serde_json::Value::as_str).unwrap_or_default();
        let whole = match text.rfind(seal) {
            Some(at) if !seal.is_empty() => {
                sha256(format!("{}{}", &text[..at], &text[at + seal.len()..]).as_bytes()) == seal
            }
            _ => false,
        };
        let Sealed { certificate, .. } = serde_json::from_value(object).map_err(unreadable)?;
        Ok((certificate, whole))
    }

    /// The HTML page: complete in itself, without scripts.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// Writes JSON and HTML beside `file`, each whole or not at all.
    ///
    /// # Errors
    /// As [`Certificate::to_json`]; [`Error::Gguf`] where a file cannot be written.
    pub fn write_beside(&self, file: &Path) -> Result<(), Error> {
        let (json, html) = beside(file);
        for (path, text) in [(html, self.to_html()), (json, self.to_json()?)] {
            let mut file = gguf::AtomicFile::create(&path)?;
            file.write(text.as_bytes())?;
            file.finish()?;
        }
        Ok(())
    }
}

/// The name of the first figure that JSON has no number for; it writes null for those, and nothing else here is null.
fn not_finite(value: &serde_json::Value, name: &str) -> Option<String> {
    match value {
        serde_json::Value::Null => Some(name.to_owned()),
        serde_json::Value::Object(fields) => fields.iter().find_map(|(name, value)| not_finite(value, name)),
        serde_json::Value::Array(values) => values.iter().find_map(|value| not_finite(value, name)),
        _ => None,
    }
}
