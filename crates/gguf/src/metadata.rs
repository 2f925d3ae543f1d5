//! Metadata of a model: an ordered map with getters that convert and explain.
//!
//! Converters disagree on integer widths (`u32` here, `i32` or `u64` there), so the getters take any width that
//! holds the value; an absent key is `None`, a wrong type is an error.

use crate::{Array, Error, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Metadata in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.entries == other.entries
    }
}

impl Metadata {
    /// Metadata without entries.
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// The entries in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a key, in its old place if it has one and else at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.index.get(&key) {
            Some(&at) => self.entries[at].1 = value,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// Takes a key out and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        for place in self.index.values_mut().filter(|place| **place > at) {
            *place -= 1;
        }
        Some(self.entries.remove(at).1)
    }

    /// The text of a key. Errors with [`Error::WrongType`] where it is something else.
    pub fn string(&self, key: &str) -> Result<Option<&str>, Error> {
        self.convert(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The number of a key, from any integer width. Errors where it is no integer or out of range.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.convert(key, "an integer of 0 to 2^32 - 1", |value| value.as_u64()?.try_into().ok())
    }

    /// The number of a key, from any integer width. Errors where it is no integer or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.convert(key, "an integer from 0 up", Value::as_u64)
    }

    /// The number of a key, from either float width. Errors where it is no float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.convert(key, "a float", |value| match *value {
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
            _ => None,
        })
    }

    /// The truth value of a key. Errors where it is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.convert(key, "a boolean", |value| match *value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        })
    }

    /// The texts of an array. Errors where it is something else.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, Error> {
        self.convert(key, "an array of strings", |value| match value {
            Value::Array(Array::String(elements)) => Some(elements.as_slice()),
            _ => None,
        })
    }

    /// The numbers of an array, from either float width. Errors where it is something else.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, Error> {
        self.convert(key, "an array of floats", |value| match value {
            Value::Array(Array::F32(elements)) => Some(Cow::Borrowed(elements.as_slice())),
            Value::Array(Array::F64(elements)) => {
                Some(Cow::Owned(elements.iter().map(|&element| element as f32).collect()))
            }
            _ => None,
        })
    }

    /// The numbers of an array, from any integer width. Errors where one is no integer or out of range.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        fn all<T: Copy + TryInto<u32>>(elements: &[T]) -> Option<Vec<u32>> {
            elements.iter().map(|&element| element.try_into().ok()).collect()
        }
        self.convert(key, "an array of integers of 0 to 2^32 - 1", |value| match value {
            Value::Array(Array::U8(elements)) => all(elements),
            Value::Array(Array::I8(elements)) => all(elements),
            Value::Array(Array::U16(elements)) => all(elements),
            Value::Array(Array::I16(elements)) => all(elements),
            Value::Array(Array::U32(elements)) => Some(elements.clone()),
            Value::Array(Array::I32(elements)) => all(elements),
            Value::Array(Array::U64(elements)) => all(elements),
            Value::Array(Array::I64(elements)) => all(elements),
            _ => None,
        })
    }

    fn convert<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        conversion: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match conversion(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Error::WrongType { key: key.to_owned(), expected, got: describe(value) }),
        }
    }
}

/// The type of a value, with the number itself where it is an integer: that is what was out of range.
fn describe(value: &Value) -> String {
    match value {
        Value::I8(number) => format!("the i8 {number}"),
        Value::I16(number) => format!("the i16 {number}"),
        Value::I32(number) => format!("the i32 {number}"),
        Value::I64(number) => format!("the i64 {number}"),
        Value::U64(number) => format!("the u64 {number}"),
        other => other.type_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_integer_width_converts_when_in_range() {
        let mut metadata = Metadata::new();
        metadata.insert("byte", 7_u8);
        metadata.insert("signed", 7_i64);
        metadata.insert("negative", -7_i32);
        metadata.insert("large", u64::MAX);
        metadata.insert("ids", vec![1_i32, 2, 3]);
        metadata.insert("bad ids", vec![1_i32, -2]);
        assert_eq!(metadata.u32("byte").unwrap(), Some(7));
        assert_eq!(metadata.u64("signed").unwrap(), Some(7));
        assert_eq!(metadata.u64("large").unwrap(), Some(u64::MAX));
        assert_eq!(metadata.u32("absent").unwrap(), None);
        assert_eq!(metadata.u32s("ids").unwrap(), Some(vec![1, 2, 3]));
        for key in ["negative", "large"] {
            assert!(matches!(metadata.u32(key), Err(Error::WrongType { .. })), "{key}");
        }
        assert!(matches!(metadata.u32s("bad ids"), Err(Error::WrongType { .. })));
        assert!(matches!(metadata.string("byte"), Err(Error::WrongType { .. })));
    }

    #[test]
    fn insert_keeps_places_and_remove_closes_gaps() {
        let mut metadata = Metadata::new();
        for (key, value) in [("a", 1_u32), ("b", 2), ("c", 3), ("a", 4)] {
            metadata.insert(key, value);
        }
        assert_eq!(metadata.remove("b"), Some(Value::U32(2)));
        assert_eq!(metadata.remove("b"), None);
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "c"]);
        assert_eq!(metadata.u32("a").unwrap(), Some(4));
        assert_eq!(metadata.u32("c").unwrap(), Some(3));
    }
}
