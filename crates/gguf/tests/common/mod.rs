//! Puts GGUF files together by hand, right or wrong, without the crate's own writer.

#![allow(dead_code)] // each test file uses its own part of this

/// Bytes of a file in the making; every method appends.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn header(version: u32, tensors: u64, entries: u64) -> Bytes {
        Bytes(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend_from_slice(bytes);
        self
    }
    pub(crate) fn u32(self, number: u32) -> Bytes {
        self.raw(&number.to_le_bytes())
    }
    pub(crate) fn u64(self, number: u64) -> Bytes {
        self.raw(&number.to_le_bytes())
    }
    pub(crate) fn string(self, text: &str) -> Bytes {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }
    pub(crate) fn entry_u32(self, key: &str, value: u32) -> Bytes {
        self.string(key).u32(4).u32(value)
    }
    pub(crate) fn tensor(self, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Bytes {
        let start = self.string(name).u32(shape.len() as u32);
        shape.iter().fold(start, |bytes, &size| bytes.u64(size)).u32(type_id).u64(offset)
    }
    pub(crate) fn pad(mut self, alignment: usize) -> Bytes {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }
    pub(crate) fn data(mut self, bytes: usize) -> Bytes {
        self.0.resize(self.0.len() + bytes, 0xab);
        self
    }
}

/// A small valid file that has one of everything.
pub(crate) fn small_file(version: u32) -> Vec<u8> {
    Bytes::header(version, 2, 6)
        .string("general.architecture")
        .u32(8)
        .string("llama")
        .entry_u32("general.alignment", 64)
        .string("truth")
        .u32(7)
        .raw(&[1])
        .string("tokenizer.ggml.tokens")
        .u32(9)
        .u32(8)
        .u64(2)
        .string("a")
        .string("β")
        .string("nested")
        .u32(9)
        .u32(9)
        .u64(1)
        .u32(1)
        .u64(3)
        .raw(&[1, 2, 255])
        .string("number")
        .u32(12)
        .raw(&0.5_f64.to_le_bytes())
        .tensor("first", &[32, 2], 8, 0)
        .tensor("second", &[3], 0, 128)
        .pad(64)
        .data(68)
        .pad(64)
        .data(12)
        .0
}
