//! `POST /api/embed`: texts as vectors.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use engine::{Class, encode_prompt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::{OllamaError, OllamaErrorBody};
use crate::api_error::ApiError;
use crate::app::App;
use crate::body::Json;
use crate::embedding::{self, Texts};

/// A request for vectors. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbedRequest {
    model: Option<String>,
    input: crate::openai::OneOrMany,
}

/// The vectors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbedResponse {
    model: String,
    embeddings: Vec<Vec<f32>>,
    /// Nanoseconds.
    total_duration: u64,
    prompt_eval_count: usize,
}

/// Makes vectors of texts: of length 1, pooled as the model's file says.
#[utoipa::path(post, path = "/api/embed", tag = "Ollama", request_body = EmbedRequest,
    responses((status = 200, body = EmbedResponse), (status = "4XX", body = OllamaErrorBody)))]
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    request: Result<Json<EmbedRequest>, ApiError>,
) -> Result<axum::Json<EmbedResponse>, OllamaError> {
    let asked = Instant::now();
    let Json(request) = request?;
    let model = app.models.find(request.model.as_deref())?.card.name.clone();
    let texts = Texts::Plain(request.input.into_vec());
    let embedded = embedding::embed(&app, request.model.as_deref(), texts, Class::Normal, |model, text| {
        encode_prompt(&model.tokenizer, text, false)
    });
    let embedded = embedded.await?;
    Ok(axum::Json(EmbedResponse {
        model,
        embeddings: embedded.vectors,
        total_duration: asked.elapsed().as_nanos() as u64,
        prompt_eval_count: embedded.tokens,
    }))
}
