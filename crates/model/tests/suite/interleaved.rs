//! The interleaved copy on disk: found again, rebuilt when it is not whole, replaced when the model changes, and done
//! without where the folder cannot be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kernels::Team;
use model::{KvType, Model, Options, Residence};
use tempfile::TempDir;
use testkit::{TinyOptions, tiny_model};

use crate::support::{logits, tokens};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new(seed: u64) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        place.write(seed);
        place
    }

    fn write(&self, seed: u64) {
        // A quantized type, so that interleaving is more than a copy.
        tiny_model(&TinyOptions::new("qwen3moe").with_type(12).with_seed(seed)).write(&self.model());
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("tiny.gguf")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache/interleaved")
    }

    fn open(&self, cache_folder: Option<&Path>) -> Model {
        Model::open(&self.model(), &Options { cache_folder, ..Options::default() }).unwrap()
    }

    /// The files in the cache folder.
    fn copies(&self) -> Vec<PathBuf> {
        fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn answer(model: &Model) -> Vec<f32> {
    logits(model, &Team::new(1), KvType::F16, &tokens(&model.config, 9), 9)
}

#[test]
fn a_copy_is_made_once_and_found_again() {
    let place = Place::new(1);
    let cache = place.cache();
    let (first, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |done: u64, bytes: u64| {
        first.fetch_add(1, Ordering::Relaxed);
        total.store(bytes, Ordering::Relaxed);
        assert!(done <= bytes);
    };
    let team = Team::new(2);
    let options = Options {
        cache_folder: Some(&cache),
        team: Some(&team),
        progress: Some(&progress),
        needs_file: true,
    };
    let built = Model::open(&place.model(), &options).unwrap();
    assert_eq!(total.load(Ordering::Relaxed) as usize, built.memory().weights);
    let copies = place.copies();
    assert_eq!(copies.len(), 1);
    assert_eq!(*built.residence(), Residence::Cached(copies[0].clone()));
    let calls = first.load(Ordering::Relaxed);
    let found = Model::open(&place.model(), &options).unwrap();
    assert_eq!(first.load(Ordering::Relaxed), calls, "nothing is built twice");
    assert_eq!(place.copies(), copies);
    assert!(answer(&found) == answer(&built));
    assert_eq!(found.identity(), built.identity());
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let place = Place::new(1);
    let of = |team: Option<&Team>| {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cache_folder: Some(folder.path()), team, ..Options::default() };
        let model = Model::open(&place.model(), &options).unwrap();
        let Residence::Cached(path) = model.residence() else { panic!("{:?}", model.residence()) };
        fs::read(path).unwrap()
    };
    assert!(of(None) == of(Some(&Team::new(4))));
}

#[test]
fn a_copy_that_is_not_whole_is_made_again() {
    let place = Place::new(1);
    let cache = place.cache();
    let expected = answer(&place.open(Some(&cache)));
    let path = place.copies().remove(0);
    let whole = fs::read(&path).unwrap();
    let mut damaged_header = whole.clone();
    damaged_header[9] ^= 1;
    let longer = [&whole[..], &[0]].concat();
    for damaged in [&whole[..whole.len() - 1], &whole[..100], &[], &damaged_header, &longer] {
        fs::write(&path, damaged).unwrap();
        let model = place.open(Some(&cache));
        assert_eq!(*model.residence(), Residence::Cached(path.clone()));
        assert!(fs::read(&path).unwrap() == whole);
        assert!(answer(&model) == expected);
    }
}

#[test]
fn a_changed_model_gets_a_new_copy_and_the_old_one_goes() {
    let place = Place::new(1);
    let cache = place.cache();
    let (before, old) = (place.open(Some(&cache)), place.copies());
    let answer_before = answer(&before);
    place.write(2);
    let after = place.open(Some(&cache));
    assert_ne!(after.identity(), before.identity());
    assert_eq!(place.copies().len(), 1);
    assert_ne!(place.copies(), old);
    assert!(answer(&after) != answer_before);
    // Other models' copies stay.
    let other = Place::new(3);
    other.open(Some(&cache));
    assert_eq!(place.copies().len(), 2);
}

#[test]
fn without_a_folder_a_copy_serves_this_process_alone() {
    let place = Place::new(1);
    let expected = answer(&place.open(Some(&place.cache())));
    let model = place.open(None);
    assert_eq!(*model.residence(), Residence::Temporary);
    assert!(answer(&model) == expected);
    // A folder that cannot be made: its parent is a file.
    let blocked = place.model().join("cache");
    let model = place.open(Some(&blocked));
    assert_eq!(*model.residence(), Residence::Temporary);
    assert!(answer(&model) == expected);
}
