//! The Ollama API.

use serde_json::json;

use crate::support::Setup;

#[test]
fn a_chat_comes_in_lines_that_make_up_the_answer() {
    let server = Setup::new().start();
    let request = json!({
        "model": "tiny:latest", "messages": [{"role": "user", "content": "Hello"}],
        "options": {"temperature": 0, "num_predict": 6, "seed": 1}, "keep_alive": "5m",
    });
    let streamed = server.post("/api/chat", &request);
    assert_eq!(streamed.header("content-type"), Some("application/x-ndjson"));
    let lines = streamed.lines();
    let (last, pieces) = lines.split_last().unwrap();
    assert!(pieces.iter().all(|piece| piece["done"] == false && piece["message"]["role"] == "assistant"));
    assert_eq!((last["done"].as_bool(), last["done_reason"].as_str()), (Some(true), Some("length")));
    assert_eq!(last["eval_count"], 6);
    assert!(last["prompt_eval_count"].as_u64().unwrap() > 5 && last["total_duration"].as_u64().unwrap() > 0);
    let text: String = pieces.iter().map(|piece| piece["message"]["content"].as_str().unwrap()).collect();
    let mut whole = request;
    whole["stream"] = false.into();
    let whole = server.object("/api/chat", &whole);
    assert_eq!(whole["message"]["content"], text);
    assert_eq!(whole["model"], "tiny");
    let chat =
        server.object("/v1/chat/completions", &crate::support::chat("Hello", &json!({"max_tokens": 6})));
    assert_eq!(chat["choices"][0]["message"]["content"], text);
}

#[test]
fn a_prompt_is_answered_through_the_template_or_raw() {
    let server = Setup::new().start();
    let ask = |fields: serde_json::Value| {
        let mut request = json!({"model": "tiny", "prompt": "Hello", "stream": false, "options": {"temperature": 0, "num_predict": 6}});
        fields.as_object().unwrap().iter().for_each(|(name, value)| request[name] = value.clone());
        server.object("/api/generate", &request)
    };
    let answer = ask(json!({}));
    let chat =
        server.object("/v1/chat/completions", &crate::support::chat("Hello", &json!({"max_tokens": 6})));
    assert_eq!(answer["response"], chat["choices"][0]["message"]["content"]);
    let raw = ask(json!({"raw": true}));
    let completion =
        server.object("/v1/completions", &json!({"prompt": "Hello", "temperature": 0, "max_tokens": 6}));
    assert_eq!(raw["response"], completion["choices"][0]["text"]);
    assert!(raw["prompt_eval_count"].as_u64() < answer["prompt_eval_count"].as_u64());
    let loaded = ask(json!({"prompt": ""}));
    assert_eq!((loaded["done"].as_bool(), loaded["done_reason"].as_str()), (Some(true), Some("load")));
    let lines = server
        .post("/api/generate", &json!({"prompt": "Hello", "options": {"temperature": 0, "num_predict": 6}}));
    let text: String =
        lines.lines().iter().map(|line| line["response"].as_str().unwrap().to_owned()).collect();
    assert_eq!(answer["response"], text);
}

#[test]
fn front_ends_find_out_what_there_is() {
    let server = Setup::new().start();
    let tags = server.get("/api/tags").json();
    let tag = &tags["models"][0];
    assert_eq!((tag["name"].as_str(), tag["details"]["family"].as_str()), (Some("tiny"), Some("llama")));
    assert_eq!(tag["digest"].as_str().unwrap().len(), 64);
    assert!(tag["modified_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(tag["details"]["quantization_level"], "F32");
    let shown = server.object("/api/show", &json!({"model": "tiny"}));
    assert_eq!(shown["model_info"]["general.architecture"], "llama");
    assert_eq!(shown["capabilities"][0], "completion");
    assert!(shown["template"].as_str().unwrap().contains("im_start"));
    assert_eq!(server.get("/api/version").json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(server.get("/api/ps").json()["models"], json!([]));
    server.object("/api/generate", &json!({"model": "tiny"}));
    assert_eq!(server.get("/api/ps").json()["models"][0]["name"], "tiny");
    let embedded = server.object("/api/embed", &json!({"model": "tiny", "input": "x"}));
    assert_eq!(embedded["embeddings"][0].as_array().unwrap().len(), 64);
}

#[test]
fn errors_have_ollamas_form() {
    let server = Setup::new().start();
    for (path, body, status) in [
        ("/api/chat", json!({"model": "none", "messages": [{"role": "user", "content": "x"}]}), 404),
        ("/api/chat", json!({"messages": [{"role": "user", "images": ["eA=="]}]}), 400),
        ("/api/chat", json!({"messages": 5}), 400),
        ("/api/generate", json!({"prompt": "x", "format": 7}), 400),
        ("/api/generate", json!({"prompt": "x", "options": {"temperature": -1}}), 400),
        ("/api/show", json!({"model": "none"}), 404),
    ] {
        let response = server.post(path, &body);
        assert_eq!(response.status, status, "{body}");
        assert!(response.json()["error"].is_string(), "{response:?}");
    }
}
