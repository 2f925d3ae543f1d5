//! The sampler against a naive oracle that sorts everything, and its draws against their probabilities.

use super::*;
use proptest::prelude::*;

/// Everything off: the model's own distribution.
fn plain() -> SamplerOptions {
    SamplerOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        repeat_last_n: 64,
        seed: 1,
    }
}

/// What the options mean, written as directly as possible: sort the whole vocabulary, then cut.
fn oracle(options: &SamplerOptions, logits: &[f32], history: &[u32]) -> Vec<(u32, f64)> {
    let recent = &history[history.len().saturating_sub(options.repeat_last_n)..];
    let mut sorted: Vec<(u32, f32)> = Vec::new();
    for (id, &logit) in (0u32..).zip(logits) {
        let count = recent.iter().filter(|&&token| token == id).count();
        let mut logit = logit;
        if count > 0 {
            logit = if logit > 0.0 { logit / options.repeat_penalty } else { logit * options.repeat_penalty };
            logit -= count as f32 * options.frequency_penalty + options.presence_penalty;
        }
        if logit > f32::NEG_INFINITY {
            sorted.push((id, logit));
        }
    }
    sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    let Some(&(best, max)) = sorted.first() else { return Vec::new() };
    if options.temperature == 0.0 {
        return vec![(best, 1.0)];
    }
    if options.top_k > 0 {
        sorted.truncate(options.top_k);
    }
    let weight = |logit: f32| f64::from((logit - max).exp());
    if options.top_p < 1.0 {
        let total: f64 = sorted.iter().map(|t| weight(t.1)).sum();
        let mut sum = 0.0;
        let reached = sorted.iter().position(|t| {
            sum += weight(t.1);
            sum >= f64::from(options.top_p) * total
        });
        sorted.truncate(reached.map_or(sorted.len(), |index| index + 1));
    }
    sorted.retain(|t| t.1 >= max + options.min_p.ln());
    let tempered: Vec<f64> =
        sorted.iter().map(|t| f64::from(((t.1 - max) / options.temperature).exp())).collect();
    let total: f64 = tempered.iter().sum();
    sorted.iter().zip(tempered).map(|(t, weight)| (t.0, weight / total)).collect()
}

/// Probabilities agree but for rounding. Rounding in the sum that top-p is relative to (single precision, 6e-8 of each
/// weight) may also move the cut by one token, so a `top_p` nearer to either side may be what the outcome agrees with.
fn assert_same(options: &SamplerOptions, logits: &[f32], history: &[u32]) {
    let mut sampler = Sampler::new(options.clone()).unwrap();
    let got = sampler.probabilities(&mut logits.to_vec(), history);
    // A sum of n weights in another order differs by at most n * 2^-53 of itself.
    let tolerance = logits.len() as f64 * f64::EPSILON;
    let agrees = [0.0, -1e-6, 1e-6].into_iter().any(|nudge| {
        let top_p = (options.top_p * (1.0 + nudge)).min(1.0);
        let expected = oracle(&SamplerOptions { top_p, ..options.clone() }, logits, history);
        got.len() == expected.len()
            && got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= tolerance)
    });
    assert!(agrees, "{options:?}: {} tokens, likeliest {:?}", got.len(), got.first());
}

fn any_options() -> impl Strategy<Value = SamplerOptions> {
    let off_or = |range: std::ops::Range<f32>, off: f32| prop_oneof![Just(off), range];
    (
        prop_oneof![Just(0.0f32), 0.1f32..3.0],
        prop_oneof![Just(0usize), 1usize..300],
        off_or(0.0..1.0, 1.0),
        off_or(0.0..1.0, 0.0),
        off_or(0.5..2.0, 1.0),
        off_or(-1.0..2.0, 0.0),
        off_or(-1.0..2.0, 0.0),
        0usize..40,
    )
        .prop_map(|(temperature, top_k, top_p, min_p, repeat, frequency, presence, last_n)| {
            SamplerOptions {
                temperature,
                top_k,
                top_p,
                min_p,
                repeat_penalty: repeat,
                frequency_penalty: frequency,
                presence_penalty: presence,
                repeat_last_n: last_n,
                seed: 3,
            }
        })
}

/// Vocabularies flat and peaked, with many equal logits and impossible tokens.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        8 => -12.0f32..12.0,
        4 => (-6i32..6).prop_map(|l| l as f32),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0f32),
    ];
    prop::collection::vec(logit, 1..2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_sorting_everything(
        options in any_options(),
        logits in any_logits(),
        history in prop::collection::vec(0u32..2100, 0..80),
    ) {
        assert_same(&options, &logits, &history);
    }

    /// Hostile logits: any bit pattern. The choice is always a token that is possible.
    #[test]
    fn survives_any_bits(
        options in any_options(),
        bits in prop::collection::vec(any::<u32>(), 0..200),
        history in prop::collection::vec(any::<u32>(), 0..20),
    ) {
        let mut logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let mut sampler = Sampler::new(options).unwrap();
        match sampler.sample(&mut logits, &history) {
            Some(token) => prop_assert!(logits[token as usize] > f32::NEG_INFINITY),
            None => prop_assert!(logits.iter().all(|l| l.is_nan() || *l == f32::NEG_INFINITY)),
        }
    }

    #[test]
    fn candidates_sort_as_their_logits(a in any::<f32>(), b in any::<f32>(), ids in (0u32..9, 0u32..9)) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        let (x, y) = (Candidate::new(ids.0, a), Candidate::new(ids.1, b));
        prop_assert_eq!(x.logit(), a);
        prop_assert_eq!(x.id(), ids.0);
        prop_assert_eq!(x.cmp(&y), b.partial_cmp(&a).unwrap().then(ids.0.cmp(&ids.1)));
    }
}

/// A vocabulary as large as the largest in use, flat and peaked, where the selection needs several rounds.
#[test]
fn agrees_on_large_vocabularies() {
    let mut random = Random::new(11);
    for spread in [0.0f32, 0.5, 4.0] {
        let logits: Vec<f32> =
            (0..262_144).map(|_| spread * (random.next_f64() as f32 * 12.0 - 6.0)).collect();
        for (top_k, top_p, min_p) in
            [(0, 0.9, 0.0), (0, 0.5, 0.01), (1000, 1.0, 0.0), (100_000, 0.95, 0.0), (0, 1.0, 0.2)]
        {
            assert_same(&SamplerOptions { top_k, top_p, min_p, ..plain() }, &logits, &[]);
        }
    }
}

/// Pearson's chi-square over the draws of each setting; the bound is the 1 - 1e-6 quantile by Wilson and Hilferty's
/// approximation, so a correct sampler passes any seed but one in a million.
#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 37) % 50) as f32 * 0.11 - 3.0).collect();
    let draws = 20_000;
    for (index, options) in [
        plain(),
        SamplerOptions { temperature: 0.6, ..plain() },
        SamplerOptions { temperature: 1.7, top_k: 12, ..plain() },
        SamplerOptions { top_p: 0.8, ..plain() },
        SamplerOptions { min_p: 0.2, temperature: 1.3, ..plain() },
        SamplerOptions { top_k: 30, top_p: 0.9, min_p: 0.05, temperature: 0.8, ..plain() },
    ]
    .into_iter()
    .enumerate()
    {
        let mut sampler = Sampler::new(SamplerOptions { seed: index as u64, ..options }).unwrap();
        let expected = sampler.probabilities(&mut logits.clone(), &[]);
        let mut counts = [0u32; 50];
        for _ in 0..draws {
            counts[sampler.sample(&mut logits.clone(), &[]).unwrap() as usize] += 1;
        }
        let drawn: u32 = expected.iter().map(|&(token, _)| counts[token as usize]).sum();
        assert_eq!(drawn, draws, "a token outside the distribution was drawn");
        let statistic: f64 = expected
            .iter()
            .map(|&(token, probability)| {
                let mean = probability * f64::from(draws);
                (f64::from(counts[token as usize]) - mean).powi(2) / mean
            })
            .sum();
        let freedom = (expected.len() - 1) as f64;
        let spread = 2.0 / (9.0 * freedom);
        let bound = freedom * (1.0 - spread + 4.753 * spread.sqrt()).powi(3);
        assert!(statistic < bound, "setting {index}: chi-square {statistic:.1} over the bound {bound:.1}");
    }
}

#[test]
fn equal_seeds_repeat_and_others_differ() {
    let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
    let draw = |seed| -> Vec<u32> {
        let mut sampler = Sampler::new(SamplerOptions { seed, ..plain() }).unwrap();
        (0..20).map(|_| sampler.sample(&mut logits.clone(), &[]).unwrap()).collect()
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let mut sampler = Sampler::new(SamplerOptions::greedy()).unwrap();
    assert_eq!(sampler.sample(&mut [0.5, f32::NAN, 2.0, 2.0], &[]), Some(2));
    assert_eq!(sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY], &[]), None);
    assert_eq!(sampler.sample(&mut [1.0, f32::INFINITY], &[]), Some(1));
    assert_eq!(sampler.sample(&mut [], &[]), None);
}

/// On paper: logits 2, 1, -1 with tokens 0 (twice) and 2 recent, repeat 2, frequency 0.5, presence 0.25 become
/// 2 / 2 - 1 - 0.25 = -0.25, 1, and -1 * 2 - 0.5 - 0.25 = -2.75.
#[test]
fn penalties_on_paper() {
    let options = SamplerOptions {
        repeat_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        repeat_last_n: 3,
        ..SamplerOptions::greedy()
    };
    let mut sampler = Sampler::new(options).unwrap();
    let mut logits = [2.0, 1.0, -1.0];
    // Token 1 lies outside the window of three.
    assert_eq!(sampler.sample(&mut logits, &[1, 0, 2, 0]), Some(1));
    assert_eq!(logits, [-0.25, 1.0, -2.75]);
}

#[test]
fn refuses_settings_without_a_meaning() {
    for options in [
        SamplerOptions { temperature: -1.0, ..plain() },
        SamplerOptions { temperature: f32::NAN, ..plain() },
        SamplerOptions { top_p: 1.5, ..plain() },
        SamplerOptions { min_p: f32::NAN, ..plain() },
        SamplerOptions { repeat_penalty: 0.0, ..plain() },
        SamplerOptions { frequency_penalty: f32::INFINITY, ..plain() },
    ] {
        assert!(matches!(Sampler::new(options), Err(Error::Setting { .. })));
    }
}
