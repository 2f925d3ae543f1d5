//! `GET /pouch/v1/status`: what the server is doing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::openai::models::ModelBody;

/// What it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// The default first.
    models: Vec<ModelBody>,
    /// Tokens of answers a second, lately.
    decode_tok_s: f64,
    /// Tokens of prompts a second, lately.
    prefill_tok_s: f64,
    /// Weights, keys and values.
    memory_bytes: usize,
    /// Null without a limit.
    memory_limit_bytes: Option<usize>,
    /// Requests that wait for memory.
    queued: usize,
    running: Running,
    /// Another number whenever a conversation was kept or deleted.
    conversations: u64,
    version: &'static str,
}

/// Sessions by class.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Running {
    interactive: usize,
    normal: usize,
    background: usize,
}

/// Tells what the server is doing.
#[utoipa::path(get, path = "/pouch/v1/status", tag = "Pouch", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> axum::Json<Status> {
    let figures = app.service.figures();
    let [background, normal, interactive] = figures.running;
    axum::Json(Status {
        models: app.models.entries().iter().map(|entry| ModelBody::of(entry)).collect(),
        decode_tok_s: figures.decode_tok_s,
        prefill_tok_s: figures.prefill_tok_s,
        memory_bytes: app.models.memory().budget().used(),
        memory_limit_bytes: Some(app.models.memory().budget().limit()).filter(|limit| *limit < usize::MAX),
        queued: figures.queued,
        running: Running { interactive, normal, background },
        conversations: app.revision.load(Ordering::Relaxed),
        version: env!("CARGO_PKG_VERSION"),
    })
}
