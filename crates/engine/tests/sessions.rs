//! Sessions on tiny random models: the same tokens however the work is cut, shared or resumed, and every way to end.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{engine, open, options};
use engine::{
    EndReason, Engine, Error, Event, Generation, Limits, SamplerOptions, Session, SessionOptions, Step,
    encode_prompt, generate,
};
use testkit::TinyOptions;

const PROMPT: &str = "Once upon a time there was a hen in the barn, and the other animals ";

/// Q4_0, so that the products round their input too.
const Q4_0: u32 = 2;

fn ask(engine: &Engine, options: SessionOptions) -> Session {
    let mut session = engine.session(options).unwrap();
    session.push(&encode_prompt(&engine.model().tokenizer, PROMPT, false)).unwrap();
    session
}

fn run(engine: &mut Engine, session: &mut Session) -> Generation {
    generate(engine, session, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

#[test]
fn threads_and_chunks_do_not_change_the_tokens() {
    for architecture in ["llama", "gemma3", "qwen3moe"] {
        let model = open(&TinyOptions::new(architecture).with_type(Q4_0));
        let mut expected = None;
        for (threads, batch) in [(1, 256), (2, 256), (3, 7), (5, 16), (2, 1)] {
            let mut engine = engine(&model, threads, batch);
            let mut session = ask(&engine, options(4, 24));
            let got = run(&mut engine, &mut session).token_ids;
            assert_eq!(got.len(), 24);
            assert_eq!(
                &got,
                expected.get_or_insert(got.clone()),
                "{architecture}: {threads} threads, batch {batch}"
            );
        }
    }
}

/// Three sessions take turns, one step each, through chunks of prefill and tokens.
#[test]
fn sessions_that_take_turns_do_not_disturb_each_other() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 8);
    let alone: Vec<Vec<u32>> = (0..3)
        .map(|seed| {
            let mut session = ask(&engine, options(seed, 20));
            run(&mut engine, &mut session).token_ids
        })
        .collect();
    assert_ne!(alone[0], alone[1]);
    let mut sessions: Vec<Session> = (0..3).map(|seed| ask(&engine, options(seed, 20))).collect();
    let mut running = true;
    while running {
        running = false;
        for session in &mut sessions {
            running |= !matches!(engine.step(session).unwrap(), Step::End(_));
        }
    }
    for (session, alone) in sessions.iter().zip(&alone) {
        assert_eq!(session.answer(), alone);
    }
}

#[test]
fn steps_say_what_they_did() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 16);
    let mut session = engine.session(options(1, 2)).unwrap();
    assert!(matches!(engine.step(&mut session), Err(Error::Empty)));
    session.push(&[5; 40]).unwrap();
    assert_eq!(engine.step(&mut session).unwrap(), Step::Prefilled { done: 16, total: 40 });
    assert_eq!(session.pending().len(), 24);
    assert_eq!(engine.step(&mut session).unwrap(), Step::Prefilled { done: 32, total: 40 });
    // The last chunk gives a token.
    assert_eq!(engine.step(&mut session).unwrap(), Step::Tokens(1));
    assert_eq!(session.pending(), session.answer());
    assert_eq!(engine.step(&mut session).unwrap(), Step::Tokens(1));
    for _ in 0..2 {
        assert_eq!(engine.step(&mut session).unwrap(), Step::End(EndReason::MaxTokens));
    }
    // The next turn computes the last token sampled together with its own.
    session.push(&[6; 20]).unwrap();
    assert_eq!((session.reused_len(), session.prompt_len(), session.end()), (41, 21, None));
    assert_eq!(engine.step(&mut session).unwrap(), Step::Prefilled { done: 16, total: 21 });
}

#[test]
fn the_model_ends_its_answer() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 64);
    let sampler = SamplerOptions {
        temperature: 3.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 1,
        ..SamplerOptions::default()
    };
    let mut session = ask(&engine, SessionOptions { sampler: sampler.clone(), ..SessionOptions::default() });
    let generation = run(&mut engine, &mut session);
    let Some(EndReason::EndOfGeneration(token)) = generation.end else { panic!("{:?}", generation.end) };
    assert!(model.tokenizer.is_end_of_generation(token));
    assert_eq!(session.tokens().last(), Some(&token));
    assert_eq!(session.answer(), generation.token_ids);
    assert_eq!(generation.token_ids.len(), generation.figures.generated_tokens);
    assert!(!generation.token_ids.contains(&token));
    // Told to go on, the same draws run past it.
    let limits =
        Limits { max_tokens: Some(generation.token_ids.len() + 3), ignore_end: true, ..Limits::default() };
    let mut longer = ask(&engine, SessionOptions { sampler, limits, ..SessionOptions::default() });
    let longer = run(&mut engine, &mut longer);
    assert_eq!(longer.end, Some(EndReason::MaxTokens));
    assert_eq!(longer.token_ids[generation.token_ids.len()], token);
}

#[test]
fn a_full_context_is_an_end_or_an_error() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 64);
    let mut session = engine.session(SessionOptions { context: Some(12), ..options(1, 100) }).unwrap();
    session.push(&[5; 10]).unwrap();
    let too_many = session.push(&[5; 3]);
    assert!(matches!(too_many, Err(Error::ContextFull { needed: 13, capacity: 12 })), "{too_many:?}");
    let generation = run(&mut engine, &mut session);
    assert_eq!(generation.end, Some(EndReason::ContextFull));
    // Ten positions of prompt and two of answer; a third token is sampled and finds no place.
    assert_eq!(generation.token_ids.len(), 3);
    assert!(matches!(session.push(&[5]), Err(Error::ContextFull { .. })));
    assert!(matches!(session.replace(&[5; 13]), Err(Error::ContextFull { needed: 13, capacity: 12 })));
}

#[test]
fn stop_strings_cut_the_text() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 64);
    let mut plain = ask(&engine, options(9, 60));
    let whole = run(&mut engine, &mut plain).text;
    // Any piece of the answer ends the same answer at its first occurrence, wherever the tokens' edges are.
    let starts: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for window in starts.windows(4).step_by(5) {
        let stop = whole[window[0]..window[3]].to_owned();
        let mut asked = options(9, 60);
        asked.limits.stop = vec!["never in the text".to_owned(), stop.clone()];
        let mut session = ask(&engine, asked);
        let mut shown = String::new();
        let generation = generate(&mut engine, &mut session, &AtomicBool::new(false), &mut |event| {
            if let Event::Text(text) = event {
                assert!(!text.is_empty());
                shown.push_str(text);
            }
        })
        .unwrap();
        assert_eq!(generation.end, Some(EndReason::StopString(1)), "{stop:?}");
        assert_eq!(generation.text, whole[..whole.find(&stop).unwrap()]);
        assert_eq!(shown, generation.text);
    }
}

#[test]
fn a_common_beginning_is_not_computed_again() {
    let model = open(&TinyOptions::new("gemma3"));
    let mut engine = engine(&model, 2, 16);
    let mut session = ask(&engine, options(2, 20));
    run(&mut engine, &mut session);
    // The same beginning, cut in the middle of the answer, with another end: as if it had been there from the start.
    let mut edited = session.tokens()[..session.tokens().len() - 9].to_vec();
    edited.extend([40, 41, 42]);
    let greedy = || SessionOptions { sampler: SamplerOptions::greedy(), ..options(0, 20) };
    let mut warm = engine.session(greedy()).unwrap();
    warm.push(session.tokens()).unwrap();
    run(&mut engine, &mut warm);
    assert_eq!(warm.replace(&edited).unwrap(), edited.len() - 3);
    let mut cold = engine.session(greedy()).unwrap();
    assert_eq!(cold.replace(&edited).unwrap(), 0);
    let (warm, cold) = (run(&mut engine, &mut warm), run(&mut engine, &mut cold));
    assert_eq!(warm.token_ids, cold.token_ids);
    assert_eq!((warm.figures.prompt_tokens, warm.figures.reused_tokens), (3, edited.len() - 3));
    assert_eq!((cold.figures.prompt_tokens, cold.figures.reused_tokens), (edited.len(), 0));
    // Of an equal history the last token is computed again, for its logits.
    let mut same = engine.session(greedy()).unwrap();
    same.push(&edited).unwrap();
    run(&mut engine, &mut same);
    assert_eq!(same.replace(&edited).unwrap(), edited.len() - 1);
    assert_eq!(run(&mut engine, &mut same).token_ids, cold.token_ids);
    assert!(matches!(same.replace(&[]), Err(Error::Empty)));
}

#[test]
fn a_cancelled_answer_can_be_run_on() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 8);
    let mut plain = ask(&engine, options(3, 40));
    let whole = run(&mut engine, &mut plain);
    let mut session = ask(&engine, options(3, 40));
    let cancel = AtomicBool::new(true);
    let nothing = generate(&mut engine, &mut session, &cancel, &mut |_| {}).unwrap();
    assert_eq!((nothing.end, nothing.text.as_str(), nothing.token_ids.len()), (None, "", 0));
    let (mut text, mut token_ids) = (String::new(), Vec::new());
    let mut rounds = 0;
    loop {
        cancel.store(false, Ordering::Relaxed);
        let part =
            generate(&mut engine, &mut session, &cancel, &mut |_| cancel.store(true, Ordering::Relaxed))
                .unwrap();
        text += &part.text;
        token_ids.extend(part.token_ids);
        rounds += 1;
        if part.end.is_some() {
            break;
        }
    }
    assert!(rounds > 10);
    assert_eq!((text, token_ids), (whole.text, whole.token_ids));
}

#[test]
fn figures_count_what_was_done() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 2, 16);
    let mut session = ask(&engine, options(3, 10));
    let prompt = session.pending().len();
    let mut progress = Vec::new();
    let generation = generate(&mut engine, &mut session, &AtomicBool::new(false), &mut |event| {
        if let Event::Prefilled { done, total } = event {
            progress.push((done, total));
        }
    })
    .unwrap();
    let expected: Vec<(usize, usize)> = (1..prompt.div_ceil(16)).map(|chunk| (chunk * 16, prompt)).collect();
    assert_eq!(progress, expected);
    let figures = generation.figures;
    assert_eq!((figures.prompt_tokens, figures.reused_tokens, figures.generated_tokens), (prompt, 0, 10));
    assert!(figures.prefill_tok_s() > 0.0 && figures.decode_tok_s() > 0.0);
    assert!(figures.time_to_first_token.unwrap() >= figures.prefill);
}

#[test]
fn refuses_what_does_not_belong() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 16);
    let other = open(&TinyOptions::new("llama").with_seed(2));
    let mut foreign = common::engine(&other, 1, 16).session(SessionOptions::default()).unwrap();
    foreign.push(&[1]).unwrap();
    assert!(matches!(engine.step(&mut foreign), Err(Error::OtherModel)));
    let vocabulary = model.config.vocabulary;
    let mut session = engine.session(SessionOptions::default()).unwrap();
    let pushed = session.push(&[1, vocabulary as u32]);
    assert!(matches!(pushed, Err(Error::Token { .. })), "{pushed:?}");
    assert!(session.tokens().is_empty());
    for options in [
        SessionOptions { context: Some(0), ..SessionOptions::default() },
        SessionOptions {
            sampler: SamplerOptions { top_p: 2.0, ..SamplerOptions::default() },
            ..SessionOptions::default()
        },
    ] {
        assert!(matches!(engine.session(options), Err(Error::Setting { .. })));
    }
}
