//! Tiny random models, opened, for the tests of this crate.

use std::sync::Arc;

use engine::{Engine, EngineOptions, Limits, SamplerOptions, SessionOptions};
use model::Model;
use testkit::{TinyOptions, tiny_model};

/// Opens a tiny model; its files are gone from the folder once it is mapped.
#[allow(dead_code, reason = "some tests open theirs within limits")]
pub(crate) fn open(options: &TinyOptions) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model(options).write(&path);
    Arc::new(Model::open(&path, &model::Options::default()).unwrap())
}

/// An engine over `model` with so many threads and so long chunks of prefill.
pub(crate) fn engine(model: &Arc<Model>, threads: usize, batch: usize) -> Engine {
    Engine::new(Arc::clone(model), EngineOptions { threads: Some(threads), batch })
}

/// Sampling with all its stages, and answers of `max_tokens` that only their length ends.
pub(crate) fn options(seed: u64, max_tokens: usize) -> SessionOptions {
    SessionOptions {
        sampler: SamplerOptions { temperature: 1.2, repeat_penalty: 1.1, seed, ..SamplerOptions::default() },
        limits: Limits { max_tokens: Some(max_tokens), ignore_end: true, ..Limits::default() },
        ..SessionOptions::default()
    }
}
