//! A position in the file's bytes that only moves forward and knows where the file ends.
//!
//! Nothing is allocated before it is known that the bytes for it exist, so a hostile count costs nothing.

use crate::value::{ARRAY_ID, for_each_plain_type};
use crate::{Array, Error, MAXIMUM_ARRAY_DEPTH, Value};

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    fn remaining(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// The next `count` bytes; `what` names them in the error.
    fn take(&mut self, count: u64, what: &dyn Fn() -> String) -> Result<&'a [u8], Error> {
        if count > self.remaining() {
            return Err(Error::Truncated {
                what: what(),
                expected: self.position().saturating_add(count),
                actual: self.bytes.len() as u64,
            });
        }
        // `count` is at most what remains of a slice, so it fits a usize.
        let end = self.position + count as usize;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// Fails unless `count` entries of at least `smallest` bytes each can follow.
    pub(crate) fn check_count(
        &self,
        count: u64,
        smallest: u64,
        what: &dyn Fn() -> String,
    ) -> Result<usize, Error> {
        let remaining = self.remaining();
        if count > remaining / smallest {
            return Err(Error::Count { what: what(), count, remaining });
        }
        Ok(count as usize)
    }

    fn number<const N: usize>(&mut self, what: &dyn Fn() -> String) -> Result<[u8; N], Error> {
        let mut number = [0; N];
        number.copy_from_slice(self.take(N as u64, what)?);
        Ok(number)
    }

    pub(crate) fn magic(&mut self) -> Result<(), Error> {
        let start = &self.bytes[..self.bytes.len().min(4)];
        if start != &crate::MAGIC[..start.len()] || start.is_empty() {
            return Err(Error::NotGguf { got: start.to_vec() });
        }
        self.take(4, &|| "the magic number".to_owned()).map(|_| ())
    }

    pub(crate) fn u32(&mut self, what: &dyn Fn() -> String) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.number(what)?))
    }

    pub(crate) fn u64(&mut self, what: &dyn Fn() -> String) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.number(what)?))
    }

    /// A length and that many bytes of UTF-8.
    pub(crate) fn string(&mut self, what: &dyn Fn() -> String) -> Result<String, Error> {
        let length = self.u64(what)?;
        let bytes = self.take(length, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::NotText { what: what() }),
        }
    }

    /// A metadata key: a string with a limit of its own.
    pub(crate) fn key(&mut self, what: &dyn Fn() -> String) -> Result<String, Error> {
        let start = self.position;
        let length = self.u64(what)?;
        if length > crate::MAXIMUM_KEY_BYTES as u64 {
            return Err(Error::KeyLength { got: length, maximum: crate::MAXIMUM_KEY_BYTES });
        }
        self.position = start;
        self.string(what)
    }

    /// A value: its type id, then the value itself.
    pub(crate) fn value(&mut self, key: &str) -> Result<Value, Error> {
        let what = || format!("metadata '{key}'");
        let id = self.u32(&what)?;
        macro_rules! read {
            ($(($variant:ident, $type:ty, $id:literal, $name:literal))*) => {
                match id {
                    $($id => Value::$variant(<$type as Element>::read(self, key, &what)?),)*
                    ARRAY_ID => Value::Array(self.array(key, 1)?),
                    _ => return Err(Error::UnknownValueType { key: key.to_owned(), id }),
                }
            };
        }
        Ok(for_each_plain_type!(read))
    }

    /// An array: element type id, count, elements; `depth` counts the arrays around it and itself.
    fn array(&mut self, key: &str, depth: usize) -> Result<Array, Error> {
        if depth > MAXIMUM_ARRAY_DEPTH {
            return Err(Error::ArrayDepth { key: key.to_owned(), maximum: MAXIMUM_ARRAY_DEPTH });
        }
        let what = || format!("metadata '{key}'");
        let id = self.u32(&what)?;
        let count = self.u64(&what)?;
        macro_rules! read {
            ($(($variant:ident, $type:ty, $id:literal, $name:literal))*) => {
                match id {
                    $($id => {
                        let count = self.check_count(count, <$type as Element>::SMALLEST, &what)?;
                        let mut elements = Vec::with_capacity(count);
                        for _ in 0..count {
                            elements.push(<$type as Element>::read(self, key, &what)?);
                        }
                        Array::$variant(elements)
                    })*
                    ARRAY_ID => {
                        let count = self.check_count(count, SMALLEST_ARRAY, &what)?;
                        let mut elements = Vec::with_capacity(count);
                        for _ in 0..count {
                            elements.push(self.array(key, depth + 1)?);
                        }
                        Array::Nested(elements)
                    }
                    _ => return Err(Error::UnknownValueType { key: key.to_owned(), id }),
                }
            };
        }
        Ok(for_each_plain_type!(read))
    }
}

/// Bytes of an empty array: element type id and count.
const SMALLEST_ARRAY: u64 = 12;

/// A plain type as it stands in the file.
trait Element: Sized {
    /// Bytes of the smallest value, for checking counts before anything is allocated.
    const SMALLEST: u64;
    fn read(cursor: &mut Cursor<'_>, key: &str, what: &dyn Fn() -> String) -> Result<Self, Error>;
}

macro_rules! little_endian {
    ($($type:ty)*) => {
        $(impl Element for $type {
            const SMALLEST: u64 = size_of::<$type>() as u64;
            fn read(cursor: &mut Cursor<'_>, _: &str, what: &dyn Fn() -> String) -> Result<Self, Error> {
                Ok(<$type>::from_le_bytes(cursor.number(what)?))
            }
        })*
    };
}
little_endian!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Element for bool {
    const SMALLEST: u64 = 1;
    fn read(cursor: &mut Cursor<'_>, key: &str, what: &dyn Fn() -> String) -> Result<Self, Error> {
        match cursor.number::<1>(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [got] => Err(Error::NotBoolean { key: key.to_owned(), got }),
        }
    }
}

impl Element for String {
    const SMALLEST: u64 = 8;
    fn read(cursor: &mut Cursor<'_>, _: &str, what: &dyn Fn() -> String) -> Result<Self, Error> {
        cursor.string(what)
    }
}
