//! Errors as clients see them: an HTTP status and the object that the OpenAI API has for it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// A request that was refused or failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) detail: ErrorDetail,
    /// Seconds after which the same request may succeed.
    retry_after: Option<u32>,
}

/// What is wrong, as OpenAI's clients read it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// For people.
    pub(crate) message: String,
    /// The kind of error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field of the request that is wrong.
    param: Option<String>,
    /// For programs.
    pub(crate) code: Option<&'static str>,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody<'a> {
    error: &'a ErrorDetail,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> ApiError {
        ApiError { status, detail: ErrorDetail { message, kind, param: None, code }, retry_after: None }
    }

    /// The request means nothing.
    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message.into())
    }

    /// One of its fields means nothing.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::invalid(message).with_param(field)
    }

    /// What the request is about is not there.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", Some(code), message.into())
    }

    /// The request is not for this client to make.
    pub(crate) fn forbidden(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(status, "invalid_request_error", Some(code), message.into())
    }

    /// The request is larger, or slower, than is taken.
    pub(crate) fn limit(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(status, "invalid_request_error", Some(code), message.into())
    }

    /// Too much is asked at once: the same may succeed later.
    pub(crate) fn busy(message: impl Into<String>) -> ApiError {
        let code = Some("rate_limit_exceeded");
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, message.into());
        ApiError { retry_after: Some(1), ..error }
    }

    /// The server cannot do it, through no fault of the request.
    pub(crate) fn server(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some(code), message.into())
    }

    /// The server cannot do it now.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> ApiError {
        let error = ApiError::server(code, message);
        ApiError { status: StatusCode::SERVICE_UNAVAILABLE, ..error }
    }

    /// What is to be stored cannot be.
    pub(crate) fn not_stored(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::INSUFFICIENT_STORAGE, ..ApiError::server("not_stored", message) }
    }

    pub(crate) fn with_param(mut self, param: impl Into<String>) -> ApiError {
        self.detail.param = Some(param.into());
        self
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> ApiError {
        self.detail.code = Some(code);
        self
    }

    /// The whole answer as it goes over a connection that closes then, for where no framework writes it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::to_string(&self.body()).unwrap_or_default();
        let retry = self.retry_after.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n{retry}connection: close\r\n\r\n",
            self.status,
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// The body, for where it is sent inside a stream.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { error: &self.detail }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<text::Error> for ApiError {
    /// The chat template's errors are the conversation's: roles that it does not take, mostly.
    fn from(error: text::Error) -> ApiError {
        ApiError::field("messages", error.to_string())
    }
}

impl From<engine::Error> for ApiError {
    /// What the engine says of a request, or of itself.
    fn from(error: engine::Error) -> ApiError {
        let message = error.to_string();
        match error {
            engine::Error::Setting { name, .. } => ApiError::field(name, message),
            engine::Error::ContextFull { .. } => {
                ApiError::invalid(message).with_code("context_length_exceeded")
            }
            engine::Error::Token { .. } | engine::Error::Empty => ApiError::field("prompt", message),
            engine::Error::Text(error) => error.into(),
            engine::Error::Busy { .. } => ApiError::busy(message),
            engine::Error::NeverFits { .. } => {
                ApiError::field("max_tokens", message).with_code("insufficient_memory")
            }
            engine::Error::Model(model::Error::Budget { .. }) => {
                ApiError::unavailable("insufficient_memory", message)
            }
            engine::Error::NotJournalled { .. } => {
                ApiError::not_stored(format!("{message}; free some space, or ask without `store`"))
            }
            engine::Error::Stopped => ApiError::unavailable("server_stopping", message),
            _ => ApiError::server("engine_failed", message),
        }
    }
}
