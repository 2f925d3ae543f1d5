//! An answer in the making, as handlers hold it, and how it becomes a streamed response.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::pump::Event;
use super::start::Cancel;

/// A sign of life is sent after so long without an event: a long prompt can take minutes, and clients give up on silence.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of one piece of a stream, roughly, where many events wait.
const PIECE: usize = 16 << 10;

/// The events of one request's answers. Dropping it cancels what is not stored.
pub(crate) struct Answer {
    /// Its name.
    pub(crate) id: String,
    /// The model's name.
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) prompt_tokens: usize,
    pub(crate) choices: usize,
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) _cancel: Cancel,
}

impl Answer {
    /// The next event; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// How a protocol writes a stream of events.
pub(crate) trait Render: Send + 'static {
    /// The media type.
    const KIND: &'static str;

    /// What stands before the first event.
    fn begin(&mut self, out: &mut String);

    /// One event.
    fn event(&mut self, event: Event, out: &mut String);

    /// What stands after the last event.
    fn end(&mut self, out: &mut String);

    /// A sign of life that means nothing.
    fn idle(&self, out: &mut String);
}

/// Where a stream stands.
enum Stage {
    Begins,
    Runs,
    Over,
}

/// The answer as a streamed response. Its reader sets the pace; events wait meanwhile, and there are no more of them than
/// the answer has tokens.
pub(crate) fn respond<R: Render>(answer: Answer, render: R) -> Response {
    let state = (answer, render, Stage::Begins);
    let pieces = stream::unfold(state, |(mut answer, mut render, mut stage)| async move {
        let mut out = String::new();
        match stage {
            Stage::Begins => {
                render.begin(&mut out);
                stage = Stage::Runs;
            }
            Stage::Runs => {}
            Stage::Over => return None,
        }
        while out.is_empty() {
            match tokio::time::timeout(SILENCE, answer.next()).await {
                Err(_) => render.idle(&mut out),
                Ok(Some(event)) => render.event(event, &mut out),
                Ok(None) => {
                    render.end(&mut out);
                    stage = Stage::Over;
                    break;
                }
            }
        }
        // What waits already goes along.
        while matches!(stage, Stage::Runs) && out.len() < PIECE {
            match answer.events.try_recv() {
                Ok(event) => render.event(event, &mut out),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    render.end(&mut out);
                    stage = Stage::Over;
                }
            }
        }
        Some((Ok::<_, std::convert::Infallible>(out), (answer, render, stage)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(R::KIND));
    // Proxies that collect pieces would undo the streaming.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Appends a server-sent event of unnamed type: `data: JSON`.
pub(crate) fn data(out: &mut String, object: &impl serde::Serialize) {
    out.push_str("data: ");
    // Our own objects have text keys and no failing parts.
    out.push_str(&serde_json::to_string(object).unwrap_or_default());
    out.push_str("\n\n");
}
