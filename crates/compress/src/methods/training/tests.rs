//! Codes learn what they are told to, what is written is what was trained, and a killed run loses nothing.

use std::path::{Path, PathBuf};

use gguf::{TensorSpec, Writer};
use kernels::{FORMATS, Format};
use testkit::{TinyOptions, tiny_model};

use super::*;
use crate::float::{Linear, ROLES, add_weight_gradient};
use crate::random::Random;

fn format(name: &str) -> &'static Format {
    FORMATS.iter().find(|format| format.name == name).unwrap()
}

fn with_grid() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().filter(|format| format.grid().is_some())
}

fn noise(count: usize, size: f32) -> Vec<f32> {
    let mut random = Random::new(3);
    (0..count).map(|_| size * random.normal()).collect()
}

fn rounded(format: &Format, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(values.len())];
    assert!(format.quantize_row(values, &mut bytes));
    bytes
}

fn values_of(format: &Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.bytes * format.values];
    format.dequantize_row(bytes, &mut values);
    values
}

/// Whatever has been learned, the bytes hold what the forward pass saw, in every format.
#[test]
fn bytes_decode_to_what_was_trained() {
    for format in with_grid() {
        let weights = noise(2 * format.values, 0.02);
        let bytes = rounded(format, &weights);
        let mut latent = Latent::of_bytes(format, &bytes, format.values, None, Some(&weights)).unwrap();
        assert_eq!(latent.linear().weight, values_of(format, &bytes), "{}", format.name);
        assert_eq!(latent.bytes(), bytes, "{}", format.name);
        for step in 1..20 {
            let rates = Rates { levels: 0.1, scales: 0.01 };
            latent.step(step, rates, &noise(weights.len(), step as f32));
        }
        assert_ne!(latent.bytes(), bytes, "{}", format.name);
        assert_eq!(latent.linear().weight, values_of(format, &latent.bytes()), "{}", format.name);
    }
}

/// A product is to be that of other weights than those that were rounded: codes must move there, with levels free nearer
/// than by scales alone.
#[test]
fn codes_follow_a_target() {
    let (rows, columns, tokens) = (8, 256, 32);
    let (weights, input) = (noise(rows * columns, 0.02), noise(tokens * columns, 1.0));
    let wanted: Vec<f32> = weights.iter().map(|x| 1.1 * x + 0.002).collect();
    for format in with_grid().filter(|format| format.name != "MXFP4") {
        let bytes = rounded(format, &weights);
        let off = |latent: &Latent| {
            let weight = latent.linear().weight.iter().zip(&wanted).map(|(x, wanted)| x - wanted).collect();
            Linear { rows, columns, weight, bias: None }.forward(&input)
        };
        let loss = |latent: &Latent| off(latent).iter().map(|x| x * x).sum::<f32>();
        let mut after = Vec::new();
        for learn in [Learn::Scales, Learn::All] {
            let mut latent = Latent::of_bytes(format, &bytes, columns, None, Some(&weights)).unwrap();
            latent.restart(learn);
            let before = loss(&latent);
            for step in 0..200 {
                let share = crate::train::schedule(step, 200, 10);
                let mut gradient = vec![0.0; rows * columns];
                add_weight_gradient(&mut gradient, &off(&latent), rows, &input, columns);
                latent.step(step + 1, Rates { levels: 0.02 * share, scales: 0.002 * share }, &gradient);
            }
            let loss = loss(&latent);
            assert!(loss < 0.5 * before, "{} {learn:?}: {before} to {loss}", format.name);
            after.push(loss);
        }
        // Of more bits, scales alone come as near as rounding lets them.
        if matches!(format.name, "Q2_K" | "Q3_K") {
            assert!(after[1] < after[0], "{}: {after:?}", format.name);
        }
    }
}

/// A random model whose matrices are rounded to `format`.
fn models(folder: &Path, format: &Format) -> (PathBuf, PathBuf) {
    let (original, small) = (folder.join("original.gguf"), folder.join("small.gguf"));
    let options = TinyOptions { width: 256, feed_forward: 256, head_dim: 64, ..TinyOptions::new("llama") };
    let model = tiny_model(&options);
    model.write(&original);
    let matrix = |spec: &TensorSpec| {
        spec.name.starts_with("blk") && spec.shape.len() == 2 || spec.name == "output.weight"
    };
    let specs: Vec<TensorSpec> = model
        .tensors
        .iter()
        .map(|(spec, _)| match matrix(spec) {
            true => TensorSpec { type_id: format.id, ..spec.clone() },
            false => spec.clone(),
        })
        .collect();
    let mut writer = Writer::create(&small, &model.metadata, &specs).unwrap();
    for (spec, data) in &model.tensors {
        let bytes = match matrix(spec) {
            true => rounded(format, &crate::bytes::floats_of(data)),
            false => data.clone(),
        };
        writer.write_tensor(&spec.name, &bytes).unwrap();
    }
    writer.finish().unwrap();
    (original, small)
}

fn options() -> TrainingOptions {
    let rates = Rates { levels: 0.02, scales: 0.002 };
    TrainingOptions {
        tune: TuneOptions { epochs: 4, windows: 2, rates, ..TuneOptions::default() },
        distill: Some(DistillOptions { epochs: 12, windows: 2, rates, ..DistillOptions::default() }),
    }
}

const LENGTH: usize = 16;

fn run(
    folder: &Path,
    models: &(PathBuf, PathBuf),
    stop: Option<(usize, usize)>,
) -> Option<(Vec<u8>, Trained)> {
    let (original, small) = (Source::open(&models.0).unwrap(), Source::open(&models.1).unwrap());
    let mut random = Random::new(8);
    let tokens: Vec<u32> =
        (0..24 * LENGTH).map(|_| random.below(original.config.vocabulary) as u32).collect();
    let journal = Journal::open(&folder.join("journal"), "a run").unwrap();
    let work = || {
        let mut progress = |at: Progress| {
            if stop == Some((at.blocks, at.step)) {
                std::panic::panic_any("killed");
            }
        };
        let window = original.window(LENGTH);
        let (tensors, trained) =
            train(&original, &small, &window, &tokens, &options(), &journal, &mut progress).unwrap();
        let path = folder.join("trained.gguf");
        tensors.write(&path).unwrap();
        (std::fs::read(path).unwrap(), trained)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

#[test]
fn blocks_and_the_whole_get_nearer_on_windows_not_trained_on() {
    for name in ["Q2_K", "Q3_K"] {
        let folder = tempfile::tempdir().unwrap();
        let models = models(folder.path(), format(name));
        let (_, trained) = run(folder.path(), &models, None).unwrap();
        assert_eq!(trained.blocks.len(), 2);
        for block in &trained.blocks {
            assert!(block.after < 0.99 * block.before, "{name}: {trained:?}");
        }
        let whole = trained.whole.unwrap();
        assert!(whole.after < whole.before, "{name}: {whole:?}");
    }
}

#[test]
fn a_killed_run_gives_what_an_undisturbed_one_gives() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(|folder| folder.path());
    let models = models(first, format("Q2_K"));
    let undisturbed = run(first, &models, None).unwrap();
    assert!(run(second, &models, Some((1, 1))).is_none());
    assert!(Journal::open(&second.join("journal"), "a run").unwrap().has("tuned-0"));
    // The whole model, beyond the first state that is kept.
    assert!(run(second, &models, Some((2, 110))).is_none());
    assert!(Journal::open(&second.join("journal"), "a run").unwrap().has("distilled"));
    assert_eq!(run(second, &models, None).unwrap(), undisturbed);
}

/// Merged tensors, biases, norms after the branches and a tied output: every architecture can be trained and read again.
#[test]
fn every_dense_architecture_can_be_trained() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rounded.gguf");
        tiny_model(&TinyOptions::new(architecture).with_type(format("Q4_0").id)).write(&path);
        let source = Source::open(&path).unwrap();
        let window = source.window(LENGTH);
        let tokens: Vec<u32> = (0..4 * LENGTH as u32).collect();
        let block = source.block(0).unwrap();
        let mut learner = Rounded::read(&source, 0, Some(&block)).unwrap();
        let setting = source.setting(&window, 0);
        let stream = source.embed(&tokens).unwrap();
        // As if the block ought to do nothing.
        let tuned = tune_block(&setting, &mut learner, &stream, &stream, &options().tune, &mut |_, _| ());
        assert!(tuned.after < tuned.before, "{architecture}: {tuned:?}");
        let mut tensors = Tensors::of(&source);
        tensors.put_block(0, &learner);
        let trained = folder.path().join("trained.gguf");
        tensors.write(&trained).unwrap();
        let again = Source::open(&trained).unwrap().block(0).unwrap();
        let learned = learner.block();
        assert_eq!((&again.norms, &again.matrices), (&learned.norms, &learned.matrices), "{architecture}");
        assert!(ROLES.iter().any(|role| again.matrix(*role) != block.matrix(*role)));
    }
}
