//! The f32 model against the engine, and its gradients against finite differences.

use gguf::Value;
use kernels::Team;
use model::{KvCache, KvType, Logits, Model, Options, Workspace};
use testkit::{TinyModel, TinyOptions, tiny_model};

use super::*;

/// Every architecture, and a mixture whose weights are shares of all experts, as the router gives them.
const KINDS: [&str; 7] = ["llama", "qwen2", "qwen3", "gemma3", "phi3", "qwen3moe", "llama of experts"];

fn tiny(kind: &str) -> TinyModel {
    tiny_model(&tiny_options(kind))
}

fn tiny_options(kind: &str) -> TinyOptions {
    let mut options = TinyOptions::new(kind.split(' ').next().unwrap());
    if kind.ends_with("experts") {
        options.experts = Some((6, 3));
        options.extra = vec![
            ("llama.expert_weights_norm".to_owned(), Value::Bool(false)),
            ("llama.expert_weights_scale".to_owned(), Value::F32(2.5)),
        ];
    }
    options
}

/// The model in a file that is no longer there: it is mapped.
fn open(model: &TinyModel) -> Source {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    model.write(&path);
    Source::open(&path).unwrap()
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
    for architecture in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny(architecture).write(&path);
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

/// Factors and rotations by chance at every place of a block, at those before a router none.
fn folds(source: &Source, random: &mut testkit::Random, rotate: bool) -> Folds {
    let config = &source.config;
    let mut scale = |channels: usize| {
        Some(Fold::Scale((0..channels).map(|_| 2f32.powf(3.0 * random.signed())).collect()))
    };
    let [attention, value, feed_forward, hidden] =
        [config.width, config.kv_width(), config.width, config.feed_forward].map(&mut scale);
    let value = match rotate {
        true => Some(crate::folding::rotation(config, random.bits())),
        false => value,
    };
    match config.experts {
        None => [attention, value, feed_forward, hidden],
        Some(_) => [attention, value, None, None],
    }
}

/// What is folded changes weights, but not what the model says.
#[test]
fn folding_changes_nothing() {
    for (kind, head_dim) in KINDS.into_iter().map(|kind| (kind, 16)).chain([("qwen2", 24)]) {
        for rotate in [false, true] {
            let mut options = tiny_options(kind);
            options.head_dim = head_dim;
            let model = tiny_model(&options);
            let mut source = open(&model);
            let (length, mut random) = (24, testkit::Random::new(8));
            let tokens = tokens(2 * length, source.config.vocabulary);
            let wanted = logits(&source, &tokens, length);
            let layers = source.config.layers.len();
            source.folds = (0..layers).map(|_| folds(&source, &mut random, rotate)).collect();
            let got = logits(&source, &tokens, length);
            let size = wanted.iter().fold(0f32, |most, x| most.max(x.abs()));
            let error = got.iter().zip(&wanted).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(error < 1e-4 * size, "{kind}: {error} of {size}");

            // Each place is told from none: with its readers as they were the model says something else.
            for (at, place) in PLACES.into_iter().enumerate() {
                let folds = source.folds.clone();
                let Some(fold) = folds[0][at].clone() else { continue };
                let window = source.window(length);
                let setting = source.setting(&window, 0);
                let mut block = source.block(0).unwrap();
                let mut stream = source.embed(&tokens).unwrap();
                let mut other = stream.clone();
                block.forward(&setting, &mut stream);
                for &role in place.readers() {
                    let read = fold.as_read(place, &source.config);
                    read.unfold_weights(&mut block.matrix_mut(role).weight);
                }
                block.forward(&setting, &mut other);
                let error = stream.iter().zip(&other).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(error > 0.01, "{kind}, {place:?}: {error}");
            }
        }
    }
}

/// Gradients as the observer hears of them, by place.
struct Recorded<'a> {
    source: &'a Source,
    weights: Vec<(Role, usize, Vec<f32>)>,
    norms: Vec<(Norm, Vec<f32>)>,
}

impl Observer for Recorded<'_> {
    fn product(&mut self, role: Role, expert: usize, input: &[f32], gradient: &[f32]) {
        let stored = self.source.stored(0, role, expert);
        let mut weight = vec![0.0; stored.rows * stored.columns];
        add_weight_gradient(&mut weight, gradient, stored.rows, input, stored.columns);
        self.weights.push((role, expert, weight));
    }

    fn norm(&mut self, pick: Norm, gradient: &[f32]) {
        self.norms.push((pick, gradient.to_vec()));
    }
}

/// The first block with one of its matrices moved by `step`; experts are moved in their file.
fn moved(model: &TinyModel, block: &Block, role: Role, expert: usize, step: &[f32]) -> Block {
    if block.mixture.is_none() || role < Role::Gate {
        let mut block = block.clone();
        block.matrix_mut(role).weight.iter_mut().zip(step).for_each(|(w, d)| *w += d);
        return block;
    }
    let mut model = model.clone();
    let name = ["gate", "up", "down"][role as usize - Role::Gate as usize];
    let data = model.data_mut(&format!("blk.0.ffn_{name}_exps.weight")).unwrap();
    let weights = data.as_chunks_mut::<4>().0[expert * step.len()..].iter_mut();
    weights.zip(step).for_each(|(w, d)| *w = (f32::from_le_bytes(*w) + d).to_le_bytes());
    open(&model).block(0).unwrap()
}

/// The loss is a fixed random mix of all logits, whose gradient is known; every gradient that the block reports must be
/// what a small step of a weight does to it.
#[test]
fn gradients_are_what_small_steps_do() {
    for architecture in KINDS {
        let model = tiny(architecture);
        let source = open(&model);
        // Steps must be so small that no token chooses other experts for them.
        let small = if source.config.experts.is_some() { 0.1 } else { 1.0 };
        let length = 12;
        let tokens = tokens(2 * length, source.config.vocabulary);
        let window = source.window(length);
        let setting = source.setting(&window, 0);
        let stream = source.embed(&tokens).unwrap();
        let mut block = source.block(0).unwrap();
        let head = source.head().unwrap();

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
        let mut recorded = Recorded { source: &source, weights: Vec::new(), norms: Vec::new() };
        block.backward(&setting, &stream, &mut gradient, &mut recorded);

        let check = |name: String, slope: f64, got: f32, size: f64| {
            let tolerance = 0.02 * slope.abs() + 0.01 * size;
            assert!((slope - f64::from(got)).abs() < tolerance, "{architecture} {name}: {got} for {slope}");
        };
        // A step in a whole direction, so that the change is far above rounding.
        let directional = |gradient: &[f32], random: &mut testkit::Random| -> Vec<f32> {
            gradient.iter().map(|slope| slope.signum() * (1.0 + 0.5 * random.signed())).collect()
        };
        for (role, expert, gradient) in &recorded.weights {
            let direction = directional(gradient, &mut random);
            let weight = &block.expert(*role, *expert).weight;
            let scale = weight.iter().map(|x| x.abs()).sum::<f32>() / direction.len() as f32 * 0.01 * small;
            let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b * scale).sum();
            let step = |sign: f32| {
                let step: Vec<f32> = direction.iter().map(|d| sign * scale * d).collect();
                loss(&moved(&model, &block, *role, *expert, &step), &stream)
            };
            let slope = (step(1.0) - step(-1.0)) / 2.0;
            check(format!("{role:?} {expert}"), slope, got, 1e-7);
        }
        for (norm, gradient) in &recorded.norms {
            let direction = directional(gradient, &mut random);
            let scale = 0.01 * small;
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
        let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b * 0.003 * small).sum();
        let step = |sign: f32| {
            let moved: Vec<f32> =
                stream.iter().zip(&direction).map(|(x, d)| x + sign * 0.003 * small * d).collect();
            loss(&block, &moved)
        };
        check("the stream".to_owned(), (step(1.0) - step(-1.0)) / 2.0, got, 1e-7);
        let expected = 4
            + 3 * source.config.experts.as_ref().map_or(1, |experts| experts.count)
            + 2
            + 2 * usize::from(source.config.query_key_norm)
            + 2 * usize::from(source.config.post_norms);
        assert_eq!(recorded.weights.len() + recorded.norms.len(), expected, "{architecture}");
    }
}

/// The weights of visits alone, which a whole block's gradient owes little to: their sum, each times a number of its own,
/// must move as the gradient says when the router's input does.
#[test]
fn weights_of_visits_have_their_gradient() {
    for kind in ["qwen3moe", "llama of experts"] {
        let source = open(&tiny(kind));
        let block = source.block(0).unwrap();
        let mixture = block.mixture.as_ref().unwrap();
        let (tokens, width) = (16, source.config.width);
        let mut random = testkit::Random::new(3);
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| random.signed()).collect::<Vec<f32>>() };
        let (input, direction) = (numbers(tokens * width), numbers(tokens * width));
        let routing = block.routing(&input);
        let factors: Vec<Vec<f32>> = (0..routing.experts()).map(|_| numbers(tokens)).collect();
        let sum = |input: &[f32]| -> f64 {
            let routing = block.routing(input);
            let weighed = factors.iter().enumerate().flat_map(|(expert, factors)| {
                let mut visits = routing.gather(expert, factors, 1).into_owned();
                routing.weigh(expert, &mut visits, 1);
                visits
            });
            weighed.map(f64::from).sum()
        };
        let slopes: Vec<Vec<f32>> = factors
            .iter()
            .enumerate()
            .map(|(expert, factors)| routing.gather(expert, factors, 1).into_owned())
            .collect();
        let mut gradient = vec![0.0; input.len()];
        mixture.backward(&routing, &slopes, &mut gradient);
        let got: f32 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
        let step = |size: f32| {
            let moved: Vec<f32> = input.iter().zip(&direction).map(|(x, d)| x + size * d).collect();
            sum(&moved)
        };
        let slope = (step(1e-3) - step(-1e-3)) / 2e-3;
        assert!(
            slope.abs() > 0.1 && (slope - f64::from(got)).abs() < 0.01 * slope.abs(),
            "{kind}: {got} for {slope}"
        );
    }
}
