//! Weights that do not stay in memory: the same bits, whatever stays, whoever asks, and whenever that changes; and a clear error
//! where they cannot be read.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kernels::Team;
use model::{Error, KvCache, KvType, Logits, Model, Options, Resident, Workspace};
use tempfile::TempDir;
use testkit::{TinyOptions, tiny_model};

use crate::support::{architectures, logits, tokens};

const TOKENS: usize = 23;

/// A model with its copy in a folder, in a type for which interleaving is more than a copy.
fn open(architecture: &str) -> (TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model(&TinyOptions::new(architecture).with_type(12)).write(&path);
    let options = Options { cache_folder: Some(folder.path()), ..Options::default() };
    let model = Model::open(&path, &options).unwrap();
    (folder, model)
}

fn answer(model: &Model, threads: usize, batch: usize) -> Vec<f32> {
    logits(model, &Team::new(threads), KvType::F16, &tokens(&model.config, TOKENS), batch)
}

/// Everything short of keeping all.
fn choices(model: &Model) -> Vec<Resident> {
    match &model.config.experts {
        None => (0..model.config.layers.len()).map(Resident::Layers).collect(),
        Some(experts) => {
            [experts.used, experts.used + 1, experts.count * 100].map(Resident::Experts).to_vec()
        }
    }
}

fn copy(folder: &TempDir) -> PathBuf {
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.extension().is_some_and(|name| name == "interleaved")).unwrap()
}

#[test]
fn no_bit_depends_on_what_stays_in_memory() {
    for architecture in architectures() {
        let (_folder, model) = open(architecture);
        let expected = answer(&model, 1, 7);
        for resident in choices(&model) {
            model.keep(resident).unwrap();
            let streaming = model.streaming().unwrap();
            assert!(streaming.buffer_bytes > 0);
            for (threads, batch) in [(1, 1), (2, 7), (3, TOKENS)] {
                assert!(
                    answer(&model, threads, batch) == expected,
                    "{architecture}, {resident:?}, batch {batch}"
                );
            }
        }
        model.keep(Resident::All).unwrap();
        assert_eq!(model.streaming(), None);
        assert!(answer(&model, 2, 7) == expected, "{architecture}");
    }
}

#[test]
fn all_layers_are_all_and_other_kinds_are_refused() {
    let (_folder, dense) = open("llama");
    dense.keep(Resident::Layers(dense.config.layers.len())).unwrap();
    assert_eq!(dense.streaming(), None);
    assert!(matches!(dense.keep(Resident::Experts(8)), Err(Error::Resident { .. })));
    let (_folder, sparse) = open("qwen3moe");
    let used = sparse.config.experts.as_ref().unwrap().used;
    for resident in [Resident::Layers(0), Resident::Experts(used - 1), Resident::Experts(0)] {
        let error = sparse.keep(resident).unwrap_err();
        assert!(matches!(error, Error::Resident { .. }), "{error}");
    }
    assert_eq!(sparse.streaming(), None);
}

/// Two threads with passes at different layers, which share two buffers, while a third changes its mind all the time.
#[test]
fn several_may_compute_while_what_stays_changes() {
    for architecture in ["llama", "qwen3moe"] {
        let (_folder, model) = open(architecture);
        let expected = answer(&model, 1, TOKENS);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for resident in choices(&model).into_iter().chain([Resident::All]) {
                        model.keep(resident).unwrap();
                        std::thread::yield_now();
                    }
                }
            });
            let workers: Vec<_> = [1, 3, TOKENS]
                .into_iter()
                .map(|batch| {
                    let (model, expected) = (&model, &expected);
                    scope.spawn(move || (0..20).all(|_| answer(model, 1, batch) == *expected))
                })
                .collect();
            let same = workers.into_iter().all(|worker| worker.join().unwrap());
            is_over.store(true, Ordering::Relaxed);
            assert!(same, "{architecture}");
        });
    }
}

/// A pass at an early layer pushes out what a later one had read ahead, and neither cares.
#[test]
fn passes_may_take_turns_at_any_layer() {
    let (_folder, model) = open("qwen2");
    let (team, text) = (Team::new(2), tokens(&model.config, TOKENS));
    let expected = answer(&model, 1, TOKENS);
    model.keep(Resident::Layers(0)).unwrap();
    let layers = model.config.layers.len();
    let begin = || {
        let (mut workspace, mut cache) = (
            Workspace::new(&model.config, TOKENS),
            KvCache::new(&model.config, TOKENS, KvType::F16).unwrap(),
        );
        model.embed(&team, &mut workspace, &mut [&mut cache], &[&text]).unwrap();
        (workspace, cache)
    };
    let (mut first, mut second) = (begin(), begin());
    for layer in 0..layers {
        for ((workspace, cache), layer) in [(&mut first, Some(layer)), (&mut second, layer.checked_sub(1))]
            .map(|(pass, layer)| ((&mut pass.0, &mut pass.1), layer))
        {
            let Some(layer) = layer else { continue };
            model.layers(&team, workspace, &mut [cache], layer..layer + 1, 0).unwrap();
        }
    }
    let got = model.logits(&team, &mut first.0, 0..TOKENS).unwrap();
    assert!(got == expected);
    model.layers(&team, &mut second.0, &mut [&mut second.1], layers - 1..layers, 0).unwrap();
    assert!(model.logits(&team, &mut second.0, 0..TOKENS).unwrap() == expected);
}

#[test]
fn files_that_are_cut_short_or_changed_are_an_error_and_the_cache_is_as_it_was() {
    for architecture in ["llama", "qwen3moe"] {
        for of_copy in [true, false] {
            let (folder, model) = open(architecture);
            let expected = answer(&model, 1, TOKENS);
            model.keep(choices(&model)[0]).unwrap();
            let text = tokens(&model.config, TOKENS);
            let team = Team::new(2);
            let mut workspace = Workspace::new(&model.config, TOKENS);
            let mut cache = KvCache::new(&model.config, TOKENS, KvType::F16).unwrap();
            let (begun, rest) = text.split_at(5);
            model.forward(&team, &mut workspace, &mut cache, begun, Logits::None).unwrap();
            let path = if of_copy { copy(&folder) } else { folder.path().join("tiny.gguf") };
            let (about, whole) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
            let mut file = File::options().write(true).open(&path).unwrap();
            file.set_len(about.len() / 2).unwrap();
            let error = model.forward(&team, &mut workspace, &mut cache, rest, Logits::All).unwrap_err();
            assert!(error.to_string().contains("changed while"), "{error}");
            assert_eq!(cache.len(), begun.len());
            // Once it is as it was, so is everything.
            file.write_all(&whole).unwrap();
            file.set_modified(about.modified().unwrap()).unwrap();
            let got = model.forward(&team, &mut workspace, &mut cache, rest, Logits::All).unwrap();
            assert!(*got == expected[begun.len() * model.config.vocabulary..], "{architecture}");
        }
    }
}

#[cfg(unix)]
#[test]
fn mapped_weights_that_cannot_be_read_are_an_error_and_the_cache_is_as_it_was() {
    for streamed in [false, true] {
        let (folder, model) = open("llama");
        let expected = answer(&model, 1, TOKENS);
        let text = tokens(&model.config, TOKENS);
        let team = Team::new(2);
        let mut workspace = Workspace::new(&model.config, TOKENS);
        let mut cache = KvCache::new(&model.config, TOKENS, KvType::F16).unwrap();
        if streamed {
            model.keep(Resident::Layers(1)).unwrap();
        }
        let (begun, rest) = text.split_at(5);
        model.forward(&team, &mut workspace, &mut cache, begun, Logits::None).unwrap();
        let path = copy(&folder);
        let (about, whole) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
        let file = || File::options().write(true).open(&path).unwrap();
        file().set_len(4096).unwrap();
        // Streamed layers are found changed before anything is read, mapped ones when they are.
        let says = if streamed { "changed while" } else { "cannot be read any more" };
        for _ in 0..2 {
            let error = model.forward(&team, &mut workspace, &mut cache, rest, Logits::All).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(cache.len(), begun.len());
        }
        fs::write(&path, &whole).unwrap();
        file().set_modified(about.modified().unwrap()).unwrap();
        let got = model.forward(&team, &mut workspace, &mut cache, rest, Logits::All).unwrap();
        assert!(*got == expected[begun.len() * model.config.vocabulary..]);
    }
}

#[test]
fn without_a_copy_on_disk_nothing_can_be_streamed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model(&TinyOptions::new("llama")).write(&path);
    let model = Model::open(&path, &Options::default()).unwrap();
    assert!(matches!(model.keep(Resident::Layers(0)), Err(Error::NoCopy)));
    // Where it is known beforehand, nothing is copied to memory first.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for cache_folder in [None, Some(&*file)] {
        let options = Options { cache_folder, needs_file: true, ..Options::default() };
        assert!(matches!(Model::open(&path, &options), Err(Error::NoCopy)));
    }
}
