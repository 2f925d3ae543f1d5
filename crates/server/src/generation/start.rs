//! Hands requests to the engine and takes them back when nobody wants them any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{JournalEntry, Request, RequestId, Service, Sink, Update};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::answer::Answer;
use super::ask::Ask;
use super::form::Held;
use super::prepare::prepare;
use super::pump::{Event, Translator, pump};
use super::resume::Memo;
use crate::api_error::ApiError;
use crate::app::App;
use crate::ids;
use crate::metrics::Timer;
use crate::models::Loaded;
use crate::openai::records::Record;

/// The requests in the engine, by the names that clients know.
#[derive(Default)]
pub(crate) struct Active(Mutex<HashMap<String, Vec<RequestId>>>);

impl Active {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<RequestId>>> {
        // Inserting and removing leave the map whole wherever they stop.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's names for a request, if it still runs.
    pub(crate) fn requests(&self, id: &str) -> Option<Vec<RequestId>> {
        self.lock().get(id).cloned()
    }

    /// The names of all requests that run.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }
}

/// Cancels requests when it is dropped. Those that have ended do not mind.
pub(crate) struct Cancel {
    service: Service,
    requests: Vec<RequestId>,
}

impl Cancel {
    pub(crate) fn new(service: &Service, requests: Vec<RequestId>) -> Cancel {
        Cancel { service: service.clone(), requests }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        for &request in &self.requests {
            self.service.cancel(request);
        }
    }
}

/// A request to start.
pub(crate) struct Start {
    /// The name that clients will know it by.
    pub(crate) id: String,
    pub(crate) ask: Ask,
    /// Whether it goes on when its reader has gone.
    pub(crate) goes_on: bool,
    /// Where the answer is kept besides: it sees every event before the reader does.
    pub(crate) record: Option<Arc<Record>>,
}

/// Has the engine answer. Returns once the request waits for its turn.
///
/// # Errors
/// What [`prepare`] refuses; a model that cannot be opened; more than the engine takes.
pub(crate) async fn start(app: &Arc<App>, start: Start) -> Result<Answer, ApiError> {
    let Start { id, ask, goes_on, record } = start;
    let choices = ask.choices;
    let places = Arc::clone(&app.places).try_acquire_many_owned(choices as u32);
    let places = places.map_err(|_| ApiError::busy("too many answers are being made at once"))?;
    let loaded = app.models.get(ask.model.as_deref()).await?;
    let (common, model) = (app.common, Arc::clone(&loaded));
    let preparing =
        tokio::task::spawn_blocking(move || prepare(common, &model, &ask).map(|ready| (ready, ask)));
    let (prepared, ask) = preparing
        .await
        .unwrap_or_else(|_| Err(ApiError::server("internal_error", "the request could not be prepared")))?;

    app.models.make_room(prepared.bytes.saturating_mul(choices));

    let (sender, updates) = unbounded_channel();
    let mut cancel = Cancel::new(&app.service, Vec::with_capacity(choices));
    let mut translators = Vec::with_capacity(choices);
    let prompt_tokens = prepared.prompt.len();
    if let Some(record) = &record {
        record.set_prompt_tokens(prompt_tokens);
    }
    let memo =
        record.as_ref().filter(|record| record.is_stored()).map(|_| Memo::of(&loaded, &ask, prepared.thinks));
    for (choice, Held { constraint, parser }) in prepared.forms.into_iter().enumerate() {
        let mut options = prepared.options.clone();
        options.sampler.seed = options.sampler.seed.wrapping_add(choice as u64);
        // Of a stored request the first answer is kept.
        let memo = memo.as_ref().zip(record.as_ref()).filter(|_| choice == 0);
        let request = Request {
            model: Arc::clone(&loaded.model),
            prompt: prepared.prompt.clone(),
            options,
            class: ask.class,
            deadline: ask.deadline,
            constraint,
            logprobs: ask.logprobs,
            journal: memo.map(|(memo, record)| JournalEntry { id: id.clone(), meta: memo.with(record) }),
        };
        let timer = Timer::start(Arc::clone(&app.metrics), ask.class);
        translators.push(Translator::new(
            Arc::clone(&loaded),
            prepared.thinks,
            parser,
            timer,
            Arc::clone(&app.is_stopping),
        ));
        cancel.requests.push(app.service.submit(request, sink(&sender, choice))?);
    }
    drop(sender);
    if memo.is_some() {
        app.records.settle(&id).await?;
    }
    app.metrics.accepted(prompt_tokens);
    if let Some(record) = &record {
        app.records.keep(record);
    }
    let model = loaded.name.clone();
    let running = Running { loaded, places, updates, translators, record, requests: cancel.requests.clone() };
    let events = running.go(app, &id);
    if goes_on {
        cancel.requests.clear();
    }
    Ok(Answer { id, model, created: ids::now(), prompt_tokens, choices, events, _cancel: cancel })
}

/// What takes one answer's updates: on the engine's thread, which waits for nobody; the channel takes all that comes.
pub(super) fn sink(sender: &UnboundedSender<(usize, Update)>, choice: usize) -> Sink {
    let sender = sender.clone();
    Box::new(move |update| {
        // Nobody waits any more.
        let _ = sender.send((choice, update));
    })
}

/// Answers that the engine makes, and everything that they need until they are over.
pub(super) struct Running {
    pub(super) loaded: Arc<Loaded>,
    pub(super) places: OwnedSemaphorePermit,
    pub(super) updates: UnboundedReceiver<(usize, Update)>,
    pub(super) translators: Vec<Translator>,
    pub(super) record: Option<Arc<Record>>,
    pub(super) requests: Vec<RequestId>,
}

impl Running {
    /// Has their events told, under the name that clients know.
    pub(super) fn go(self, app: &App, id: &str) -> UnboundedReceiver<Event> {
        let Running { loaded, places, updates, translators, record, requests } = self;
        app.active.lock().insert(id.to_owned(), requests);
        let (reader, events) = unbounded_channel();
        let (active, id) = (Arc::clone(&app.active), id.to_owned());
        tokio::spawn(async move {
            pump(updates, translators, record, reader).await;
            active.lock().remove(&id);
            // Until here the model must not be closed.
            drop((loaded, places));
        });
        events
    }
}
