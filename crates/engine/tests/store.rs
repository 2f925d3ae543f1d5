//! What is remembered of texts: it spares work and changes no token, whatever happens to the files.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{engine, open, options};
use engine::{Engine, PageStore, Session, SessionOptions, Step, StoreOptions};
use gguf::{TensorSpec, Value};
use model::{KvType, Model, PAGE};
use testkit::{TinyOptions, tiny_model};

const TEXT: usize = 3 * PAGE + 20;
const ANSWER: usize = 24;

fn text(model: &Model, seed: u64) -> Vec<u32> {
    let mut random = testkit::Random::new(seed);
    (0..TEXT).map(|_| (random.bits() % model.config.vocabulary as u64) as u32).collect()
}

fn session(engine: &Engine, kv_type: KvType, text: &[u32]) -> Session {
    let options = SessionOptions { kv_type, context: Some(TEXT + ANSWER), ..options(3, ANSWER) };
    let mut session = engine.session(options).unwrap();
    session.push(text).unwrap();
    session
}

/// Answers after `text` with what the store has, which must be `found` positions. Remembers the text.
fn answer(engine: &mut Engine, store: &PageStore, kv_type: KvType, text: &[u32], found: usize) -> Vec<u32> {
    let mut session = session(engine, kv_type, text);
    assert_eq!(session.fill(store), found);
    assert_eq!(session.reused_len(), found);
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {}
    session.keep(store);
    session.answer().to_vec()
}

/// A store that has nothing but files.
fn on_disk(folder: &Path) -> PageStore {
    PageStore::open(StoreOptions { folder: Some(folder.to_owned()), memory: 0, disk: usize::MAX })
}

fn in_memory(bytes: usize) -> PageStore {
    PageStore::open(StoreOptions { memory: bytes, ..StoreOptions::default() })
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "page")).collect();
    // The first page of a text is the newest. Other processes remove pages meanwhile.
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    pages.sort_by_cached_key(|path| std::cmp::Reverse(modified(path)));
    pages
}

fn size(folder: &Path) -> u64 {
    pages(folder).iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn tokens_are_the_same_with_and_without() {
    for (architecture, kv_type) in [("gemma3", KvType::F16), ("llama", KvType::Q8_0), ("qwen3", KvType::Q4_0)]
    {
        let model = open(&TinyOptions { head_dim: 32, ..TinyOptions::new(architecture) });
        let mut engine = engine(&model, 2, 50);
        let folder = tempfile::tempdir().unwrap();
        let (nothing, disk, memory) = (in_memory(0), on_disk(folder.path()), in_memory(usize::MAX));
        let text = text(&model, 1);
        let expected = answer(&mut engine, &nothing, kv_type, &text, 0);
        assert_eq!(expected.len(), ANSWER);
        for store in [&disk, &memory] {
            assert_eq!(answer(&mut engine, store, kv_type, &text, 0), expected, "{architecture}");
            store.flush();
            assert_eq!(answer(&mut engine, store, kv_type, &text, 3 * PAGE), expected, "{architecture}");
        }
        // Another process' store.
        let again = on_disk(folder.path());
        assert_eq!(answer(&mut engine, &again, kv_type, &text, 3 * PAGE), expected);
        assert_eq!((again.figures().asked, again.figures().found), (TEXT as u64 - 1, 3 * PAGE as u64));
        // A text that goes another way is known up to there, and one that ends on a page keeps a token to compute.
        let mut other = text.clone();
        other[2 * PAGE + 5] ^= 1;
        let expected = answer(&mut engine, &nothing, kv_type, &other, 0);
        assert_eq!(answer(&mut engine, &again, kv_type, &other, 2 * PAGE), expected);
        let expected = answer(&mut engine, &nothing, kv_type, &text[..2 * PAGE], 0);
        assert_eq!(answer(&mut engine, &memory, kv_type, &text[..2 * PAGE], PAGE), expected);
    }
}

#[test]
fn pages_are_found_for_the_same_model_and_cache_only() {
    let tiny = TinyOptions { head_dim: 32, ..TinyOptions::new("llama") };
    let (model, other) = (open(&tiny), open(&tiny.clone().with_seed(2)));
    let (mut engine, other) = (engine(&model, 1, 50), engine(&other, 1, 50));
    let store = in_memory(usize::MAX);
    let text = text(&model, 1);
    answer(&mut engine, &store, KvType::F16, &text, 0);
    assert_eq!(session(&other, KvType::F16, &text).fill(&store), 0);
    assert_eq!(session(&engine, KvType::Q8_0, &text).fill(&store), 0);
    assert_eq!(session(&engine, KvType::F16, &text).fill(&store), 3 * PAGE);
}

/// Models whose keys are turned in another way where the context is long.
#[test]
fn pages_of_a_short_context_are_not_those_of_a_long_one() {
    const SHORT: u32 = (TEXT + ANSWER) as u32;
    let mut options = TinyOptions::new("phi3");
    options.extra = vec![
        ("phi3.rope.scaling.type".to_owned(), Value::String("longrope".to_owned())),
        ("phi3.rope.scaling.original_context_length".to_owned(), Value::U32(SHORT)),
    ];
    let mut tiny = tiny_model(&options);
    for (name, factor) in [("rope_factors_long.weight", 3f32), ("rope_factors_short.weight", 1.0)] {
        let spec = TensorSpec { name: name.to_owned(), shape: vec![8], type_id: testkit::F32 };
        tiny.tensors.push((spec, [factor; 8].iter().flat_map(|factor| factor.to_le_bytes()).collect()));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phi3.gguf");
    tiny.write(&path);
    let model = Arc::new(Model::open(&path, &model::Options::default()).unwrap());
    let (mut engine, store) = (engine(&model, 1, 50), in_memory(usize::MAX));
    let text = text(&model, 1);
    answer(&mut engine, &store, KvType::F16, &text, 0);
    for (context, found) in [(SHORT, 3 * PAGE), (SHORT - 1, 3 * PAGE), (SHORT + 1, 0)] {
        let options = SessionOptions { context: Some(context as usize), ..common::options(3, 1) };
        let mut session = engine.session(options).unwrap();
        session.push(&text).unwrap();
        assert_eq!(session.fill(&store), found, "{context}");
    }
}

/// What `spoil` makes of a page's bytes.
type Damage = (String, Box<dyn Fn(&mut Vec<u8>)>);

#[test]
fn a_damaged_page_is_not_there_and_is_removed() {
    let model = open(&TinyOptions::new("gemma3"));
    let mut engine = engine(&model, 1, 50);
    let folder = tempfile::tempdir().unwrap();
    let text = text(&model, 1);
    let expected = answer(&mut engine, &on_disk(folder.path()), KvType::F16, &text, 0);
    let whole: Vec<_> =
        pages(folder.path()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert_eq!(whole.len(), 3);
    let length = whole[0].0.len();
    let mut damages: Vec<Damage> = Vec::new();
    // Every byte of the header, and some of the rest; then sizes.
    for at in (0..70).chain([length / 3, length / 2, length - 1]) {
        for bit in [0, 7] {
            let flip = move |bytes: &mut Vec<u8>| bytes[at] ^= 1 << bit;
            damages.push((format!("bit {bit} of byte {at}"), Box::new(flip)));
        }
    }
    for size in [0, 1, 8, 55, 56, 57, length / 2, length - 1, length + 1, 2 * length] {
        damages.push((format!("{size} bytes"), Box::new(move |bytes| bytes.resize(size, 0))));
    }
    let foreign = whole[2].0.clone();
    damages.push(("another page".to_owned(), Box::new(move |bytes| bytes.clone_from(&foreign))));
    for (what, spoil) in damages {
        for (index, (sound, path)) in whole.iter().enumerate() {
            let mut bytes = sound.clone();
            spoil(&mut bytes);
            if bytes == *sound {
                continue;
            }
            fs::write(path, &bytes).unwrap();
            let store = on_disk(folder.path());
            assert_eq!(session(&engine, KvType::F16, &text).fill(&store), index * PAGE, "{what}");
            assert!(!path.exists(), "{what}");
            fs::write(path, sound).unwrap();
        }
    }
    // What was removed is written again.
    fs::write(&whole[1].1, "rubbish").unwrap();
    assert_eq!(answer(&mut engine, &on_disk(folder.path()), KvType::F16, &text, PAGE), expected);
    assert_eq!(answer(&mut engine, &on_disk(folder.path()), KvType::F16, &text, 3 * PAGE), expected);
}

#[test]
fn limits_hold_and_beginnings_are_kept() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 50);
    let page = model_page(&model);
    let folder = tempfile::tempdir().unwrap();
    // Room for two texts and a page, in memory and on disk.
    let limit = 7 * (page + 100);
    let store =
        PageStore::open(StoreOptions { folder: Some(folder.path().to_owned()), memory: 0, disk: limit });
    let memory = in_memory(7 * page);
    for seed in 0..4 {
        let text = text(&model, seed);
        for store in [&store, &memory] {
            answer(&mut engine, store, KvType::F16, &text, 0);
            store.flush();
        }
        assert!(size(folder.path()) <= limit as u64 && memory.figures().memory_bytes <= 7 * page);
    }
    assert_eq!((pages(folder.path()).len(), memory.figures().memory_bytes), (7, 7 * page));
    for store in [&store, &memory] {
        let found = [0, 1, 2, 3].map(|seed| session(&engine, KvType::F16, &text(&model, seed)).fill(store));
        assert_eq!(found, [0, PAGE, 3 * PAGE, 3 * PAGE]);
    }
    // What nobody else holds can be let go.
    let mut held = session(&engine, KvType::F16, &text(&model, 3));
    held.fill(&memory);
    assert_eq!(memory.make_room(2 * page - 1), 2 * page);
    assert_eq!(memory.make_room(usize::MAX), 2 * page);
    assert_eq!(memory.figures().memory_bytes, 3 * page);
    drop(held);
    assert_eq!(memory.make_room(usize::MAX), 3 * page);
    // A folder that holds less than a text has its beginning.
    let folder = tempfile::tempdir().unwrap();
    let store = PageStore::open(StoreOptions {
        folder: Some(folder.path().to_owned()),
        memory: 0,
        disk: 2 * (page + 100),
    });
    for found in [0, 2 * PAGE, 2 * PAGE] {
        answer(&mut engine, &store, KvType::F16, &text(&model, 5), found);
        store.flush();
    }
}

fn model_page(model: &Model) -> usize {
    model::KvCache::bytes(&model.config, PAGE, KvType::F16)
}

#[test]
fn a_folder_that_cannot_be_used_is_told_and_does_no_harm() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 50);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let (text, nothing) = (text(&model, 1), in_memory(0));
    let expected = answer(&mut engine, &nothing, KvType::F16, &text, 0);
    let open = |folder: &Path| {
        PageStore::open(StoreOptions {
            folder: Some(folder.to_owned()),
            memory: usize::MAX,
            disk: usize::MAX,
        })
    };
    let store = open(&file);
    for found in [0, 3 * PAGE] {
        assert_eq!(answer(&mut engine, &store, KvType::F16, &text, found), expected);
        store.flush();
    }
    let trouble = store.figures().trouble.unwrap();
    assert!(trouble.contains("file"), "{trouble}");
    // Something in the way, which then goes.
    let way = folder.path().join("way");
    let obstacle = way.join("x.partial");
    fs::create_dir_all(&obstacle).unwrap();
    let store = open(&way);
    answer(&mut engine, &store, KvType::F16, &text, 0);
    store.flush();
    assert!(store.figures().trouble.is_some() && pages(&way).is_empty());
    fs::remove_dir(&obstacle).unwrap();
    answer(&mut engine, &store, KvType::F16, &text, 3 * PAGE);
    answer(&mut engine, &store, KvType::F16, &self::text(&model, 2), 0);
    store.flush();
    assert_eq!((store.figures().trouble, pages(&way).len()), (None, 3));
    // What a killed process left is cleared away.
    fs::write(&obstacle, "half a page").unwrap();
    answer(&mut engine, &store, KvType::F16, &self::text(&model, 3), 0);
    store.flush();
    assert!(!obstacle.exists() && pages(&way).len() == 6);
}

/// Names the folder to the process that [`two_processes_share_a_folder`] starts.
const FOLDER: &str = "POUCH_TEST_STORE_FOLDER";

/// Remembers texts again and again in a folder that holds two of them; every answer is right.
fn use_folder(folder: &Path, first: u64) {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 50);
    let disk = 7 * (model_page(&model) + 100);
    let nothing = in_memory(0);
    let texts: Vec<Vec<u32>> = (first..first + 3).map(|seed| text(&model, seed)).collect();
    let expected: Vec<_> =
        texts.iter().map(|text| answer(&mut engine, &nothing, KvType::F16, text, 0)).collect();
    for round in 0..12 {
        let store = PageStore::open(StoreOptions { folder: Some(folder.to_owned()), memory: 0, disk });
        let (text, expected) = (&texts[round % 3], &expected[round % 3]);
        let mut session = session(&engine, KvType::F16, text);
        session.fill(&store);
        while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {}
        assert_eq!(session.answer(), expected);
        session.keep(&store);
        store.flush();
        assert_eq!(store.figures().trouble, None);
        assert!(size(folder) <= disk as u64);
    }
}

#[test]
fn two_processes_share_a_folder() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return use_folder(Path::new(&folder), 2);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["two_processes_share_a_folder", "--exact"])
        .env(FOLDER, folder.path())
        .spawn()
        .unwrap();
    std::thread::scope(|scope| {
        // Two handles in this process, one in the other; texts in common and texts of their own.
        scope.spawn(|| use_folder(folder.path(), 0));
        use_folder(folder.path(), 1);
    });
    assert!(child.wait().unwrap().success());
    assert!(!pages(folder.path()).is_empty());
}

#[test]
fn the_store_serves_many_threads() {
    let model: Arc<Model> = open(&TinyOptions::new("llama"));
    let store = in_memory(10 * model_page(&model));
    let expected: Vec<Vec<u32>> = (0..4)
        .map(|seed| answer(&mut engine(&model, 1, 50), &in_memory(0), KvType::F16, &text(&model, seed), 0))
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (model, store, expected) = (&model, &store, &expected);
            scope.spawn(move || {
                let mut engine = engine(model, 1, 50);
                for round in 0..8 {
                    let seed = (thread + round) % 4;
                    let mut session = session(&engine, KvType::F16, &text(model, seed as u64));
                    session.fill(store);
                    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {}
                    assert_eq!(session.answer(), expected[seed]);
                    session.keep(store);
                    store.make_room(model_page(model));
                }
            });
        }
    });
}
