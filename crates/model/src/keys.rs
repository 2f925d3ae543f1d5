//! Reads an architecture's metadata: `count("block_count")` of a qwen2 file is its key `qwen2.block_count`.

use gguf::Metadata;

use crate::error::Error;

/// The metadata of one file, seen through its architecture's prefix.
pub struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    /// Reads `general.architecture`.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if it is absent.
    pub fn new(metadata: &'a Metadata) -> Result<Keys<'a>, Error> {
        let key = "general.architecture";
        let architecture = metadata.string(key)?.ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
        Ok(Keys { metadata, architecture })
    }

    /// What `general.architecture` says.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// All of the metadata.
    pub fn metadata(&self) -> &'a Metadata {
        self.metadata
    }

    /// The full key.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A number from 1 to `most`.
    ///
    /// # Errors
    /// If it is absent, of another type or out of range.
    pub fn count(&self, key: &str, most: usize) -> Result<usize, Error> {
        let name = self.name(key);
        match self.uniform(&name)? {
            None => Err(Error::MissingKey { key: name }),
            Some(value) => in_range(&name, value, most),
        }
    }

    /// A number from 1 to `most`; `default` if it is absent.
    ///
    /// # Errors
    /// If it is of another type or out of range.
    pub fn count_or(&self, key: &str, default: usize, most: usize) -> Result<usize, Error> {
        let name = self.name(key);
        self.uniform(&name)?.map_or(Ok(default), |value| in_range(&name, value, most))
    }

    /// A number from 0 to `most`; 0 if it is absent.
    ///
    /// # Errors
    /// If it is of another type or out of range.
    pub fn count_or_zero(&self, key: &str, most: usize) -> Result<usize, Error> {
        let name = self.name(key);
        match self.uniform(&name)? {
            None | Some(0) => Ok(0),
            Some(value) => in_range(&name, value, most),
        }
    }

    /// A float.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        Ok(self.metadata.f32(&self.name(key))?)
    }

    /// A float above zero; zero counts as absent.
    ///
    /// # Errors
    /// If it is of another type, negative or not finite.
    pub fn positive(&self, key: &str) -> Result<Option<f32>, Error> {
        let value = self.f32(key)?.filter(|&value| value != 0.0);
        if let Some(value) = value {
            self.check(key, value.is_finite() && value > 0.0, value, || "a positive number".into())?;
        }
        Ok(value)
    }

    /// A truth value.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        Ok(self.metadata.bool(&self.name(key))?)
    }

    /// A text.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        Ok(self.metadata.string(&self.name(key))?)
    }

    /// [`Error::BadValue`] unless `holds`.
    ///
    /// # Errors
    /// Just that one.
    pub fn check(
        &self,
        key: &str,
        holds: bool,
        got: impl ToString,
        expected: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if holds {
            return Ok(());
        }
        Err(Error::BadValue { key: self.name(key), expected: expected(), got: got.to_string() })
    }

    /// One number, or a list with one number a layer if all are equal: some writers give a list for any model.
    fn uniform(&self, name: &str) -> Result<Option<u64>, Error> {
        if !matches!(self.metadata.get(name), Some(gguf::Value::Array(_))) {
            return Ok(self.metadata.u64(name)?);
        }
        let values = self.metadata.u32s(name)?.unwrap_or_default();
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => Ok(Some(u64::from(*first))),
            _ => Err(Error::BadValue {
                key: name.to_owned(),
                expected: "the same number for every layer".to_owned(),
                got: format!("{values:?}"),
            }),
        }
    }
}

fn in_range(name: &str, value: u64, most: usize) -> Result<usize, Error> {
    usize::try_from(value).ok().filter(|count| (1..=most).contains(count)).ok_or_else(|| Error::BadValue {
        key: name.to_owned(),
        expected: format!("1 to {most}"),
        got: value.to_string(),
    })
}
