//! Requests and what becomes of them.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use crate::address::Address;
use crate::{Error, Events, Stop};

/// For a server to be found and connected to.
const CONNECT: Duration = Duration::from_secs(5);

/// For a server to begin its answer where it has nothing to compute.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer that comes whole, at most.
const MOST: u64 = 64 << 20;

/// Bytes of a refusal that are read.
const MOST_OF_REFUSAL: u64 = 1 << 20;

/// Characters shown of a refusal that is not in the API's form.
const SHOWN: usize = 200;

/// Asks one server.
#[derive(Clone)]
pub struct Client {
    address: Arc<Address>,
    key: Option<Arc<str>>,
}

impl fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Client").field("address", &self.address.shown).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `http://host:port`, `https://host` (with or without the `/v1` that the API's paths begin with)
    /// or, on Unix, `unix:/path`. Nothing is asked yet. Beyond this machine the usual proxy variables count.
    ///
    /// # Errors
    /// [`Error::Address`] if it is none of these.
    pub fn at(address: &str) -> Result<Client, Error> {
        Ok(Client { address: Arc::new(Address::parse(address)?), key: None })
    }

    /// Sends a key with each request: `Authorization: Bearer KEY`.
    pub fn with_key(self, key: &str) -> Client {
        Client { key: Some(key.trim().into()), ..self }
    }

    /// Where it asks, as it was given.
    pub fn address(&self) -> &str {
        &self.address.shown
    }

    /// The JSON at a path that begins with a slash, such as `/v1/models`.
    ///
    /// # Errors
    /// All but [`Error::Address`] and [`Error::Failed`]; the same for the other ways to ask.
    pub fn get(&self, path: &str) -> Result<Value, Error> {
        self.whole(Method::GET, path, None, Some(PATIENCE))
    }

    /// Puts a document in its place.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.whole(Method::PUT, path, Some(body), Some(PATIENCE))
    }

    /// The JSON at a path, and what names its version (`ETag`), if the server names versions.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn get_version(&self, path: &str) -> Result<(Value, Option<String>), Error> {
        self.whole_version(Method::GET, path, None, &[], Some(PATIENCE))
    }

    /// Puts a document in its place, over the version that `over` names alone, or over none at all. Returns what names the new version.
    ///
    /// # Errors
    /// As for [`Client::get`]; [`Error::Refused`] with status 412 if another version is there.
    pub fn put_version(&self, path: &str, body: &Value, over: Option<&str>) -> Result<Option<String>, Error> {
        let condition = over.map_or(("if-none-match", "*"), |version| ("if-match", version));
        let kept = self.whole_version(Method::PUT, path, Some(body), &[condition], Some(PATIENCE));
        kept.map(|(_, version)| version)
    }

    /// Asks for an answer that comes whole, however long it takes.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.whole(Method::POST, path, Some(body), None)
    }

    /// Takes a document away.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Value, Error> {
        self.whole(Method::DELETE, path, None, Some(PATIENCE))
    }

    /// Asks for an answer that comes in events. The body says that it is to (`"stream": true`).
    ///
    /// # Errors
    /// As for [`Client::get`], until the answer begins; later errors are among the events.
    pub fn stream(&self, path: &str, body: &Value) -> Result<Events, Error> {
        self.stream_until(path, body, &Stop::new())
    }

    /// The same, until `stop` is set: waiting for the answer then fails with [`Error::Stopped`], and its events end.
    ///
    /// # Errors
    /// As for [`Client::stream`].
    pub fn stream_until(&self, path: &str, body: &Value, stop: &Stop) -> Result<Events, Error> {
        let answer =
            self.ask(Method::POST, path, Some(body), &[("accept", "text/event-stream")], None, stop)?;
        let body = answer.into_body().into_reader();
        Ok(Events::new(Arc::clone(&self.address), stop.clone(), body))
    }

    fn whole(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Option<Duration>,
    ) -> Result<Value, Error> {
        self.whole_version(method, path, body, &[], patience).map(|(value, _)| value)
    }

    fn whole_version(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
        patience: Option<Duration>,
    ) -> Result<(Value, Option<String>), Error> {
        let headers = [&[("accept", "application/json")], headers].concat();
        let mut answer = self.ask(method, path, body, &headers, patience, &Stop::new())?;
        let version = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let bytes = answer.body_mut().with_config().limit(MOST).read_to_vec();
        let bytes = bytes.map_err(|error| reading_failed(&self.address, error))?;
        if bytes.is_empty() {
            return Ok((Value::Null, version));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| Error::NotUnderstood {
            address: self.address.shown.clone(),
            reason: format!("it is not JSON: {error}"),
        })?;
        Ok((value, version))
    }

    /// Sends a request on a connection of its own and waits for the head of the answer.
    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
        patience: Option<Duration>,
        stop: &Stop,
    ) -> Result<Response<Body>, Error> {
        let agent = self.agent(patience);
        stop.watch(&agent)?;
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string());
                request.map_err(ureq::Error::from).and_then(|request| agent.run(request))
            }
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request)),
        };
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(refusal(answer)),
            Err(_) if stop.is_set() => Err(Error::Stopped),
            Err(error) => Err(asking_failed(&self.address, error)),
        }
    }

    /// An agent for one request. Connections are not kept: one costs little beside any answer, and a server that is stopping
    /// need not wait for those that idle.
    fn agent(&self, patience: Option<Duration>) -> Agent {
        let mut config = Agent::config_builder()
            .user_agent(concat!("pouch/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(patience);
        if self.address.is_here {
            config = config.proxy(None);
        }
        #[cfg(unix)]
        if let Some(socket) = &self.address.socket {
            return crate::unix::agent(config.build(), socket);
        }
        config.build().into()
    }
}

/// A text as one segment of a path: whatever is not a letter, a digit or one of `-._~` as `%XX`.
pub fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// What the API says in `error`.
pub(crate) struct ErrorObject {
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

impl ErrorObject {
    /// Of a body or an event, if it is one. Some servers have a bare text there.
    pub(crate) fn of(body: &Value) -> Option<ErrorObject> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match &body["error"] {
            Value::String(message) => Some(ErrorObject { code: None, message: message.clone() }),
            error @ Value::Object(_) => Some(ErrorObject {
                code: text(&error["code"]).or_else(|| text(&error["type"])),
                message: text(&error["message"]).unwrap_or_else(|| error.to_string()),
            }),
            _ => None,
        }
    }
}

/// What the server says when it does not do what it is asked.
fn refusal(mut answer: Response<Body>) -> Error {
    let status = answer.status();
    // What cannot be read says nothing; the status does.
    let body = answer.body_mut().with_config().limit(MOST_OF_REFUSAL).read_to_vec().unwrap_or_default();
    let object = serde_json::from_slice(&body).ok().and_then(|body| ErrorObject::of(&body));
    let ErrorObject { code, message } = object.unwrap_or_else(|| {
        let said: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN).collect();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        ErrorObject { code: None, message: format!("the server answers {status}{said}") }
    });
    Error::Refused { status: status.as_u16(), code, message }
}

/// Why no answer began.
fn asking_failed(address: &Address, error: ureq::Error) -> Error {
    let shown = address.shown.clone();
    let unreachable = |reason: String| Error::Unreachable { address: shown.clone(), reason };
    match error {
        ureq::Error::Http(error) => Error::Request { reason: error.to_string() },
        ureq::Error::HostNotFound => unreachable("its name does not resolve".to_owned()),
        ureq::Error::Timeout(_) => unreachable("no answer in time".to_owned()),
        ureq::Error::Io(error) if !is_end(&error) => unreachable(error.to_string()),
        error @ (ureq::Error::Io(_) | ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
            reading_failed(address, error)
        }
        other => unreachable(other.to_string()),
    }
}

/// Why an answer that began did not come whole.
pub(crate) fn reading_failed(address: &Address, error: ureq::Error) -> Error {
    let address = address.shown.clone();
    match error {
        ureq::Error::Io(_) => Error::CutOff { address },
        ureq::Error::BodyExceedsLimit(bytes) => {
            Error::NotUnderstood { address, reason: format!("it is longer than {} MiB", bytes >> 20) }
        }
        other => Error::NotUnderstood { address, reason: other.to_string() },
    }
}

/// Whether a connection that was there has ended.
fn is_end(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}
