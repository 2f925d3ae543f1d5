//! Every address of the server, and the document that describes them: both come from the same lines.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api_error::ApiError;
use crate::app::App;
use crate::{ollama, openai, own, page, security};

/// The document's head.
#[derive(OpenApi)]
#[openapi(info(
    title = "Pouch",
    description = "Language models on this machine: the OpenAI API, the Ollama API, and what the page uses."
))]
struct Document;

/// All routes, with their checks.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (router, document) = described().split_for_parts();
    let document = document.to_json().unwrap_or_default();
    let json = [(header::CONTENT_TYPE, "application/json")];
    let document: Arc<str> = document.into();
    router
        .route("/openapi.json", get(move || async move { (json, document.to_string()) }))
        .fallback(page::serve)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(app), security::guard))
        .layer(middleware::from_fn_with_state(Arc::clone(app), count))
        .with_state(Arc::clone(app))
}

/// The routes that the document describes.
fn described() -> OpenApiRouter<Arc<App>> {
    let mut document = Document::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let key = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().add_security_scheme("key", key);
    // Where the server has a key; without one nothing is asked.
    let nothing = SecurityRequirement::default();
    document.security = Some(vec![nothing, SecurityRequirement::new("key", Vec::<String>::new())]);
    OpenApiRouter::with_openapi(document)
        .routes(routes!(openai::chat::create))
        .routes(routes!(openai::completions::create))
        .routes(routes!(openai::responses::create))
        .routes(routes!(openai::responses::retrieve, openai::responses::delete))
        .routes(routes!(openai::responses::cancel))
        .routes(routes!(openai::embeddings::create))
        .routes(routes!(openai::models::list))
        .routes(routes!(openai::models::get))
        .routes(routes!(ollama::chat::chat))
        .routes(routes!(ollama::generate::generate))
        .routes(routes!(ollama::embed::embed))
        .routes(routes!(ollama::models::tags))
        .routes(routes!(ollama::models::running))
        .routes(routes!(ollama::models::show))
        .routes(routes!(ollama::models::version))
        .routes(routes!(own::health::health))
        .routes(routes!(own::health::metrics))
        .routes(routes!(own::status::status))
        .routes(routes!(own::requests::list))
        .routes(routes!(own::requests::cancel))
        .routes(routes!(own::requests::focus))
        .routes(routes!(own::conversations::list))
        .routes(routes!(own::conversations::get, own::conversations::put, own::conversations::delete))
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not allowed at {}", request.method(), request.uri().path());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    ApiError::forbidden(status, "method_not_allowed", message).into_response()
}

/// Counts answered requests, and puts into our form what the framework refuses itself: paths and queries that do not decode.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_text =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/plain; charset=utf-8");
    let response = match response.status() {
        StatusCode::BAD_REQUEST if is_text => {
            ApiError::invalid("the address cannot be understood").into_response()
        }
        _ => response,
    };
    app.metrics.answered(response.status().as_u16());
    response
}
