//! Limits that are found, and lowered and raised while sessions run: obeyed, and no token depends on it.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::Duration;

use engine::{
    Class, Demand, Engine, Error, Keeping, Memory, Request, Residency, Service, ServiceOptions, Session,
    SessionOptions, Step, Update, conversations, generate,
};
use kernels::Team;
use model::{KvCache, KvType, Model, Resident};

use common::options;
use testkit::{TinyOptions, tiny_model};

/// A limit is looked at ten times a second at most.
const LOOK: Duration = Duration::from_millis(120);

/// A system with one limit, and a model.
struct System {
    folder: tempfile::TempDir,
}

impl System {
    fn new(layers: u64) -> System {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("sys/fs/cgroup/a");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        std::fs::write(folder.path().join("proc/self/cgroup"), "0::/a\n").unwrap();
        let options = TinyOptions { context: 4096, layers, ..TinyOptions::new("llama") };
        tiny_model(&options).write(&folder.path().join("tiny.gguf"));
        System { folder }
    }

    /// Limits the group so that `bytes` are left of it after what the kernel takes, or up to two less.
    fn leave(&self, bytes: usize) {
        let limit = (bytes + (4 << 20)) * 64 / 63;
        std::fs::write(self.folder.path().join("sys/fs/cgroup/a/memory.max"), limit.to_string()).unwrap();
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self, memory: &Memory, demand: &Demand) -> Result<(Arc<Model>, Residency), Error> {
        let cache = self.folder.path().join("cache");
        let options = model::Options { cache_folder: Some(&cache), ..model::Options::default() };
        memory.open(&self.folder.path().join("tiny.gguf"), &options, demand)
    }
}

/// A whole context of 256 tokens.
fn demand() -> Demand {
    conversations(Some(256), None, 16, Some(1))
}

fn engine(model: &Arc<Model>, plan: &Residency, memory: &Memory) -> Engine {
    Engine::within(Arc::clone(model), Arc::new(Team::new(1)), plan.batch, memory.clone()).unwrap()
}

fn session(engine: &Engine, seed: u64, tokens: usize) -> Session {
    let mut session = engine.session(options(seed, tokens)).unwrap();
    session.push(&(0..20).map(|token| token + 3).collect::<Vec<u32>>()).unwrap();
    session
}

/// What a session says that nobody limits.
fn alone(model: &Arc<Model>, seed: u64, tokens: usize) -> Vec<u32> {
    let mut engine = common::engine(model, 1, 16);
    let mut session = session(&engine, seed, tokens);
    generate(&mut engine, &mut session, &false.into(), &mut |_| {}).unwrap().token_ids
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_loaded_and_what_just_fits_streams_to_the_same_tokens() {
    let system = System::new(6);
    system.leave(1 << 20);
    let refused = system.open(&Memory::of_system(system.root(), None), &demand()).unwrap_err();
    let Error::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!((refusal.by, refusal.context), ("cgroup v2", 256));
    assert!(!system.root().join("cache").exists(), "nothing was prepared");

    system.leave(refusal.needed as usize + 2);
    let memory = Memory::of_system(system.root(), None);
    let (model, plan) = system.open(&memory, &demand()).unwrap();
    assert!(model.streaming().is_some() && plan.resident == Resident::Layers(0), "{plan:?}");
    let mut engine = engine(&model, &plan, &memory);
    let mut streamed = session(&engine, 5, 100);
    let generation = generate(&mut engine, &mut streamed, &false.into(), &mut |_| {}).unwrap();
    assert!(memory.budget().used() <= memory.budget().limit());
    // More room while it runs: the layers come back.
    system.leave(1 << 30);
    sleep(LOOK);
    assert!(!memory.look() && model.streaming().is_none());
    let mut whole = engine.session(options(5, 100)).unwrap();
    whole.push(&streamed.tokens()[..20]).unwrap();
    // Packed alike, for keys and values are rounded in a plan as tight as this one.
    assert_eq!(
        generate(&mut engine, &mut whole, &false.into(), &mut |_| {}).unwrap().token_ids,
        generation.token_ids
    );
    // And less: they go again.
    system.leave(refusal.needed as usize + 4096);
    sleep(LOOK);
    memory.look();
    assert!(model.streaming().is_some());
}

#[test]
fn a_draft_model_gets_its_room_before_layers_stay_and_answers_are_as_without() {
    let system = System::new(12);
    system.leave(1 << 30);
    let draft_demand = conversations(Some(512), Some(KvType::F16), 16, Some(1));
    let memory = Memory::of_system(system.root(), None);
    let (_, whole) = system.open(&memory, &draft_demand).unwrap();
    // Room for a model and a half: what drafts has all of it, and the other some of its layers.
    let weights = whole.memory.weights_bytes;
    system.leave((2 * whole.memory.resident_bytes() - weights / 2) as usize);
    let memory = Memory::of_system(system.root(), None);
    let (draft_model, _) = system.open(&memory, &conversations(Some(64), None, 16, Some(1))).unwrap();
    assert!(draft_model.streaming().is_none());
    // Opened for a look, the other takes all that is left.
    let (model, looked_at) = system.open(&memory, &conversations(Some(64), None, 16, Some(1))).unwrap();
    let plan = memory.fit_with_draft(&model, &draft_model, &draft_demand).unwrap();
    assert!(matches!(plan.resident, Resident::Layers(1..12)), "{plan:?}");
    assert_ne!(plan.resident, looked_at.resident);
    let mut engine = engine(&model, &plan, &memory);
    engine.set_draft_model(Arc::clone(&draft_model)).unwrap();
    let mut session = engine.session(SessionOptions { context: Some(512), ..options(3, 480) }).unwrap();
    session.push(&(0..20).map(|token| token + 3).collect::<Vec<u32>>()).unwrap();
    loop {
        // Looked at again and again: what the draft model has not taken yet is not given to layers.
        sleep(Duration::from_millis(if session.tokens().len().is_multiple_of(64) { 110 } else { 0 }));
        let step = engine.step(&mut session).unwrap();
        assert!(memory.budget().used() <= memory.budget().limit());
        if let Step::End(_) = step {
            break;
        }
    }
    assert!(session.drafts().accepted > 0 && session.tokens().len() > 400, "{:?}", session.drafts());
    assert!(draft_model.streaming().is_none() && model.streaming().is_some());
    assert_eq!(session.answer(), alone(&model, 3, 480));
    // One that does not fit by itself is of no use.
    system.leave((whole.memory.resident_bytes() - weights / 2) as usize);
    let memory = Memory::of_system(system.root(), None);
    let (model, _) = system.open(&memory, &conversations(Some(64), None, 16, Some(1))).unwrap();
    let refused = memory.fit_with_draft(&model, &draft_model, &draft_demand);
    assert!(matches!(refused, Err(Error::DraftStreams)), "{refused:?}");
}

#[test]
fn a_session_that_cannot_grow_says_so_and_goes_on_where_it_was_once_it_can() {
    let system = System::new(2);
    system.leave(1 << 30);
    let memory = Memory::of_system(system.root(), None);
    let (model, plan) = system.open(&memory, &demand()).unwrap();
    assert_eq!((plan.resident, plan.kv_type, plan.batch), (Resident::All, KvType::F16, 16));
    let mut engine = engine(&model, &plan, &memory);
    let mut session = session(&engine, 9, 150);
    while session.tokens().len() < 30 {
        engine.step(&mut session).unwrap();
    }
    // Less than is taken, even without the weights.
    system.leave(memory.budget().used() / 2);
    sleep(LOOK);
    let error = loop {
        match engine.step(&mut session) {
            Ok(Step::Tokens(_)) => assert!(session.tokens().len() < 70, "its page is full"),
            Ok(step) => panic!("{step:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Model(model::Error::Budget { free: 0, .. })), "{error}");
    assert!((60..70).contains(&session.tokens().len()));
    system.leave(1 << 30);
    sleep(LOOK);
    let generation = generate(&mut engine, &mut session, &false.into(), &mut |_| {});
    assert!(generation.is_ok());
    assert_eq!(session.answer(), alone(&model, 9, 150));
}

fn submit(service: &Service, model: &Arc<Model>, seed: u64, tokens: usize) -> Receiver<Update> {
    let (sender, receiver) = channel();
    let prompt = (0..20).map(|token| token + 3).collect();
    let request = Request {
        model: Arc::clone(model),
        prompt,
        options: options(seed, tokens),
        class: Class::Normal,
        deadline: None,
        constraint: None,
        logprobs: None,
        journal: None,
    };
    service.submit(request, Box::new(move |update| drop(sender.send(update)))).unwrap();
    receiver
}

/// The tokens of an answer, or why there is none.
fn outcome(updates: &Receiver<Update>) -> Result<Vec<u32>, Error> {
    let mut answer = Vec::new();
    loop {
        match updates.recv_timeout(Duration::from_secs(60)).expect("it ends") {
            Update::Tokens { tokens, .. } => answer.extend(tokens),
            Update::End { .. } => return Ok(answer),
            Update::Failed(error) => return Err(error),
            Update::Prefilled { .. } | Update::Embedding(_) => {}
        }
    }
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_service_gives_back_what_is_too_much_and_all_come_to_their_ends() {
    let system = System::new(2);
    system.leave(1 << 30);
    let memory = Memory::of_system(system.root(), None);
    let (model, plan) = system.open(&memory, &demand()).unwrap();
    let keeping = Keeping { memory: memory.clone(), ..Keeping::default() };
    let options =
        ServiceOptions { threads: Some(1), batch: plan.batch, keeping, ..ServiceOptions::default() };
    let service = Service::start(options).unwrap();
    let asked: Vec<_> = (0..4).map(|seed| (seed, submit(&service, &model, seed, 2000))).collect();
    until("all have begun", || {
        service.figures().kv_bytes > 4 * KvCache::bytes(&model.config, 64, KvType::F16)
    });
    let page = KvCache::bytes(&model.config, 64, KvType::F16);
    let before = memory.budget().used() - service.figures().kv_bytes;
    // Room for one of them at its end, and a page for what it was when this was asked.
    let leaves = before + 40 * page;
    system.leave(leaves);
    until("it obeys", || memory.room().bytes <= leaves as u64 && memory.budget().excess() == 0);
    for (seed, updates) in asked {
        assert_eq!(outcome(&updates).unwrap(), alone(&model, seed, 2000), "{seed}");
    }
    // Nothing fits at all: refused with the figure, by whoever sees it first.
    system.leave(before / 2);
    until("the limit is seen", || memory.room().bytes <= before as u64 / 2);
    let error = outcome(&submit(&service, &model, 7, 30)).unwrap_err();
    assert!(matches!(error, Error::Model(model::Error::Budget { .. })), "{error}");
    system.leave(1 << 30);
    until("there is room again", || memory.budget().free() > 1 << 29);
    assert_eq!(outcome(&submit(&service, &model, 7, 30)).unwrap(), alone(&model, 7, 30));
    service.shutdown();
}
