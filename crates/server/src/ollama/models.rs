//! `/api/tags`, `/api/show`, `/api/ps`, `/api/version`: what there is.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::errors::{OllamaError, OllamaErrorBody};
use super::shared::time;
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::Json;
use crate::card::Card;

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tags {
    models: Vec<Tag>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tag {
    name: String,
    model: String,
    modified_at: String,
    size: u64,
    digest: String,
    details: Details,
}

/// What kind of model it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Details {
    parent_model: &'static str,
    format: &'static str,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: &'static str,
}

impl Details {
    fn of(card: &Card) -> Details {
        Details {
            parent_model: "",
            format: "gguf",
            family: card.architecture.clone(),
            families: vec![card.architecture.clone()],
            parameter_size: card.size_name(),
            quantization_level: card.format,
        }
    }
}

impl Tag {
    fn of(card: &Card) -> Tag {
        Tag {
            name: card.name.clone(),
            model: card.name.clone(),
            modified_at: time(card.modified),
            size: card.bytes,
            digest: card.digest.clone(),
            details: Details::of(card),
        }
    }
}

/// Which model.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ShowRequest {
    model: Option<String>,
    /// The older name of the field.
    name: Option<String>,
}

/// What its file says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShowResponse {
    modelfile: String,
    parameters: &'static str,
    template: String,
    details: Details,
    #[schema(value_type = Object)]
    model_info: Map<String, Value>,
    capabilities: Vec<&'static str>,
    modified_at: String,
}

/// The version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    version: &'static str,
}

/// Lists the models.
#[utoipa::path(get, path = "/api/tags", tag = "Ollama", responses((status = 200, body = Tags)))]
pub(crate) async fn tags(State(app): State<Arc<App>>) -> axum::Json<Tags> {
    axum::Json(Tags { models: app.models.entries().iter().map(|entry| Tag::of(&entry.card)).collect() })
}

/// Lists the models in memory.
#[utoipa::path(get, path = "/api/ps", tag = "Ollama", responses((status = 200, body = Tags)))]
pub(crate) async fn running(State(app): State<Arc<App>>) -> axum::Json<Tags> {
    let loaded = app.models.entries().iter().filter(|entry| entry.is_loaded());
    axum::Json(Tags { models: loaded.map(|entry| Tag::of(&entry.card)).collect() })
}

/// Describes a model.
#[utoipa::path(post, path = "/api/show", tag = "Ollama", request_body = ShowRequest,
    responses((status = 200, body = ShowResponse), (status = 404, body = OllamaErrorBody)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    request: Result<Json<ShowRequest>, ApiError>,
) -> Result<axum::Json<ShowResponse>, OllamaError> {
    let Json(request) = request?;
    let card = &app.models.find(request.model.or(request.name).as_deref())?.card;
    let template = card.template.clone().unwrap_or_default();
    let mut capabilities = vec!["completion"];
    if template.contains("tools") {
        capabilities.push("tools");
    }
    Ok(axum::Json(ShowResponse {
        modelfile: format!("FROM {}\n", card.name),
        parameters: "",
        template,
        details: Details::of(card),
        model_info: card.metadata.clone(),
        capabilities,
        modified_at: time(card.modified),
    }))
}

/// Tells the version.
#[utoipa::path(get, path = "/api/version", tag = "Ollama", responses((status = 200, body = Version)))]
pub(crate) async fn version() -> axum::Json<Version> {
    axum::Json(Version { version: env!("CARGO_PKG_VERSION") })
}
