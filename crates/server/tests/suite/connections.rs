//! Connections: clients that leave, that read slowly, that never finish, and too many of them; the server's end.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;

use crate::support::{Setup, chat, read};

#[test]
fn a_client_that_leaves_ends_its_answer() {
    let server = Setup::new().start();
    for streams in [true, false] {
        let ask = chat("Hello", &json!({"stream": streams, "max_tokens": 3500}));
        let mut stream = server.connect();
        let bytes = server.request("POST", "/v1/chat/completions", &[], ask.to_string().as_bytes());
        stream.write_all(&bytes).unwrap();
        let begun = |server: &crate::support::Running| {
            server.get("/pouch/v1/requests").json()["requests"].as_array().is_some_and(|list| list.len() == 1)
        };
        server.wait_until("an answer", begun);
        drop(stream);
        server.wait_until("its end", |server| server.server().answers() == 0);
    }
    assert!(server.get("/metrics").body.contains("pouch_answers_cancelled_total 2\n"));
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let mut setup = Setup::new();
    setup.limits.write_time = Duration::from_millis(300);
    let server = setup.start();
    // With probabilities an answer has more bytes than the sockets' buffers take.
    let ask = chat(
        "Hello",
        &json!({"stream": true, "max_tokens": 3500, "n": 2, "logprobs": true, "top_logprobs": 20}),
    );
    let mut deaf = server.connect();
    deaf.write_all(&server.request("POST", "/v1/chat/completions", &[], ask.to_string().as_bytes())).unwrap();
    server.wait_until("an answer", |server| server.server().answers() == 2);
    for _ in 0..3 {
        server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    }
    server.wait_until("the end of what nobody reads", |server| server.server().answers() == 0);
    drop(deaf);
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    let mut setup = Setup::new();
    setup.limits.head_time = Duration::from_millis(200);
    setup.limits.body_time = Duration::from_millis(200);
    let server = setup.start();
    let mut head = server.connect();
    head.write_all(b"GET /v1/models HTTP/1.1\r\nHost: 127").unwrap();
    let mut body = server.connect();
    let address = server.address;
    body.write_all(
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{")
            .as_bytes(),
    )
    .unwrap();
    let idle = &mut server.connect();
    // While these wait, others are answered.
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    assert_eq!(read(&mut body).status, 408);
    assert!(matches!(head.read(&mut [0; 64]), Ok(_) | Err(_)));
    assert_eq!(idle.read(&mut [0; 64]).unwrap_or(0), 0);
}

#[test]
fn too_many_connections_are_told_to_come_back() {
    let mut setup = Setup::new();
    setup.limits.connections = 4;
    let server = setup.start();
    let held: Vec<_> = (0..4).map(|_| server.connect()).collect();
    server.wait_until("the limit", |server| {
        let mut one_more = server.connect();
        let _ = one_more.write_all(&server.request("GET", "/health", &[], b""));
        let mut bytes = Vec::new();
        let _ = one_more.read_to_end(&mut bytes);
        bytes.starts_with(b"HTTP/1.1 503") && String::from_utf8_lossy(&bytes).contains("too_many_connections")
    });
    drop(held);
    server.wait_until("room", |server| {
        let mut stream = server.connect();
        let _ = stream.write_all(&server.request("GET", "/health", &[], b""));
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.starts_with(b"HTTP/1.1 200")
    });
}

#[test]
fn too_many_answers_are_told_to_come_back() {
    let mut setup = Setup::new();
    setup.limits.answers = 2;
    let server = setup.start();
    let long = chat("Hello", &json!({"stream": true, "max_tokens": 3500, "n": 2}));
    let stream = server.open("/v1/chat/completions", &long);
    let refused = server.post("/v1/chat/completions", &chat("Hello", &json!({})));
    assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(stream);
    server.wait_until("the end", |server| server.server().answers() == 0);
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
}

#[test]
fn several_requests_follow_each_other_on_one_connection() {
    let server = Setup::new().start();
    let mut stream = server.connect();
    let body = chat("Hello", &json!({})).to_string();
    let address = server.address;
    let ask = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let last = server.request("GET", "/v1/models", &[], b"");
    stream.write_all(ask.repeat(2).as_bytes()).unwrap();
    stream.write_all(&last).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
}

#[test]
fn the_end_of_the_server_cuts_off_what_takes_too_long() {
    let server = Setup::new().start();
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            server.open("/v1/chat/completions", &chat("Hello", &json!({"stream": true, "max_tokens": 4000})))
        })
        .collect();
    let address = server.address;
    drop(server.stop());
    for stream in &mut streams {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(String::from_utf8_lossy(&rest).contains(r#""code":"server_stopping""#));
    }
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn the_end_of_the_server_lets_short_answers_finish() {
    let mut setup = Setup::new();
    setup.limits.stop_time = Duration::from_secs(30);
    let server = setup.start();
    let mut stream =
        server.open("/v1/chat/completions", &chat("Hello", &json!({"stream": true, "max_tokens": 60})));
    drop(server.stop());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
}
