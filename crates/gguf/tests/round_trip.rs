//! What is written is read back, for any metadata and any tensors; and nothing half-written ever appears.

mod common;

use gguf::{Array, Error, File, Metadata, TensorSpec, Value, Writer};
use proptest::prelude::*;
use std::path::Path;

fn array() -> impl Strategy<Value = Array> {
    macro_rules! plain {
        ($($variant:ident $type:ty),*) => {
            prop_oneof![
                $(prop::collection::vec(any::<$type>(), 0..5).prop_map(Array::$variant),)*
                prop::collection::vec(-1e9_f32..1e9, 0..5).prop_map(Array::F32),
                prop::collection::vec(-1e9_f64..1e9, 0..5).prop_map(Array::F64),
                prop::collection::vec("\\PC{0,8}", 0..5).prop_map(Array::String),
            ]
        };
    }
    let plain = plain!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, U64 u64, I64 i64, Bool bool);
    plain.prop_recursive(2, 16, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Array::Nested))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        (-1e9_f32..1e9).prop_map(Value::F32),
        (-1e9_f64..1e9).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        "\\PC{0,12}".prop_map(Value::String),
        array().prop_map(Value::Array),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop::option::of(0_u32..10);
    (prop::collection::vec(("[a-z.]{1,12}", value()), 0..8), alignment).prop_map(|(entries, alignment)| {
        let mut metadata = Metadata::new();
        for (key, value) in entries {
            metadata.insert(key, value);
        }
        if let Some(power) = alignment {
            metadata.insert("general.alignment", 1_u32 << power);
        }
        metadata
    })
}

fn tensors() -> impl Strategy<Value = Vec<TensorSpec>> {
    let types = prop::sample::select(gguf::types::TYPES);
    let one = (types, 1_u64..3, prop::collection::vec(1_u64..4, 0..4)).prop_map(|(format, blocks, rest)| {
        let shape = std::iter::once(blocks * format.values).chain(rest).collect();
        TensorSpec { name: String::new(), shape, type_id: format.id }
    });
    prop::collection::vec(one, 0..6).prop_map(|mut tensors| {
        for (number, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = format!("tensor.{number}");
        }
        tensors
    })
}

/// Bytes that differ from tensor to tensor.
fn data(tensor: &TensorSpec, seed: usize) -> Vec<u8> {
    (0..tensor.bytes().unwrap() as usize).map(|at| (at * 31 + seed * 7) as u8).collect()
}

fn write(path: &Path, metadata: &Metadata, tensors: &[TensorSpec], piece: usize) -> Result<(), Error> {
    let mut writer = Writer::create(path, metadata, tensors)?;
    for (number, tensor) in tensors.iter().enumerate() {
        assert_eq!(writer.next_tensor(), Some(tensor.name.as_str()));
        if number % 2 == 0 {
            writer.write_tensor(&tensor.name, &data(tensor, number))?;
        } else {
            for piece in data(tensor, number).chunks(piece) {
                writer.write(piece)?;
            }
        }
    }
    assert_eq!(writer.next_tensor(), None);
    writer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read_back(metadata in metadata(), tensors in tensors(), piece in 1_usize..200) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        write(&path, &metadata, &tensors, piece).unwrap();
        let file = File::open(&path).unwrap();
        prop_assert_eq!(file.version(), 3);
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors().len(), tensors.len());
        for (number, (written, read)) in tensors.iter().zip(file.tensors()).enumerate() {
            prop_assert_eq!(&written.name, &read.name);
            prop_assert_eq!(&written.shape, &read.shape);
            prop_assert_eq!(written.type_id, read.type_id);
            prop_assert_eq!(read.offset % u64::from(file.alignment()), 0);
            prop_assert_eq!(file.tensor(&written.name), Some(read));
            prop_assert_eq!(file.data(read), data(written, number));
        }
        prop_assert_eq!(file.total_bytes(), std::fs::metadata(&path).unwrap().len());
    }
}

fn spec(name: &str, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec(), type_id: 0 }
}

#[test]
fn a_hand_made_file_opens_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    std::fs::write(&path, common::small_file(2)).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!((file.version(), file.alignment()), (2, 64));
    for _ in 0..2 {
        assert_eq!(file.data(file.tensor("second").unwrap()), [0xab; 12]);
        // What was given back is read again.
        file.release();
    }
    let foreign = gguf::TensorInfo { offset: u64::MAX - 3, part: 9, ..file.tensors()[0].clone() };
    assert!(file.data(&foreign).is_empty());
}

#[test]
fn the_error_names_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    let whole = common::small_file(3);
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let message = File::open(&path).unwrap_err().to_string();
    let (expected, actual) = (whole.len().to_string(), (whole.len() - 5).to_string());
    for part in ["cut.gguf", &expected, &actual, "download or copy it again"] {
        assert!(message.contains(part), "{message}");
    }
    let absent = File::open(&folder.path().join("absent.gguf")).unwrap_err();
    assert!(matches!(absent, Error::Io { .. }) && absent.to_string().contains("absent.gguf"));
    assert!(matches!(File::open(folder.path()), Err(Error::NotAFile { .. })));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(File::open(&path).unwrap_err().cause(), Error::NotGguf { .. }));
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let create =
        |metadata: &Metadata, tensors: &[TensorSpec]| Writer::create(&path, metadata, tensors).unwrap_err();
    let none = Metadata::new();
    assert!(matches!(create(&none, &[spec("a", &[0])]), Error::Shape { .. }));
    assert!(matches!(create(&none, &[spec("a", &[4]), spec("a", &[4])]), Error::DuplicateTensor { .. }));
    assert!(matches!(create(&none, &[spec(&"n".repeat(64), &[4])]), Error::NameLength { .. }));
    let mut metadata = Metadata::new();
    metadata.insert("general.alignment", 24_u32);
    assert!(matches!(create(&metadata, &[]), Error::Alignment { .. }));
    let mut metadata = Metadata::new();
    let deep = (0..gguf::MAXIMUM_ARRAY_DEPTH).fold(Array::U8(vec![1]), |inner, _| Array::Nested(vec![inner]));
    metadata.insert("deep", Value::Array(deep));
    assert!(matches!(create(&metadata, &[]), Error::ArrayDepth { .. }));
    let mut metadata = Metadata::new();
    metadata.insert("k".repeat(65_536), 1_u32);
    assert!(matches!(create(&metadata, &[]), Error::KeyLength { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_unfinished_write_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, "the old model").unwrap();
    let tensors = [spec("a", &[4]), spec("b", &[2])];
    let start = || Writer::create(&path, &Metadata::new(), &tensors).unwrap();

    let mut writer = start();
    writer.write_tensor("a", &[0; 16]).unwrap();
    writer.write(&[0; 4]).unwrap();
    assert!(matches!(writer.finish(), Err(Error::DataSize { expected: 8, got: 4, .. })));

    let mut writer = start();
    assert!(matches!(writer.write_tensor("b", &[0; 8]), Err(Error::Order { .. })));
    assert!(matches!(writer.write_tensor("a", &[0; 15]), Err(Error::DataSize { expected: 16, got: 15, .. })));
    assert!(matches!(writer.write(&[0; 17]), Err(Error::DataSize { expected: 16, got: 17, .. })));
    drop(writer);

    assert_eq!(std::fs::read(&path).unwrap(), b"the old model");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
