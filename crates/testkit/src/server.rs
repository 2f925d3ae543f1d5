//! A hub for tests: a few lines of HTTP/1.1 on a free port of this machine, which can cut, redirect, refuse and ignore ranges
//! on demand and remembers what it was asked. Panics where a test could not go on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What it answers.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// What follows them.
    pub body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub cut_after: Option<usize>,
}

impl Response {
    /// A bare status.
    pub fn status(status: u16) -> Response {
        Response { status, ..Response::default() }
    }

    /// With one header more.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Broken off after so many bytes.
    pub fn cut_after(mut self, bytes: usize) -> Response {
        self.cut_after = Some(bytes);
        self
    }

    /// A file as a range-aware server gives it: whole, or the part asked for if `If-Range` (when sent) names `tag`.
    pub fn file(request: &Request, bytes: &[u8], tag: &str) -> Response {
        let fresh = request.header("if-range").is_none_or(|asked| asked == tag);
        let range = request.header("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
            Some((first.parse().ok()?, last.min(bytes.len().saturating_sub(1))))
        });
        let response = match range.filter(|_| fresh) {
            Some((first, _)) if first >= bytes.len() => {
                Response::status(416).header("Content-Range", format!("bytes */{}", bytes.len()))
            }
            Some((first, last)) => {
                Response { status: 206, body: bytes[first..=last].to_vec(), ..Response::default() }
                    .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            }
            None => Response { status: 200, body: bytes.to_vec(), ..Response::default() },
        };
        response.header("ETag", tag)
    }
}

/// A running server; its thread ends with the test process.
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts one that serves one request after another. `answer` gets each request and how many came before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Response + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let count = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                // A client that hangs up early is part of some tests.
                let _ = write(&mut stream, &answer(&request, count));
            }
        });
        Server { address, requests }
    }

    /// Everything asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let headers = lines.map_while(|line| line.ok().filter(|line| !line.is_empty()));
    let headers =
        headers.filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())));
    Some(Request { path, headers: headers.collect() })
}

fn write(stream: &mut TcpStream, response: &Response) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {} Test\r\nConnection: close\r\nContent-Length: {}\r\n",
        response.status,
        response.body.len()
    )?;
    for (name, value) in &response.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&response.body[..response.cut_after.unwrap_or(response.body.len())])?;
    stream.flush()
}

/// An address of this machine where nobody answers.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
