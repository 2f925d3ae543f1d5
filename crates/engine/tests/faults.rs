//! Weights that are streamed and cannot be read for a while: the one who asks is told, and everything goes on once they can be.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use engine::{Class, Error, Request, Service, ServiceOptions, Session, Step, Update, generate};
use model::{Model, Options, Resident};

use common::{engine, options};
use testkit::{TinyOptions, tiny_model};

const PROMPT: [u32; 5] = [3, 4, 5, 6, 7];

/// A model that streams all its layers, and the file that it does from.
fn streaming(folder: &Path) -> (Arc<Model>, PathBuf) {
    let path = folder.join("tiny.gguf");
    tiny_model(&TinyOptions::new("llama")).write(&path);
    let model = Model::open(&path, &Options { cache_folder: Some(folder), ..Options::default() }).unwrap();
    model.keep(Resident::Layers(0)).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let copy = files.into_iter().find(|path| path.extension().is_some_and(|name| name == "interleaved"));
    (Arc::new(model), copy.unwrap())
}

/// Cuts a file to half of it for as long as `meanwhile` takes.
fn without_half(path: &Path, meanwhile: impl FnOnce()) {
    let (about, whole) = (fs::metadata(path).unwrap(), fs::read(path).unwrap());
    let mut file = File::options().write(true).open(path).unwrap();
    file.set_len(about.len() / 2).unwrap();
    meanwhile();
    file.write_all(&whole).unwrap();
    file.set_modified(about.modified().unwrap()).unwrap();
}

fn answer(model: &Arc<Model>) -> Vec<u32> {
    let mut engine = engine(model, 1, 16);
    let mut session = engine.session(options(1, 20)).unwrap();
    session.push(&PROMPT).unwrap();
    generate(&mut engine, &mut session, &false.into(), &mut |_| {}).unwrap().token_ids
}

#[test]
fn a_session_is_kept_and_goes_on_to_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (model, copy) = streaming(folder.path());
    let expected = answer(&model);
    let mut engine = engine(&model, 2, 16);
    let mut session: Session = engine.session(options(1, 20)).unwrap();
    session.push(&PROMPT).unwrap();
    for _ in 0..7 {
        engine.step(&mut session).unwrap();
    }
    without_half(&copy, || {
        let before = session.tokens().to_vec();
        let error = engine.step(&mut session).unwrap_err();
        assert!(matches!(error, Error::Model(model::Error::File(gguf::Error::Changed { .. }))), "{error}");
        assert_eq!(session.tokens(), before);
    });
    while !matches!(engine.step(&mut session).unwrap(), Step::End(_)) {}
    assert_eq!(session.tokens()[PROMPT.len()..], expected);
}

#[test]
fn a_service_tells_who_asked_and_answers_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (model, copy) = streaming(folder.path());
    let expected = answer(&model);
    let service = Service::start(ServiceOptions { threads: Some(1), ..ServiceOptions::default() }).unwrap();
    // What came of a request: its tokens, and what went wrong.
    let ask = || {
        let (sender, updates) = channel();
        let request = Request {
            model: Arc::clone(&model),
            prompt: PROMPT.to_vec(),
            options: options(1, 20),
            class: Class::Interactive,
            deadline: None,
            constraint: None,
            logprobs: None,
            journal: None,
        };
        service.submit(request, Box::new(move |update| drop(sender.send(update)))).unwrap();
        let mut told = Vec::new();
        loop {
            match updates.recv_timeout(Duration::from_secs(60)).expect("it ends") {
                Update::Tokens { tokens, .. } => told.extend(tokens),
                Update::Failed(error) => return (told, Some(error)),
                Update::End { .. } => return (told, None),
                _ => {}
            }
        }
    };
    without_half(&copy, || {
        let error = ask().1.expect("the file is cut");
        assert!(error.to_string().contains("changed while"), "{error}");
    });
    let (tokens, error) = ask();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(tokens, expected);
}
