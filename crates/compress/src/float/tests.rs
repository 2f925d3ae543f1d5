//! The f32 model against the engine, and its gradients against finite differences.

use kernels::Team;
use model::{KvCache, KvType, Logits, Model, Options, Workspace};
use testkit::{TinyOptions, tiny_model};

use super::*;

const DENSE: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

fn tiny(architecture: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model(&TinyOptions::new(architecture)).write(&path);
    (folder, path)
}

fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = testkit::Random::new(5);
    (0..count).map(|_| (random.bits() % vocabulary as u64) as u32).collect()
}

/// The f32 model's logits of windows of `length` tokens.
fn logits(source: &Source, tokens: &[u32], length: usize) -> Vec<f32> {
    let window = source.window(length);
    let mut stream = source.embed(tokens).unwrap();
    for layer in 0..source.config.layers.len() {
        source.block(layer).unwrap().forward(&source.setting(&window, layer), &mut stream);
    }
    let head = source.head().unwrap();
    head.logits(&head.input(&stream))
}

#[test]
fn the_engine_computes_the_same() {
    for architecture in DENSE {
        let (_folder, path) = tiny(architecture);
        let source = Source::open(&path).unwrap();
        let (length, windows) = (24, 3);
        let tokens = tokens(length * windows, source.config.vocabulary);
        let got = logits(&source, &tokens, length);

        let (team, model) = (Team::new(2), Model::open(&path, &Options::default()).unwrap());
        let mut workspace = Workspace::new(&model.config, length);
        let mut wanted = Vec::new();
        for tokens in tokens.chunks(length) {
            let mut cache = KvCache::new(&model.config, length, KvType::F16).unwrap();
            let rows = model.forward(&team, &mut workspace, &mut cache, tokens, Logits::All).unwrap();
            wanted.extend_from_slice(rows);
        }
        let size = wanted.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (got, wanted) in got.iter().zip(&wanted) {
            // The engine's cache rounds keys and values to halves, 2^-11 of their size.
            assert!((got - wanted).abs() < 4e-3 * size, "{architecture}: {got} for {wanted} of {size}");
        }
    }
}

/// Gradients as the observer hears of them, by place.
#[derive(Default)]
struct Recorded {
    weights: Vec<(Role, Vec<f32>)>,
    norms: Vec<(Norm, Vec<f32>)>,
}

impl Observer for Recorded {
    fn product(&mut self, role: Role, input: &[f32], gradient: &[f32]) {
        let rows = ROWS.with(|rows| rows.borrow()[role as usize]);
        let columns = input.len() / (gradient.len() / rows);
        let mut weight = vec![0.0; rows * columns];
        add_weight_gradient(&mut weight, gradient, rows, input, columns);
        self.weights.push((role, weight));
    }

    fn norm(&mut self, pick: Norm, gradient: &[f32]) {
        self.norms.push((pick, gradient.to_vec()));
    }
}

std::thread_local! {
    static ROWS: std::cell::RefCell<[usize; 7]> = const { std::cell::RefCell::new([0; 7]) };
}

/// The loss is a fixed random mix of all logits, whose gradient is known; every gradient that the block reports must be
/// what a small step of a weight does to it.
#[test]
fn gradients_are_what_small_steps_do() {
    for architecture in DENSE {
        let (_folder, path) = tiny(architecture);
        let source = Source::open(&path).unwrap();
        let length = 12;
        let tokens = tokens(2 * length, source.config.vocabulary);
        let window = source.window(length);
        let setting = source.setting(&window, 0);
        let stream = source.embed(&tokens).unwrap();
        let mut block = source.block(0).unwrap();
        let head = source.head().unwrap();
        ROWS.set(ROLES.map(|role| block.matrix(role).rows));

        let mut random = testkit::Random::new(9);
        let count = tokens.len() * source.config.vocabulary;
        let mix: Vec<f32> = (0..count).map(|_| random.signed() / count as f32).collect();
        let loss = |block: &Block, stream: &[f32]| -> f64 {
            let mut stream = stream.to_vec();
            block.forward(&setting, &mut stream);
            let logits = head.logits(&head.input(&stream));
            logits.iter().zip(&mix).map(|(logit, mix)| f64::from(*logit) * f64::from(*mix)).sum()
        };

        let mut after = stream.clone();
        block.forward(&setting, &mut after);
        let logits = head.logits(&head.input(&after));
        let (mut gradient, _) = head.backward(&after, &logits, &mut mix.clone());
        let mut recorded = Recorded::default();
        block.backward(&setting, &stream, &mut gradient, &mut recorded);

        let check = |name: String, slope: f64, got: f32, size: f64| {
            let tolerance = 0.02 * slope.abs() + 0.01 * size;
            assert!((slope - f64::from(got)).abs() < tolerance, "{architecture} {name}: {got} for {slope}");
        };
        // A step in a whole direction, so that the change is far above rounding.
        let directional = |gradient: &[f32], random: &mut testkit::Random| -> Vec<f32> {
            gradient.iter().map(|slope| slope.signum() * (1.0 + 0.5 * random.signed())).collect()
        };
        for (role, gradient) in &recorded.weights {
            let direction = directional(gradient, &mut random);
            let scale = block.matrix(*role).weight.iter().map(|x| x.abs()).sum::<f32>()
                / direction.len() as f32
                * 0.01;
            let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b * scale).sum();
            let mut step = |sign: f32| {
                let before = block.matrix(*role).weight.clone();
                let weight = &mut block.matrix_mut(*role).weight;
                weight.iter_mut().zip(&direction).for_each(|(w, d)| *w += sign * scale * d);
                let loss = loss(&block, &stream);
                block.matrix_mut(*role).weight = before;
                loss
            };
            let slope = (step(1.0) - step(-1.0)) / 2.0;
            check(format!("{role:?}"), slope, got, 1e-7);
        }
        for (norm, gradient) in &recorded.norms {
            let direction = directional(gradient, &mut random);
            let scale = 0.01;
            let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b * scale).sum();
            let mut step = |sign: f32| {
                let before = block.norms.get_mut(*norm).unwrap().clone();
                block
                    .norms
                    .get_mut(*norm)
                    .unwrap()
                    .iter_mut()
                    .zip(&direction)
                    .for_each(|(w, d)| *w += sign * scale * d);
                let loss = loss(&block, &stream);
                *block.norms.get_mut(*norm).unwrap() = before;
                loss
            };
            let slope = (step(1.0) - step(-1.0)) / 2.0;
            check(format!("{norm:?}"), slope, got, 1e-7);
        }
        let direction = directional(&gradient, &mut random);
        let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b * 0.003).sum();
        let step = |sign: f32| {
            let moved: Vec<f32> = stream.iter().zip(&direction).map(|(x, d)| x + sign * 0.003 * d).collect();
            loss(&block, &moved)
        };
        check("the stream".to_owned(), (step(1.0) - step(-1.0)) / 2.0, got, 1e-7);
        let expected =
            7 + 2 + 2 * usize::from(source.config.query_key_norm) + 2 * usize::from(source.config.post_norms);
        assert_eq!(recorded.weights.len() + recorded.norms.len(), expected, "{architecture}");
    }
}
