//! Responses by their names: those in the making, those that are done, and on disk those that were to be stored.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::Journal;
use serde_json::{Value, json};
use text::Message;
use tokio::sync::watch;

use super::messages::{message_from_json, message_to_json};
use super::output::Output;
use super::responses::usage_body;
use crate::api_error::ApiError;
use crate::files;
use crate::generation::{Event, Finish, STOPPING, Usage, What};
use crate::ids;

/// One response.
pub(crate) struct Record {
    pub(crate) id: String,
    /// The conversation that it answers, for requests that go on from it.
    messages: Vec<Message>,
    state: Mutex<State>,
    /// The number of events; followers wait for it to rise.
    grown: watch::Sender<usize>,
    /// Where it goes when it is done, if it is stored, and the journal that has it until then.
    file: Option<PathBuf>,
    journal: Option<Journal>,
    /// Whether it was deleted while it was being made.
    is_gone: AtomicBool,
}

struct State {
    /// The response object: what the request said of it, and what has become of it.
    body: Value,
    output: Output,
    usage: Usage,
    /// The events so far as they are streamed. Of a finished response that nobody follows only the last one is kept.
    frames: Vec<Arc<str>>,
    /// Events that are not kept any more.
    dropped: usize,
    done: bool,
}

impl Record {
    /// A response that is about to be made. `base` is the response object with what the request said.
    pub(crate) fn new(
        records: &Records,
        id: &str,
        mut base: Value,
        messages: Vec<Message>,
        stored: bool,
    ) -> Record {
        base["id"] = id.into();
        base["store"] = stored.into();
        base["status"] = "in_progress".into();
        let state = State {
            body: base,
            output: Output::default(),
            usage: Usage::default(),
            frames: Vec::new(),
            dropped: 0,
            done: false,
        };
        let record = Record {
            id: id.to_owned(),
            messages,
            state: Mutex::new(state),
            grown: watch::Sender::new(0),
            file: if stored { records.file(id) } else { None },
            journal: records.journal.clone(),
            is_gone: AtomicBool::new(false),
        };
        let mut state = record.lock();
        for kind in ["response.created", "response.in_progress"] {
            let response = state.body.clone();
            state.frame(json!({"type": kind, "response": response}));
        }
        drop(state);
        record
    }

    /// A response that an earlier process had begun, from what [`Record::saved`] gave.
    pub(crate) fn restore(records: &Records, id: &str, mut saved: Value) -> Record {
        let messages = saved["messages"].as_array().into_iter().flatten().map(message_from_json).collect();
        Record::new(records, id, saved["response"].take(), messages, true)
    }

    /// Whether it outlives the process.
    pub(crate) fn is_stored(&self) -> bool {
        self.file.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst an event out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The prompt has so many tokens.
    pub(crate) fn set_prompt_tokens(&self, prompt: usize) {
        self.lock().usage.prompt = prompt;
    }

    /// Takes an event of the answer.
    pub(crate) fn apply(&self, event: &Event) {
        if event.choice != 0 {
            return;
        }
        let mut state = self.lock();
        let mut frames = Vec::new();
        state.output.apply(&event.what, &mut frames);
        frames.into_iter().for_each(|frame| state.frame(frame));
        match &event.what {
            What::End(end) => {
                state.usage.add(end);
                state.body["usage"] = usage_body(&state.usage);
                let (status, kind) = match end.finish {
                    Finish::Stop | Finish::Calls => ("completed", "response.completed"),
                    Finish::Length => ("incomplete", "response.incomplete"),
                    Finish::Cancelled => ("cancelled", "response.incomplete"),
                };
                if end.finish == Finish::Length {
                    state.body["incomplete_details"] = json!({"reason": "max_output_tokens"});
                }
                state.end(status, kind);
            }
            What::Failed(error) => {
                let code = error.detail.code.unwrap_or("server_error");
                state.body["error"] = json!({"code": code, "message": error.detail.message});
                state.end("failed", "response.failed");
            }
            _ => {}
        }
        let cut_off = matches!(&event.what, What::Failed(error) if error.detail.code == Some(STOPPING));
        let (count, done) = (state.dropped + state.frames.len(), state.done);
        drop(state);
        self.grown.send_replace(count);
        if done && !cut_off {
            self.save();
        }
    }

    /// The response as it is now.
    pub(crate) fn body(&self) -> Value {
        let state = self.lock();
        match state.done {
            true => state.body.clone(),
            false => state.snapshot(),
        }
    }

    /// Follows the response: all its events that are kept, from number `from` on.
    pub(crate) fn follow(self: &Arc<Record>, from: usize) -> Follower {
        Follower { record: Arc::clone(self), grown: self.grown.subscribe(), next: from }
    }

    /// The conversation with the answer at its end.
    pub(crate) fn conversation(&self) -> Vec<Message> {
        let choice = self.lock().output.choice();
        let mut messages = self.messages.clone();
        messages.push(super::messages::answer(&choice));
        messages
    }

    /// Drops the events of a finished response that nobody follows.
    fn shrink(&self) {
        let mut state = self.lock();
        if state.done && self.grown.receiver_count() == 0 && state.frames.len() > 1 {
            let last = state.frames.len() - 1;
            state.frames.drain(..last);
            state.frames.shrink_to_fit();
            state.dropped += last;
        }
    }

    /// The response and the conversation that it answers, as they are kept.
    pub(crate) fn saved(&self) -> Value {
        saved(self.body(), &self.messages)
    }

    /// Writes a finished response that was to be stored; the journal need not know it from then on. The answer has been
    /// given already: a full disk only means that the journal keeps it.
    fn save(&self) {
        let Some(file) = self.file.clone().filter(|_| !self.is_gone.load(Ordering::Relaxed)) else { return };
        let saved = saved(self.body(), &self.conversation()).to_string();
        let (journal, id) = (self.journal.clone(), self.id.clone());
        tokio::task::spawn_blocking(move || {
            if let (Ok(()), Some(journal)) = (files::write(&file, saved.as_bytes()), journal) {
                journal.remove(&id);
            }
        });
    }
}

fn saved(response: Value, messages: &[Message]) -> Value {
    let messages: Vec<Value> = messages.iter().map(message_to_json).collect();
    json!({"response": response, "messages": messages})
}

impl State {
    fn frame(&mut self, mut frame: Value) {
        frame["sequence_number"] = (self.dropped + self.frames.len()).into();
        let kind = frame["type"].as_str().unwrap_or_default();
        self.frames.push(format!("event: {kind}\ndata: {frame}\n\n").into());
    }

    fn snapshot(&self) -> Value {
        let mut body = self.body.clone();
        body["output"] = self.output.body();
        body
    }

    fn end(&mut self, status: &str, kind: &str) {
        self.body["status"] = status.into();
        self.body = self.snapshot();
        let response = self.body.clone();
        self.frame(json!({"type": kind, "response": response}));
        self.done = true;
    }
}

/// A reader of a response's events.
pub(crate) struct Follower {
    record: Arc<Record>,
    grown: watch::Receiver<usize>,
    next: usize,
}

impl Follower {
    /// The next events, once there are any; `None` if none will come.
    pub(crate) async fn next(&mut self) -> Option<Vec<Arc<str>>> {
        loop {
            {
                let state = self.record.lock();
                let fresh = state.frames.get(self.next.saturating_sub(state.dropped)..).unwrap_or_default();
                if !fresh.is_empty() {
                    self.next = state.dropped + state.frames.len();
                    return Some(fresh.to_vec());
                }
                if state.done {
                    return None;
                }
            }
            self.grown.changed().await.ok()?;
        }
    }
}

/// All responses.
pub(crate) struct Records {
    known: Mutex<Known>,
    /// Where those are kept that are to be stored.
    folder: Option<PathBuf>,
    /// Has those that are to be stored while they are being made.
    journal: Option<Journal>,
    /// Finished ones that are kept in memory.
    most: usize,
}

#[derive(Default)]
struct Known {
    records: HashMap<String, Arc<Record>>,
    /// In the order in which they began.
    order: VecDeque<String>,
}

/// A response that is over, possibly of an earlier process.
pub(crate) struct Finished {
    pub(crate) body: Value,
    pub(crate) conversation: Vec<Message>,
}

impl Records {
    pub(crate) fn new(folder: Option<PathBuf>, journal: Option<Journal>, most: usize) -> Records {
        Records { known: Mutex::default(), folder, journal, most }
    }

    /// Whether a response is kept whole.
    pub(crate) fn is_on_disk(&self, id: &str) -> bool {
        self.file(id).is_some_and(|file| file.exists())
    }

    /// Waits until the journal has a response that was handed to it on disk: whoever is told its name finds it again,
    /// whatever happens to this process.
    ///
    /// # Errors
    /// There is no journal; or the disk does not take it, and the journal has forgotten it then.
    pub(crate) async fn settle(&self, id: &str) -> Result<(), ApiError> {
        let Some(journal) = self.journal.clone() else {
            let message = "this server's data folder cannot be written to, or another server uses it: ask without `store`";
            return Err(ApiError::not_stored(message));
        };
        let name = id.to_owned();
        let settled = tokio::task::spawn_blocking(move || journal.settle(&name)).await;
        let settled =
            settled.map_err(|_| ApiError::server("internal_error", "the journal could not be waited for"))?;
        settled.map_err(|error| {
            self.forget_journal(id);
            error.into()
        })
    }

    /// Takes a response out of the journal.
    pub(crate) fn forget_journal(&self, id: &str) {
        if let Some(journal) = &self.journal {
            journal.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new response in, and forgets the oldest finished ones beyond the limit.
    pub(crate) fn keep(&self, record: &Arc<Record>) {
        let mut known = self.lock();
        known.records.values().for_each(|record| record.shrink());
        known.order.push_back(record.id.clone());
        known.records.insert(record.id.clone(), Arc::clone(record));
        let mut look = 0;
        while known.order.len() > self.most && look < known.order.len() {
            let id = known.order[look].clone();
            match known.records.get(&id) {
                Some(record) if !record.lock().done => look += 1,
                _ => {
                    known.order.remove(look);
                    known.records.remove(&id);
                }
            }
        }
    }

    /// A response of this process.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Record>> {
        self.lock().records.get(id).cloned()
    }

    /// A response of this process or, from disk, an earlier one.
    pub(crate) async fn find(&self, id: &str) -> Result<Finished, ApiError> {
        if let Some(record) = self.get(id) {
            return Ok(Finished { body: record.body(), conversation: record.conversation() });
        }
        let unknown = || ApiError::not_found("response_not_found", format!("there is no response {id:?}"));
        let file = self.file(id).ok_or_else(unknown)?;
        let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
        let bytes = read.ok().and_then(Result::ok).ok_or_else(unknown)?;
        let mut saved: Value = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
        let messages = saved["messages"].as_array().into_iter().flatten();
        let conversation = messages.map(message_from_json).collect();
        Ok(Finished { body: saved["response"].take(), conversation })
    }

    /// Forgets a response. `false` if there was none.
    pub(crate) async fn remove(&self, id: &str) -> bool {
        let was_known = {
            let mut known = self.lock();
            known.order.retain(|known| known != id);
            known.records.remove(id)
        };
        if let Some(record) = &was_known {
            record.is_gone.store(true, Ordering::Relaxed);
        }
        let was_known = was_known.is_some();
        if was_known || ids::is_sound(id) {
            self.forget_journal(id);
        }
        let Some(file) = self.file(id) else { return was_known };
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(file)).await;
        was_known || removed.is_ok_and(|removed| removed.is_ok())
    }

    /// Where a response is kept.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| ids::is_sound(id))?;
        Some(folder.join(format!("{id}.json")))
    }
}
