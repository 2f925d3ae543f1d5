//! A conversation through a server that runs, which keeps it: its web page shows the same one, and either goes on with it.
//!
//! What the page does holds here too: the question is kept before it is asked, and the server keeps the answer under a name until
//! it is whole, so that nothing is lost with this process or with the server.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use client::{Client, Stop};
use serde_json::{Map, Value, json};
use text::Message;

use super::Talk;
use super::document::Document;
use super::stream::{Ending, Received, receive};
use crate::errors::Failure;
use crate::generation::{GenerationArguments, default_settings};
use crate::printer::Printer;
use crate::{interrupt, units};

/// Between looks at an answer that somebody else asked for.
const FOLLOW: Duration = Duration::from_millis(500);

/// The status by which a server tells that somebody else has written another version.
const CHANGED: u16 = 412;

/// Conversations that a list shows.
const LISTED: usize = 20;

pub(super) struct Shared {
    client: Client,
    /// What was said on the command line: it holds for every conversation.
    settings: Map<String, Value>,
    /// The model, if it was named there.
    named: Option<String>,
    /// The model of new conversations.
    model: String,
    document: Document,
    /// What the server was last seen to have of it, and the name of that version.
    kept: Option<(Document, Option<String>)>,
    /// The ids of the list that was shown.
    listed: Vec<String>,
}

impl Shared {
    /// A new conversation with `model`, a name of the server's.
    pub(super) fn new(client: Client, model: String, arguments: &GenerationArguments) -> Shared {
        let settings = arguments.settings();
        Shared {
            document: Document::new(&model, &settings),
            named: arguments.named_model().map(|_| model.clone()),
            client,
            settings,
            model,
            kept: None,
            listed: Vec::new(),
        }
    }

    fn path(id: &str) -> String {
        format!("/pouch/v1/conversations/{}", client::segment(id))
    }

    /// Has the server keep the conversation as it is, put together with what others have made of it meanwhile.
    fn keep(&mut self) -> Result<(), Failure> {
        let path = Shared::path(self.document.id());
        loop {
            match keep_over(&self.client, &self.document, &mut self.kept) {
                Err(client::Error::Refused { status: CHANGED, .. }) => {}
                kept => return kept.map_err(|error| self.left(error)),
            }
            self.kept = match self.client.get_version(&path) {
                // Deleted meanwhile, it is kept again.
                Err(client::Error::Refused { status: 404, .. }) => None,
                Err(error) => return Err(self.left(error)),
                Ok((value, version)) => {
                    let theirs = Document::of(value);
                    if let Some(theirs) = theirs.clone() {
                        self.document.merge(self.kept.as_ref().map(|(base, _)| base), theirs);
                    }
                    // What is no conversation is replaced.
                    Some((theirs.unwrap_or_else(|| self.document.clone()), version))
                }
            };
        }
    }

    /// What an error of the client means for the conversation.
    fn left(&self, error: client::Error) -> Failure {
        let is_gone = matches!(error, client::Error::Unreachable { .. } | client::Error::CutOff { .. });
        match is_gone && self.kept.is_some() {
            true => Failure::Left { error, id: self.document.id().to_owned() },
            false => error.into(),
        }
    }

    /// Takes over what has been said elsewhere since.
    fn catch_up(&mut self, printer: &Printer) -> Result<(), Failure> {
        if self.kept.is_none() {
            return Ok(());
        }
        match self.client.get_version(&Shared::path(self.document.id())) {
            Ok((value, version)) => {
                let before = self.document.messages().len();
                if let Some(document) = Document::of(value) {
                    self.kept = Some((document.clone(), version));
                    self.document = document;
                }
                self.wait_for_the_last_answer(printer)?;
                match self.document.messages().len() {
                    now if now > before => {
                        printer.note(&format!("{} messages have come from elsewhere", now - before));
                    }
                    now if now < before => printer.note("the conversation was changed elsewhere"),
                    _ => {}
                }
            }
            Err(client::Error::Refused { status: 404, .. }) => {
                self.kept = None;
                printer.note("the conversation was deleted elsewhere; it is kept again");
            }
            Err(error) => return Err(self.left(error)),
        }
        Ok(())
    }

    /// An answer that somebody else asked for, or that an earlier server had begun, is waited for. Ctrl-C gives it up: what has come
    /// of it counts.
    fn wait_for_the_last_answer(&mut self, printer: &Printer) -> Result<(), Failure> {
        let Some(name) = self.document.unfinished().map(client::segment) else { return Ok(()) };
        printer.note("the answer before is still being written; Ctrl-C ends it");
        let (client, path) = (self.client.clone(), format!("/v1/responses/{name}"));
        let cancel = format!("{path}/cancel");
        let end = {
            let client = client.clone();
            // It may have ended just now.
            move || drop(client.post(&cancel, &json!({})))
        };
        let (stored, _) = interrupt::during_with(end, || {
            loop {
                match client.get(&path) {
                    Ok(stored) if matches!(stored["status"].as_str(), Some("queued" | "in_progress")) => {}
                    stored => return stored,
                }
                std::thread::sleep(FOLLOW);
            }
        });
        match stored {
            Ok(stored) => settle(self.document.answer(), &stored),
            // Nobody knows the rest of it.
            Err(client::Error::Refused { .. }) => self.document.answer()["state"] = "stopped".into(),
            Err(error) => return Err(self.left(error)),
        }
        self.keep()
    }

    /// Asks for the answer to come and shows it.
    fn ask(&mut self, printer: &Printer) -> Result<Received, Failure> {
        let stop = Stop::new();
        let name: Arc<Mutex<Option<String>>> = Arc::default();
        let known =
            |name: &Mutex<Option<String>>| name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = {
            let (client, stop, name) = (self.client.clone(), stop.clone(), Arc::clone(&name));
            move || match known(&name) {
                // The server ends the answer with its figures. One that does not answer any more is left.
                Some(name) => {
                    let cancel = format!("/v1/responses/{}/cancel", client::segment(&name));
                    if client.post(&cancel, &json!({})).is_err() {
                        stop.set();
                    }
                }
                None => stop.set(),
            }
        };
        let request = self.document.request(&default_settings());
        let (received, interrupted) = interrupt::during_with(end, || {
            let events = self.client.stream_until("/v1/chat/completions", &request, &stop)?;
            Ok(receive(events, printer, |id| {
                *name.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
                self.document.answer()["id"] = id.into();
                // The whole is kept at the end in any case.
                let _ = keep_over(&self.client, &self.document, &mut self.kept);
            }))
        });
        let mut received = match received {
            Ok(received) => received,
            Err(client::Error::Stopped) => Received::default(),
            Err(error) => return Err(self.left(error)),
        };
        if let (Err(_), Some(name)) = (&received.shown, known(&name)) {
            // Nobody reads on: the server need not go on either.
            let _ = self.client.post(&format!("/v1/responses/{}/cancel", client::segment(&name)), &json!({}));
        }
        if interrupted && matches!(received.ending, Ending::Done | Ending::Open) {
            received.ending = Ending::Interrupted;
        }
        Ok(received)
    }

    /// Takes the question back, and what there is of its answer.
    fn take_back(&mut self, before: Document) -> Result<(), Failure> {
        self.document = before;
        if !self.document.messages().is_empty() {
            return self.keep();
        }
        let deleted = self.client.delete(&Shared::path(self.document.id()));
        self.kept = None;
        deleted.map(|_| ()).map_err(|error| self.left(error))
    }

    /// The conversations, the latest first, as far as a list shows them.
    fn headings(&self) -> Result<Vec<Value>, Failure> {
        let list = self.client.get("/pouch/v1/conversations")?;
        let all = list["conversations"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().take(LISTED).collect())
    }
}

impl Talk for Shared {
    fn greeting(&self) -> String {
        format!("{} listens, through the running server", self.document.model())
    }

    fn commands(&self) -> &'static str {
        "/reset, /save FILE, /load FILE, /list, /open N, /help, /exit; Ctrl-C ends an answer"
    }

    fn say(&mut self, line: &str, printer: &Printer) -> Result<(), Failure> {
        self.catch_up(printer)?;
        let before = self.document.clone();
        self.document.ask(line);
        self.keep()?;
        let mut received = match self.ask(printer) {
            Err(Failure::Client(client::Error::Refused { code, message, .. })) => {
                let hint = match code.as_deref() {
                    Some("context_length_exceeded") => "; /reset starts anew",
                    _ => "",
                };
                printer.error(&format!("{message}{hint}"));
                return self.take_back(before);
            }
            received => received?,
        };
        std::mem::replace(&mut received.shown, Ok(()))?;
        printer.end_line()?;
        if received.content.is_empty() && matches!(received.ending, Ending::Interrupted) {
            self.take_back(before)?;
        } else if !matches!(received.ending, Ending::Left(_)) {
            received.fill(self.document.answer());
            self.keep()?;
        }
        if let Some(figures) = received.figures() {
            printer.note(&figures.line());
        }
        match received.ending {
            Ending::Failed(message) => printer.error(&message),
            Ending::Left(error) => return Err(self.left(error)),
            _ => {}
        }
        Ok(())
    }

    fn reset(&mut self, printer: &Printer) {
        let mut settings = self.settings.clone();
        let system = self.document.settings().get("system").cloned();
        settings.extend(system.map(|system| ("system".to_owned(), system)));
        self.document = Document::new(self.document.model(), &settings);
        self.kept = None;
        printer.note("a new conversation; the one before is kept");
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let system =
            self.document.settings().get("system").and_then(Value::as_str).filter(|text| !text.is_empty());
        let system = system.map(|system| Message::new("system", system));
        let said = self
            .document
            .messages()
            .iter()
            .map(|message| Message::new(text(message, "role"), text(message, "content")));
        let messages: Vec<Message> = system.into_iter().chain(said).collect();
        Ok(engine::save_messages(path, &messages)?)
    }

    fn load(&mut self, path: &Path) -> Result<usize, Failure> {
        let messages = engine::load_messages(path)?;
        let mut settings = self.settings.clone();
        let system = messages.iter().find(|message| message.role == "system");
        settings.extend(system.map(|system| ("system".to_owned(), system.content.as_str().into())));
        let mut document = Document::new(self.document.model(), &settings);
        // The page has no others.
        for message in messages.iter().filter(|message| matches!(message.role.as_str(), "user" | "assistant"))
        {
            document.add(&message.role, &message.content);
        }
        self.document = document;
        self.kept = None;
        Ok(messages.len())
    }

    fn list(&mut self, printer: &Printer) -> Result<(), Failure> {
        let headings = self.headings()?;
        if headings.is_empty() {
            printer.note("no conversation is kept yet");
        }
        let text = |heading: &Value, name: &str| heading[name].as_str().unwrap_or_default().to_owned();
        self.listed = headings.iter().map(|heading| text(heading, "id")).collect();
        let now = UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
        for (number, heading) in headings.iter().enumerate() {
            let ago = units::ago((now - heading["updated"].as_f64().unwrap_or(now)).max(0.0) as u64);
            let here = if text(heading, "id") == self.document.id() { ", this one" } else { "" };
            let title = match text(heading, "title") {
                title if title.is_empty() => "(no title)".to_owned(),
                title => title,
            };
            printer.note(&format!("{:>3}  {title}  ({ago}{here})", number + 1));
        }
        Ok(())
    }

    fn open(&mut self, which: &str, printer: &Printer) -> Result<(), Failure> {
        if self.listed.is_empty() {
            let id = |heading: &Value| Some(heading["id"].as_str()?.to_owned());
            self.listed = self.headings()?.iter().filter_map(id).collect();
        }
        let number = which.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let id = match number {
            Some(at) if at < 1000 => self.listed.get(at).cloned().ok_or_else(|| {
                let message = format!("there is no conversation {which}: {} are kept", self.listed.len());
                Failure::Usage(message)
            })?,
            _ => which.to_owned(),
        };
        let (value, version) = self.client.get_version(&Shared::path(&id))?;
        let unreadable = || Failure::Usage(format!("{id} is no conversation of the page's"));
        let mut document = Document::of(value).ok_or_else(unreadable)?;
        self.kept = Some((document.clone(), version));
        document.set(&self.settings);
        let model = self.named.as_ref().or(Some(&self.model).filter(|_| document.model().is_empty()));
        if let Some(model) = model {
            document.set_model(model);
        }
        self.document = document;
        self.wait_for_the_last_answer(printer)?;
        printer.note(&format!("{}, {} messages", self.document.title(), self.document.messages().len()));
        let last = self.document.messages().len().saturating_sub(2);
        for message in &self.document.messages()[last..] {
            let mark = if message["role"] == "user" { "> " } else { "" };
            printer.note(&format!("{mark}{}", message["content"].as_str().unwrap_or_default()));
        }
        Ok(())
    }
}

/// Has the server keep a conversation over the version of it that was last seen, or over none, and takes note of the new one.
fn keep_over(
    client: &Client,
    document: &Document,
    kept: &mut Option<(Document, Option<String>)>,
) -> Result<(), client::Error> {
    let over = kept.as_ref().and_then(|(_, version)| version.as_deref());
    let version = client.put_version(&Shared::path(document.id()), &document.to_json(), over)?;
    *kept = Some((document.clone(), version));
    Ok(())
}

/// Takes what the server has of a stored answer into the message, as the page does.
fn settle(answer: &mut Value, stored: &Value) {
    let text_of = |kind: &str| -> String {
        let items = stored["output"].as_array().into_iter().flatten().filter(|item| item["type"] == kind);
        let pieces = items.flat_map(|item| item["content"].as_array().into_iter().flatten());
        pieces.filter_map(|piece| piece["text"].as_str()).collect()
    };
    let (text, thoughts) = (text_of("message"), text_of("reasoning"));
    if !thoughts.is_empty() {
        answer["thinking"] = thoughts.into();
    }
    if text.len() >= answer["content"].as_str().unwrap_or_default().len() {
        answer["content"] = text.into();
    }
    answer["state"] = match stored["status"].as_str() {
        Some("cancelled") => "stopped".into(),
        Some("failed") => {
            let detail = stored["error"]["message"].as_str().unwrap_or_default();
            answer["error"] = json!({"kind": "errorServer", "detail": detail});
            "failed".into()
        }
        _ => "done".into(),
    };
    if stored["status"] == "incomplete" {
        answer["finish"] = "length".into();
    }
}
