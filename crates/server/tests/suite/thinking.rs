//! Models that think: their thoughts come apart from their answers, in every protocol.

use serde_json::{Value, json};

use crate::support::{Running, Setup, chat, endless};

/// Templates as models that think have them: one lets the model open its thoughts, the other opens them.
const THINKS: &str =
    "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')|last }}\n{% endfor %}assistant:";
const OPENS: &str = "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')|last }}\n{% endfor %}assistant: <think>\n";

fn server(template: &str) -> Running {
    let mut options = endless();
    options.chat_template = Some(template.to_owned());
    let mut setup = Setup::new();
    setup.models = vec![("tiny", options)];
    setup.start()
}

fn body() -> Value {
    json!({"max_tokens": 12, "temperature": 0})
}

#[test]
fn an_answer_whose_prompt_opened_thoughts_begins_with_them() {
    // Without the closing tag in the template the model is not one that thinks, and the same tokens are its answer.
    let plain = server(&OPENS.replace(".split('</think>')|last", ""));
    let plain = plain.object("/v1/chat/completions", &chat("Hello", &body()));
    let text = plain["choices"][0]["message"]["content"].as_str().unwrap().trim().to_owned();
    assert!(!text.is_empty() && plain["choices"][0]["message"]["reasoning_content"].is_null());
    let thoughts = |usage: &Value| usage["completion_tokens_details"]["reasoning_tokens"].clone();
    assert_eq!(thoughts(&plain["usage"]), 0);

    let server = server(OPENS);
    let whole = server.object("/v1/chat/completions", &chat("Hello", &body()));
    let message = &whole["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!(""), &json!(text)));
    assert_eq!(thoughts(&whole["usage"]), 12);

    let events = server
        .post(
            "/v1/chat/completions",
            &chat(
                "Hello",
                &json!({
                    "max_tokens": 12, "temperature": 0, "n": 2, "stream": true, "stream_options": {"include_usage": true},
                }),
            ),
        )
        .events();
    let told = |name: &str| -> String {
        let of_first = events.iter().filter(|event| event["choices"][0]["index"] == 0);
        of_first.filter_map(|event| event["choices"][0]["delta"][name].as_str()).collect()
    };
    assert_eq!((told("reasoning_content"), told("content")), (text.clone(), String::new()));
    let usage = events.iter().map(|event| &event["usage"]).find(|usage| usage.is_object()).unwrap();
    assert_eq!(thoughts(usage), 24, "of both answers");

    let ollama = server.object(
        "/api/chat",
        &json!({
            "messages": [{"role": "user", "content": "Hello"}], "stream": false,
            "options": {"num_predict": 12, "temperature": 0},
        }),
    );
    assert_eq!((&ollama["message"]["thinking"], &ollama["message"]["content"]), (&json!(text), &json!("")));
    let response =
        server.object("/v1/responses", &json!({"input": "Hello", "max_output_tokens": 12, "temperature": 0}));
    let item = &response["output"][0];
    assert_eq!((&item["type"], &item["content"][0]["text"]), (&json!("reasoning"), &json!(text)));
    assert_eq!(response["usage"]["output_tokens_details"]["reasoning_tokens"], 12);
}

#[test]
fn an_answer_without_thoughts_is_an_answer() {
    let server = server(THINKS);
    let whole = server.object("/v1/chat/completions", &chat("Hello", &body()));
    let message = &whole["choices"][0]["message"];
    assert!(!message["content"].as_str().unwrap().is_empty() && message["reasoning_content"].is_null());
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
}

#[test]
fn an_answer_of_a_given_form_has_no_thoughts() {
    let server = server(OPENS);
    let form = json!({"max_tokens": 12, "response_format": {"type": "regex", "pattern": "[0-9]{3}"}});
    let whole = server.object("/v1/chat/completions", &chat("Hello", &form));
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"].as_str().unwrap().len(), 3, "{message}");
}
