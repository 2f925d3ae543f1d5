//! What it costs to go from one session to another: sessions as values that one thread steps in turn, beside a thread for
//! each session that hands the engine on. `cargo bench -p engine --bench turns`
//!
//! The model is tiny, so that steps are short and what lies between them shows. The cost is what a step of many sessions in
//! turn takes longer than one of a single session.
#![expect(clippy::print_stdout, reason = "the report is the purpose")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use engine::{Engine, EngineOptions, Limits, SamplerOptions, Session, SessionOptions, Speculation};
use model::Model;
use testkit::{TinyOptions, tiny_model};

const SESSIONS: usize = 16;
const STEPS: usize = 200;
const ROUNDS: usize = 9;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    tiny_model(&TinyOptions { context: 1024, ..TinyOptions::new("llama") }).write(&path);
    let model = Arc::new(Model::open(&path, &model::Options::default()).expect("the model just written"));
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let one = single(&model);
        costs[0].push(in_turn(&model) - one);
        costs[1].push(threads(&model) - one);
    }
    let [values, threads] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[ROUNDS / 2] * 1e6
    });
    println!("{SESSIONS} sessions in turn, median of {ROUNDS}, more than a step of a single session:");
    println!("  sessions as values   {values:8.2} us a turn");
    println!("  a thread a session   {threads:8.2} us a turn   {:.1}x", threads / values.max(0.01));
}

fn engine(model: &Arc<Model>) -> Engine {
    Engine::new(Arc::clone(model), EngineOptions { threads: Some(1), batch: 16 })
}

/// A session that has its first token.
fn session(engine: &mut Engine) -> Session {
    let options = SessionOptions {
        context: Some(STEPS + 16),
        sampler: SamplerOptions::greedy(),
        limits: Limits { ignore_end: true, ..Limits::default() },
        speculation: Speculation::Off,
        ..SessionOptions::default()
    };
    let mut session = engine.session(options).expect("a session");
    session.push(&[3, 4, 5]).expect("three tokens fit");
    engine.step(&mut session).expect("a step");
    session
}

/// Seconds a step of one session after another, each alone.
fn single(model: &Arc<Model>) -> f64 {
    let mut engine = engine(model);
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| session(&mut engine)).collect();
    let start = Instant::now();
    for session in &mut sessions {
        for _ in 0..STEPS {
            engine.step(session).expect("a step");
        }
    }
    start.elapsed().as_secs_f64() / (SESSIONS * STEPS) as f64
}

/// Seconds a step of sessions that take turns.
fn in_turn(model: &Arc<Model>) -> f64 {
    let mut engine = engine(model);
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| session(&mut engine)).collect();
    let start = Instant::now();
    for _ in 0..STEPS {
        for session in &mut sessions {
            engine.step(session).expect("a step");
        }
    }
    start.elapsed().as_secs_f64() / (SESSIONS * STEPS) as f64
}

/// The same where each session lives on a thread of its own, and the engine goes from one to the next.
fn threads(model: &Arc<Model>) -> f64 {
    let mut first = engine(model);
    let sessions: Vec<Session> = (0..SESSIONS).map(|_| session(&mut first)).collect();
    // The engine, and whose turn it is; a bell for each.
    let desk = Mutex::new((first, 0));
    let bells: [Condvar; SESSIONS] = Default::default();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (own, mut session) in sessions.into_iter().enumerate() {
            let (desk, bells) = (&desk, &bells);
            scope.spawn(move || {
                for _ in 0..STEPS {
                    let mut held = bells[own]
                        .wait_while(desk.lock().expect("no panic"), |(_, turn)| *turn != own)
                        .expect("no panic");
                    held.0.step(&mut session).expect("a step");
                    held.1 = (own + 1) % SESSIONS;
                    drop(held);
                    bells[(own + 1) % SESSIONS].notify_one();
                }
            });
        }
    });
    start.elapsed().as_secs_f64() / (SESSIONS * STEPS) as f64
}
