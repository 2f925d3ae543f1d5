//! Several models: names, opening on demand, closing for one another, and never keeping others waiting.

use std::io::Write;

use serde_json::{Value, json};
use testkit::{TinyOptions, tiny_model};

use crate::support::{Setup, chat, endless, read};

fn two() -> Setup {
    let mut setup = Setup::new();
    setup.models.push(("other", endless().with_seed(2)));
    setup
}

/// Two with so many layers that their weights outweigh all buffers, and memory for one and a half of them: for one with its
/// buffers, keys and values.
fn two_large() -> (Setup, usize) {
    let large = |seed| TinyOptions { layers: 40, ..endless().with_seed(seed) };
    let weights = tiny_model(&large(1)).tensors.iter().map(|(_, data)| data.len()).sum::<usize>();
    let mut setup = Setup::new();
    setup.models = vec![("tiny", large(1)), ("other", large(2))];
    setup.memory = Some(2 * weights);
    (setup, weights)
}

fn loaded(models: &Value) -> Vec<bool> {
    models["data"].as_array().unwrap().iter().map(|model| model["loaded"].as_bool().unwrap()).collect()
}

#[test]
fn models_go_by_their_names_and_the_first_is_the_default() {
    let server = two().start();
    let ask = |model: Value| server.object("/v1/chat/completions", &chat("Hello", &json!({"model": model})));
    let first = ask(json!("tiny"));
    for name in
        [json!("default"), json!(null), json!(""), json!("TINY"), json!("tiny.gguf"), json!("tiny:latest")]
    {
        let answer = ask(name.clone());
        assert_eq!(answer["model"], "tiny", "{name}");
        assert_eq!(answer["choices"], first["choices"], "{name}");
    }
    let other = ask(json!("other"));
    assert_eq!(other["model"], "other");
    assert_ne!(other["choices"], first["choices"]);
    let list = server.get("/v1/models").json();
    assert_eq!(list["data"][0]["id"], "tiny");
    assert_eq!(list["data"][1]["id"], "other");
    assert_eq!(server.get("/v1/models/other").json()["context_length"], 4096);
    assert_eq!(server.get("/v1/models/none").status, 404);
}

#[test]
fn models_are_opened_when_asked_for_and_closed_for_one_another() {
    let (setup, weights) = two_large();
    let server = setup.start();
    let list = || server.get("/v1/models").json();
    assert_eq!(loaded(&list()), [false, false]);
    let first = server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    assert_eq!(loaded(&list()), [true, false]);
    let status = server.get("/pouch/v1/status").json();
    let bytes = status["memory_bytes"].as_u64().unwrap() as usize;
    assert!((weights / 2..2 * weights).contains(&bytes), "{bytes}");
    assert_eq!(status["memory_limit_bytes"], 2 * weights);
    server.object("/v1/chat/completions", &chat("Hello", &json!({"model": "other"})));
    assert_eq!(loaded(&list()), [false, true]);
    let again = server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    assert_eq!(loaded(&list()), [true, false]);
    assert_eq!(again["choices"], first["choices"]);
}

#[test]
fn a_model_in_use_is_not_closed_and_the_other_is_refused_with_figures() {
    let (setup, weights) = two_large();
    let server = setup.start();
    let busy =
        server.open("/v1/chat/completions", &chat("Hello", &json!({"stream": true, "max_tokens": 700})));
    let refused = server.post("/v1/chat/completions", &chat("Hello", &json!({"model": "other"})));
    let error = &refused.json()["error"];
    assert_eq!((refused.status, error["code"].as_str()), (503, Some("insufficient_memory")));
    assert!(error["message"].as_str().unwrap().contains(&(2 * weights).to_string()), "{error}");
    drop(busy);
    server.wait_until("the end", |server| server.server().answers() == 0);
    server.object("/v1/chat/completions", &chat("Hello", &json!({"model": "other"})));
    let long = server.post("/v1/completions", &json!({"model": "other", "prompt": "x", "max_tokens": 4000}));
    let error = &long.json()["error"];
    assert_eq!((long.status, error["code"].as_str()), (400, Some("insufficient_memory")), "{error}");
    // Who leaves the length to the server gets what there is memory for.
    let open = json!({"model": "other", "messages": [{"role": "user", "content": "x"}], "temperature": 0});
    let answer = server.object("/v1/chat/completions", &open);
    assert!(
        (100..4000).contains(&answer["usage"]["completion_tokens"].as_u64().unwrap()),
        "{}",
        answer["usage"]
    );
}

#[test]
fn a_model_that_cannot_be_opened_says_so_and_others_go_on() {
    let mut setup = Setup::new();
    let mut broken = TinyOptions::new("llama");
    broken.extra.push(("general.architecture".to_owned(), gguf::Value::String("mamba".to_owned())));
    setup.models.push(("broken", broken));
    let server = setup.start();
    let response = server.post("/v1/chat/completions", &chat("Hello", &json!({"model": "broken"})));
    let error = &response.json()["error"];
    assert_eq!((response.status, error["code"].as_str()), (500, Some("model_failed")));
    assert!(error["message"].as_str().unwrap().contains("mamba"), "{error}");
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
}

#[test]
fn two_clients_are_answered_at_once_with_what_each_gets_alone() {
    let server = two().start();
    let asks: Vec<Value> = (0..6)
        .map(|index| {
            let model = if index % 2 == 0 { "tiny" } else { "other" };
            chat(&format!("Question {index}"), &json!({"model": model, "max_tokens": 40}))
        })
        .collect();
    let alone: Vec<Value> =
        asks.iter().map(|ask| server.object("/v1/chat/completions", ask)["choices"].clone()).collect();
    let mut streams: Vec<_> = asks
        .iter()
        .map(|ask| {
            let mut stream = server.connect();
            let bytes = server.request("POST", "/v1/chat/completions", &[], ask.to_string().as_bytes());
            stream.write_all(&bytes).unwrap();
            stream
        })
        .collect();
    let together: Vec<Value> =
        streams.iter_mut().map(|stream| read(stream).json()["choices"].clone()).collect();
    assert_eq!(together, alone);
}
