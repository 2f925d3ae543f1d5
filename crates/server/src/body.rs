//! A request's JSON body, read within limits, and what is wrong with one in words that name the field.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::api_error::ApiError;
use crate::app::App;
use crate::limits::Limits;

/// The body of a request as `T`. Unknown fields are ignored, as clients send newer ones than we know.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json<T>, ApiError> {
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let reading = read(request.into_body(), declared, &app.limits, &app.body_bytes);
        let bytes = tokio::time::timeout(app.limits.body_time, reading).await.map_err(|_| {
            let message =
                format!("the body did not arrive within {} seconds", app.limits.body_time.as_secs());
            ApiError::limit(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
        })??;
        parse(&bytes, app.limits.depth).map(Json)
    }
}

/// All bytes of a body. Every byte takes a permit of `room` as long as the body is being read.
async fn read(
    mut body: Body,
    declared: Option<usize>,
    limits: &Limits,
    room: &Semaphore,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(64 << 10));
    let mut permits = room.try_acquire_many(0).ok();
    let mut excess = declared.is_some_and(|length| length > limits.body).then_some(0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if let Some(excess) = &mut excess {
            // What a client is still sending when the connection closes can cost it our answer: take some of it in.
            *excess += data.len();
            if *excess > limits.body {
                break;
            }
            continue;
        }
        if bytes.len() + data.len() > limits.body {
            (bytes, permits, excess) = (Vec::new(), None, Some(0));
            continue;
        }
        let more = room.try_acquire_many(data.len() as u32);
        let more = more.map_err(|_| ApiError::busy("too many large requests are being read at once"))?;
        match &mut permits {
            Some(permits) => permits.merge(more),
            None => permits = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    match excess {
        Some(_) => {
            let message = format!("the body is longer than {} bytes", limits.body);
            Err(ApiError::limit(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message))
        }
        None => Ok(bytes),
    }
}

/// The JSON in `bytes` as `T`.
fn parse<T: DeserializeOwned>(bytes: &[u8], depth: usize) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid("the body is empty, expected a JSON object"));
    }
    // A list could pass for an object with its fields in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("the body is a list, expected a JSON object"));
    }
    if nesting(bytes) > depth {
        return Err(ApiError::invalid(format!("the body nests more than {depth} levels deep"))
            .with_code("nesting_too_deep"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let message = plain(&error.to_string());
        match (error.classify(), path.as_str()) {
            (serde_json::error::Category::Data, ".") => ApiError::invalid(message),
            (serde_json::error::Category::Data, field) => {
                ApiError::field(field, format!("{field}: {message}"))
            }
            _ => ApiError::invalid(format!("the body is no JSON: {error}")),
        }
    })?;
    deserializer.end().map_err(|error| ApiError::invalid(format!("the body is no JSON: {error}")))?;
    Ok(value)
}

/// How deep lists and objects lie in each other. Strings do not count; what is no JSON gives some figure.
fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A parser's message without its place and without names of Rust types.
fn plain(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let (said, expected) = match message.rsplit_once("expected ") {
        Some((said, expected)) => (said, expected),
        None => return message.to_owned(),
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        name if name.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{said}expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        inner: Vec<Inner>,
        count: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        name: String,
    }

    fn wrong(body: &str) -> (Option<String>, String) {
        let error = parse::<Outer>(body.as_bytes(), 8).unwrap_err();
        let error = serde_json::to_value(error.body()).unwrap();
        let param = error["error"]["param"].as_str().map(str::to_owned);
        (param, error["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (param, message) = wrong(r#"{"inner": [{"name": "a"}, {"name": 1}]}"#);
        assert_eq!(param.as_deref(), Some("inner[1].name"));
        assert_eq!(message, "inner[1].name: invalid type: integer `1`, expected a string");
        let (param, message) = wrong(r#"{"inner": [], "count": -1}"#);
        assert_eq!(param.as_deref(), Some("count"));
        assert!(message.ends_with("expected a whole number of 0 or more"), "{message}");
        assert_eq!(wrong("{}"), (None, "missing field `inner`".to_owned()));
        assert!(wrong(r#"{"inner": ["#).1.starts_with("the body is no JSON"));
        assert!(wrong("[[], 1]").1.starts_with("the body is a list"));
        assert!(wrong(r#"{"inner": []} {}"#).1.starts_with("the body is no JSON"));
        assert!(wrong(" \n").1.starts_with("the body is empty"));
        assert!(wrong(r#"{"a": [[[[[[[["#).1.contains("8 levels"));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert_eq!(nesting(br#"{"a": ["[[[{{{\"[["]}"#), 2);
        assert_eq!(nesting(b"]]]["), 1);
        assert_eq!(nesting(b"\"[["), 0);
    }
}
