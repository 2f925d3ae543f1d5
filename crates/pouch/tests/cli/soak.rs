//! `pouch serve` over many requests and many ends: what it takes stays what it took, and what was promised is kept.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::Client;
use serde_json::{Value, json};

use crate::serve::{signal, start};
use crate::support::Pouch;

/// Clients at a time.
const CLIENTS: usize = 4;

/// A short request; every number is another one.
fn request(number: usize) -> Value {
    json!({"prompt": format!("Tell number {number}."), "max_tokens": 2, "seed": number})
}

/// What a process has, as Linux counts it.
#[derive(Debug)]
struct Held {
    anonymous_kib: u64,
    threads: u64,
    files: usize,
}

impl Held {
    fn by(child: &Child) -> Held {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
        Held { anonymous_kib: field("RssAnon"), threads: field("Threads"), files }
    }
}

/// Lets the clients make requests `from` to `to`, one in fifty given up in the middle. Returns how many were.
fn ask(client: &Client, address: &str, from: usize, to: usize) -> usize {
    let (next, given_up) = (AtomicUsize::new(from), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return;
                    }
                    if number % 50 == 0 {
                        give_up(address);
                        given_up.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let answer = client.post("/v1/completions", &request(number)).unwrap();
                        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
                    }
                }
            });
        }
    });
    given_up.into_inner()
}

/// Leaves in the middle of a long answer.
fn give_up(address: &str) {
    let body = r#"{"prompt": "A long one", "max_tokens": 400, "stream": true}"#;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head =
        format!("POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun));
}

/// Waits until the server computes nothing any more.
fn wait_for_rest(client: &Client) {
    for _ in 0..600 {
        let status = client.get("/pouch/v1/status").unwrap();
        let running: u64 =
            status["running"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        if running + status["queued"].as_u64().unwrap() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the server does not come to rest");
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_requests_leave_nothing_behind() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let (mut child, said) = start(&pouch, &["--port", "0", "--threads", "1", "--prefix-cache", "1MB"]);
    let url = said["addresses"][0].as_str().unwrap();
    let (client, address) = (Client::at(url).unwrap(), url.strip_prefix("http://").unwrap());
    // What is allocated once is there by then: threads, pools, the bounded caches.
    let mut given_up = ask(&client, address, 0, 2000);
    wait_for_rest(&client);
    let before = Held::by(&child);
    given_up += ask(&client, address, 2000, 10_000);
    wait_for_rest(&client);
    let after = Held::by(&child);
    assert_eq!(given_up, 200);
    let figures = client.get("/pouch/v1/status").unwrap();
    assert_eq!((&figures["queued"], &figures["running"]["normal"]), (&json!(0), &json!(0)));
    assert!(after.anonymous_kib < before.anonymous_kib + 8 * 1024, "{before:?}, then {after:?}");
    assert!(
        after.threads <= before.threads + 16 && after.files <= before.files + 8,
        "{before:?}, then {after:?}"
    );
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A server that can be killed; so it ends with its test.
struct Served {
    child: Child,
    client: Client,
}

impl Served {
    fn start(pouch: &Pouch) -> Served {
        Served::start_with(pouch, &[])
    }

    fn start_with(pouch: &Pouch, arguments: &[&str]) -> Served {
        let (child, said) = start(pouch, &[&["--port", "0", "--threads", "1"], arguments].concat());
        Served { child, client: Client::at(said["addresses"][0].as_str().unwrap()).unwrap() }
    }

    fn kill(&mut self) {
        // Kills by a signal that no process can take note of.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A stored request, its answer long enough to be killed in the middle of.
fn stored(number: usize) -> Value {
    json!({
        "input": format!("Tell number {number}."), "max_output_tokens": 60, "background": true, "store": true,
        "temperature": 1, "pouch": {"priority": if number.is_multiple_of(2) { "background" } else { "interactive" }},
    })
}

fn text_of(response: &Value) -> String {
    let parts =
        response["output"].as_array().into_iter().flatten().flat_map(|item| item["content"].as_array());
    parts.flatten().filter_map(|part| part["text"].as_str()).collect()
}

/// The response once it is made.
fn finished(client: &Client, id: &str) -> Value {
    for _ in 0..3000 {
        let response =
            client.get(&format!("/v1/responses/{id}")).unwrap_or_else(|error| panic!("{id}: {error}"));
        if !matches!(response["status"].as_str(), Some("in_progress" | "queued")) {
            return response;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{id} does not end");
}

#[test]
fn no_answer_that_was_promised_is_lost_in_fifty_kills() {
    const KILLS: usize = 50;
    let pouch = Pouch::new();
    pouch.write_model_with("tiny.gguf", |options| options.context = 4096);
    let promised: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let number = AtomicUsize::new(0);
    for kill in 0..KILLS {
        let mut served = Served::start(&pouch);
        let client = served.client.clone();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let number = number.fetch_add(1, Ordering::Relaxed);
                        // From the kill on nobody answers.
                        let Ok(response) = client.post("/v1/responses", &stored(number)) else { return };
                        promised.lock().unwrap().insert(response["id"].as_str().unwrap().to_owned(), number);
                        std::thread::sleep(Duration::from_millis(15));
                    }
                });
            }
            // Every second time not before something was promised, which a busy machine may take long for.
            let before = promised.lock().unwrap().len();
            while kill % 2 == 0 && promised.lock().unwrap().len() == before {
                std::thread::sleep(Duration::from_millis(1));
            }
            // At another moment of its life each time: while it recovers, while it takes requests, in an answer.
            std::thread::sleep(Duration::from_millis(3 + kill as u64 * 7 % 90));
            served.kill();
        });
    }
    let promised = promised.into_inner().unwrap();
    assert!(promised.len() >= KILLS / 2, "{} answers were promised", promised.len());
    let mut served = Served::start(&pouch);
    let mut texts = BTreeMap::new();
    for id in promised.keys() {
        let response = finished(&served.client, id);
        assert_eq!(response["usage"]["output_tokens"], 60, "{id}: {response}");
        texts.insert(id, text_of(&response));
    }
    // Once done, an answer stays as it is.
    served.kill();
    let served = Served::start(&pouch);
    for (id, text) in texts {
        assert_eq!(text_of(&finished(&served.client, id)), text);
    }
}

#[test]
fn an_answer_that_was_killed_again_and_again_is_the_undisturbed_one() {
    let pouch = Pouch::new();
    pouch.write_model_with("tiny.gguf", |options| options.context = 16_384);
    let asked = json!({
        "input": "Tell it all.", "max_output_tokens": 12_000, "background": true, "store": true, "temperature": 0.9, "seed": 5,
    });
    let context = ["--context", "16384"];
    let mut served = Served::start_with(&pouch, &context);
    let ask = |served: &Served| {
        let response = served.client.post("/v1/responses", &asked).unwrap();
        response["id"].as_str().unwrap().to_owned()
    };
    let id = ask(&served);
    let undisturbed = text_of(&finished(&served.client, &id));
    let id = ask(&served);
    let mut kills = 0;
    loop {
        // Longer than the journal takes to get to the disk, or no life would come further than the one before.
        std::thread::sleep(Duration::from_millis(200));
        let response = served.client.get(&format!("/v1/responses/{id}")).unwrap();
        if response["status"] == "completed" || response["status"] == "incomplete" {
            assert_eq!(text_of(&response), undisturbed);
            break;
        }
        served.kill();
        kills += 1;
        served = Served::start_with(&pouch, &context);
    }
    assert!(kills > 0, "it was never killed in the middle");
}
