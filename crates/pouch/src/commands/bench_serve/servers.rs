//! The servers that are measured: this program's own, and another engine's, each started afresh for each load.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use serde::Serialize;
use serde_json::{Value, json};

use super::load::words;
use crate::commands::serve::KEY_VARIABLE;
use crate::errors::Failure;

/// Tokens that must fit into one session: the longest prompt of the loads and an answer.
const CONTEXT: usize = 9216;

/// Sessions at a time that the other engine is given room for, and their context together.
const PLACES: (usize, usize) = (16, 32768);

/// Time for a server to open its model.
const START: Duration = Duration::from_secs(120);

/// A server that can be started.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Its options, but for the model and the port.
    pub(super) flags: Vec<String>,
    #[serde(skip)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `pouch serve`.
    Own,
    /// A program with the options of llama.cpp's llama-server.
    Peer,
}

/// One that runs. Dropped, it is killed.
pub(super) struct Running {
    child: Child,
    pub(super) client: Client,
}

impl Server {
    /// This program's, with options more.
    pub(super) fn own(name: &str, threads: usize, more: &[&str]) -> Result<Server, Failure> {
        let program = std::env::current_exe()
            .map_err(|source| Failure::io("find this program at", Path::new("itself"), source))?;
        let flags =
            ["--threads", &threads.to_string(), "--context", &CONTEXT.to_string(), "--prefix-cache", "0"];
        let flags = flags.iter().chain(more).map(|&flag| flag.to_owned()).collect();
        Ok(Server { name: name.to_owned(), program, flags, kind: Kind::Own })
    }

    /// Another one.
    pub(super) fn peer(name: String, program: PathBuf, threads: usize) -> Server {
        let (threads, places, context) = (threads.to_string(), PLACES.0.to_string(), PLACES.1.to_string());
        let flags = [
            "--threads",
            &threads,
            "--threads-batch",
            &threads,
            "--parallel",
            &places,
            "--kv-unified",
            "--ctx-size",
            &context,
            "--flash-attn",
            "on",
            "--no-webui",
        ];
        Server { name, program, flags: flags.map(str::to_owned).to_vec(), kind: Kind::Peer }
    }

    /// Starts it with the model, keeping nothing outside of `folder`, and waits until it has answered once.
    pub(super) fn start(&self, model: &Path, folder: &Path) -> Result<Running, Failure> {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let (child, address) = match self.kind {
            Kind::Own => {
                command.arg("serve").arg(model).args(&self.flags).args(["--port", "0", "--json"]);
                command.arg("--data").arg(folder).env_remove(KEY_VARIABLE).stdout(Stdio::piped());
                let mut child = self.spawn(&mut command)?;
                let mut said = String::new();
                if let Some(output) = child.stdout.take() {
                    let _ = BufReader::new(output).read_line(&mut said);
                }
                let said: Value = serde_json::from_str(&said).unwrap_or_default();
                let address = said["addresses"][0].as_str().unwrap_or_default().to_owned();
                (child, address)
            }
            Kind::Peer => {
                let port = free_port().map_err(|error| self.failure(format!("gets no port: {error}")))?;
                command.arg("--model").arg(model).args(&self.flags).args(["--port", &port.to_string()]);
                command.stdout(Stdio::null());
                (self.spawn(&mut command)?, format!("http://127.0.0.1:{port}"))
            }
        };
        let client = Client::at(&address);
        let mut running = match client {
            Ok(client) => Running { child, client },
            Err(_) => return Err(self.ended(child)),
        };
        let start = Instant::now();
        while running.client.get("/health").is_err() {
            let has_ended = !matches!(running.child.try_wait(), Ok(None));
            if has_ended || start.elapsed() > START {
                return Err(self.failure("did not come up; started by hand it may say why".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let warm_up = json!({"prompt": words(32, 0), "max_tokens": 4, "temperature": 0});
        running
            .client
            .post("/v1/completions", &warm_up)
            .map_err(|error| self.failure(format!("says: {error}")))?;
        Ok(running)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Failure> {
        command.spawn().map_err(|error| self.failure(format!("cannot be started: {error}")))
    }

    fn ended(&self, mut child: Child) -> Failure {
        let _ = child.kill();
        let _ = child.wait();
        self.failure("did not come up; `pouch serve` may say why".to_owned())
    }

    fn failure(&self, problem: String) -> Failure {
        Failure::Peer { program: self.program.clone(), problem }
    }
}

impl Running {
    /// Ends it at once, and every request with it.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens at just now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
