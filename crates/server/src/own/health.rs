//! `GET /health` and `GET /metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api_error::ErrorBody;
use crate::app::App;
use crate::metrics::value;

/// That it lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
}

/// Tells that the server takes requests. Needs no key.
#[utoipa::path(get, path = "/health", tag = "Pouch",
    responses((status = 200, body = Health), (status = 503, body = ErrorBody)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    match app.is_stopping.load(Ordering::Relaxed) {
        true => {
            crate::api_error::ApiError::unavailable("server_stopping", "the server stops").into_response()
        }
        false => axum::Json(Health { status: "ok" }).into_response(),
    }
}

/// Tells figures in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Pouch",
    responses((status = 200, description = "Figures in Prometheus' text format", body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut out = String::with_capacity(8 << 10);
    app.metrics.write(&mut out);
    let figures = app.service.figures();
    let gauges = [
        ("pouch_requests_queued", "Requests that wait for memory.", figures.queued as f64),
        ("pouch_kv_bytes", "Bytes of keys and values.", figures.kv_bytes as f64),
        (
            "pouch_memory_bytes",
            "Bytes of weights, keys and values.",
            app.models.memory().budget().used() as f64,
        ),
        ("pouch_prefill_tokens_per_second", "Tokens of prompts a second, lately.", figures.prefill_tok_s),
        ("pouch_decode_tokens_per_second", "Tokens of answers a second, lately.", figures.decode_tok_s),
    ];
    for (name, help, gauge) in gauges {
        value(&mut out, name, "gauge", help, gauge);
    }
    let counters = [
        (
            "pouch_preemptions_total",
            "Passes that were put aside for a more urgent one.",
            figures.preempted as f64,
        ),
        ("pouch_busy_seconds_total", "Seconds that the machine computed.", figures.busy_seconds),
    ];
    for (name, help, count) in counters {
        value(&mut out, name, "counter", help, count);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response()
}
