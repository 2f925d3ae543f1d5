//! One hand-made file for each thing that can be wrong, and cuts and changes at every byte.

mod common;

use common::{Bytes, small_file};
use gguf::{Array, Error, Value, parse};
use proptest::prelude::*;

/// A file with one F32 tensor list entry as given and plenty of data.
fn with_tensor(name: &str, shape: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    Bytes::header(3, 1, 0).tensor(name, shape, type_id, offset).pad(32).data(4096).0
}

/// A file with one metadata entry of the given bytes after its key, and room behind it.
fn with_value(bytes: Bytes) -> Vec<u8> {
    Bytes::header(3, 0, 1).string("key").raw(&bytes.0).data(100).0
}

macro_rules! refused {
    ($bytes:expr, $pattern:pat $(if $guard:expr)?) => {
        match parse(&$bytes[..]) {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}

fn empty() -> Bytes {
    Bytes(Vec::new())
}

#[test]
fn the_small_file_is_read_in_both_versions() {
    for version in [2, 3] {
        let header = parse(&small_file(version)).unwrap();
        assert_eq!((header.version, header.alignment), (version, 64));
        let metadata = &header.metadata;
        assert_eq!(metadata.string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.bool("truth").unwrap(), Some(true));
        assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap(), ["a", "β"]);
        let nested = Array::Nested(vec![Array::I8(vec![1, 2, -1])]);
        assert_eq!(metadata.get("nested"), Some(&Value::Array(nested)));
        assert_eq!(metadata.f32("number").unwrap(), Some(0.5));
        let [first, second] = &header.tensors[..] else { panic!("two tensors") };
        assert_eq!((first.shape.as_slice(), first.bytes), (&[32, 2][..], 68));
        assert_eq!(first.offset, header.data_offset);
        assert_eq!((second.offset, second.bytes), (header.data_offset + 128, 12));
    }
}

#[test]
fn magic_version_and_byte_order() {
    refused!(b"", Error::NotGguf { .. });
    refused!(b"<!DOCTYPE html>", Error::NotGguf { .. });
    refused!(b"GGUF", Error::Truncated { .. });
    refused!(Bytes::header(1, 0, 0).0, Error::Version { got: 1 });
    refused!(Bytes::header(4, 0, 0).0, Error::Version { got: 4 });
    refused!(Bytes::header(3_u32.swap_bytes(), 0, 0).0, Error::BigEndian { version: 3 });
}

#[test]
fn hostile_counts_allocate_nothing() {
    for count in [2, 1 << 32, 1 << 60, u64::MAX] {
        refused!(Bytes::header(3, count, 0).data(40).0, Error::Count { .. });
        refused!(
            Bytes::header(3, 0, count.saturating_mul(4)).data(40).0,
            Error::Count { .. } | Error::Truncated { .. }
        );
        for element in (0..=12).filter(|&element| element != 9) {
            let bytes = with_value(empty().u32(9).u32(element).u64(count.saturating_mul(500)));
            refused!(bytes, Error::Count { .. });
        }
        let bytes = with_value(empty().u32(9).u32(9).u64(count.saturating_mul(500)));
        refused!(bytes, Error::Count { .. });
    }
}

#[test]
fn string_lengths() {
    for length in [1000, u64::MAX, u64::MAX - 60] {
        refused!(with_value(empty().u32(8).u64(length)), Error::Truncated { expected, .. } if expected > 1000);
        refused!(Bytes::header(3, 1, 0).u64(length).data(60).0, Error::Truncated { .. });
    }
    refused!(Bytes::header(3, 0, 1).u64(65_536).data(70_000).0, Error::KeyLength { got: 65_536, .. });
    refused!(with_value(empty().u32(8).u64(2).raw(&[0xff, 0xfe])), Error::NotText { .. });
    refused!(Bytes::header(3, 0, 1).u64(2).raw(&[0xc3, 0x28]).u32(0).data(9).0, Error::NotText { .. });
}

#[test]
fn values() {
    refused!(with_value(empty().u32(13)), Error::UnknownValueType { id: 13, .. });
    refused!(with_value(empty().u32(9).u32(13).u64(1)), Error::UnknownValueType { id: 13, .. });
    refused!(with_value(empty().u32(7).raw(&[2])), Error::NotBoolean { got: 2, .. });
    refused!(with_value(empty().u32(9).u32(7).u64(2).raw(&[1, 7])), Error::NotBoolean { got: 7, .. });
    let twice = Bytes::header(3, 0, 2).entry_u32("key", 1).entry_u32("key", 2).0;
    refused!(twice, Error::DuplicateKey { key } if key == "key");
}

#[test]
fn array_nesting() {
    let nest = |depth: usize| {
        // All but the innermost hold one array each.
        let outer = (1..depth).fold(empty().u32(9), |bytes, _| bytes.u32(9).u64(1));
        with_value(outer.u32(0).u64(3))
    };
    for depth in 1..=gguf::MAXIMUM_ARRAY_DEPTH {
        parse(&nest(depth)).unwrap();
    }
    for depth in [gguf::MAXIMUM_ARRAY_DEPTH + 1, 100_000] {
        refused!(nest(depth), Error::ArrayDepth { .. });
    }
}

#[test]
fn alignment() {
    for got in [0, 3, 48, u32::MAX] {
        let bytes = Bytes::header(3, 0, 1).entry_u32("general.alignment", got).0;
        refused!(bytes, Error::Alignment { got: found } if found == u64::from(got));
    }
    let text = Bytes::header(3, 0, 1).string("general.alignment").u32(8).string("32").0;
    refused!(text, Error::WrongType { .. });
    parse(&Bytes::header(3, 0, 1).entry_u32("general.alignment", 1 << 31).0).unwrap();
    refused!(with_tensor("t", &[4], 0, 8), Error::Misaligned { offset: 8, alignment: 32, .. });
}

#[test]
fn shapes_and_types() {
    refused!(with_tensor("t", &[], 0, 0), Error::Rank { got: 0, .. });
    refused!(with_tensor("t", &[1; 5], 0, 0), Error::Rank { got: 5, .. });
    refused!(Bytes::header(3, 1, 0).string("t").u32(u32::MAX).data(99).0, Error::Rank { .. });
    refused!(with_tensor("t", &[4, 0], 0, 0), Error::Shape { .. });
    refused!(with_tensor("t", &[1 << 32, 1 << 31], 0, 0), Error::Shape { .. });
    refused!(with_tensor("t", &[1 << 32, 1 << 32, 1 << 32, 1 << 32], 0, 0), Error::Shape { .. });
    // The product fits, the bytes do not.
    refused!(with_tensor("t", &[1 << 31, 1 << 31], 28, 0), Error::Shape { .. });
    refused!(with_tensor("name", &[32], 4, 0), Error::UnknownTensorType { tensor, id: 4 } if tensor == "name");
    refused!(with_tensor("t", &[32], u32::MAX, 0), Error::UnknownTensorType { .. });
    refused!(with_tensor("t", &[255], 12, 0), Error::RowLength { columns: 255, block: 256, .. });
}

#[test]
fn places() {
    let beyond = with_tensor("t", &[1 << 20], 0, 0);
    refused!(beyond, Error::Truncated { expected, actual, .. } if expected == (4 << 20) + 64 && actual == 4160);
    refused!(with_tensor("t", &[4], 0, u64::MAX - 31), Error::TooLarge { .. });
    refused!(with_tensor("t", &[4], 0, 1 << 40), Error::Truncated { .. });
    let two = |second: u64, name: &str| {
        Bytes::header(3, 2, 0).tensor("a", &[16], 0, 0).tensor(name, &[4], 0, second).pad(32).data(256).0
    };
    parse(&two(64, "b")).unwrap();
    refused!(two(32, "b"), Error::Overlap { first, second } if first == "a" && second == "b");
    refused!(two(0, "b"), Error::Overlap { .. });
    refused!(two(64, "a"), Error::DuplicateTensor { tensor } if tensor == "a");
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = small_file(3);
    for length in 0..whole.len() {
        match parse(&whole[..length]) {
            Err(Error::Truncated { expected, actual, .. }) => {
                assert_eq!(actual, length as u64);
                assert!(expected > actual && expected <= whole.len() as u64);
            }
            Err(Error::NotGguf { .. }) if length == 0 => {}
            Err(Error::Count { .. }) => {}
            other => panic!("cut to {length} bytes: {other:?}"),
        }
    }
}

#[test]
fn any_single_byte_may_have_any_value() {
    let whole = small_file(3);
    for position in 0..whole.len() {
        for value in [0, 1, 2, 9, 0x7f, 0x80, 0xff, whole[position] ^ 1, whole[position].wrapping_add(1)] {
            let mut changed = whole.clone();
            changed[position] = value;
            check(&changed);
        }
    }
}

/// Whatever was accepted must be safe to use.
fn check(bytes: &[u8]) {
    let Ok(header) = parse(bytes) else { return };
    for tensor in &header.tensors {
        assert!(tensor.bytes > 0);
        assert!(tensor.offset >= header.data_offset);
        assert!(tensor.offset + tensor.bytes <= bytes.len() as u64);
    }
}

proptest! {
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        inserted in prop::option::of((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..20))),
        version in 2_u32..=3,
    ) {
        let mut bytes = small_file(version);
        for (position, value) in changes {
            // The magic and the version stay, else nothing behind them is reached.
            let position = 8 + position.index(bytes.len() - 8);
            bytes[position] = value;
        }
        if let Some((position, more)) = inserted {
            let position = position.index(bytes.len());
            bytes.splice(position..position, more);
        }
        check(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), counts in any::<(u8, u8)>()) {
        check(&body);
        check(&Bytes::header(3, counts.0.into(), counts.1.into()).raw(&body).0);
    }
}
