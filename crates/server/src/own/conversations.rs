//! `/pouch/v1/conversations`: what the page keeps of its conversations.
//!
//! A conversation is the page's own document; the server keeps it whole and looks only at what its list shows.

use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::{files, ids};

/// Conversations that are kept at most.
const MOST: usize = 10_000;

/// The conversations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationList {
    conversations: Vec<Heading>,
}

/// What the list shows of one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Heading {
    id: String,
    title: String,
    /// Seconds since 1970.
    updated: u64,
    model: Option<String>,
}

/// That it is kept, or gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kept {
    id: String,
    updated: u64,
}

/// Lists the conversations, the latest first.
#[utoipa::path(get, path = "/pouch/v1/conversations", tag = "Pouch",
    responses((status = 200, body = ConversationList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<axum::Json<ConversationList>, ApiError> {
    let folder = folder(&app)?;
    let conversations = on_disk(move || Ok(headings(&folder))).await?;
    Ok(axum::Json(ConversationList { conversations }))
}

/// Gives a conversation.
#[utoipa::path(get, path = "/pouch/v1/conversations/{id}", tag = "Pouch",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "The document", body = Object), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let file = file(&folder(&app)?, &id)?;
    let document = on_disk(move || read(&file).ok_or_else(|| unknown(&id))).await?;
    Ok(axum::Json(Value::Object(document)))
}

/// Keeps a conversation, in place of one of the same name.
#[utoipa::path(put, path = "/pouch/v1/conversations/{id}", tag = "Pouch", request_body = Object,
    params(("id" = String, Path, description = "Its name: letters, digits, `-` and `_`, at most 80")),
    responses((status = 200, body = Kept), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(mut document): Json<Map<String, Value>>,
) -> Result<axum::Json<Kept>, ApiError> {
    let folder = folder(&app)?;
    let file = file(&folder, &id)?;
    let updated =
        *document.entry("updated").or_insert_with(|| ids::now().into()).as_u64().get_or_insert(ids::now());
    document.insert("id".to_owned(), id.as_str().into());
    let bytes = Value::Object(document).to_string();
    on_disk(move || {
        if !file.exists() && std::fs::read_dir(&folder).is_ok_and(|entries| entries.count() >= MOST) {
            let message = format!("{MOST} conversations are kept already");
            return Err(ApiError::limit(StatusCode::INSUFFICIENT_STORAGE, "too_many_conversations", message));
        }
        files::write(&file, bytes.as_bytes()).map_err(|error| unwritable(&error))
    })
    .await?;
    app.revision.fetch_add(1, Ordering::Relaxed);
    Ok(axum::Json(Kept { id, updated }))
}

/// Forgets a conversation.
#[utoipa::path(delete, path = "/pouch/v1/conversations/{id}", tag = "Pouch",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, body = Kept), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Kept>, ApiError> {
    let file = file(&folder(&app)?, &id)?;
    let gone = id.clone();
    on_disk(move || {
        std::fs::remove_file(file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => unknown(&gone),
            _ => unwritable(&error),
        })
    })
    .await?;
    app.revision.fetch_add(1, Ordering::Relaxed);
    Ok(axum::Json(Kept { id, updated: ids::now() }))
}

/// Where they are.
fn folder(app: &App) -> Result<PathBuf, ApiError> {
    let folder = app.data.as_ref().map(|data| data.join("conversations"));
    folder.ok_or_else(|| ApiError::unavailable("no_data_folder", "this server keeps no conversations"))
}

fn file(folder: &FilePath, id: &str) -> Result<PathBuf, ApiError> {
    match ids::is_sound(id) {
        true => Ok(folder.join(format!("{id}.json"))),
        false => {
            let message = "a conversation's name has letters, digits, - and _, at most 80";
            Err(ApiError::field("id", message))
        }
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found("conversation_not_found", format!("there is no conversation {id:?}"))
}

/// What the disk said.
fn unwritable(error: &std::io::Error) -> ApiError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let message = "the disk is full: the conversation was not kept";
            ApiError::limit(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
        }
        _ => ApiError::server("not_kept", format!("the conversation was not kept: {error}")),
    }
}

/// Works on files, off the threads that serve connections.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::server("internal_error", "the files could not be worked on");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

fn read(file: &FilePath) -> Option<Map<String, Value>> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// What the list shows. Files that are no conversations are left out.
fn headings(folder: &FilePath) -> Vec<Heading> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut headings: Vec<Heading> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let id = path.file_name()?.to_str()?.strip_suffix(".json")?;
            let document = read(&path)?;
            Some(Heading {
                id: id.to_owned(),
                title: document.get("title").and_then(Value::as_str).unwrap_or_default().to_owned(),
                updated: document.get("updated").and_then(Value::as_u64).unwrap_or(0),
                model: document.get("model").and_then(Value::as_str).map(str::to_owned),
            })
        })
        .collect();
    headings.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| a.id.cmp(&b.id)));
    headings
}
