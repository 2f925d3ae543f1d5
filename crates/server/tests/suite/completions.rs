//! `/v1/completions` and `/v1/embeddings`.

use serde_json::{Value, json};

use crate::support::Setup;

#[test]
fn a_text_goes_on() {
    let server = Setup::new().start();
    let request = json!({"model": "tiny", "prompt": "Once upon", "temperature": 0, "max_tokens": 6});
    let answer = server.object("/v1/completions", &request);
    assert_eq!(answer["object"], "text_completion");
    let text = answer["choices"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(answer["usage"]["completion_tokens"], 6);

    let with = |fields: Value| {
        let mut request = request.clone();
        fields.as_object().unwrap().iter().for_each(|(name, value)| request[name] = value.clone());
        request
    };
    let echoed = server.object("/v1/completions", &with(json!({"echo": true})));
    assert_eq!(echoed["choices"][0]["text"], format!("Once upon{text}"));
    let listed = server.object("/v1/completions", &with(json!({"prompt": ["Once upon"]})));
    assert_eq!(listed["choices"][0]["text"], text);
    let streamed = server.post("/v1/completions", &with(json!({"stream": true, "echo": true})));
    let pieces: String =
        streamed.events().iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(pieces, format!("Once upon{text}"));

    let told = server.object("/v1/completions", &with(json!({"logprobs": 2})));
    let logprobs = &told["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 6);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);
    assert_eq!(logprobs["text_offset"][0], 0);
}

#[test]
fn tokens_are_a_prompt_too() {
    let server = Setup::new().start();
    // "Hi" as bytes behind three control tokens.
    let request = json!({"prompt": [75, 108], "temperature": 0, "max_tokens": 4});
    let by_tokens = server.object("/v1/completions", &request);
    let by_text =
        server.object("/v1/completions", &json!({"prompt": "Hi", "temperature": 0, "max_tokens": 4}));
    assert_eq!(by_tokens["choices"][0]["text"], by_text["choices"][0]["text"]);
    for (prompt, param) in
        [(json!([99999]), "prompt"), (json!(["a", "b"]), "prompt"), (json!({"a": 1}), "prompt")]
    {
        let response = server.post("/v1/completions", &json!({"prompt": prompt}));
        assert_eq!(
            (response.status, response.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{prompt}"
        );
    }
}

#[test]
fn texts_become_vectors_of_length_one() {
    let server = Setup::new().start();
    let request = json!({"model": "tiny", "input": ["the cat", "a dog", "the cat"]});
    let answer = server.object("/v1/embeddings", &request);
    let vectors: Vec<Vec<f64>> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        })
        .collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 64));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for vector in &vectors {
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
    }
    assert_eq!(vectors[0], vectors[2]);
    assert!(dot(&vectors[0], &vectors[1]) < 0.9999);
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 6);

    let short = server.object("/v1/embeddings", &json!({"input": "the cat", "dimensions": 8}));
    let short: Vec<f64> = short["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(short.len(), 8);
    assert!((dot(&short, &short) - 1.0).abs() < 1e-5);

    let coded = server.object("/v1/embeddings", &json!({"input": "the cat", "encoding_format": "base64"}));
    // Four bytes a value, four letters for three bytes.
    assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), (64 * 4_usize).div_ceil(3) * 4);

    for (request, param) in [
        (json!({"input": []}), "input"),
        (json!({"input": 5}), "input"),
        (json!({"input": "x", "dimensions": 65}), "dimensions"),
        (json!({"input": "x", "encoding_format": "hex"}), "encoding_format"),
        (json!({"input": [[1, 999999]]}), "prompt"),
        (json!({"input": "x".repeat(9000)}), "input"),
    ] {
        let response = server.post("/v1/embeddings", &request);
        assert_eq!(
            (response.status, response.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{param}"
        );
    }
}
