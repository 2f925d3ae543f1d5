//! Sessions outlive their process: whatever is left of the journal is a beginning, and its rest is the rest that there
//! would have been.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{engine, open, options};
use engine::{
    Constraint, EndReason, Engine, Error, Journal, Limits, Outcome, PageStore, Random, Recovered, Session,
    SessionOptions, SessionState, Speculation, Step, StoreOptions,
};
use serde_json::json;
use testkit::TinyOptions;

const ANSWER: usize = 40;

fn nothing() -> PageStore {
    PageStore::open(StoreOptions::default())
}

fn tiny_engine() -> Engine {
    engine(&open(&TinyOptions::new("gemma3")), 1, 32)
}

/// Has a prompt and drafts by lookup, so that a step may give several tokens.
fn begin(engine: &Engine, max_tokens: usize) -> Session {
    let options = SessionOptions { speculation: Speculation::Fixed(3), ..options(5, max_tokens) };
    let mut session = engine.session(options).unwrap();
    session.push(&[7, 8, 9, 7, 8, 9, 7, 8]).unwrap();
    session
}

fn finish(engine: &mut Engine, session: &mut Session) {
    while !matches!(engine.step(session).unwrap(), Step::End(_)) {}
}

fn text(session: &mut Session) -> String {
    let mut text = String::new();
    session.take_text(&mut text);
    text
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "journal")).collect()
}

/// A journal with one session, written down step by step: its file's name and bytes, the tokens and the text in the end,
/// and what the sampler drew from after so many tokens.
fn written(engine: &mut Engine) -> (PathBuf, Vec<u8>, Vec<u32>, String, HashMap<usize, Random>) {
    let folder = tempfile::tempdir().unwrap();
    let (journal, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered, []);
    let mut session = begin(engine, ANSWER);
    journal.begin("a/../b", &json!({"model": "tiny"}), &session.state());
    let mut draws = HashMap::from([(session.tokens().len(), session.state().random)]);
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {
        journal.append("a/../b", &session);
        draws.insert(session.tokens().len(), session.state().random);
    }
    journal.end("a/../b", Outcome::Ended(session.end().unwrap()));
    journal.flush();
    assert_eq!(journal.trouble("a/../b"), None);
    let [path] = journals(folder.path()).try_into().unwrap();
    let bytes = fs::read(&path).unwrap();
    let name = PathBuf::from(path.file_name().unwrap());
    (name, bytes, session.tokens().to_vec(), text(&mut session), draws)
}

/// What is recovered of one file. What is then left of it gives the same again.
fn recover(name: &Path, bytes: &[u8]) -> Option<Recovered> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let (_, mut recovered) = Journal::open(folder.path()).unwrap();
    assert!(recovered.len() <= 1);
    let left = fs::read(&path).unwrap_or_default();
    assert!(bytes.starts_with(&left));
    // Each time would take twice as long.
    if bytes.len().is_multiple_of(16) {
        let (_, again) = Journal::open(folder.path()).unwrap();
        assert_eq!(again, recovered);
    }
    recovered.pop()
}

/// Cut at every byte, and with every byte damaged, what is left is a beginning of the session whose rest is the same.
#[test]
fn every_beginning_leads_to_the_same_end() {
    let mut engine = tiny_engine();
    let (name, bytes, tokens, text, draws) = written(&mut engine);
    let cuts = (0..=bytes.len()).map(|length| (bytes[..length].to_vec(), length));
    let flips = (0..bytes.len()).map(|at| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        (bytes, at)
    });
    let mut states: HashMap<usize, SessionState> = HashMap::new();
    let mut found = 0;
    for (bytes, sound) in cuts.chain(flips) {
        let Some(recovered) = recover(&name, &bytes) else { continue };
        assert_eq!((recovered.id.as_str(), &recovered.meta), ("a/../b", &json!({"model": "tiny"})));
        let state = recovered.state;
        let known = state.tokens.len();
        assert_eq!(state.tokens, tokens[..known]);
        assert_eq!(state.random, draws[&known]);
        // What lies wholly before the damage is there.
        let whole_lines = bytes[..sound].iter().filter(|&&byte| byte == b'\n').count();
        assert!(
            known >= 8 + whole_lines.saturating_sub(1).min(draws.len() - 1),
            "{known} after {whole_lines} lines"
        );
        let is_whole = whole_lines == draws.len() + 1;
        assert_eq!(recovered.outcome, is_whole.then_some(Outcome::Ended(EndReason::MaxTokens)));
        found += 1;
        assert_eq!(states.entry(known).or_insert(state.clone()), &state);
    }
    assert_eq!(states.len(), draws.len());
    assert!(found > bytes.len());
    for state in states.into_values() {
        let mut session = engine.restore(state, &nothing()).unwrap();
        finish(&mut engine, &mut session);
        assert_eq!((self::text(&mut session), session.tokens()), (text.clone(), &tokens[..]));
        assert_eq!(session.end(), Some(EndReason::MaxTokens));
    }
}

/// Names the folder to the process that [`killed_at_any_moment`] starts.
const FOLDER: &str = "POUCH_TEST_JOURNAL_FOLDER";

const KILLED_ANSWER: usize = 400;

/// Begins the session or goes on with it, slowly.
fn live(folder: &Path) {
    let mut engine = tiny_engine();
    let store = PageStore::open(StoreOptions {
        folder: Some(folder.join("pages")),
        memory: usize::MAX,
        disk: usize::MAX,
    });
    let (journal, recovered) = Journal::open(folder).unwrap();
    let mut session = match <[Recovered; 1]>::try_from(recovered) {
        Ok([recovered]) => engine.restore(recovered.state, &store).unwrap(),
        Err(_) => {
            let session = begin(&engine, KILLED_ANSWER);
            journal.begin("one", &json!(null), &session.state());
            session
        }
    };
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {
        journal.append("one", &session);
        session.keep(&store);
        std::thread::sleep(Duration::from_millis(2));
    }
    journal.end("one", Outcome::Ended(session.end().unwrap()));
    journal.flush();
}

#[test]
fn killed_at_any_moment() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return live(Path::new(&folder));
    }
    let mut engine = tiny_engine();
    let mut undisturbed = begin(&engine, KILLED_ANSWER);
    finish(&mut engine, &mut undisturbed);
    let folder = tempfile::tempdir().unwrap();
    let mut random = testkit::Random::new(11);
    let (mut kills, mut longest, mut is_done) = (0, 100, false);
    while !is_done {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed_at_any_moment", "--exact"])
            .env(FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.bits() % longest));
        // Slow machines get there too.
        longest += 50;
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        is_done = child.wait().unwrap().success();
    }
    assert!(kills > 0);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    let [recovered] = recovered.try_into().unwrap();
    assert_eq!(recovered.outcome, Some(Outcome::Ended(EndReason::MaxTokens)));
    assert_eq!(recovered.state.tokens, undisturbed.tokens());
    let mut session = engine.restore(recovered.state, &nothing()).unwrap();
    assert_eq!(session.end(), Some(EndReason::MaxTokens));
    assert_eq!(text(&mut session), text(&mut undisturbed));
}

#[test]
fn turns_and_other_histories_are_written_down() {
    let mut engine = tiny_engine();
    let folder = tempfile::tempdir().unwrap();
    let mut session = begin(&engine, 5);
    let restored = |expected: &Session| {
        let (journal, recovered) = Journal::open(folder.path()).unwrap();
        let [recovered] = recovered.try_into().unwrap();
        assert_eq!(recovered.state, expected.state());
        (journal, recovered)
    };
    let (journal, _) = Journal::open(folder.path()).unwrap();
    journal.append("x", &session);
    journal.begin("x", &json!([1]), &session.state());
    finish(&mut engine, &mut session);
    journal.append("x", &session);
    journal.end("x", Outcome::Cancelled);
    session.push(&[3, 4]).unwrap();
    journal.append("x", &session);
    drop(journal);
    let (journal, recovered) = restored(&session);
    // A new turn is not over because the last one was.
    assert_eq!((recovered.outcome, recovered.meta), (None, json!([1])));
    // Goes on in another process, and there is given a shorter history, then the same again.
    let mut session = engine.restore(recovered.state, &nothing()).unwrap();
    finish(&mut engine, &mut session);
    journal.append("x", &session);
    drop(journal);
    let (journal, _) = restored(&session);
    for tokens in [[5, 6], [7, 8], [7, 8]] {
        session.replace(&tokens).unwrap();
        finish(&mut engine, &mut session);
        journal.append("x", &session);
    }
    journal.append("x", &session);
    journal.end("x", Outcome::Failed("a reason".to_owned()));
    drop(journal);
    let (journal, recovered) = restored(&session);
    assert_eq!(recovered.outcome, Some(Outcome::Failed("a reason".to_owned())));
    // Another request under the same id; then none.
    journal.begin("x", &json!("other"), &session.state());
    journal.begin("y", &json!(1), &session.state());
    journal.flush();
    assert_eq!(journals(folder.path()).len(), 2);
    journal.remove("x");
    journal.append("x", &session);
    drop(journal);
    let (journal, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.iter().map(|recovered| recovered.id.as_str()).collect::<Vec<_>>(), ["y"]);
    journal.remove("y");
    journal.begin("y", &json!(2), &session.state());
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovered.len(), &recovered[0].meta), (1, &json!(2)));
}

/// The text of an answer and the ways to end follow from the state alone.
#[test]
fn every_way_to_end_is_found_again() {
    let model = open(&TinyOptions::new("llama"));
    let mut engine = engine(&model, 1, 32);
    let mut plain = begin(&engine, ANSWER);
    finish(&mut engine, &mut plain);
    let whole = text(&mut plain);
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..][..3].iter().collect();
    let all = [
        Limits { max_tokens: Some(ANSWER), stop: vec![stop], ignore_end: true },
        Limits { max_tokens: Some(7), ..Limits::default() },
        Limits { max_tokens: None, stop: Vec::new(), ignore_end: false },
    ];
    for limits in all {
        for context in [30, 500] {
            let options = SessionOptions { limits: limits.clone(), context: Some(context), ..options(5, 0) };
            let mut session = engine.session(options).unwrap();
            session.push(&[7, 8, 9, 7, 8, 9, 7, 8]).unwrap();
            let mut states = vec![session.state()];
            while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {
                states.push(session.state());
            }
            let expected = (session.end(), text(&mut session));
            for state in states {
                let json = serde_json::to_string(&state).unwrap();
                let state: SessionState = serde_json::from_str(&json).unwrap();
                let mut restored = engine.restore(state, &nothing()).unwrap();
                finish(&mut engine, &mut restored);
                assert_eq!((restored.end(), text(&mut restored)), expected, "{limits:?}, {context}");
                assert_eq!(restored.tokens(), session.tokens());
            }
        }
    }
}

/// The form of exactly these tokens.
#[derive(Debug)]
struct Exactly {
    tokens: Vec<u32>,
    accepted: usize,
}

impl Constraint for Exactly {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        let only = self.tokens[self.accepted] as usize;
        let others = logits.iter_mut().enumerate().filter(|(token, _)| *token != only);
        others.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool, Error> {
        if self.tokens[self.accepted] != token {
            return Err(Error::Constraint { reason: "another token".to_owned() });
        }
        self.accepted += 1;
        Ok(self.accepted == self.tokens.len())
    }
}

#[test]
fn a_form_is_kept_from_where_the_answer_was() {
    let mut engine = tiny_engine();
    let form = |tokens: &[u32]| Box::new(Exactly { tokens: tokens.to_vec(), accepted: 0 });
    let mut session = begin(&engine, ANSWER);
    session.constrain(form(&[11, 12, 13, 11])).unwrap();
    let mut states = vec![session.state()];
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {
        states.push(session.state());
    }
    assert_eq!((session.end(), session.answer()), (Some(EndReason::Complete), &[11, 12, 13, 11][..]));
    for state in states {
        let mut restored = engine.restore(state, &nothing()).unwrap();
        restored.constrain(form(&[11, 12, 13, 11])).unwrap();
        finish(&mut engine, &mut restored);
        assert_eq!((restored.end(), restored.tokens()), (session.end(), session.tokens()));
    }
    let mut restored = engine.restore(session.state(), &nothing()).unwrap();
    assert!(matches!(restored.constrain(form(&[11, 13])), Err(Error::Constraint { .. })));
}

#[test]
fn states_that_no_session_had_are_errors() {
    let engine = tiny_engine();
    let state = begin(&engine, ANSWER).state();
    let error = |change: fn(&mut SessionState)| {
        let mut state = state.clone();
        change(&mut state);
        engine.restore(state, &nothing()).unwrap_err()
    };
    assert!(matches!(error(|state| state.model = "another".to_owned()), Error::OtherModel));
    assert!(matches!(error(|state| state.answer = 9), Error::Saved { .. }));
    assert!(matches!(error(|state| state.tokens[3] = u32::MAX), Error::Token { .. }));
    assert!(matches!(error(|state| state.tokens = vec![1; 100_000]), Error::ContextFull { .. }));
    assert!(matches!(error(|state| state.options.context = Some(usize::MAX)), Error::Model(_)));
    assert!(matches!(error(|state| state.options.sampler.top_p = f32::NAN), Error::Setting { .. }));
    assert!(serde_json::from_str::<SessionState>(&json!({"model": 1}).to_string()).is_err());
    let json = serde_json::to_string(&state).unwrap().replace("\"f16\"", "\"f17\"");
    assert!(serde_json::from_str::<SessionState>(&json).unwrap_err().to_string().contains("f17"));
}

#[test]
fn files_of_others_are_left_alone_and_rubbish_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = tiny_engine();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    journal.begin("x", &json!(null), &begin(&engine, ANSWER).state());
    drop(journal);
    let [path] = journals(folder.path()).try_into().unwrap();
    let line = |json: &str| format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes();
    let mine = fs::read_to_string(&path).unwrap();
    let later = mine[9..].trim_end().replace("\"version\":1", "\"version\":2");
    for (bytes, is_kept) in [
        (line(&later), true),
        (line(r#"{"Later":{}}"#), true),
        (line(r#"{"End":{"outcome":"Cancelled"}}"#), true),
        (b"\n\n\n".to_vec(), false),
        (vec![0; 5000], false),
        (vec![0xff; 5000], false),
        (Vec::new(), false),
    ] {
        fs::write(&path, &bytes).unwrap();
        let (_, recovered) = Journal::open(folder.path()).unwrap();
        assert_eq!(recovered, []);
        assert_eq!(fs::read(&path).ok(), is_kept.then_some(bytes));
    }
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::JournalInUse { .. }), "{error}");
    let clone = journal.clone();
    drop(journal);
    assert!(Journal::open(folder.path()).is_err());
    drop(clone);
    Journal::open(folder.path()).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    assert!(matches!(Journal::open(&file), Err(Error::Journal { .. })));
}

/// `/dev/full` takes no byte, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_the_session_goes_on() {
    let mut engine = tiny_engine();
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let mut session = begin(&engine, ANSWER);
    journal.begin("full", &json!(null), &session.state());
    journal.flush();
    let [path] = journals(folder.path()).try_into().unwrap();
    journal.remove("full");
    journal.flush();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    for id in ["full", "other"] {
        journal.begin(id, &json!(null), &session.state());
    }
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {
        journal.append("full", &session);
        journal.append("other", &session);
    }
    journal.flush();
    assert!(matches!(journal.settle("full"), Err(engine::Error::NotJournalled { .. })));
    journal.settle("other").unwrap();
    let trouble = journal.trouble("full").unwrap();
    assert!(trouble.contains("space"), "{trouble}");
    assert_eq!((journal.trouble("other"), session.answer().len()), (None, ANSWER));
    fs::remove_file(&path).unwrap();
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovered.len(), &recovered[0].state), (1, &session.state()));
}
