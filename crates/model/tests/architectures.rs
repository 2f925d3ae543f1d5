//! Every architecture of the table against the reference in straight loops, and against itself: the bits may depend
//! neither on the number of threads nor on how the tokens are cut into batches.

mod support;

use kernels::Team;
use model::KvType;
use support::reference::Reference;
use support::{architectures, logits, open, open_default, relative_error, tokens};
use testkit::{TinyOptions, tiny_model};

/// Longer than the sliding window of the tiny models, 16.
const TOKENS: usize = 40;

#[test]
fn float_models_agree_with_the_reference() {
    for architecture in architectures() {
        let options = TinyOptions::new(architecture);
        let tiny = tiny_model(&options);
        let (_folder, model) = open(&tiny).unwrap();
        let tokens = tokens(&model.config, TOKENS);
        let got = logits(&model, &Team::new(2), KvType::F16, &tokens, TOKENS);
        let error = relative_error(&got, &Reference::new(&options, &tiny).logits(&tokens));
        println!("{architecture} {error}");
    }
}

#[test]
fn quantized_models_agree_with_the_reference() {
    for format in kernels::FORMATS.iter() {
        let options = TinyOptions::new("llama").with_type(format.id);
        let tiny = tiny_model(&options);
        let (_folder, model) = open(&tiny).unwrap();
        let tokens = tokens(&model.config, TOKENS);
        let got = logits(&model, &Team::new(2), KvType::F16, &tokens, TOKENS);
        let error = relative_error(&got, &Reference::new(&options, &tiny).logits(&tokens));
        println!("{} {error}", format.name);
    }
}

#[test]
fn threads_and_batches_change_no_bit() {
    for architecture in architectures() {
        let (_folder, model) = open_default(architecture);
        let tokens = tokens(&model.config, TOKENS);
        let expected = logits(&model, &Team::new(1), KvType::F16, &tokens, TOKENS);
        for (threads, batch) in [(3, TOKENS), (2, 1), (1, 7), (4, 16), (2, 9)] {
            let got = logits(&model, &Team::new(threads), KvType::F16, &tokens, batch);
            assert!(got == expected, "{architecture}: {threads} threads, batches of {batch}");
        }
    }
}
