//! Answers of a given form, and calls of functions. The models are random, so whatever is well-formed is so by constraint.

use serde_json::{Value, json};

use crate::support::{Running, Setup, chat};

fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["colour", "count"],
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    })
}

fn assert_fits(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert!(value["colour"] == "red" || value["colour"] == "blue", "{text}");
    assert!((0..=99).contains(&value["count"].as_i64().unwrap()), "{text}");
    assert_eq!(value.as_object().unwrap().len(), 2, "{text}");
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": schema()}},
        {"type": "function", "function": {"name": "rest", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}},
    ])
}

fn ask(server: &Running, fields: Value) -> Value {
    let mut all = json!({"temperature": 1, "seed": 5, "max_tokens": 400});
    fields.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
    server.object("/v1/chat/completions", &chat("Paint it", &all))["choices"][0].clone()
}

#[test]
fn an_answer_fits_its_schema() {
    let server = Setup::new().start();
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema()}});
    for seed in 0..3 {
        let choice = ask(&server, json!({"response_format": format, "seed": seed}));
        assert_fits(choice["message"]["content"].as_str().unwrap());
        assert_eq!(choice["finish_reason"], "stop");
    }
    let response = server.object(
        "/v1/responses",
        &json!({
            "input": "Paint it", "text": {"format": {"type": "json_schema", "name": "x", "schema": schema()}},
        }),
    );
    assert_fits(response["output"][0]["content"][0]["text"].as_str().unwrap());
    let line = server.object(
        "/api/chat",
        &json!({
            "messages": [{"role": "user", "content": "Paint it"}], "format": schema(), "stream": false,
        }),
    );
    assert_fits(line["message"]["content"].as_str().unwrap());
}

#[test]
fn an_answer_matches_its_expression() {
    let server = Setup::new().start();
    let choice = ask(&server, json!({"response_format": {"type": "regex", "pattern": "(yes|no), [0-9]{3}"}}));
    let text = choice["message"]["content"].as_str().unwrap();
    let (word, digits) = text.split_once(", ").unwrap();
    assert!(word == "yes" || word == "no");
    assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{text}");
}

#[test]
fn a_call_that_is_required_is_made_with_arguments_that_fit() {
    let server = Setup::new().start();
    let named = json!({"type": "function", "function": {"name": "paint"}});
    let choice = ask(&server, json!({"tools": tools(), "tool_choice": named, "parallel_tool_calls": false}));
    assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(
        (calls[0]["type"].as_str(), calls[0]["function"]["name"].as_str()),
        (Some("function"), Some("paint"))
    );
    assert!(!calls[0]["id"].as_str().unwrap().is_empty());
    assert_fits(calls[0]["function"]["arguments"].as_str().unwrap());

    let request = chat(
        "Paint it",
        &json!({
            "tools": tools(), "tool_choice": named, "parallel_tool_calls": false, "stream": true, "max_tokens": 400,
        }),
    );
    let events = server.post("/v1/chat/completions", &request).events();
    let deltas: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call.is_object())
        .collect();
    assert_eq!(
        (deltas[0]["index"].as_u64(), deltas[0]["function"]["name"].as_str()),
        (Some(0), Some("paint"))
    );
    let arguments: String =
        deltas.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    assert_fits(&arguments);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn calls_are_items_of_a_response_and_what_they_gave_goes_in_again() {
    let server = Setup::new().start();
    let list = json!([{"type": "function", "name": "paint", "parameters": schema(), "strict": true}]);
    let request = json!({
        "input": "Paint it", "tools": list, "tool_choice": "required", "parallel_tool_calls": false, "stream": true,
    });
    let events = server.post("/v1/responses", &request).events();
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["status"], "completed", "{last}");
    let call =
        last["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    assert_fits(call["arguments"].as_str().unwrap());
    let done = events.iter().find(|event| event["type"] == "response.function_call_arguments.done").unwrap();
    assert_eq!(done["arguments"], call["arguments"]);
    let next = server.object(
        "/v1/responses",
        &json!({
            "previous_response_id": last["id"], "max_output_tokens": 4, "tools": list,
            "input": [{"type": "function_call_output", "call_id": call["call_id"], "output": "painted"}],
        }),
    );
    assert_eq!(next["object"], "response");
}

#[test]
fn ollamas_calls_have_their_arguments_as_an_object() {
    let server = Setup::new().start();
    // Its protocol knows no choice: the model may answer with text, and a random one does.
    let lines = server.post("/api/chat", &json!({
        "messages": [{"role": "user", "content": "Paint it"}], "tools": tools(), "options": {"num_predict": 30},
    }));
    assert_eq!(lines.lines().last().unwrap()["done"], true);
    let again = server.object("/api/chat", &json!({
        "messages": [
            {"role": "user", "content": "Paint it"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "paint", "arguments": {"count": 1}}}]},
            {"role": "tool", "tool_name": "paint", "content": "painted"},
        ], "tools": tools(), "stream": false, "options": {"num_predict": 5},
    }));
    assert_eq!(again["done"], true);
}

#[test]
fn a_form_and_functions_at_once_are_refused() {
    let server = Setup::new().start();
    let both = chat("x", &json!({"tools": tools(), "response_format": {"type": "json_object"}}));
    let response = server.post("/v1/chat/completions", &both);
    assert_eq!((response.status, response.json()["error"]["param"].as_str()), (400, Some("response_format")));
    let neither = ask(&server, json!({"tools": tools(), "tool_choice": "none", "max_tokens": 5}));
    assert_eq!(neither["finish_reason"], "length");
}
