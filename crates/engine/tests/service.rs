//! The service: many sessions on one thread, and none of them notices the others.

mod common;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use engine::{
    Choice, Class, EndReason, Error, Figures, Journal, JournalEntry, Keeping, PageStore, Pooling, Request,
    RequestId, SamplerOptions, Service, ServiceOptions, SessionOptions, Sharing, Speculation, StoreOptions,
    Update, generate,
};
use model::{Budget, KvCache, KvType, Model};

use common::{open, options};
use testkit::TinyOptions;

/// What came of a request.
#[derive(Debug, Default)]
struct Outcome {
    text: String,
    tokens: Vec<u32>,
    choices: Vec<Choice>,
    vectors: Vec<Vec<f32>>,
    end: Option<EndReason>,
    figures: Figures,
    error: Option<Error>,
}

fn service(options: ServiceOptions) -> Service {
    Service::start(ServiceOptions { threads: Some(2), ..options }).unwrap()
}

fn model() -> Arc<Model> {
    open(&TinyOptions { context: 1024, ..TinyOptions::new("llama") })
}

fn request(model: &Arc<Model>, prompt: Vec<u32>, options: SessionOptions, class: Class) -> Request {
    let model = Arc::clone(model);
    Request { model, prompt, options, class, deadline: None, constraint: None, logprobs: None, journal: None }
}

fn submit(service: &Service, request: Request) -> (RequestId, Receiver<Update>) {
    let (sender, receiver) = channel();
    let sink = Box::new(move |update| drop(sender.send(update)));
    (service.submit(request, sink).unwrap(), receiver)
}

/// All updates of a request, which must end within a minute.
fn outcome(updates: &Receiver<Update>) -> Outcome {
    outcome_after(Vec::new(), updates)
}

/// The same where some were taken already.
fn outcome_after(taken: Vec<Update>, updates: &Receiver<Update>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut taken = taken.into_iter();
    let mut next =
        || taken.next().unwrap_or_else(|| updates.recv_timeout(Duration::from_secs(60)).expect("it ends"));
    loop {
        match next() {
            Update::Prefilled { .. } => {}
            Update::Tokens { text, tokens, choices } => {
                outcome.text.push_str(&text);
                outcome.tokens.extend(tokens);
                outcome.choices.extend(choices);
            }
            Update::Embedding(vector) => outcome.vectors.push(vector),
            Update::End { end, figures } => return Outcome { end, figures, ..outcome },
            Update::Failed(error) => return Outcome { error: Some(error), ..outcome },
        }
    }
}

/// The same answer from an engine of its own.
fn alone(model: &Arc<Model>, prompt: &[u32], options: SessionOptions) -> (String, Vec<u32>) {
    let mut engine = common::engine(model, 1, 64);
    let mut session = engine.session(SessionOptions { context: Some(1024), ..options }).unwrap();
    session.push(prompt).unwrap();
    let answer = generate(&mut engine, &mut session, &Default::default(), &mut |_| {}).unwrap();
    (answer.text, answer.token_ids)
}

fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|at| 3 + (at * 7 + seed * 13) % 200).collect()
}

#[test]
fn nobody_notices_the_others() {
    let model = model();
    for sharing in [Sharing::Urgency, Sharing::Fair] {
        let mut options_of_service = ServiceOptions { batch: 32, ..ServiceOptions::default() };
        options_of_service.policy.sharing = sharing;
        // Nobody may keep the machine for longer than a layer, and all wait impatiently: pre-empted wherever possible.
        options_of_service.policy.longest_wait = Duration::from_micros(1);
        options_of_service.policy.ageing = Duration::from_micros(100);
        let service = service(options_of_service);
        let asked: Vec<_> = (0..24u32)
            .map(|index| {
                let class = Class::ALL[index as usize % 3];
                let prompt = prompt([5, 40, 200][index as usize / 8], index);
                let speculation = if index % 2 == 0 { Speculation::Off } else { Speculation::Fixed(3) };
                let options = SessionOptions { speculation, ..options(index.into(), 20) };
                let updates = submit(&service, request(&model, prompt.clone(), options.clone(), class)).1;
                (prompt, options, updates)
            })
            .collect();
        for (index, (prompt, options, updates)) in asked.into_iter().enumerate() {
            let got = outcome(&updates);
            assert_eq!(got.end, Some(EndReason::MaxTokens), "{index}: {:?}", got.error);
            assert_eq!((got.text, got.tokens), alone(&model, &prompt, options), "{index} {sharing:?}");
            assert_eq!(got.figures.prompt_tokens, prompt.len());
            assert_eq!(got.figures.generated_tokens, 20);
            assert!(got.figures.time_to_first_token.is_some());
        }
        service.shutdown();
        let figures = service.figures();
        assert_eq!((figures.ended, figures.failed, figures.running), (24, 0, [0; 3]));
    }
}

#[test]
fn a_question_overtakes_long_work() {
    let model = model();
    let service = service(ServiceOptions { batch: 32, ..ServiceOptions::default() });
    let work = request(&model, prompt(400, 1), options(1, 600), Class::Background);
    let (_, work) = submit(&service, work);
    // It has begun.
    assert!(matches!(work.recv_timeout(Duration::from_secs(60)), Ok(Update::Prefilled { .. })));
    let question = request(&model, prompt(8, 2), options(2, 4), Class::Interactive);
    let (_, question) = submit(&service, question);
    assert_eq!(outcome(&question).tokens.len(), 4);
    let early: Vec<Update> = work.try_iter().collect();
    let is_over = early.iter().any(|update| matches!(update, Update::End { .. }));
    assert!(!is_over, "the question was answered while the work went on");
    assert_eq!(outcome_after(early, &work).tokens, alone(&model, &prompt(400, 1), options(1, 600)).1);
}

#[test]
fn cancelling_ends_a_request_wherever_it_is() {
    let model = model();
    let service = service(ServiceOptions { most_sessions: 1, batch: 16, ..ServiceOptions::default() });
    let long = || request(&model, prompt(300, 1), options(1, 200), Class::Normal);
    // The first is held at its first token until it is cancelled, so that it cannot have come to its end.
    let (sender, first_updates) = channel();
    let (reached, is_reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let sink = move |update| {
        if matches!(update, Update::Tokens { .. }) {
            let _ = reached.send(());
            let _ = may_go_on.recv();
        }
        drop(sender.send(update));
    };
    let first = service.submit(long(), Box::new(sink)).unwrap();
    let (second, second_updates) = submit(&service, long());
    service.cancel(second);
    is_reached.recv_timeout(Duration::from_secs(60)).unwrap();
    service.cancel(first);
    service.cancel(first);
    drop(go_on);
    for (updates, tokens) in [(&first_updates, 1), (&second_updates, 0)] {
        let got = outcome(updates);
        assert!(got.end.is_none() && got.error.is_none());
        assert_eq!(got.tokens.len(), tokens);
    }
    let (_, third) = submit(&service, request(&model, prompt(5, 1), options(1, 3), Class::Normal));
    assert_eq!(outcome(&third).tokens.len(), 3);
    service.shutdown();
    assert_eq!(service.figures().cancelled, 2);
}

#[test]
fn what_can_never_be_computed_is_refused_at_once() {
    let model = model();
    let service = service(ServiceOptions { most_sessions: 1, most_waiting: 2, ..ServiceOptions::default() });
    let refuse = |prompt: Vec<u32>, options: SessionOptions| {
        service.submit(request(&model, prompt, options, Class::Normal), Box::new(|_| {})).unwrap_err()
    };
    assert!(matches!(refuse(Vec::new(), options(1, 1)), Error::Empty));
    assert!(matches!(refuse(vec![u32::MAX], options(1, 1)), Error::Token { .. }));
    let small = SessionOptions { context: Some(4), ..options(1, 1) };
    assert!(matches!(refuse(prompt(5, 1), small), Error::ContextFull { needed: 5, capacity: 4 }));
    let mut hot = options(1, 1);
    hot.sampler.temperature = f32::NAN;
    assert!(matches!(refuse(prompt(5, 1), hot), Error::Setting { .. }));
    // One computes, two wait, and there is no place for more.
    let held: Vec<_> = (0..40)
        .map_while(|_| {
            let (sender, updates) = mpsc::channel();
            let long = request(&model, prompt(400, 1), options(1, 90), Class::Normal);
            let sink = Box::new(move |update| drop(sender.send(update)));
            service.submit(long, sink).is_ok().then_some(updates)
        })
        .collect();
    assert!((2..40).contains(&held.len()), "{}", held.len());
    service.shutdown();
    for updates in &held {
        assert!(outcome(updates).error.is_none());
    }
    assert!(matches!(
        service.submit(request(&model, prompt(5, 1), options(1, 1), Class::Normal), Box::new(|_| {})),
        Err(Error::Stopped)
    ));
}

#[test]
fn nothing_to_say_is_an_answer_too() {
    let model = model();
    let service = service(ServiceOptions::default());
    let (_, updates) = submit(&service, request(&model, prompt(5, 1), options(1, 0), Class::Normal));
    let got = outcome(&updates);
    assert_eq!((got.end, got.tokens.len()), (Some(EndReason::MaxTokens), 0));
}

#[test]
fn choices_are_told() {
    let model = model();
    let service = service(ServiceOptions::default());
    let greedy = SessionOptions { sampler: SamplerOptions::greedy(), ..options(1, 6) };
    let mut asked = request(&model, prompt(9, 4), greedy, Class::Normal);
    asked.logprobs = Some(3);
    let got = outcome(&submit(&service, asked).1);
    assert_eq!(got.choices.iter().map(|choice| choice.token).collect::<Vec<_>>(), got.tokens);
    for choice in &got.choices {
        assert_eq!(choice.alternatives.len(), 3);
        assert_eq!(choice.alternatives[0], (choice.token, choice.logprob), "the likeliest was taken");
        assert!(choice.logprob <= 0.0);
    }
}

#[test]
fn embeddings_do_not_depend_on_company_or_cut() {
    let model = model();
    let texts = vec![prompt(70, 1), prompt(3, 2), prompt(70, 1)];
    for pooling in [Pooling::Mean, Pooling::Last] {
        let of = |batch: usize| {
            let service = service(ServiceOptions { batch, ..ServiceOptions::default() });
            let (sender, updates) = channel();
            let sink = Box::new(move |update| drop(sender.send(update)));
            let noise = request(&model, prompt(100, 3), options(3, 30), Class::Interactive);
            let noise = submit(&service, noise);
            service.embed(Arc::clone(&model), texts.clone(), pooling, Class::Normal, sink).unwrap();
            let got = outcome(&updates);
            assert_eq!(outcome(&noise.1).tokens.len(), 30);
            assert!(got.error.is_none() && got.end.is_none());
            assert_eq!(got.figures.prompt_tokens, 143);
            got.vectors
        };
        let (whole, cut) = (of(256), of(16));
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], whole[2]);
        assert_ne!(whole[0], whole[1]);
        for (whole, cut) in whole.iter().zip(&cut) {
            let length: f32 = whole.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-4);
            let difference = whole.iter().zip(cut).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-6, "{difference}");
        }
    }
}

/// A service that computes what it has memory for, a page of which holds 64 positions.
fn small(pages: usize, store: Option<PageStore>) -> (Service, Budget) {
    let config = &model().config;
    let page = KvCache::bytes(config, 64, KvType::F16);
    let buffers = model::Workspace::new(config, 16).bytes();
    let budget = Budget::new(pages * page + buffers);
    let keeping = Keeping { memory: budget.clone().into(), store, ..Keeping::default() };
    (service(ServiceOptions { batch: 16, keeping, ..ServiceOptions::default() }), budget)
}

#[test]
fn sessions_that_do_not_fit_together_come_to_their_ends_all_the_same() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let on_disk = StoreOptions { folder: Some(folder.path().to_owned()), memory: 1 << 16, disk: 1 << 26 };
    for store in [None, Some(PageStore::open(on_disk))] {
        // Each needs three pages at its end.
        let (service, budget) = small(5, store);
        let asked: Vec<_> = (0..6u32)
            .map(|index| {
                let prompt = prompt(120, index);
                let request = request(
                    &model,
                    prompt.clone(),
                    options(index.into(), 50),
                    Class::ALL[index as usize % 3],
                );
                (index, prompt, submit(&service, request).1)
            })
            .collect();
        for (index, prompt, updates) in asked {
            let got = outcome(&updates);
            assert!(got.error.is_none(), "{:?}", got.error);
            assert_eq!(got.tokens, alone(&model, &prompt, options(index.into(), 50)).1, "{index}");
        }
        assert!(budget.used() <= budget.limit());
        service.shutdown();
    }
}

#[test]
fn peers_that_do_not_fit_together_go_one_after_another_rather_than_undo_each_others_work() {
    let model = model();
    for store in [None, Some(PageStore::open(StoreOptions { memory: 1 << 16, ..StoreOptions::default() }))] {
        let (service, _) = small(7, store);
        let asked: Vec<_> = (0..8u32)
            .map(|index| {
                let request = request(&model, prompt(120, index), options(index.into(), 50), Class::Normal);
                submit(&service, request).1
            })
            .collect();
        for updates in asked {
            assert_eq!(outcome(&updates).tokens.len(), 50);
        }
        let figures = service.figures();
        assert_eq!((figures.evicted, figures.prefilled_tokens), (0, 8 * 120), "{figures:?}");
        service.shutdown();
    }
}

#[test]
fn what_exceeds_the_memory_is_refused_with_the_figure() {
    let model = model();
    let (service, budget) = small(3, None);
    let long = request(&model, prompt(500, 1), options(1, 500), Class::Normal);
    match service.submit(long, Box::new(|_| {})).unwrap_err() {
        Error::NeverFits { tokens, needed, limit } => {
            assert_eq!((tokens, limit), (1000, budget.limit()));
            assert!(needed > limit);
        }
        error => panic!("{error}"),
    }
    // Room for it on paper, but not beside the buffers: refused when that is known.
    let beside = request(&model, prompt(250, 1), options(1, 50), Class::Normal);
    let got = outcome(&submit(&service, beside).1);
    assert!(got.error.is_some() || got.tokens.len() == 50);
    let short = request(&model, prompt(20, 1), options(1, 20), Class::Normal);
    assert_eq!(outcome(&submit(&service, short).1).tokens.len(), 20);
}

#[test]
fn a_beginning_that_was_computed_is_not_computed_again() {
    let model = model();
    let store = PageStore::open(StoreOptions { memory: 1 << 24, ..StoreOptions::default() });
    let keeping = Keeping { store: Some(store), ..Keeping::default() };
    let service = service(ServiceOptions { keeping, ..ServiceOptions::default() });
    let system = prompt(200, 1);
    for (index, reused) in [(0u32, 0), (1, 192), (2, 192)] {
        let text = [system.clone(), prompt(9, 5 + index)].concat();
        let request = request(&model, text.clone(), options(index.into(), 10), Class::Normal);
        let got = outcome(&submit(&service, request).1);
        assert_eq!((got.figures.reused_tokens, got.figures.prompt_tokens), (reused, 209 - reused));
        assert_eq!(got.tokens, alone(&model, &text, options(index.into(), 10)).1);
    }
}

#[test]
fn answers_outlive_the_service() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let (text, tokens) = alone(&model, &prompt(100, 1), options(7, 400));
    let mut parts = 0;
    for attempt in 0.. {
        let (journal, recovered) = Journal::open(folder.path()).unwrap();
        let keeping = Keeping { journal: Some(journal), ..Keeping::default() };
        let service = service(ServiceOptions { keeping, ..ServiceOptions::default() });
        let (sender, updates) = channel();
        let mut told = 0;
        let sink = Box::new(move |update| {
            if let Update::Tokens { tokens, .. } = &update {
                told += tokens.len();
                // Long enough for the service to be told to stop before it comes to the end of the answer.
                let is_time = attempt < 3 && told >= 60 * (attempt + 1);
                std::thread::sleep(Duration::from_millis(if is_time { 50 } else { 0 }));
            }
            drop(sender.send(update));
        });
        if attempt == 0 {
            let mut request = request(&model, prompt(100, 1), options(7, 400), Class::Normal);
            request.journal = Some(JournalEntry { id: "one".to_owned(), meta: "its meta".into() });
            service.submit(request, sink).unwrap();
        } else {
            let [one] = &recovered[..] else { panic!("{recovered:?}") };
            assert_eq!((one.id.as_str(), &one.meta), ("one", &"its meta".into()));
            if let Some(ended) = &one.outcome {
                assert_eq!(*ended, engine::Outcome::Ended(EndReason::MaxTokens));
                assert_eq!(one.state.tokens[one.state.answer..], tokens);
                // Whoever asks for what is over gets all of it.
                service.resume(Arc::clone(&model), one.clone(), Class::Normal, None, None, sink).unwrap();
                let Update::Tokens { text: again, .. } = updates.recv().unwrap() else { panic!("no answer") };
                assert_eq!(again, text);
                assert!(matches!(updates.recv().unwrap(), Update::End { .. }));
                break;
            }
            parts += 1;
            let class = Class::Normal;
            service.resume(Arc::clone(&model), one.clone(), class, None, None, sink).unwrap();
        }
        // Stopped in the middle of its answer, a little later each time.
        let mut seen = String::new();
        let mut count = 0;
        for update in &updates {
            match update {
                Update::Tokens { text, tokens, .. } => {
                    seen.push_str(&text);
                    count += tokens.len();
                }
                Update::End { .. } => break,
                Update::Failed(error) => panic!("{error}"),
                _ => {}
            }
            if count >= 60 * (attempt + 1) && attempt < 3 {
                service.shutdown();
            }
        }
        assert!(text.starts_with(&seen));
    }
    assert!(parts >= 1, "it was stopped before its end");
}
