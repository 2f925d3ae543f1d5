//! Answers that come whole, and what goes wrong.

use client::{Client, Error};
use serde_json::json;

use crate::support::{serve, write};

#[test]
fn what_is_asked_arrives_and_the_answer_comes_back() {
    let (client, requests) = serve(|stream| write(stream, "200 OK", r#"{"answer": 42}"#));
    let client = client.with_key("secret-key\n");
    let body = json!({"question": "x"});
    assert_eq!(client.get("/v1/models").unwrap(), json!({"answer": 42}));
    assert_eq!(client.put("/a", &body).unwrap(), json!({"answer": 42}));
    assert_eq!(client.post("/b", &body).unwrap(), json!({"answer": 42}));
    assert_eq!(client.delete("/c").unwrap(), json!({"answer": 42}));
    for (line, sent) in [
        ("GET /v1/models HTTP/1.1", ""),
        ("PUT /a HTTP/1.1", r#"{"question":"x"}"#),
        ("POST /b HTTP/1.1", r#"{"question":"x"}"#),
        ("DELETE /c HTTP/1.1", ""),
    ] {
        let request = requests.recv().unwrap();
        assert_eq!((request.line.as_str(), request.body.as_str()), (line, sent));
        assert_eq!(request.header("authorization"), Some("Bearer secret-key"));
        assert_eq!(request.header("content-type"), (!sent.is_empty()).then_some("application/json"));
    }
}

#[test]
fn a_key_is_not_shown() {
    let client = Client::at("http://127.0.0.1:1").unwrap().with_key("secret-key");
    assert!(!format!("{client:?}").contains("secret"));
}

#[test]
fn an_empty_answer_is_null() {
    let (client, _) = serve(|stream| write(stream, "204 No Content", ""));
    assert!(client.delete("/x").unwrap().is_null());
}

#[test]
fn refusals_are_told_in_the_servers_words() {
    let openai = r#"{"error": {"message": "there is no model \"x\"", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}"#;
    let ollama = r#"{"error": "model 'x' not found"}"#;
    for (head, body, expected, expected_code) in [
        ("404 Not Found", openai, "there is no model \"x\"", Some("model_not_found")),
        ("404 Not Found", ollama, "model 'x' not found", None),
        ("502 Bad Gateway", "<html>oh", "the server answers 502 Bad Gateway: <html>oh", None),
        ("503 Service Unavailable", "", "the server answers 503 Service Unavailable", None),
        ("302 Found", "", "the server answers 302 Found", None),
        (
            "500 Oh",
            r#"{"error": {"type": "server_error"}}"#,
            r#"{"type":"server_error"}"#,
            Some("server_error"),
        ),
    ] {
        let (client, _) = serve(move |stream| write(stream, head, body));
        let whole = client.post("/v1/chat/completions", &json!({})).unwrap_err();
        let stream = client.stream("/v1/chat/completions", &json!({})).err().unwrap();
        for error in [whole, stream] {
            let Error::Refused { status, code, message } = error else { panic!("{error:?}") };
            assert_eq!(status.to_string(), head[..3]);
            assert_eq!((message.as_str(), code.as_deref()), (expected, expected_code));
        }
    }
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let address = testkit::server::nobody();
    let error = Client::at(&address).unwrap().get("/v1/models").unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn answers_that_end_early_are_told_apart_from_whole_ones() {
    let cut = |head: &'static str| {
        let (client, _) = serve(move |stream| stream.write_all(head.as_bytes()).unwrap());
        client.get("/x").unwrap_err()
    };
    for head in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ] {
        let error = cut(head);
        assert!(matches!(error, Error::CutOff { .. }), "{head:?}: {error:?}");
    }
}

#[test]
fn what_is_no_such_server_is_told() {
    for answer in ["220 mail.example ESMTP\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops"] {
        let (client, _) = serve(move |stream| stream.write_all(answer.as_bytes()).unwrap());
        let error = client.get("/x").unwrap_err();
        assert!(matches!(error, Error::NotUnderstood { .. }), "{answer:?}: {error:?}");
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    let (client, _) = serve(|stream| write(stream, "200 OK", "{}"));
    let error = client.with_key("two\nlines").get("/x").unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error:?}");
}
