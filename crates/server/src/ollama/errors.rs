//! Errors as Ollama's clients read them.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_error::ApiError;

/// An error, to be told in Ollama's form.
pub(crate) struct OllamaError(ApiError);

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(crate) struct OllamaErrorBody<'a> {
    error: &'a str,
}

impl From<ApiError> for OllamaError {
    fn from(error: ApiError) -> OllamaError {
        OllamaError(error)
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        (self.0.status, axum::Json(body(&self.0))).into_response()
    }
}

/// The body, for where it is sent inside a stream.
pub(super) fn body(error: &ApiError) -> OllamaErrorBody<'_> {
    OllamaErrorBody { error: &error.detail.message }
}
