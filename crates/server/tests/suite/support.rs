//! A server with tiny models, and a client that shows every byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use engine::{Journal, Keeping, Service, ServiceOptions};
use model::{Budget, KvType};
use serde_json::Value;
use server::{Limits, Listen, ModelFile, Options, Server};
use testkit::{TinyOptions, tiny_model};

/// A running server; ends with the test.
pub(crate) struct Running {
    server: Option<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    key: Option<String>,
}

/// Options that tests change: one tiny llama called `tiny` whose answers are text and do not end by themselves.
pub(crate) struct Setup {
    pub(crate) models: Vec<(&'static str, TinyOptions)>,
    pub(crate) key: Option<&'static str>,
    pub(crate) limits: Limits,
    pub(crate) memory: Option<usize>,
    pub(crate) socket: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
}

impl Setup {
    pub(crate) fn new() -> Setup {
        Setup {
            models: vec![("tiny", endless())],
            key: None,
            limits: Limits { stop_time: Duration::from_millis(200), ..Limits::default() },
            memory: None,
            socket: false,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }

    pub(crate) fn start(self) -> Running {
        self.start_in(tempfile::tempdir().unwrap())
    }

    /// Starts in a folder that an earlier server may have used.
    pub(crate) fn start_in(self, folder: tempfile::TempDir) -> Running {
        let data = folder.path().join("data");
        let (journal, recovered) = Journal::open(&data.join("journal")).unwrap();
        let budget = self.memory.map_or_else(Budget::unlimited, Budget::new);
        let keeping = Keeping { memory: budget.into(), store: None, journal: Some(journal) };
        let file = |(name, options): &(&str, TinyOptions)| {
            let path = folder.path().join(format!("{name}.gguf"));
            tiny_model(options).write(&path);
            let aliases = vec![format!("{name}.gguf")];
            ModelFile { name: (*name).to_owned(), aliases, path, cache_folder: None, open: None }
        };
        let models = self.models.iter().map(file).collect();
        let mut listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        if self.socket {
            listen.push(Listen::Unix(folder.path().join("pouch.sock")));
        }
        let computing =
            ServiceOptions { threads: Some(1), keeping: keeping.clone(), ..ServiceOptions::default() };
        let server = Server::start(Options {
            models,
            service: Service::start(computing).unwrap(),
            listen,
            key: self.key.map(str::to_owned),
            hosts: self.hosts,
            origins: self.origins,
            context: None,
            kv_type: KvType::F16,
            keeping,
            recovered,
            data: Some(data),
            limits: self.limits,
        });
        let server = server.unwrap();
        let address = server.tcp_address().unwrap();
        Running { server: Some(server), address, folder, key: self.key.map(str::to_owned) }
    }
}

/// A tiny llama whose greedy answers are text and do not end by themselves.
pub(crate) fn endless() -> TinyOptions {
    let mut options = TinyOptions::new("llama");
    options.endless = true;
    options.context = 4096;
    options
}

impl Running {
    /// Why it is not found in its data folder.
    #[cfg(unix)]
    pub(crate) fn hidden(&self) -> Option<&server::Error> {
        self.server.as_ref().and_then(Server::hidden)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The objects of a stream of server-sent events, `[DONE]` left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self
            .body
            .split("\n\n")
            .flat_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The objects of a stream of lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Running {
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Stops it and gives its folder back.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        self.server.take().unwrap().stop();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A connection that waits for nothing longer than half a minute.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        if let Some(key) = &self.key
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(&self.request(method, path, headers, body)).unwrap();
        read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    /// Posts what must be answered with 200, and gives the object.
    pub(crate) fn object(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// Starts a streamed request and returns once its head is there.
    pub(crate) fn open(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&self.request("POST", path, &[], body.to_string().as_bytes())).unwrap();
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).unwrap();
        assert!(bytes[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes[..count]));
        stream
    }

    /// Waits until `holds`; panics after half a minute.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        for _ in 0..3000 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} did not come about");
    }
}

/// Reads a response to the end of its connection.
pub(crate) fn read(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    // Where a server refuses early, the rest of the request can cost the end of the connection, not the answer.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Response {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Response { status, headers, body }
}

/// The body of a chunked response, as far as it came.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = rest.get(..size) else { break };
        whole.push_str(chunk);
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    whole
}

/// A request to chat, `fields` besides.
pub(crate) fn chat(text: &str, fields: &Value) -> Value {
    let mut request = serde_json::json!({
        "model": "tiny", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8,
    });
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}
