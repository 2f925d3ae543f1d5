//! `/pouch/v1/requests`: answers in the making, by the ids that their streams tell.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;

/// The requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestList {
    requests: Vec<String>,
}

/// Whether the user looks at an answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FocusRequest {
    focused: bool,
}

/// That it was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    id: String,
}

/// Lists the answers in the making.
#[utoipa::path(get, path = "/pouch/v1/requests", tag = "Pouch", responses((status = 200, body = RequestList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> axum::Json<RequestList> {
    let mut requests = app.active.ids();
    requests.sort_unstable();
    axum::Json(RequestList { requests })
}

/// Ends an answer. What has come of it stays with those who have it.
#[utoipa::path(delete, path = "/pouch/v1/requests/{id}", tag = "Pouch",
    params(("id" = String, Path, description = "The id that its response or stream has")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Done>, ApiError> {
    find(&app, &id)?.into_iter().for_each(|request| app.service.cancel(request));
    Ok(axum::Json(Done { id }))
}

/// Says whether the user looks at an answer: it is hurried if so.
#[utoipa::path(post, path = "/pouch/v1/requests/{id}/focus", tag = "Pouch", request_body = FocusRequest,
    params(("id" = String, Path, description = "The id that its response or stream has")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(crate) async fn focus(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(FocusRequest { focused }): Json<FocusRequest>,
) -> Result<axum::Json<Done>, ApiError> {
    find(&app, &id)?.into_iter().for_each(|request| app.service.focus(request, focused));
    Ok(axum::Json(Done { id }))
}

fn find(app: &App, id: &str) -> Result<Vec<engine::RequestId>, ApiError> {
    let unknown = || ApiError::not_found("request_not_found", format!("no answer is being made for {id:?}"));
    app.active.requests(id).ok_or_else(unknown)
}
