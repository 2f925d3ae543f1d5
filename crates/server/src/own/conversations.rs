//! `/pouch/v1/conversations`: what the page keeps of its conversations.
//!
//! A conversation is the page's own document; the server keeps it whole and looks only at what its list shows. Several may write one,
//! so each version has a name, its `ETag`, and a writer can ask for its own to replace no other than the one that it has seen.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::kept::{Conversations, Heading, MOST, Over, Unkept, version};
use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::ids;

/// The conversations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationList {
    conversations: Vec<Heading>,
}

/// That it is kept, or gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kept {
    id: String,
    updated: f64,
}

/// Lists the conversations, those first in which their user has last said or changed something.
#[utoipa::path(get, path = "/pouch/v1/conversations", tag = "Pouch",
    responses((status = 200, body = ConversationList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<axum::Json<ConversationList>, ApiError> {
    let kept = kept(&app)?;
    let conversations = on_disk(move || Ok(kept.headings())).await?;
    Ok(axum::Json(ConversationList { conversations }))
}

/// Gives a conversation. Its `ETag` names this version of it.
#[utoipa::path(get, path = "/pouch/v1/conversations/{id}", tag = "Pouch",
    params(("id" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The document", body = Object,
            headers(("ETag" = String, description = "Names this version"))),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let (kept, id) = (kept(&app)?, sound(id)?);
    let (tag, document) = on_disk(move || {
        let bytes = kept.read(&id).map_err(|_| unknown(&id))?;
        let document: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| unknown(&id))?;
        Ok((tag(&bytes), document))
    })
    .await?;
    Ok(([(header::ETAG, tag)], axum::Json(document)))
}

/// Keeps a conversation, in place of one of the same name. With `If-Match` it replaces that version alone, with `If-None-Match: *` none:
/// where another is there by now nothing is kept and the answer is 412, so that a writer can read it and put both together.
#[utoipa::path(put, path = "/pouch/v1/conversations/{id}", tag = "Pouch", request_body = Object,
    params(
        ("id" = String, Path, description = "Its name: letters, digits, `-` and `_`, at most 80"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version to be replaced"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: none is to be replaced")),
    responses(
        (status = 200, body = Kept, headers(("ETag" = String, description = "Names the version that is kept"))),
        (status = 412, description = "It was changed meanwhile (`conversation_changed`)", body = ErrorBody),
        (status = "4XX", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(mut document): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let (kept, id, over) = (kept(&app)?, sound(id)?, over(&headers)?);
    let now = ids::now() as f64;
    let updated = *document.entry("updated").or_insert_with(|| now.into()).as_f64().get_or_insert(now);
    document.insert("id".to_owned(), id.as_str().into());
    let bytes = Value::Object(document).to_string().into_bytes();
    let tag = tag(&bytes);
    let name = id.clone();
    on_disk(move || kept.write(&name, &bytes, &over).map_err(unkept)).await?;
    app.revision.fetch_add(1, Ordering::Relaxed);
    Ok(([(header::ETAG, tag)], axum::Json(Kept { id, updated })))
}

/// Forgets a conversation.
#[utoipa::path(delete, path = "/pouch/v1/conversations/{id}", tag = "Pouch",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, body = Kept), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Kept>, ApiError> {
    let (kept, id) = (kept(&app)?, sound(id)?);
    let gone = id.clone();
    on_disk(move || {
        kept.remove(&gone).map_err(|error| match error.kind() {
            ErrorKind::NotFound => unknown(&gone),
            _ => unkept(Unkept::Io(error)),
        })
    })
    .await?;
    app.revision.fetch_add(1, Ordering::Relaxed);
    Ok(axum::Json(Kept { id, updated: ids::now() as f64 }))
}

/// Where they are.
fn kept(app: &App) -> Result<Arc<Conversations>, ApiError> {
    let kept = app.conversations.clone();
    kept.ok_or_else(|| ApiError::unavailable("no_data_folder", "this server keeps no conversations"))
}

fn sound(id: String) -> Result<String, ApiError> {
    match ids::is_sound(&id) {
        true => Ok(id),
        false => {
            let message = "a conversation's name has letters, digits, - and _, at most 80";
            Err(ApiError::field("id", message))
        }
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", version(bytes))
}

/// What the writer means to replace.
fn over(headers: &HeaderMap) -> Result<Over, ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Over::Any),
        (None, Some("*")) => Ok(Over::Nothing),
        (Some(tags), None) if tags != "*" => {
            Ok(Over::One(tags.split(',').map(|tag| tag.trim().trim_matches('"').to_owned()).collect()))
        }
        _ => Err(ApiError::invalid(
            "a conversation is kept with one of If-Match: \"ETAG\" and If-None-Match: *",
        )),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found("conversation_not_found", format!("there is no conversation {id:?}"))
}

/// Why it was not kept.
fn unkept(why: Unkept) -> ApiError {
    match why {
        Unkept::Changed => {
            let message = "the conversation was changed meanwhile: read it and put both together";
            ApiError::limit(StatusCode::PRECONDITION_FAILED, "conversation_changed", message)
        }
        Unkept::TooMany => {
            let message = format!("{MOST} conversations are kept already");
            ApiError::limit(StatusCode::INSUFFICIENT_STORAGE, "too_many_conversations", message)
        }
        Unkept::Io(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            let message = "the disk is full: the conversation was not kept";
            ApiError::limit(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
        }
        Unkept::Io(error) => ApiError::server("not_kept", format!("the conversation was not kept: {error}")),
    }
}

/// Works on files, off the threads that serve connections.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::server("internal_error", "the files could not be worked on");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
