//! What sessions rely on: one model serves many, caches can be cut back, only wanted logits are computed, and misuse
//! is an error that leaves the cache as it was.

use std::sync::Arc;

use kernels::Team;
use model::{Error, KvCache, KvType, Logits, Model, Workspace};
use testkit::TinyOptions;

use crate::support::{architectures, logits, open, open_default, relative_error, tokens};

const TOKENS: usize = 24;

#[test]
fn wanted_rows_are_those_of_all() {
    let team = Team::new(2);
    for architecture in architectures() {
        let (_folder, model) = open_default(architecture);
        let vocabulary = model.config.vocabulary;
        let tokens = tokens(&model.config, TOKENS);
        let all = logits(&model, &team, KvType::F16, &tokens, TOKENS);
        let mut workspace = Workspace::new(&model.config, TOKENS);
        for (want, first) in [
            (Logits::None, TOKENS),
            (Logits::Last, TOKENS - 1),
            (Logits::From(5), 5),
            (Logits::From(99), TOKENS),
        ] {
            let mut cache = KvCache::new(&model.config, 64, KvType::F16).unwrap();
            let got = model.forward(&team, &mut workspace, &mut cache, &tokens, want).unwrap();
            assert!(got == &all[first * vocabulary..], "{architecture}: from {first}");
            // The cache is whole, whatever was wanted.
            let next = model.forward(&team, &mut workspace, &mut cache, &[3], Logits::Last).unwrap().to_vec();
            let mut longer = tokens.clone();
            longer.push(3);
            let expected = logits(&model, &team, KvType::F16, &longer, 32);
            assert!(next == expected[TOKENS * vocabulary..], "{architecture}: after {first}");
        }
    }
}

#[test]
fn a_cache_can_be_cut_back_and_used_again() {
    let (_folder, model) = open_default("gemma3");
    let team = Team::new(1);
    let tokens = tokens(&model.config, TOKENS);
    let mut workspace = Workspace::new(&model.config, TOKENS);
    let mut cache = KvCache::new(&model.config, TOKENS, KvType::F16).unwrap();
    let mut run = |cache: &mut KvCache, tokens: &[u32]| {
        model.forward(&team, &mut workspace, cache, tokens, Logits::Last).unwrap().to_vec()
    };
    let expected = run(&mut cache, &tokens);
    cache.truncate(10);
    assert_eq!(cache.len(), 10);
    run(&mut cache, &[1, 2, 3]);
    cache.truncate(10);
    cache.truncate(11);
    assert_eq!(run(&mut cache, &tokens[10..]), expected);
    cache.clear();
    assert!(cache.is_empty());
    assert_eq!(run(&mut cache, &tokens), expected);
}

#[test]
fn packed_caches_stay_close() {
    let options = TinyOptions { head_dim: 32, ..TinyOptions::new("llama") };
    let (_folder, model) = open(&testkit::tiny_model(&options)).unwrap();
    let tokens = tokens(&model.config, TOKENS);
    let of = |kv_type| logits(&model, &Team::new(1), kv_type, &tokens, TOKENS);
    let halves: Vec<f64> = of(KvType::F16).into_iter().map(f64::from).collect();
    let [error, coarse] = [KvType::Q8_0, KvType::Q4_0].map(|kv_type| relative_error(&of(kv_type), &halves));
    // Queries, keys and values are rounded by 0.5 % each (see the tolerance of quantized models), in two layers:
    // sqrt(6) * 0.5 %; attention is a part of the stream only.
    assert!(error > 0.0 && error < 0.0125, "{error}");
    // With 4 bits keys and values are rounded 17 times as coarsely.
    assert!(coarse > error && coarse < 17.0 * 0.0125, "{coarse}");
    let bytes = KvType::ALL.map(|kv_type| KvCache::bytes(&model.config, 64, kv_type));
    assert!(bytes[1] < bytes[0] * 6 / 10 && bytes[2] < bytes[0] * 3 / 10, "{bytes:?}");
}

#[test]
fn a_copy_of_a_cache_goes_its_own_way() {
    for (head_dim, kv_type) in [(16, KvType::F16), (32, KvType::Q8_0)] {
        let options = TinyOptions { head_dim, ..TinyOptions::new("llama") };
        let (_folder, model) = open(&testkit::tiny_model(&options)).unwrap();
        let tokens = tokens(&model.config, TOKENS);
        let expected = logits(&model, &Team::new(1), kv_type, &tokens, TOKENS);
        let expected = &expected[(TOKENS - 1) * model.config.vocabulary..];
        let (team, mut workspace) = (Team::new(1), Workspace::new(&model.config, TOKENS));
        let mut run = |cache: &mut KvCache, tokens: &[u32]| {
            model.forward(&team, &mut workspace, cache, tokens, Logits::Last).unwrap().to_vec()
        };
        let mut cache = KvCache::new(&model.config, TOKENS, kv_type).unwrap();
        assert!(cache.clone().is_empty());
        run(&mut cache, &tokens[..TOKENS / 2]);
        let mut copy = cache.clone();
        let other: Vec<u32> = tokens[TOKENS / 2..].iter().rev().copied().collect();
        run(&mut cache, &other);
        assert_eq!((copy.len(), copy.capacity()), (TOKENS / 2, TOKENS));
        assert_eq!(run(&mut copy, &tokens[TOKENS / 2..]), expected);
    }
}

#[test]
fn heads_that_do_not_fit_the_cache_type_are_refused() {
    let (_folder, model) = open_default("llama");
    let error = KvCache::new(&model.config, 64, KvType::Q8_0).unwrap_err();
    assert!(matches!(error, Error::KvType { head_dim: 16, .. }), "{error}");
}

#[test]
fn many_threads_share_one_model() {
    let (_folder, model) = open_default("qwen3moe");
    let tokens = tokens(&model.config, TOKENS);
    let expected = logits(&model, &Team::new(1), KvType::F16, &tokens, TOKENS);
    let (model, team) = (Arc::new(model), Arc::new(Team::new(2)));
    let threads: Vec<_> = (1..5)
        .map(|batch| {
            let (model, team, tokens) = (Arc::clone(&model), Arc::clone(&team), tokens.clone());
            std::thread::spawn(move || logits(&model, &team, KvType::F16, &tokens, 5 * batch))
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap() == expected);
    }
}

#[test]
fn sessions_take_turns_in_one_workspace() {
    let (_folder, model) = open_default("qwen2");
    let team = Team::new(2);
    let (first, second) = (tokens(&model.config, 12), vec![5; 12]);
    let alone = |tokens: &[u32]| logits(&model, &team, KvType::F16, tokens, 12);
    let mut workspace = Workspace::new(&model.config, 4);
    let mut caches = [64, 600].map(|capacity| KvCache::new(&model.config, capacity, KvType::F16).unwrap());
    let mut got = [Vec::new(), Vec::new()];
    for (a, b) in first.chunks(3).zip(second.chunks(3)) {
        for ((cache, got), tokens) in caches.iter_mut().zip(&mut got).zip([a, b]) {
            got.extend_from_slice(model.forward(&team, &mut workspace, cache, tokens, Logits::All).unwrap());
        }
    }
    assert!(got[0] == alone(&first) && got[1] == alone(&second));
}

#[test]
fn misuse_is_an_error_and_changes_nothing() {
    let (_folder, model) = open_default("llama");
    let (_other_folder, other) = open_default("gemma3");
    let team = Team::new(1);
    let mut workspace = Workspace::new(&model.config, 4);
    let mut cache = KvCache::new(&model.config, 6, KvType::F16).unwrap();
    let mut run = |model: &Model, cache: &mut KvCache, tokens: &[u32]| {
        model.forward(&team, &mut workspace, cache, tokens, Logits::Last).map(|logits| logits.to_vec())
    };
    run(&model, &mut cache, &[1, 2, 3]).unwrap();
    let vocabulary = model.config.vocabulary;
    type Case<'a> = (&'a [u32], fn(&Error) -> bool);
    let cases: [Case<'_>; 4] = [
        (&[], |error| matches!(error, Error::BatchSize { got: 0, most: 4 })),
        (&[1; 5], |error| matches!(error, Error::BatchSize { got: 5, most: 4 })),
        (&[1; 4], |error| matches!(error, Error::ContextFull { needed: 7, capacity: 6 })),
        (&[1, u32::MAX], |error| matches!(error, Error::TokenOutOfRange { token: u32::MAX, .. })),
    ];
    for (tokens, expected) in cases {
        let error = run(&model, &mut cache, tokens).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(cache.len(), 3);
    }
    assert!(run(&model, &mut cache, &[vocabulary as u32]).is_err());
    let error = run(&other, &mut cache, &[1]).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "workspace" }), "{error}");
    let mut foreign = KvCache::new(&other.config, 6, KvType::F16).unwrap();
    let error = run(&model, &mut foreign, &[1]).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "cache" }), "{error}");
    run(&model, &mut cache, &[4, 5, 6]).unwrap();
}

#[test]
fn absurd_sizes_are_refused() {
    let (_folder, model) = open_default("llama");
    for capacity in [usize::MAX, usize::MAX / 64, 1 << 58] {
        let error = KvCache::new(&model.config, capacity, KvType::F16).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
}
