//! Hands requests to the engine and takes them back when nobody wants them any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Request, RequestId, Service};
use tokio::sync::mpsc::unbounded_channel;

use super::answer::Answer;
use super::ask::Ask;
use super::form::Held;
use super::prepare::prepare;
use super::pump::{Translator, pump};
use crate::api_error::ApiError;
use crate::app::App;
use crate::ids;
use crate::metrics::Timer;
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

    let (sender, updates) = unbounded_channel();
    let mut cancel = Cancel::new(&app.service, Vec::with_capacity(choices));
    let mut translators = Vec::with_capacity(choices);
    let prompt_tokens = prepared.prompt.len();
    app.metrics.accepted(prompt_tokens);
    for (choice, Held { constraint, parser }) in prepared.forms.into_iter().enumerate() {
        let mut options = prepared.options.clone();
        options.sampler.seed = options.sampler.seed.wrapping_add(choice as u64);
        let request = Request {
            model: Arc::clone(&loaded.model),
            prompt: prepared.prompt.clone(),
            options,
            class: ask.class,
            deadline: ask.deadline,
            constraint,
            logprobs: ask.logprobs,
        };
        let timer = Timer::start(Arc::clone(&app.metrics), ask.class);
        translators.push(Translator::new(Arc::clone(&loaded), parser, timer, Arc::clone(&app.is_stopping)));
        let sender = sender.clone();
        // On the engine's thread, which waits for nobody: the channel takes all that comes.
        let sink = Box::new(move |update| {
            let _ = sender.send((choice, update));
        });
        cancel.requests.push(app.service.submit(request, sink)?);
    }
    drop(sender);

    if let Some(record) = &record {
        record.set_prompt_tokens(prompt_tokens);
        app.records.keep(record);
    }
    app.active.lock().insert(id.clone(), cancel.requests.clone());
    let (reader, events) = unbounded_channel();
    let (active, name) = (Arc::clone(&app.active), id.clone());
    tokio::spawn(async move {
        // Holds the model and a place until the last answer is over.
        let (_loaded, _places) = (Arc::clone(&loaded), places);
        pump(updates, translators, record, reader).await;
        active.lock().remove(&name);
    });
    if goes_on {
        cancel.requests.clear();
    }
    let model = app.models.find(ask.model.as_deref())?.card.name.clone();
    Ok(Answer { id, model, created: ids::now(), prompt_tokens, choices, events, _cancel: cancel })
}
