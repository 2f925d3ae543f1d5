//! Models in several files: any part opens all, and what does not belong together is named.

use gguf::{Error, File, Metadata, TensorSpec, Writer, part_path};
use std::path::{Path, PathBuf};

/// Writes part `number` (from 1) of `count` with one tensor of its own.
fn write_part(stem: &Path, number: usize, count: usize, change: impl Fn(&mut Metadata)) -> PathBuf {
    let mut metadata = Metadata::new();
    if number == 1 {
        metadata.insert("general.architecture", "llama");
    }
    metadata.insert("split.no", number as u16 - 1);
    metadata.insert("split.count", count as u16);
    metadata.insert("split.tensors.count", count as i32);
    change(&mut metadata);
    let path = part_path(stem, number, count);
    let tensor = TensorSpec { name: format!("tensor.{number}"), shape: vec![8], type_id: 24 };
    let mut writer = Writer::create(&path, &metadata, &[tensor]).unwrap();
    writer.write(&[number as u8; 8]).unwrap();
    writer.finish().unwrap();
    path
}

fn unchanged(_: &mut Metadata) {}

#[test]
fn any_part_opens_all() {
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("model");
    let paths: Vec<PathBuf> = (1..=3).map(|number| write_part(&stem, number, 3, unchanged)).collect();
    for path in &paths {
        let file = File::open(path).unwrap();
        assert_eq!(file.paths(), paths);
        assert_eq!(file.metadata().string("general.architecture").unwrap(), Some("llama"));
        assert_eq!(file.tensors().len(), 3);
        for (part, tensor) in file.tensors().iter().enumerate() {
            assert_eq!(tensor.part, part);
            assert_eq!(file.data(tensor), [part as u8 + 1; 8]);
        }
        let sizes = paths.iter().map(|path| std::fs::metadata(path).unwrap().len());
        assert_eq!(file.total_bytes(), sizes.sum::<u64>());
    }
}

#[test]
fn a_missing_part_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("model");
    let first = write_part(&stem, 1, 3, unchanged);
    write_part(&stem, 3, 3, unchanged);
    let error = File::open(&first).unwrap_err();
    assert!(matches!(error, Error::MissingPart { part: 2, count: 3, .. }));
    assert!(error.to_string().contains("model-00002-of-00003.gguf"), "{error}");
}

#[test]
fn parts_of_other_models_are_refused() {
    type Change = fn(&mut Metadata);
    let changes: [(&str, Change); 4] = [
        ("split.no", |metadata| metadata.insert("split.no", 0_u16)),
        ("split.count", |metadata| metadata.insert("split.count", 4_u16)),
        ("split.count", |metadata| drop(metadata.remove("split.count"))),
        ("split.no", |metadata| drop(metadata.remove("split.no"))),
    ];
    for (wrong, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("model");
        let first = write_part(&stem, 1, 2, unchanged);
        write_part(&stem, 2, 2, change);
        match File::open(&first) {
            Err(Error::PartMismatch { key, .. }) => assert_eq!(key, wrong),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("model");
    let first = write_part(&stem, 1, 2, |metadata| metadata.insert("split.tensors.count", 5_i32));
    write_part(&stem, 2, 2, unchanged);
    assert!(matches!(
        File::open(&first),
        Err(Error::PartMismatch { key: "split.tensors.count", expected: 2, .. })
    ));
}

#[test]
fn a_renamed_part_and_a_double_tensor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("model");
    let first = write_part(&stem, 1, 2, unchanged);
    let second = write_part(&stem, 2, 2, unchanged);
    let renamed = folder.path().join("renamed.gguf");
    std::fs::copy(&second, &renamed).unwrap();
    assert!(matches!(File::open(&renamed), Err(Error::PartName { count: 2, .. })));

    let mut metadata = File::open(&second).unwrap().metadata().clone();
    metadata.insert("split.no", 1_u16);
    let tensor = TensorSpec { name: "tensor.1".to_owned(), shape: vec![8], type_id: 24 };
    let mut writer = Writer::create(&second, &metadata, &[tensor]).unwrap();
    writer.write(&[0; 8]).unwrap();
    writer.finish().unwrap();
    assert!(matches!(File::open(&first).unwrap_err().cause(), Error::DuplicateTensor { .. }));
}

#[test]
fn a_model_in_one_file_may_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_part(&folder.path().join("model"), 1, 1, unchanged);
    let renamed = folder.path().join("any name.gguf");
    std::fs::rename(path, &renamed).unwrap();
    assert_eq!(File::open(&renamed).unwrap().tensors().len(), 1);
}
