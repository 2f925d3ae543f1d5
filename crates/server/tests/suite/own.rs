//! The page, health, figures, the API's document, conversations, and requests by their ids.

use serde_json::{Value, json};

use crate::support::{Setup, chat};

#[test]
fn the_page_is_there_with_a_strict_policy() {
    let server = Setup::new().start();
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!DOCTYPE html>") || page.body.starts_with("<!doctype html>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let tag = page.header("etag").unwrap();
    assert_eq!(server.ask("GET", "/", &[("If-None-Match", tag)], b"").status, 304);
    assert_eq!(server.get("/nothing/here").json()["error"]["code"], "unknown_url");
}

#[test]
fn it_says_that_it_lives_and_what_it_does() {
    let server = Setup::new().start();
    assert_eq!(server.get("/health").json(), json!({"status": "ok"}));
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    // The answer is told before its session is gone.
    let nobody = json!({"interactive": 0, "normal": 0, "background": 0});
    server.wait_until("its end", |server| server.get("/pouch/v1/status").json()["running"] == nobody);
    let status = server.get("/pouch/v1/status").json();
    assert_eq!(status["models"][0]["id"], "tiny");
    assert!(status["memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(status["memory_limit_bytes"], Value::Null);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in
        ["pouch_generated_tokens_total 8", "pouch_answers_ended_total 1", "# TYPE pouch_kv_bytes gauge"]
    {
        assert!(metrics.body.lines().any(|known| known == line), "{line}: {}", metrics.body);
    }
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("pouch_") && value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn the_document_describes_every_address() {
    let server = Setup::new().start();
    let document = server.get("/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/responses/{id}",
        "/v1/responses/{id}/cancel",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model}",
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/tags",
        "/api/show",
        "/api/ps",
        "/api/version",
        "/health",
        "/metrics",
        "/pouch/v1/status",
        "/pouch/v1/requests",
        "/pouch/v1/requests/{id}",
        "/pouch/v1/requests/{id}/focus",
        "/pouch/v1/conversations",
        "/pouch/v1/conversations/{id}",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let schemas = &document["components"]["schemas"];
    assert!(schemas["ChatRequest"]["properties"]["temperature"].is_object());
    // Whatever is referred to is there.
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.get(name).is_some(), "{name}");
    }
}

#[test]
fn conversations_are_kept_replaced_listed_and_forgotten() {
    let server = Setup::new().start();
    let list = || server.get("/pouch/v1/conversations").json()["conversations"].clone();
    assert_eq!(list(), json!([]));
    let put = |id: &str, document: &Value| {
        server.ask("PUT", &format!("/pouch/v1/conversations/{id}"), &[], document.to_string().as_bytes())
    };
    let document = json!({"id": "a-1", "title": "你好", "model": "tiny", "updated": 5, "messages": [{"role": "user", "content": "x"}], "settings": {"t": 1}});
    assert_eq!(put("a-1", &document).json(), json!({"id": "a-1", "updated": 5.0}));
    assert_eq!(server.get("/pouch/v1/conversations/a-1").json(), document);
    assert_eq!(put("b_2", &json!({"title": "later", "updated": 9.5})).status, 200);
    assert_eq!(
        list(),
        json!([
            {"id": "b_2", "title": "later", "updated": 9.5, "model": null},
            {"id": "a-1", "title": "你好", "updated": 5.0, "model": "tiny"},
        ])
    );
    assert_eq!(put("a-1", &json!({"title": "new", "updated": 10})).status, 200);
    assert_eq!(list()[0]["title"], "new");
    assert_eq!(server.ask("DELETE", "/pouch/v1/conversations/a-1", &[], b"").status, 200);
    assert_eq!(server.get("/pouch/v1/conversations/a-1").status, 404);
    assert_eq!(server.ask("DELETE", "/pouch/v1/conversations/a-1", &[], b"").status, 404);
    for name in ["a.b", "..", "%2e%2e%2fetc", "a%20b", &"x".repeat(81)] {
        let response = put(name, &json!({}));
        assert!(matches!(response.status, 400 | 404), "{name}: {response:?}");
        assert!(response.json()["error"]["message"].is_string());
    }
    assert_eq!(put("c", &json!([1])).status, 400);
}

#[test]
fn a_version_that_a_writer_has_not_seen_is_not_replaced() {
    let server = Setup::new().start();
    let put = |headers: &[(&str, &str)], title: &str| {
        let document = json!({"title": title}).to_string();
        server.ask("PUT", "/pouch/v1/conversations/a", headers, document.as_bytes())
    };
    let refused = |response: crate::support::Response| {
        assert_eq!(
            (response.status, &response.json()["error"]["code"]),
            (412, &json!("conversation_changed"))
        );
    };
    refused(put(&[("If-Match", "\"0\"")], "of nothing"));
    let first = put(&[("If-None-Match", "*")], "first");
    let tag = first.header("etag").unwrap();
    assert_eq!(server.get("/pouch/v1/conversations/a").header("etag"), Some(tag));
    refused(put(&[("If-None-Match", "*")], "again"));
    let second = put(&[("If-Match", tag)], "second");
    assert_eq!(second.status, 200);
    refused(put(&[("If-Match", tag)], "third"));
    assert_eq!(put(&[("If-Match", "\"\", *")], "no").status, 412);
    for headers in
        [&[("If-None-Match", tag)][..], &[("If-Match", "*")], &[("If-Match", tag), ("If-None-Match", "*")]]
    {
        assert_eq!(put(headers, "what is meant?").status, 400);
    }
    let now = server.get("/pouch/v1/conversations/a");
    assert_eq!((&now.json()["title"], now.header("etag")), (&json!("second"), second.header("etag")));
    assert_eq!(put(&[], "by force").status, 200);
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let server = Setup::new().start();
    // A file where the folder should be: as good as a disk that refuses, for every user.
    std::fs::create_dir_all(server.data()).unwrap();
    std::fs::write(server.data().join("conversations"), "").unwrap();
    let response = server.ask("PUT", "/pouch/v1/conversations/a", &[], b"{}");
    assert_eq!((response.status, response.json()["error"]["code"].as_str()), (500, Some("not_kept")));
}

#[test]
fn an_answer_in_the_making_can_be_looked_at_and_ended_by_its_id() {
    let server = Setup::new().start();
    let stream =
        server.open("/v1/chat/completions", &chat("Hello", &json!({"stream": true, "max_tokens": 3500})));
    let requests = server.get("/pouch/v1/requests").json();
    let id = requests["requests"][0].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-"));
    assert_eq!(server.object(&format!("/pouch/v1/requests/{id}/focus"), &json!({"focused": true}))["id"], id);
    assert_eq!(server.ask("DELETE", &format!("/pouch/v1/requests/{id}"), &[], b"").status, 200);
    server.wait_until("the end", |server| server.server().answers() == 0);
    assert_eq!(server.ask("DELETE", &format!("/pouch/v1/requests/{id}"), &[], b"").status, 404);
    drop(stream);
}
