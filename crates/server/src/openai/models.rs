//! `GET /v1/models`: which models there are.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::models::Entry;

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelBody>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelBody {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// Whether it is in memory.
    loaded: bool,
    /// Tokens it was trained for.
    context_length: u64,
    /// Bytes of its file.
    bytes: u64,
}

impl ModelBody {
    pub(crate) fn of(entry: &Entry) -> ModelBody {
        ModelBody {
            id: entry.card.name.clone(),
            object: "model",
            created: entry.card.modified,
            owned_by: "pouch",
            loaded: entry.is_loaded(),
            context_length: entry.card.context,
            bytes: entry.card.bytes,
        }
    }
}

/// Lists the models, the default first.
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI", responses((status = 200, body = ModelList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> axum::Json<ModelList> {
    let data = app.models.entries().iter().map(|entry| ModelBody::of(entry)).collect();
    axum::Json(ModelList { object: "list", data })
}

/// Describes a model.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "OpenAI",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, body = ModelBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
) -> Result<axum::Json<ModelBody>, ApiError> {
    Ok(axum::Json(ModelBody::of(app.models.find(Some(&model))?)))
}
