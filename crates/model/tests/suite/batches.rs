//! Batches that hold pieces of several texts.

use kernels::Team;
use model::{KvCache, KvType, Logits, Workspace};

use crate::support::{architectures, open_default};

/// Whoever else is in a batch, a text's logits and cache are to the bit those that it has alone.
#[test]
fn texts_do_not_feel_each_other() {
    for architecture in architectures() {
        let (_folder, model) = open_default(architecture);
        let team = Team::new(2);
        let config = &model.config;
        let mut workspace = Workspace::new(config, 16);
        let cache = || KvCache::new(config, 32, KvType::F16).unwrap();
        let texts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[4, 1], &[9]];
        let mut alone = Vec::new();
        for text in texts {
            let mut cache = cache();
            model.forward(&team, &mut workspace, &mut cache, &[7, 7, 3], Logits::None).unwrap();
            let logits =
                model.forward(&team, &mut workspace, &mut cache, text, Logits::All).unwrap().to_vec();
            let next = model.forward(&team, &mut workspace, &mut cache, &[5], Logits::Last).unwrap().to_vec();
            alone.push((logits, next));
        }
        let mut caches = [cache(), cache(), cache()];
        for cache in &mut caches {
            model.forward(&team, &mut workspace, cache, &[7, 7, 3], Logits::None).unwrap();
        }
        let mut together: Vec<&mut KvCache> = caches.iter_mut().collect();
        workspace.reserve_logits(13).unwrap();
        model.embed(&team, &mut workspace, &mut together, &texts).unwrap();
        for layer in 0..config.layers.len() {
            model.layers(&team, &mut workspace, &mut together, layer..layer + 1, 0).unwrap();
        }
        let logits = model.logits(&team, &mut workspace, 0..13).unwrap().to_vec();
        let expected: Vec<f32> = alone.iter().flat_map(|(logits, _)| logits.clone()).collect();
        assert!(logits == expected, "{architecture}");
        for ((cache, text), (_, next)) in caches.iter_mut().zip(texts).zip(&alone) {
            cache.advance(text.len());
            let got = model.forward(&team, &mut workspace, cache, &[5], Logits::Last).unwrap();
            assert!(got == next, "{architecture}");
        }
    }
}
