//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::support::{Setup, chat};

#[test]
fn an_answer_has_everything_that_clients_read() {
    let server = Setup::new().start();
    let answer = server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "tiny");
    let choice = &answer["choices"][0];
    assert_eq!(choice["index"], 0);
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(!choice["message"]["content"].as_str().unwrap().is_empty());
    assert_eq!(choice["finish_reason"], "length");
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 8);
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 5);
    assert_eq!(usage["total_tokens"], prompt + 8);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert!(answer["pouch"]["time_to_first_token_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_stream_is_the_same_answer_in_pieces() {
    let server = Setup::new().start();
    let whole = server.object("/v1/chat/completions", &chat("Hello", &json!({})));
    let request = chat("Hello", &json!({"stream": true, "stream_options": {"include_usage": true}}));
    let response = server.post("/v1/chat/completions", &request);
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    assert!(response.body.ends_with("data: [DONE]\n\n"));
    let events = response.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    let (usage, rest) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    assert!(rest.iter().all(|event| event["usage"].is_null() && event["object"] == "chat.completion.chunk"));
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], "length");
    let without = server.post("/v1/chat/completions", &chat("Hello", &json!({"stream": true}))).events();
    assert!(without.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn the_same_seed_gives_the_same_answer_and_choices_differ() {
    let server = Setup::new().start();
    let request = chat("Hello", &json!({"temperature": 1, "top_p": 1, "seed": 7, "n": 3, "max_tokens": 12}));
    let texts = |answer: Value| -> Vec<String> {
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let first = texts(server.object("/v1/chat/completions", &request));
    assert_eq!(first.len(), 3);
    assert!(first[0] != first[1] && first[1] != first[2]);
    assert_eq!(first, texts(server.object("/v1/chat/completions", &request)));
    let streamed = server.post("/v1/chat/completions", &{
        let mut request = request.clone();
        request["stream"] = true.into();
        request
    });
    let mut pieces = vec![String::new(); 3];
    for event in streamed.events() {
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        pieces[index] += choice["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(pieces, first);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_left_out() {
    let server = Setup::new().start();
    let long = chat("Hello", &json!({"max_tokens": 24}));
    let whole = server.object("/v1/chat/completions", &long);
    let text: Vec<char> = whole["choices"][0]["message"]["content"].as_str().unwrap().chars().collect();
    let stop: String = text[4..7].iter().collect();
    let whole: String = text.iter().collect();
    for stop in [json!(stop), json!([stop, "never said at all"])] {
        let answer =
            server.object("/v1/chat/completions", &chat("Hello", &json!({"max_tokens": 24, "stop": stop})));
        let cut = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert!(whole.starts_with(cut) && cut.len() < whole.len(), "{cut:?} of {whole:?}");
    }
}

#[test]
fn an_answer_can_be_made_to_go_on_past_its_end() {
    let server = Setup::new().start();
    for (ignores, finish, count) in [(false, "stop", 0), (true, "length", 6)] {
        // The token that ends an answer.
        let fields = json!({"logit_bias": {"2": 100}, "ignore_eos": ignores, "max_tokens": 6});
        let answer = server.object("/v1/chat/completions", &chat("Hello", &fields));
        assert_eq!(answer["choices"][0]["finish_reason"], finish);
        assert_eq!(answer["usage"]["completion_tokens"], count);
    }
}

#[test]
fn how_likely_each_token_was_is_told() {
    let server = Setup::new().start();
    let request = chat("Hello", &json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 5}));
    let answer = server.object("/v1/chat/completions", &request);
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len(), 5);
    for token in &tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: what was chosen is the likeliest.
        assert_eq!(top[0]["token"], token["token"]);
        assert_eq!(top[0]["logprob"], token["logprob"]);
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
        assert!(!token["bytes"].as_array().unwrap().is_empty());
    }
    let mut streamed = request;
    streamed["stream"] = true.into();
    let events = server.post("/v1/chat/completions", &streamed).events();
    let told = events.iter().flat_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(told.flatten().cloned().collect::<Vec<Value>>(), tokens);
}

#[test]
fn a_bias_forbids_and_forces_tokens() {
    let server = Setup::new().start();
    let request = chat("Hello", &json!({"logprobs": true, "max_tokens": 1}));
    // "A" is the byte 65, and the bytes stand behind three control tokens.
    let forced = {
        let mut request = request.clone();
        request["logit_bias"] = json!({"68": 100});
        server.object("/v1/chat/completions", &request)
    };
    assert_eq!(forced["choices"][0]["message"]["content"], "A");
}

#[test]
fn messages_come_in_every_form_that_clients_send() {
    let server = Setup::new().start();
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": " it?"}], "name": "ann"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "nothing"},
    ]);
    let request = json!({"messages": messages, "max_completion_tokens": 3, "store": null, "user": "x", "unknown": {"a": [1]}});
    let answer = server.object("/v1/chat/completions", &request);
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[test]
fn what_a_request_has_wrong_is_named() {
    let server = Setup::new().start();
    for (fields, param, status) in [
        (json!({"messages": []}), "messages", 400),
        (json!({"messages": "hello"}), "messages", 400),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content", 400),
        (json!({"messages": [{"role": "king", "content": "x"}]}), "messages[0].role", 400),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", 400),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
            400,
        ),
        (json!({"temperature": 3}), "temperature", 400),
        (json!({"temperature": "hot"}), "temperature", 400),
        (json!({"top_p": -1}), "top_p", 400),
        (json!({"n": 0}), "n", 400),
        (json!({"n": 1000}), "n", 400),
        (json!({"max_tokens": 0}), "max_tokens", 400),
        (json!({"max_tokens": -5}), "max_tokens", 400),
        (json!({"max_tokens": 1.5}), "max_tokens", 400),
        (json!({"stop": 7}), "stop", 400),
        (json!({"top_logprobs": 3}), "top_logprobs", 400),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", 400),
        (json!({"logit_bias": {"x": 1}}), "logit_bias", 400),
        (json!({"logit_bias": {"99999999": 1}}), "logit_bias", 400),
        (json!({"presence_penalty": 9}), "presence_penalty", 400),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", 400),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "unicorn"}}}}),
            "response_format",
            400,
        ),
        (json!({"response_format": {"type": "regex", "pattern": "("}}), "response_format", 400),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema", 400),
        (json!({"tools": [{"type": "browser"}]}), "tools[0].type", 400),
        (json!({"tool_choice": "required"}), "tool_choice", 400),
        (json!({"stream": "yes"}), "stream", 400),
        (json!({"pouch": {"priority": "royal"}}), "pouch.priority", 400),
        (json!({"model": "nonesuch"}), "model", 404),
    ] {
        let response = server.post("/v1/chat/completions", &chat("Hello", &fields));
        let error = &response.json()["error"];
        assert_eq!((response.status, error["param"].as_str()), (status, Some(param)), "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error", "{fields}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_figures() {
    let server = Setup::new().start();
    let response = server.post("/v1/chat/completions", &chat(&"x".repeat(5000), &json!({})));
    let error = &response.json()["error"];
    assert_eq!((response.status, error["code"].as_str()), (400, Some("context_length_exceeded")));
    assert!(error["message"].as_str().unwrap().contains("4096"), "{error}");
}

#[test]
fn priorities_and_deadlines_are_taken() {
    let server = Setup::new().start();
    for fields in [
        json!({"pouch": {"priority": "interactive", "deadline_ms": 500}}),
        json!({"pouch": {"priority": "background"}}),
        json!({"service_tier": "flex"}),
        json!({"service_tier": "auto"}),
    ] {
        server.object("/v1/chat/completions", &chat("Hello", &fields));
    }
    let metrics = server.get("/metrics").body;
    for (class, count) in [("interactive", 1), ("normal", 1), ("background", 2)] {
        let line = format!("pouch_time_to_first_token_seconds_count{{class=\"{class}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}
