//! What is known of a model without opening it: the header of its file.

use std::path::Path;
use std::time::UNIX_EPOCH;

use gguf::{File, Metadata, Value};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A model's description.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) name: String,
    /// Bytes of the file, all parts together.
    pub(crate) bytes: u64,
    /// When the file was last changed, in seconds since 1970.
    pub(crate) modified: u64,
    pub(crate) architecture: String,
    /// Numbers that training has set.
    pub(crate) parameters: u64,
    /// The number format most of the weights have.
    pub(crate) format: &'static str,
    /// Tokens that it was trained for.
    pub(crate) context: u64,
    pub(crate) template: Option<String>,
    /// Everything the file says that is short enough to tell.
    pub(crate) metadata: serde_json::Map<String, serde_json::Value>,
    /// Stands for the content as far as the header tells: 64 hexadecimal digits.
    pub(crate) digest: String,
}

impl Card {
    pub(crate) fn read(name: &str, path: &Path) -> Result<Card, Error> {
        let file = File::open(path)?;
        let metadata = file.metadata();
        let architecture = metadata.string("general.architecture")?.unwrap_or("unknown").to_owned();
        let sizes = file.paths().iter().filter_map(|path| std::fs::metadata(path).ok());
        let (mut bytes, mut modified) = (0, 0);
        for size in sizes {
            bytes += size.len();
            let changed = size.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            modified = modified.max(changed.unwrap_or_default().as_secs());
        }
        let mut formats: Vec<(u32, u64)> = Vec::new();
        let mut parameters = 0;
        for tensor in file.tensors() {
            let values = tensor.shape.iter().product::<u64>();
            parameters += values;
            match formats.iter_mut().find(|(id, _)| *id == tensor.type_id) {
                Some((_, count)) => *count += values,
                None => formats.push((tensor.type_id, values)),
            }
        }
        let most = formats.iter().max_by_key(|(_, values)| *values);
        let format = most.and_then(|(id, _)| gguf::types::type_info(*id)).map_or("unknown", |info| info.name);
        let told = told(metadata);
        let mut hasher = Sha256::new();
        hasher.update(serde_json::to_vec(&told).unwrap_or_default());
        hasher.update(bytes.to_le_bytes());
        Ok(Card {
            name: name.to_owned(),
            bytes,
            modified,
            parameters,
            format,
            context: metadata.u64(&format!("{architecture}.context_length")).ok().flatten().unwrap_or(0),
            template: metadata.string("tokenizer.chat_template").ok().flatten().map(str::to_owned),
            metadata: told,
            digest: hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            architecture,
        })
    }

    /// `135M`, `1.5B`: parameters as model names have them.
    pub(crate) fn size_name(&self) -> String {
        match self.parameters {
            count @ 1_000_000_000.. => format!("{:.1}B", count as f64 / 1e9),
            count => format!("{:.1}M", count as f64 / 1e6),
        }
    }
}

/// The metadata as JSON, long lists and texts left out.
fn told(metadata: &Metadata) -> serde_json::Map<String, serde_json::Value> {
    let value = |value: &Value| -> Option<serde_json::Value> {
        Some(match value {
            Value::U8(number) => (*number).into(),
            Value::I8(number) => (*number).into(),
            Value::U16(number) => (*number).into(),
            Value::I16(number) => (*number).into(),
            Value::U32(number) => (*number).into(),
            Value::I32(number) => (*number).into(),
            Value::F32(number) => (*number).into(),
            Value::Bool(truth) => (*truth).into(),
            Value::String(text) if text.len() <= 256 => text.as_str().into(),
            Value::U64(number) => (*number).into(),
            Value::I64(number) => (*number).into(),
            Value::F64(number) => (*number).into(),
            _ => return None,
        })
    };
    metadata.iter().filter_map(|(key, entry)| Some((key.to_owned(), value(entry)?))).collect()
}
