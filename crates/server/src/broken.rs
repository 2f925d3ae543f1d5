//! Requests whose head cannot be read. No handler sees them: hyper answers them itself, with a bare status, and closes the connection. On
//! its way out that answer gets the body that all errors of the API have.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::api_error::ApiError;

/// Bytes of hyper's own answer, at most: a line of status, three headers.
const LONGEST: usize = 192;

/// How long, and for how many bytes, to read on after such an answer: what a client is still sending when the connection closes can cost it
/// the answer.
const LINGER: Duration = Duration::from_secs(1);
const MOST: u64 = 256 << 10;

/// A stream on which hyper's own answers are replaced.
pub(crate) struct Worded<S> {
    stream: S,
    /// What is written in the place of hyper's answer, and how much of it has been.
    words: Vec<u8>,
    written: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Worded<S> {
    pub(crate) fn new(stream: S) -> Worded<S> {
        Worded { stream, words: Vec::new(), written: 0 }
    }

    /// After the connection: lets the client read why its request was not, if so.
    pub(crate) async fn linger(self) {
        if !self.words.is_empty() {
            let mut rest = self.stream.take(MOST);
            let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        }
    }

    fn poll_words(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.words.len() {
            let rest = &self.words[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Where hyper's own answer begins in what it writes, which such an answer ends, and our words for it.
fn own_answer(bytes: &[u8]) -> Option<(usize, ApiError)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let end = &bytes[bytes.len().saturating_sub(LONGEST)..];
    let start = end.windows(7).rposition(|window| window == b"HTTP/1.")?;
    let head = std::str::from_utf8(&end[start..]).ok()?;
    // An answer of ours has a body.
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && head.find("\r\n\r\n") == Some(head.len() - 4);
    let (status, code, message) = match head.split(' ').nth(1).filter(|_| is_bare)? {
        "400" => (StatusCode::BAD_REQUEST, "malformed_request", "the head of the request is no HTTP/1.1"),
        "431" => {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            (status, "head_too_large", "the head of the request is too long, or has too many fields")
        }
        _ => return None,
    };
    Some((bytes.len() - end.len() + start, ApiError::limit(status, code, message)))
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

/// Not vectored: hyper's answer comes in one piece then, behind what is left of the answer before.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match own_answer(bytes) {
            Some((0, error)) => {
                self.words = error.to_bytes();
                Poll::Ready(Ok(bytes.len()))
            }
            Some((before, _)) => Pin::new(&mut self.stream).poll_write(context, &bytes[..before]),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_words(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_words(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_answers_are_told_from_ours() {
        const HEAD: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Mon, 23 Nov 2026 05:00:00 GMT\r\n\r\n";
        let found = |bytes: &str| own_answer(bytes.as_bytes()).map(|(at, error)| (at, error.status.as_u16()));
        assert_eq!(found(HEAD), Some((0, 400)));
        assert_eq!(found(&format!("{}{HEAD}", "x".repeat(1000))), Some((1000, 400)));
        assert_eq!(found(&HEAD.replace("1.1 400", "1.0 431")), Some((0, 431)));
        for other in [
            &HEAD[..HEAD.len() - 1],
            &HEAD.replace("400", "404"),
            &HEAD.replace("length: 0", "length: 4"),
            &format!("{HEAD}more\r\n\r\n"),
            "0\r\n\r\n",
            "",
        ] {
            assert_eq!(found(other), None, "{other:?}");
        }
    }
}
