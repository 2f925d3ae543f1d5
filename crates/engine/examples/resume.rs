//! What a store and a journal are worth: `cargo run --release -p engine --example resume -- MODEL.gguf [TOKENS]`.
//!
//! Times the first token after a text of so many tokens, computed anew and with its pages from a disk of which the system has nothing in
//! memory (on Linux), from one that was just read, and from memory, and the decode speed of a session that is written down, beside one that is not.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::{
    Engine, EngineOptions, Journal, Limits, Outcome, PageStore, SamplerOptions, Session, SessionOptions,
    SessionState, Speculation, Step, StoreOptions,
};
use model::{Model, Options};

const ROUNDS: usize = 5;
const DECODED: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, rest @ ..] = &arguments[..] else { return Err("usage: resume MODEL [TOKENS]".into()) };
    let count: usize = rest.first().map_or(Ok(2000), |count| count.parse())?;
    let cache_folder = std::env::temp_dir().join("pouch-interleaved");
    let options = Options { cache_folder: Some(&cache_folder), ..Options::default() };
    let model = Arc::new(Model::open(Path::new(path), &options)?);
    let mut engine = Engine::new(Arc::clone(&model), EngineOptions::default());

    let folder = tempfile::tempdir()?;
    let on_disk = |memory| {
        let pages = folder.path().join("pages");
        PageStore::open(StoreOptions { folder: Some(pages), memory, disk: usize::MAX })
    };
    let mut session = engine.session(SessionOptions {
        context: Some(count + ROUNDS * 2 * DECODED + 1),
        sampler: SamplerOptions::greedy(),
        limits: Limits { ignore_end: true, ..Limits::default() },
        speculation: Speculation::Off,
        ..SessionOptions::default()
    })?;
    let token = |at: usize| (at * 31 + 7) as u32 % model.config.vocabulary as u32;
    session.push(&(0..count).map(token).collect::<Vec<u32>>())?;
    let state = session.state();
    let prefill = first_token(&mut engine, &mut session)?;
    let memory = on_disk(usize::MAX);
    session.keep(&memory);
    memory.flush();
    println!("{count} tokens: computed in {:.0} ms", 1e3 * prefill);
    let tell = |from: &str, seconds: f64| {
        println!("from {from}: {:.1} ms, {:.0} times as fast", 1e3 * seconds, prefill / seconds);
    };
    #[cfg(target_os = "linux")]
    tell(
        "cold disk",
        median(|| {
            forget(&folder.path().join("pages"))?;
            Ok::<f64, Box<dyn std::error::Error>>(resume(&mut engine, &state, &on_disk(0))?)
        })?,
    );
    let from_disk = median(|| resume(&mut engine, &state, &on_disk(0)))?;
    let from_memory = median(|| resume(&mut engine, &state, &memory))?;
    tell("disk", from_disk);
    tell("memory", from_memory);

    let (journal, _) = Journal::open(&folder.path().join("journal"))?;
    journal.begin("session", &serde_json::Value::Null, &session.state());
    let keeps = (&journal, &memory);
    let (mut plain, mut written) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // The context grows, so the order changes.
        for is_written in [round % 2 == 0, round % 2 == 1] {
            let speeds = if is_written { &mut written } else { &mut plain };
            speeds.push(decode(&mut engine, &mut session, is_written.then_some(keeps))?);
        }
    }
    journal.end("session", Outcome::Cancelled);
    let [plain, written] = [plain, written].map(middle);
    println!(
        "decoding: {plain:.2} tok/s, with journal and store {written:.2}: {:.1} % less",
        100.0 * (1.0 - written / plain)
    );
    Ok(())
}

/// Seconds until the session has its next token.
fn first_token(engine: &mut Engine, session: &mut Session) -> Result<f64, engine::Error> {
    let start = Instant::now();
    while !matches!(engine.step(session)?, Step::Tokens(_) | Step::End(_)) {}
    Ok(start.elapsed().as_secs_f64())
}

/// Has the system forget what it has in memory of the files of a folder.
#[cfg(target_os = "linux")]
fn forget(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let file = std::fs::File::open(entry?.path())?;
        // What is not written yet is not forgotten.
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn resume(engine: &mut Engine, state: &SessionState, store: &PageStore) -> Result<f64, engine::Error> {
    let start = Instant::now();
    let mut session = engine.restore(state.clone(), store)?;
    first_token(engine, &mut session)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Tokens a second.
fn decode(
    engine: &mut Engine,
    session: &mut Session,
    keeps: Option<(&Journal, &PageStore)>,
) -> Result<f64, engine::Error> {
    let start = Instant::now();
    for _ in 0..DECODED {
        engine.step(session)?;
        if let Some((journal, store)) = keeps {
            journal.append("session", session);
            if session.tokens().len().is_multiple_of(model::PAGE) {
                session.keep(store);
            }
        }
    }
    Ok(DECODED as f64 / start.elapsed().as_secs_f64())
}

fn median<E>(mut measure: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    Ok(middle((0..ROUNDS).map(|_| measure()).collect::<Result<_, _>>()?))
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
