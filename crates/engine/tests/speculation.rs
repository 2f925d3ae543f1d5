//! Guessed tokens change how many come at once and nothing else: every answer is held against the one that comes token by
//! token. Tiny random models never repeat themselves, so here recent tokens are made likelier than all others: the text then
//! has a handful of tokens, guesses come true and fail in turn, and each choice depends on the history before it.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{engine, open, options};
use engine::{
    Drafts, Engine, Error, Generation, Limits, Random, SamplerOptions, Session, SessionOptions, Speculation,
    Step, generate,
};
use model::{KvType, Model};
use testkit::{TinyOptions, TokenizerKind};

const OFF: Speculation = Speculation::Off;

/// A period of few tokens, and parts of it in another order.
const PROMPT: [u32; 20] = [40, 41, 42, 43, 40, 41, 42, 43, 90, 40, 41, 42, 41, 90, 40, 41, 42, 43, 40, 41];

fn ask(engine: &Engine, options: &SessionOptions, speculation: Speculation, prompt: &[u32]) -> Session {
    let mut session = engine.session(SessionOptions { speculation, ..options.clone() }).unwrap();
    session.push(prompt).unwrap();
    session
}

fn run(engine: &mut Engine, session: &mut Session) -> Generation {
    generate(engine, session, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// What must be equal of two answers.
fn outcome(generation: Generation, session: &Session) -> impl PartialEq + std::fmt::Debug {
    (generation.text, generation.token_ids, generation.end, session.tokens().to_vec())
}

/// Draws from the tokens seen so far, all but always.
fn sampled(temperature: f32, seed: u64) -> SamplerOptions {
    SamplerOptions {
        temperature,
        seed,
        presence_penalty: -20.0,
        repeat_last_n: usize::MAX,
        ..SamplerOptions::default()
    }
}

fn samplers() -> Vec<SamplerOptions> {
    let mut all = vec![sampled(0.0, 0)];
    for seed in 0..3 {
        all.push(sampled(0.1, seed));
        // The tokens that count leave a window as soon as they are not repeated.
        all.push(SamplerOptions { repeat_last_n: 8, ..sampled(0.5, seed) });
        all.push(SamplerOptions { frequency_penalty: 0.1, repeat_penalty: 0.9, ..sampled(0.3, seed) });
        all.push(SamplerOptions { top_k: 0, top_p: 0.6, min_p: 0.0, ..sampled(0.5, seed) });
        all.push(SamplerOptions { top_k: 0, top_p: 1.0, min_p: 0.0, ..sampled(0.7, seed) });
    }
    all
}

/// Runs two turns with and without speculation; the second goes on with the random numbers that the first left.
fn compare(
    engine: &mut Engine,
    options: &SessionOptions,
    speculation: Speculation,
    prompt: &[u32],
    total: &mut Drafts,
) {
    let mut plain = ask(engine, options, OFF, prompt);
    let mut guessed = ask(engine, options, speculation, prompt);
    for turn in 0..2 {
        let expected = run(engine, &mut plain);
        let got = run(engine, &mut guessed);
        assert_eq!(expected.figures.drafts, Drafts::default());
        total.drafted += got.figures.drafts.drafted;
        total.accepted += got.figures.drafts.accepted;
        let what = format!("{speculation:?}, turn {turn}, {options:?}");
        assert_eq!(outcome(got, &guessed), outcome(expected, &plain), "{what}");
        assert_eq!(guessed.pending(), plain.pending(), "{what}");
        if plain.push(&prompt[..3]).is_err() {
            break;
        }
        guessed.push(&prompt[..3]).unwrap();
    }
}

fn assert_both_happened(total: Drafts) {
    let Drafts { drafted, accepted } = total;
    assert!(accepted > 100 && drafted - accepted > 100, "{total:?}");
}

#[test]
fn answers_are_those_of_single_tokens() {
    let mut total = Drafts::default();
    // A window, experts, products that round their input, keys and values in 8 bits.
    for (architecture, type_id, kv_type) in [
        ("llama", 0, KvType::F16),
        ("qwen2", 12, KvType::F16),
        ("gemma3", 2, KvType::F16),
        ("qwen3moe", 2, KvType::Q8_0),
    ] {
        let mut tiny = TinyOptions::new(architecture);
        tiny.head_dim = 32;
        let mut engine = engine(&open(&tiny.with_type(type_id)), 2, 32);
        let before = total;
        for sampler in samplers() {
            let options = SessionOptions { sampler, kv_type, ..options(0, 50) };
            for speculation in
                [Speculation::Fixed(1), Speculation::Fixed(5), Speculation::Fixed(99), Speculation::Adaptive]
            {
                compare(&mut engine, &options, speculation, &PROMPT, &mut total);
            }
        }
        assert!(total.since(before).accepted > 1000, "{architecture}: {total:?}");
    }
    assert_both_happened(total);
}

/// Drafts by the model itself, whose guesses all come true, and by another one.
#[test]
fn a_draft_model_does_not_change_the_answer() {
    let model = open(&TinyOptions::new("llama"));
    let other = open(&TinyOptions::new("qwen2").with_seed(2));
    // No pair of the prompt occurs twice: the draft model has to guess.
    let prompt: Vec<u32> = (40..70).collect();
    for (draft, comes_true) in [(&model, true), (&other, false)] {
        let mut engine = engine(&model, 2, 16);
        engine.set_draft_model(Arc::clone(draft)).unwrap();
        // Without a liking for recent tokens nothing is repeated.
        let warm = SamplerOptions { temperature: 1.5, seed: 4, ..SamplerOptions::default() };
        let mut total = Drafts::default();
        for sampler in samplers().into_iter().chain([warm.clone()]) {
            let options = SessionOptions { sampler, ..options(0, 40) };
            for speculation in [Speculation::Fixed(3), Speculation::Adaptive] {
                compare(&mut engine, &options, speculation, &prompt, &mut total);
            }
        }
        assert_both_happened(total);
        let options = SessionOptions { sampler: warm, ..options(0, 40) };
        let mut session = ask(&engine, &options, Speculation::Fixed(3), &prompt);
        let Drafts { drafted, accepted } = run(&mut engine, &mut session).figures.drafts;
        assert_eq!(accepted * 2 > drafted, comes_true, "{accepted} of {drafted}");
    }
}

#[test]
fn every_end_comes_where_it_would_have() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 64);
    engine.set_draft_model(Arc::clone(&model)).unwrap();
    let mut total = Drafts::default();
    let cold = |seed| SessionOptions { sampler: sampled(0.2, seed), ..options(0, 30) };
    for most in 0..30 {
        let limits = Limits { max_tokens: Some(most), ..cold(0).limits };
        compare(
            &mut engine,
            &SessionOptions { limits, ..cold(1) },
            Speculation::Fixed(6),
            &PROMPT,
            &mut total,
        );
        let short = SessionOptions { context: Some(PROMPT.len() + most), ..cold(2) };
        compare(&mut engine, &short, Speculation::Fixed(6), &PROMPT, &mut total);
    }
    // Stop strings out of the answer, whatever the tokens' edges.
    let mut whole = ask(&engine, &cold(3), OFF, &PROMPT);
    let whole = run(&mut engine, &mut whole).text;
    let starts: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for window in starts.windows(3) {
        let stop = vec![whole[window[0]..window[2]].to_owned()];
        let limits = Limits { stop, ..cold(3).limits };
        compare(
            &mut engine,
            &SessionOptions { limits, ..cold(3) },
            Speculation::Fixed(6),
            &PROMPT,
            &mut total,
        );
    }
    // The model's own end, which its twin guesses.
    for seed in 0..20 {
        let limits = Limits { max_tokens: Some(300), ..Limits::default() };
        let free = SessionOptions { sampler: sampled(3.0, seed), limits, ..cold(0) };
        compare(&mut engine, &free, Speculation::Fixed(6), &PROMPT, &mut total);
    }
    assert!(total.accepted > 1000, "{total:?}");
}

/// Two sessions live through the same: run for a while, put aside, given more, cut back, asked again; a third one takes turns
/// with the one that guesses.
#[test]
fn sessions_can_be_handled_as_ever() {
    let model = open(&TinyOptions::new("llama"));
    for draft in [None, Some(TinyOptions::new("llama")), Some(TinyOptions::new("llama").with_seed(3))] {
        let mut engine = engine(&model, 2, 8);
        if let Some(draft) = &draft {
            engine.set_draft_model(open(draft)).unwrap();
        }
        let mut accepted = 0;
        for seed in 0..8 {
            let mut random = Random::new(seed);
            let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
            let options = SessionOptions { sampler: sampled(0.4, seed), ..options(0, 400) };
            let mut plain = ask(&engine, &options, OFF, &PROMPT);
            let mut guessed = ask(&engine, &options, Speculation::Fixed(4), &PROMPT);
            let mut third = ask(&engine, &options, Speculation::Fixed(2), &PROMPT[5..]);
            for _ in 0..60 {
                for _ in 0..below(6) {
                    engine.step(&mut guessed).unwrap();
                    engine.step(&mut third).unwrap();
                    while plain.tokens().len() < guessed.tokens().len() {
                        engine.step(&mut plain).unwrap();
                    }
                    assert_eq!(guessed.tokens(), plain.tokens());
                }
                match below(4) {
                    0 => {
                        let more = &PROMPT[below(PROMPT.len())..];
                        let pushed = [&mut plain, &mut guessed].map(|session| session.push(more).is_ok());
                        assert_eq!(pushed[0], pushed[1]);
                    }
                    1 => {
                        let mut edited = plain.tokens()[..1 + below(plain.tokens().len())].to_vec();
                        edited.extend_from_slice(&PROMPT[..below(9)]);
                        edited.truncate(200);
                        plain.replace(&edited).unwrap();
                        guessed.replace(&edited).unwrap();
                    }
                    _ => {}
                }
            }
            accepted += guessed.drafts().accepted;
        }
        assert!(accepted > 200, "{accepted}");
    }
}

#[test]
fn a_step_gives_what_was_guessed_right_and_one_more() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 64);
    engine.set_draft_model(Arc::clone(&model)).unwrap();
    let prompt: Vec<u32> = (40..60).collect();
    let options = SessionOptions { sampler: SamplerOptions::greedy(), ..options(0, 10) };
    let mut session = ask(&engine, &options, Speculation::Fixed(3), &prompt);
    let steps: Vec<Step> = std::iter::repeat_with(|| engine.step(&mut session).unwrap()).take(5).collect();
    // The prompt's own, twice three guesses and one more, and of the ten asked for one is left.
    assert_eq!(steps[..4], [1, 4, 4, 1].map(Step::Tokens));
    assert!(matches!(steps[4], Step::End(_)));
    assert_eq!(session.drafts(), Drafts { drafted: 6, accepted: 6 });
    assert_eq!(session.answer().len(), 10);
}

/// A batch of one token has no room for guesses.
#[test]
fn drafts_fit_the_batch() {
    let model = open(&TinyOptions::new("llama"));
    for batch in [1, 2, 3] {
        let mut engine = engine(&model, 1, batch);
        let options = SessionOptions { sampler: sampled(0.5, 1), ..options(0, 20) };
        let mut session = ask(&engine, &options, Speculation::Fixed(9), &PROMPT);
        let mut plain = ask(&engine, &options, OFF, &PROMPT);
        let (got, expected) = (run(&mut engine, &mut session), run(&mut engine, &mut plain));
        assert_eq!(got.token_ids, expected.token_ids);
        assert_eq!(got.figures.drafts.drafted > 0, batch > 1);
    }
}

#[test]
fn a_draft_model_needs_the_same_vocabulary() {
    let open = |options: &TinyOptions| -> Arc<Model> { open(options) };
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 16);
    let mut foreign = TinyOptions::new("llama");
    foreign.tokenizer = TokenizerKind::SentencePiece;
    let refused = engine.set_draft_model(open(&foreign));
    let Err(Error::OtherVocabulary { token, expected, got }) = refused else { panic!("{refused:?}") };
    assert_eq!(model.tokenizer.piece(token), expected);
    assert_ne!(expected, got);
    // Sessions made before have no draft model, and those of another engine with another one go on without.
    let before = ask(&engine, &options(1, 20), Speculation::Fixed(3), &PROMPT);
    engine.set_draft_model(open(&TinyOptions::new("qwen2"))).unwrap();
    let with_other = ask(&engine, &options(1, 20), Speculation::Fixed(3), &PROMPT);
    engine.set_draft_model(open(&TinyOptions::new("llama").with_seed(9))).unwrap();
    let mut plain = ask(&engine, &options(1, 20), OFF, &PROMPT);
    let expected = run(&mut engine, &mut plain).token_ids;
    for mut session in [before, with_other] {
        assert_eq!(run(&mut engine, &mut session).token_ids, expected);
    }
}
