//! Perplexity and divergence of tiny random models, against the same figures worked out one position at a time.

use std::path::PathBuf;

use evaluate::{Comparison, Error, LogitsFile, Mean, Options, Progress, against, against_file, perplexity};
use kernels::Team;
use model::{KvCache, KvType, Logits, Model, Workspace};
use testkit::{TinyOptions, tiny_model};
use text::Encode;

const TEXT: &str = "The hen and the other animals in the barn heard the rain on the roof. It was the first rain \
    since the autumn, and none of them had seen such water before: it ran over the stones and into the mill.";

const CONTEXT: usize = 24;

fn open(options: &TinyOptions) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model(options).write(&path);
    Model::open(&path, &model::Options::default()).unwrap()
}

fn options() -> Options {
    Options { context: CONTEXT, ..Options::default() }
}

fn silent(_: Progress) {}

/// The log-probabilities at every scored position in order, each with the token that follows: a fresh cache for each
/// window, one token a batch, everything in f64.
fn naive(model: &Model, windows: usize) -> Vec<(Vec<f64>, u32)> {
    let team = Team::new(1);
    let tokens = model.tokenizer.encode(TEXT, Encode { add_special: true, parse_special: false });
    let mut workspace = Workspace::new(&model.config, 1);
    let mut scored = Vec::new();
    for window in tokens.chunks_exact(CONTEXT).take(windows) {
        let mut cache = KvCache::new(&model.config, CONTEXT, KvType::F16).unwrap();
        for position in 0..CONTEXT - 1 {
            let bos = model.tokenizer.bos().filter(|_| position == 0 && model.tokenizer.add_bos());
            let token = bos.unwrap_or(window[position]);
            let logits = model.forward(&team, &mut workspace, &mut cache, &[token], Logits::Last).unwrap();
            if position >= CONTEXT / 2 {
                let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
                let logs = logits.iter().map(|&logit| f64::from(logit) - sum.ln()).collect();
                scored.push((logs, window[position + 1]));
            }
        }
    }
    scored
}

fn close(got: f64, expected: f64) {
    // Weights are rounded to f32, 6e-8 of each; a thousand times that leaves room for how they add up.
    assert!((got - expected).abs() <= 6e-5 * expected.abs().max(1e-3), "{got} instead of {expected}");
}

#[test]
fn perplexity_is_that_of_single_positions() {
    let mut bos_seen = false;
    // Formats with and without rounded input; tokenizers with and without BOS.
    for (architecture, type_id) in [("llama", 0), ("llama", 2), ("gemma3", 0)] {
        let model = open(&TinyOptions::new(architecture).with_type(type_id));
        bos_seen |= model.tokenizer.add_bos();
        let mut expected = Mean::default();
        naive(&model, usize::MAX).iter().for_each(|(logs, next)| expected.add(-logs[*next as usize]));
        let mut progress = Vec::new();
        let got =
            perplexity(&model, &Team::new(2), TEXT, &options(), &mut |state| progress.push(state)).unwrap();
        close(got.mean_nll, expected.mean());
        close(got.mean_nll_stderr, expected.standard_error());
        close(got.perplexity, expected.mean().exp());
        close(got.perplexity_stderr, expected.mean().exp() * expected.standard_error());
        assert_eq!(got.windows, got.tokens / CONTEXT);
        assert_eq!(got.scored, (got.windows * (CONTEXT - 1 - CONTEXT / 2)) as u64);
        assert_eq!(progress.len(), got.windows);
        let last = progress.last().unwrap();
        assert_eq!((last.done, last.windows, last.perplexity), (got.windows, got.windows, got.perplexity));
    }
    assert!(bos_seen);
}

#[test]
fn threads_and_windows() {
    let model = open(&TinyOptions::new("qwen3").with_type(2));
    let on = |threads, windows| {
        let options = Options { windows, ..options() };
        perplexity(&model, &Team::new(threads), TEXT, &options, &mut silent).unwrap()
    };
    assert_eq!(on(1, None), on(3, None));
    assert_eq!(on(1, Some(2)).windows, 2);
    assert_eq!(on(2, Some(1000)), on(2, None));
}

fn naive_comparison(reference: &Model, tested: &Model, windows: usize) -> (Vec<f64>, f64) {
    let top = |logs: &[f64]| (0..logs.len()).rev().max_by(|&a, &b| logs[a].total_cmp(&logs[b]));
    let mut divergences = Vec::new();
    let mut agreements = 0;
    for ((p, _), (q, _)) in naive(reference, windows).iter().zip(&naive(tested, windows)) {
        divergences.push(p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum());
        agreements += u32::from(top(p) == top(q));
    }
    let agreement = f64::from(agreements) / divergences.len() as f64;
    divergences.sort_by(f64::total_cmp);
    (divergences, agreement)
}

#[test]
fn divergence_is_that_of_single_positions() {
    let reference = open(&TinyOptions::new("llama"));
    // The same weights rounded to 8 bits, and others altogether.
    for tested in [TinyOptions::new("llama").with_type(8), TinyOptions::new("llama").with_seed(5)] {
        let tested = open(&tested);
        let (divergences, agreement) = naive_comparison(&reference, &tested, usize::MAX);
        let mut mean = Mean::default();
        divergences.iter().for_each(|&value| mean.add(value));
        let got = against(&tested, &reference, &Team::new(2), TEXT, &options(), &mut silent).unwrap();
        close(got.kl_mean, mean.mean());
        close(got.kl_stderr, mean.standard_error());
        close(got.kl_max, divergences[divergences.len() - 1]);
        close(got.kl_median, evaluate::quantile(&divergences, 0.5));
        close(got.kl_p99, evaluate::quantile(&divergences, 0.99));
        for (fraction, value) in evaluate::KL_FRACTIONS.into_iter().zip(got.kl_quantiles) {
            close(value, evaluate::quantile(&divergences, fraction));
        }
        assert_eq!(got.top1_agreement, agreement);
        let count = divergences.len() as f64;
        close(got.top1_stderr, (agreement * (1.0 - agreement) / (count - 1.0)).sqrt());
        let team = Team::new(1);
        assert_eq!(got.tested, perplexity(&tested, &team, TEXT, &options(), &mut silent).unwrap());
        assert_eq!(got.reference, perplexity(&reference, &team, TEXT, &options(), &mut silent).unwrap());
    }
}

#[test]
fn a_model_agrees_with_itself() {
    let model = open(&TinyOptions::new("qwen2"));
    let got = against(&model, &model, &Team::new(2), TEXT, &options(), &mut silent).unwrap();
    assert_eq!((got.kl_mean, got.kl_max, got.top1_agreement, got.top1_stderr), (0.0, 0.0, 1.0, 0.0));
    assert_eq!(got.tested, got.reference);
}

/// The cost of a coarse cache shows beside the model's own exact one, more of it the coarser.
#[test]
fn a_coarse_cache_costs() {
    let model = open(&TinyOptions { head_dim: 32, ..TinyOptions::new("qwen2") });
    let cost = |kv_type| {
        let options = Options { kv_type, ..options() };
        let got = against(&model, &model, &Team::new(2), TEXT, &options, &mut silent).unwrap();
        let exact = perplexity(&model, &Team::new(2), TEXT, &self::options(), &mut silent).unwrap();
        assert_eq!(got.reference, exact);
        got.kl_mean
    };
    let [f16, q8_0, q4_0] = KvType::ALL.map(cost);
    assert!(f16 == 0.0 && q8_0 > 0.0 && q4_0 > q8_0, "{f16} {q8_0} {q4_0}");
}

/// Writes a model's distributions as the well-known tool saves them.
fn save(model: &Model, windows: usize) -> (tempfile::TempDir, PathBuf) {
    let tokens = model.tokenizer.encode(TEXT, Encode { add_special: true, parse_special: false });
    let mut bytes = b"_logits_".to_vec();
    let vocabulary = model.config.vocabulary;
    for figure in [CONTEXT, vocabulary, windows] {
        bytes.extend((figure as i32).to_le_bytes());
    }
    for token in &tokens[..windows * CONTEXT] {
        bytes.extend(token.to_le_bytes());
    }
    for (logs, _) in naive(model, windows) {
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = logs.iter().copied().fold(f64::INFINITY, f64::min).max(largest - 16.0);
        let scale = (largest - smallest) / 65535.0;
        bytes.extend((scale as f32).to_le_bytes());
        bytes.extend((smallest as f32).to_le_bytes());
        for log in &logs {
            bytes.extend((((log - smallest) / scale).max(0.0).round() as u16).to_le_bytes());
        }
        bytes.resize(bytes.len() + 2 * (vocabulary % 2), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn saved_logits_stand_for_their_model() {
    let reference = open(&TinyOptions::new("llama"));
    let tested = open(&TinyOptions::new("llama").with_seed(5));
    let (_folder, path) = save(&reference, 4);
    let team = Team::new(2);
    let measure = |text: Option<&str>, windows: Option<usize>| -> Result<Comparison, Error> {
        let mut file = LogitsFile::open(&path)?;
        against_file(&tested, &mut file, &team, text, &Options { windows, ..options() }, &mut silent)
    };
    let got = measure(Some(TEXT), None).unwrap();
    let limited = Options { windows: Some(4), ..options() };
    let live = against(&tested, &reference, &team, TEXT, &limited, &mut silent).unwrap();
    // 16 bits over at most 16 nats: each log-probability is off by up to 16 / 65535 / 2.
    let step = 16.0 / 65535.0 / 2.0;
    assert!((got.kl_mean - live.kl_mean).abs() <= step, "{} {}", got.kl_mean, live.kl_mean);
    assert!((got.reference.mean_nll - live.reference.mean_nll).abs() <= step);
    assert_eq!(got.tested.mean_nll, live.tested.mean_nll);
    assert_eq!(got.top1_agreement, live.top1_agreement);
    assert_eq!(measure(None, Some(2)).unwrap().tested.windows, 2);

    let other = TEXT.replace("autumn", "spring");
    assert!(matches!(measure(Some(&other), None), Err(Error::Text { .. })));
    assert!(matches!(measure(Some(&TEXT[..40]), None), Err(Error::TextEnds { needed: 96, .. })));
}

#[test]
fn refuses_what_cannot_be_compared() {
    let team = Team::new(1);
    let model = open(&TinyOptions::new("llama"));
    let short = perplexity(&model, &team, "A few words.", &options(), &mut silent);
    assert!(matches!(short, Err(Error::TextTooShort { needed: 48, context: 24, .. })), "{short:?}");
    let narrow = perplexity(&model, &team, TEXT, &Options { context: 2, ..options() }, &mut silent);
    assert!(matches!(narrow, Err(Error::ContextTooSmall { got: 2, least: 3 })));
    // Another number of tokens, and as many with other meanings.
    let pieces = open(&TinyOptions::new("gemma3"));
    let result = against(&pieces, &model, &team, TEXT, &options(), &mut silent);
    assert!(matches!(result, Err(Error::Vocabulary { .. })));
    let (_folder, path) = save(&model, 1);
    let mut file = LogitsFile::open(&path).unwrap();
    let result = against_file(&pieces, &mut file, &team, None, &options(), &mut silent);
    assert!(matches!(result, Err(Error::Vocabulary { .. })));
    let mut renamed = tiny_model(&TinyOptions::new("llama"));
    let tokens = renamed.metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let mut tokens = tokens.to_vec();
    tokens.swap(40, 41);
    renamed.metadata.insert("tokenizer.ggml.tokens", gguf::Value::Array(gguf::Array::String(tokens)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.gguf");
    renamed.write(&path);
    let renamed = Model::open(&path, &model::Options::default()).unwrap();
    let result = against(&renamed, &model, &team, TEXT, &options(), &mut silent);
    let Err(Error::Vocabulary { detail, .. }) = result else { panic!("{result:?}") };
    assert!(detail.contains("token 40"), "{detail}");
}
