//! Answers that an earlier process had begun: they go on, to the same tokens, as if nothing had happened.

use std::sync::Arc;

use engine::{Class, Recovered};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use super::ask::{Ask, Form, Tools};
use super::form::{self, Held};
use super::pump::Translator;
use super::start::{Running, sink};
use crate::api_error::ApiError;
use crate::app::App;
use crate::metrics::Timer;
use crate::models::Loaded;
use crate::openai::chosen;
use crate::openai::records::Record;

/// What the journal remembers of a request beside the session: how its answer is to be read, and where it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Memo {
    model: String,
    class: String,
    form: Form,
    /// Tools, their choice, whether several calls may be made.
    tools: Option<(Vec<Value>, Value, bool)>,
    bias: Vec<(u32, f32)>,
    logprobs: Option<usize>,
    /// Whether the model thinks, and if so whether the prompt opened its thoughts.
    #[serde(default)]
    thinks: Option<bool>,
    /// See [`Record::saved`].
    #[serde(default)]
    record: Value,
}

impl Memo {
    pub(super) fn of(loaded: &Loaded, ask: &Ask, thinks: Option<bool>) -> Memo {
        let tools = |tools: &Tools| {
            let list = tools.list.as_array().cloned().unwrap_or_default();
            (list, crate::openai::choice_body(&tools.choice), tools.parallel)
        };
        Memo {
            model: loaded.name.clone(),
            class: ask.class.to_string(),
            form: ask.form.clone(),
            tools: ask.tools.as_ref().map(tools),
            bias: ask.bias.clone(),
            logprobs: ask.logprobs,
            thinks,
            record: Value::Null,
        }
    }

    /// As the journal keeps it.
    pub(super) fn with(&self, record: &Record) -> Value {
        // Numbers, texts and JSON values always serialise.
        serde_json::to_value(Memo { record: record.saved(), ..self.clone() }).unwrap_or_default()
    }
}

/// Has the engine go on with an answer. One whose model is not served now stays in the journal.
///
/// # Errors
/// What stands in the way.
pub(crate) async fn resume(app: &Arc<App>, recovered: Recovered) -> Result<(), ApiError> {
    let id = recovered.id.clone();
    if app.records.is_on_disk(&id) {
        app.records.forget_journal(&id);
        return Ok(());
    }
    let unreadable = |_| ApiError::server("journal_unreadable", "what the journal says is not understood");
    let memo: Memo = serde_json::from_value(recovered.meta.clone()).map_err(unreadable)?;
    let class: Class = memo.class.parse()?;
    let places = Arc::clone(&app.places).acquire_owned().await;
    let places = places.map_err(|_| ApiError::unavailable("server_stopping", "the server stops"))?;
    let loaded = app.models.get(Some(&memo.model)).await?;
    let tools = match memo.tools {
        Some((list, choice, parallel)) => chosen(list, Some(&choice), Some(parallel))?,
        None => None,
    };
    let Held { constraint, parser } = form::hold(&loaded, &memo.form, tools.as_ref(), &memo.bias)?;
    let record = Arc::new(Record::restore(&app.records, &id, memo.record));
    record.set_prompt_tokens(recovered.state.answer);

    let (sender, updates) = unbounded_channel();
    let timer = Timer::start(Arc::clone(&app.metrics), class);
    let translator =
        Translator::new(Arc::clone(&loaded), memo.thinks, parser, timer, Arc::clone(&app.is_stopping));
    let model = Arc::clone(&loaded.model);
    let request = app.service.resume(model, recovered, class, constraint, memo.logprobs, sink(&sender, 0))?;
    drop(sender);
    app.records.keep(&record);
    let translators = vec![translator];
    let running =
        Running { loaded, places, updates, translators, record: Some(record), requests: vec![request] };
    // Its reader is whoever asks for it by its name.
    drop(running.go(app, &id));
    Ok(())
}
