//! A server of a few lines: each connection's request is read whole, and the test writes what it likes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use client::Client;

/// What a client sent.
#[derive(Debug)]
pub(crate) struct Request {
    /// `POST /path HTTP/1.1`
    pub(crate) line: String,
    /// In lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn read(stream: &mut dyn Connection) -> Request {
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let headers = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()));
        let headers = headers.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        });
        let mut request = Request { line: first, headers: headers.collect(), body: String::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        request.body = String::from_utf8(body).unwrap();
        request
    }
}

/// What carries a request and its answer.
pub(crate) trait Connection: Read + Write + Send {}
impl<T: Read + Write + Send> Connection for T {}

/// A server that answers every request with `answer`, on a thread that ends with the tests, and what it was asked.
pub(crate) fn serve(answer: impl Fn(&mut dyn Connection) + Send + 'static) -> (Client, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    (client, on_thread(move || listener.accept().unwrap().0, answer))
}

/// The same at a Unix socket in `folder`.
#[cfg(unix)]
pub(crate) fn serve_unix(
    folder: &std::path::Path,
    answer: impl Fn(&mut dyn Connection) + Send + 'static,
) -> (Client, Receiver<Request>) {
    let path = folder.join("test.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let client = Client::at(&format!("unix:{}", path.display())).unwrap();
    (client, on_thread(move || listener.accept().unwrap().0, answer))
}

fn on_thread<C: Connection>(
    mut accept: impl FnMut() -> C + Send + 'static,
    answer: impl Fn(&mut dyn Connection) + Send + 'static,
) -> Receiver<Request> {
    let (sender, requests) = channel();
    thread::spawn(move || {
        loop {
            let mut connection = accept();
            let request = Request::read(&mut connection);
            // A test that does not look at the requests has dropped the receiver.
            let _ = sender.send(request);
            answer(&mut connection);
        }
    });
    requests
}

/// Writes a whole answer.
pub(crate) fn write(stream: &mut dyn Connection, head: &str, body: &str) {
    let length = body.len();
    write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
}

/// Begins an answer of unknown length.
pub(crate) fn begin_stream(stream: &mut dyn Connection) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
}

/// Writes a piece of it; whether anybody is there to take it.
pub(crate) fn piece(stream: &mut dyn Connection, text: &str) -> bool {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).and_then(|()| stream.flush()).is_ok()
}

/// Ends it.
pub(crate) fn end_stream(stream: &mut dyn Connection) {
    stream.write_all(b"0\r\n\r\n").unwrap();
}
