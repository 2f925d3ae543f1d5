//! What the tests of this crate share: opening tiny models, and running them.

pub(crate) mod reference;

use kernels::Team;
use model::{Config, Error, KvCache, KvType, Logits, Model, Options, Workspace};
use tempfile::TempDir;
use testkit::{TinyModel, TinyOptions, tiny_model};

/// Every architecture of the table.
pub(crate) fn architectures() -> impl Iterator<Item = &'static str> {
    model::arch::TABLE.iter().map(|entry| entry.name)
}

/// Writes the model to a folder of its own and opens it there.
pub(crate) fn open(tiny: &TinyModel) -> Result<(TempDir, Model), Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path);
    Model::open(&path, &Options::default()).map(|model| (folder, model))
}

/// The model of [`TinyOptions::new`] for an architecture.
pub(crate) fn open_default(architecture: &str) -> (TempDir, Model) {
    open(&tiny_model(&TinyOptions::new(architecture))).unwrap()
}

/// A text of `count` tokens without a pattern.
pub(crate) fn tokens(config: &Config, count: usize) -> Vec<u32> {
    let mut random = testkit::Random::new(7);
    (0..count).map(|_| (random.bits() % config.vocabulary as u64) as u32).collect()
}

/// Logits of all tokens, computed in batches of at most `batch`, `[token][vocabulary]`.
pub(crate) fn logits(model: &Model, team: &Team, kv_type: KvType, tokens: &[u32], batch: usize) -> Vec<f32> {
    let mut workspace = Workspace::new(&model.config, batch);
    let mut cache = KvCache::new(&model.config, tokens.len(), kv_type).unwrap();
    let mut out = Vec::new();
    for batch in tokens.chunks(batch) {
        out.extend_from_slice(model.forward(team, &mut workspace, &mut cache, batch, Logits::All).unwrap());
    }
    assert_eq!(cache.len(), tokens.len());
    out
}

/// Root mean square of the difference over that of `expected`.
pub(crate) fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |sum: f64, value: f64| sum + value * value;
    let difference =
        got.iter().zip(expected).map(|(got, expected)| f64::from(*got) - expected).fold(0.0, square);
    (difference / expected.iter().copied().fold(0.0, square)).sqrt()
}
