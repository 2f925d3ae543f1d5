//! Decoding allocates nothing but pages: every buffer is there before the first token.

use kernels::Team;
use model::{KvCache, KvType, Logits, PAGE, Workspace};

use crate::support::{architectures, open_default};

#[test]
fn decoding_allocates_nothing() {
    // The counter sees the calling thread, so that thread does all the work.
    let team = Team::new(1);
    for architecture in architectures() {
        let (_folder, model) = open_default(architecture);
        let mut workspace = Workspace::new(&model.config, 8);
        let mut cache = KvCache::new(&model.config, 2 * PAGE, KvType::F16).unwrap();
        let mut step = |tokens: &[u32]| {
            model.forward(&team, &mut workspace, &mut cache, tokens, Logits::Last).map(|_| ()).unwrap()
        };
        step(&[1, 2, 3]);
        step(&[4]);
        let counted = allocation_counter::measure(|| {
            for token in 0..16 {
                step(&[token]);
            }
            step(&[5, 6, 7]);
        });
        assert_eq!(counted.count_total, 0, "{architecture}: {counted:?}");
        // Of the tokens that follow one begins a page: what counts who has it is allocated, its memory is mapped.
        let counted = allocation_counter::measure(|| (23..PAGE + 20).for_each(|_| step(&[9])));
        assert_eq!(counted.count_total, 1, "{architecture}: {counted:?}");
    }
}
