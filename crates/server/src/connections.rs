//! Connections: how many there may be, how long each may take for what, and how they end when the server does.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

use crate::api_error::ApiError;
use crate::broken::Worded;
use crate::limits::Limits;
use crate::listen::{Listener, Stream};

/// Rest after the system could not give a connection, which is when it has no file numbers left.
const REST: Duration = Duration::from_millis(50);

/// Accepts connections and serves them until `stop` says so.
pub(crate) async fn accept(
    listener: Listener,
    router: Router,
    limits: Limits,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let router = router.layer(Extension(listener.transport()));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(_) => {
                    sleep(REST).await;
                    continue;
                }
            },
            () = told(&mut stop) => return,
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(serve(stream, router.clone(), limits.clone(), place, stop.clone()));
            }
            Err(_) => {
                tokio::spawn(refuse(stream));
            }
        }
    }
}

/// Serves one connection to its end. Told to stop, it finishes the request it is at.
async fn serve(
    stream: Box<dyn Stream>,
    router: Router,
    limits: Limits,
    _place: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    let mut io = TokioIo::new(Worded::new(Patient { stream, time: limits.write_time, waiting: None }));
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head.max(8 << 10))
            .serve_connection(&mut io, TowerToHyperService::new(router));
        let mut connection = pin!(connection);
        // How a connection ends is the client's affair.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
    io.into_inner().linger().await;
}

/// Waits until the server is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Without a sender there is no server any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Says that there are too many connections.
async fn refuse(mut stream: Box<dyn Stream>) {
    let mut error = ApiError::busy("too many connections").with_code("too_many_connections");
    error.status = StatusCode::SERVICE_UNAVAILABLE;
    let say = async {
        stream.write_all(&error.to_bytes()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), say).await;
}

/// A stream that fails when its reader takes nothing for too long: whoever stops reading holds a place, no more.
struct Patient {
    stream: Box<dyn Stream>,
    time: Duration,
    /// Runs while there is something to write and it cannot be written.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let time = self.time;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(time)));
        waiting.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(closed, context)
    }
}
