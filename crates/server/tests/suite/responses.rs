//! `/v1/responses`.

use serde_json::{Value, json};

use crate::support::{Running, Setup, chat, read};

fn request(fields: Value) -> Value {
    let mut request = json!({"model": "tiny", "input": "Hello", "temperature": 0, "max_output_tokens": 6});
    fields.as_object().unwrap().iter().for_each(|(name, value)| request[name] = value.clone());
    request
}

fn text(response: &Value) -> String {
    response["output"][0]["content"][0]["text"].as_str().unwrap().to_owned()
}

fn finished(server: &Running, id: &str) -> Value {
    let path = format!("/v1/responses/{id}");
    server.wait_until("the end", |server| {
        let status = server.get(&path).json()["status"].clone();
        status != "in_progress" && status != "queued"
    });
    server.get(&path).json()
}

#[test]
fn a_response_has_everything_that_clients_read_and_can_be_had_again() {
    let server = Setup::new().start();
    let response =
        server.object("/v1/responses", &request(json!({"metadata": {"a": "b"}, "instructions": "Sing."})));
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(
        (response["object"].as_str(), response["status"].as_str()),
        (Some("response"), Some("incomplete"))
    );
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["usage"]["output_tokens"], 6);
    assert_eq!(response["metadata"], json!({"a": "b"}));
    assert_eq!(response["instructions"], "Sing.");
    assert_eq!(response["output"][0]["role"], "assistant");
    assert!(!text(&response).is_empty());
    let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
    assert_eq!(server.get(&path).json(), response);
    assert_eq!(server.ask("DELETE", &path, &[], b"").json()["deleted"], true);
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(server.ask("DELETE", &path, &[], b"").status, 404);
}

#[test]
fn a_stream_tells_how_the_response_grows() {
    let server = Setup::new().start();
    let response = server.post("/v1/responses", &request(json!({"stream": true})));
    let events = response.events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        &kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
    );
    assert_eq!(
        &kinds[kinds.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    assert!(response.body.starts_with("event: response.created\ndata: {"));
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    let last = &events.last().unwrap()["response"];
    assert_eq!(deltas, text(last));
    assert_eq!(text(last), text(&server.object("/v1/responses", &request(json!({})))));
    let id = last["id"].as_str().unwrap();
    assert_eq!(&server.get(&format!("/v1/responses/{id}")).json(), last);
}

#[test]
fn one_in_the_background_is_made_meanwhile_and_its_events_can_be_followed() {
    let server = Setup::new().start();
    let begun =
        server.object("/v1/responses", &request(json!({"background": true, "max_output_tokens": 200})));
    assert_eq!(begun["status"], "in_progress");
    let id = begun["id"].as_str().unwrap();
    let followed = server.get(&format!("/v1/responses/{id}?stream=true&starting_after=1")).events();
    assert_eq!(followed[0]["sequence_number"], 2);
    let done = finished(&server, id);
    assert_eq!(&followed.last().unwrap()["response"], &done);
    assert_eq!(done["usage"]["output_tokens"], 200);
}

#[test]
fn cancelling_keeps_what_has_come() {
    let server = Setup::new().start();
    let begun =
        server.object("/v1/responses", &request(json!({"background": true, "max_output_tokens": 3500})));
    let id = begun["id"].as_str().unwrap();
    let cancelled = server.object(&format!("/v1/responses/{id}/cancel"), &json!({}));
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["usage"]["output_tokens"].as_u64().unwrap() < 3500);
    assert_eq!(server.server().answers(), 0);
    assert_eq!(server.post("/v1/responses/resp_none/cancel", &json!({})).status, 404);
}

#[test]
fn a_conversation_goes_on_from_a_response() {
    let server = Setup::new().start();
    let first = server.object("/v1/responses", &request(json!({})));
    let second = server
        .object("/v1/responses", &request(json!({"input": "More", "previous_response_id": first["id"]})));
    let whole = server.object("/v1/responses", &request(json!({"input": [
        {"role": "user", "content": "Hello"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text(&first)}]},
        {"role": "user", "content": [{"type": "input_text", "text": "More"}]},
    ]})));
    assert_eq!(text(&second), text(&whole));
    assert_eq!(second["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    let lost = server.post("/v1/responses", &request(json!({"previous_response_id": "resp_none"})));
    assert_eq!((lost.status, lost.json()["error"]["param"].as_str()), (404, Some("previous_response_id")));
}

#[test]
fn what_is_stored_is_on_disk() {
    let server = Setup::new().start();
    let stored = server.object("/v1/responses", &request(json!({"store": true})));
    let id = stored["id"].as_str().unwrap();
    let file = server.data().join("responses").join(format!("{id}.json"));
    server.wait_until("the file", |_| file.exists());
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved["response"], stored);
    let unstored = server.object("/v1/responses", &request(json!({})));
    let file = server.data().join("responses").join(format!("{}.json", unstored["id"].as_str().unwrap()));
    assert!(!file.exists());
}

#[test]
fn a_stored_chat_goes_on_without_its_reader() {
    let server = Setup::new().start();
    let ask = chat("Hello", &json!({"store": true, "stream": true, "max_tokens": 300}));
    let id = {
        let mut stream = server.connect();
        let request = server.request("POST", "/v1/chat/completions", &[], ask.to_string().as_bytes());
        std::io::Write::write_all(&mut stream, &request).unwrap();
        let mut bytes = [0; 2048];
        let count = std::io::Read::read(&mut stream, &mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let at = text.find("chatcmpl-").unwrap();
        text[at..at + 41].to_owned()
    };
    let done = finished(&server, &id);
    assert_eq!(done["usage"]["output_tokens"], 300, "{done}");
    let whole = server.object("/v1/chat/completions", &chat("Hello", &json!({"max_tokens": 300})));
    assert_eq!(text(&done), whole["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn a_reader_that_leaves_ends_what_is_not_stored() {
    let server = Setup::new().start();
    let stream = server.open("/v1/responses", &request(json!({"stream": true, "max_output_tokens": 3500})));
    assert_eq!(server.server().answers(), 1);
    drop(stream);
    server.wait_until("the end", |server| server.server().answers() == 0);
    assert!(server.get("/metrics").body.contains("pouch_answers_cancelled_total 1\n"));
}

#[test]
fn what_a_request_has_wrong_is_named() {
    let server = Setup::new().start();
    for (fields, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": 5}), "input"),
        (json!({"input": [{"type": "song"}]}), "input[0].type"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"input": [{"type": "function_call", "name": "f"}]}), "input[0].arguments"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (
            json!({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "g"}}),
            "tool_choice",
        ),
    ] {
        let response = server.post("/v1/responses", &request(fields.clone()));
        assert_eq!(
            (response.status, response.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{fields}"
        );
    }
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, &server.request("GET", "/v1/responses/x?stream=maybe", &[], b""))
        .unwrap();
    let response = read(&mut stream);
    assert_eq!(
        (response.status, response.json()["error"]["type"].as_str()),
        (400, Some("invalid_request_error"))
    );
}

#[test]
fn what_is_stored_goes_on_after_a_restart_to_the_same_text() {
    let whole = {
        let server = Setup::new().start();
        text(&finished(
            &server,
            server.object("/v1/responses", &request(json!({"background": true, "max_output_tokens": 1500})))
                ["id"]
                .as_str()
                .unwrap(),
        ))
    };
    let server = Setup::new().start();
    let begun = server.object(
        "/v1/responses",
        &request(json!({"background": true, "max_output_tokens": 1500, "metadata": {"a": "b"}})),
    );
    let id = begun["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{id}");
    server.wait_until("some text", |server| {
        let output = server.get(&path).json()["output"].clone();
        output[0]["content"][0]["text"].as_str().is_some_and(|text| text.len() > 20)
    });
    let folder = server.stop();
    let server = Setup::new().start_in(folder);
    server.wait_until("its return", |server| server.get(&path).status == 200);
    let done = finished(&server, &id);
    assert_eq!((done["status"].as_str(), &done["metadata"]), (Some("incomplete"), &json!({"a": "b"})));
    assert_eq!(text(&done), whole);
    assert_eq!(done["usage"]["output_tokens"], 1500);
    // And once it is done the journal need not know it.
    let journal = server.data().join("journal");
    server.wait_until("the journal's end", |_| {
        std::fs::read_dir(&journal).unwrap().flatten().all(|entry| {
            !std::fs::read(entry.path()).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&id))
        })
    });
    let server = Setup::new().start_in(server.stop());
    assert_eq!(text(&server.get(&path).json()), whole);
}

#[test]
fn calls_of_a_stored_answer_go_on_after_a_restart() {
    let parameters = json!({"type": "object", "additionalProperties": false, "required": ["n"], "properties": {"n": {"type": "string", "minLength": 300, "maxLength": 310}}});
    let fields = json!({
        "background": true, "tools": [{"type": "function", "name": "count", "parameters": parameters}], "tool_choice": "required",
        "parallel_tool_calls": false, "max_output_tokens": 3000,
    });
    let arguments = |done: &Value| {
        let call =
            done["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").cloned();
        call.unwrap_or_else(|| panic!("{done}"))["arguments"].as_str().unwrap().to_owned()
    };
    let server = Setup::new().start();
    let begun = server.object("/v1/responses", &request(fields.clone()));
    let whole = arguments(&finished(&server, begun["id"].as_str().unwrap()));
    let begun = server.object("/v1/responses", &request(fields));
    let id = begun["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/responses/{id}");
    server.wait_until("a call", |server| {
        server.get(&path).json()["output"].to_string().contains("function_call")
    });
    let server = Setup::new().start_in(server.stop());
    server.wait_until("its return", |server| server.get(&path).status == 200);
    assert_eq!(arguments(&finished(&server, &id)), whole);
    assert!(serde_json::from_str::<Value>(&whole).unwrap()["n"].as_str().unwrap().chars().count() >= 300);
}
