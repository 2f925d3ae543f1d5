//! The JSON objects: their names and the kinds of their values are an interface, so they are held here.

use serde_json::{Map, Value};

use crate::support::Pouch;

/// The object with every value replaced by its kind.
fn kinds(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(number) => if number.is_f64() { "float" } else { "integer" }.into(),
        Value::String(_) => "string".into(),
        Value::Array(values) => values.first().map(|first| vec![kinds(first)]).unwrap_or_default().into(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), kinds(value))).collect::<Map<_, _>>().into()
        }
    }
}

/// Names and kinds, for a snapshot.
pub(crate) fn shape(value: &Value) -> String {
    serde_json::to_string_pretty(&kinds(value)).unwrap()
}

const TEXT: &str = "the rain in the plain falls on the train, and then there is another one, ";

#[test]
fn run_gives_the_answer_and_its_figures() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let object = pouch.object(&["run", "-m", "./tiny.gguf", "-n", "8", "--json", "--seed", "3", "hello"]);
    insta::assert_snapshot!(shape(&object));
    assert_eq!(object["seed"], 3);
    assert_eq!(object["model"], "./tiny.gguf");
    assert_eq!(
        object["token_ids"].as_array().unwrap().len() as u64,
        object["generated_tokens"].as_u64().unwrap()
    );
    assert!(["max_tokens", "end_of_generation"].contains(&object["finish_reason"].as_str().unwrap()));
    for speed in ["prefill_tok_s", "time_to_first_token_ms", "load_ms"] {
        assert!(object[speed].as_f64().unwrap() > 0.0, "{speed}");
    }
}

#[test]
fn tokenize_gives_ids_and_pieces() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let object = pouch.object(&["tokenize", "tiny.gguf", "the rain", "--json"]);
    insta::assert_snapshot!(shape(&object));
    assert_eq!(object["text"], "the rain");
    assert_eq!(object["pieces"][0], "the");
    let special = pouch.object(&["tokenize", "tiny.gguf", "<|im_start|>", "--json", "--special"]);
    assert_eq!(special["token_count"], 1);
    assert!(
        pouch.object(&["tokenize", "tiny.gguf", "<|im_start|>", "--json"])["token_count"].as_u64() > Some(1)
    );
}

#[test]
fn eval_gives_perplexity_and_divergence() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write_model_with("other.gguf", |options| options.seed = 2);
    pouch.write("text.txt", TEXT.repeat(8));
    let common = ["eval", "tiny.gguf", "--text", "text.txt", "--context", "32", "--json"];
    let alone = pouch.object(&common);
    insta::assert_snapshot!("eval", shape(&alone));
    assert!(alone["perplexity"].as_f64().unwrap() > 1.0);
    assert!(alone["perplexity_stderr"].as_f64().unwrap() > 0.0);

    let compared = pouch.object(&[&common[..], &["--against", "other.gguf", "--chunks", "3"]].concat());
    insta::assert_snapshot!("eval_against", shape(&compared));
    assert_eq!(compared["windows"], 3);
    assert!(compared["kl_mean"].as_f64().unwrap() > 0.0);
    assert!(compared["kl_p99"].as_f64() >= compared["kl_mean"].as_f64());

    let itself = pouch.object(&[&common[..], &["--against", "tiny.gguf"]].concat());
    assert_eq!(itself["top1_agreement"], 1.0);
    assert!(itself["kl_mean"].as_f64().unwrap().abs() < 1e-9);
    assert_eq!(itself["perplexity"], alone["perplexity"]);
}

#[test]
fn info_gives_types_bits_parameters_and_memory() {
    let pouch = Pouch::new();
    let q8_0 = gguf::types::by_name("Q8_0").unwrap().id;
    pouch.write_model_with("tiny.gguf", |options| {
        *options = options.clone().with_type(q8_0);
        options.head_dim = 32;
    });
    let object = pouch.object(&["info", "tiny.gguf", "--json", "--tensors", "--context", "100"]);
    insta::assert_snapshot!(shape(&object));
    let matrices = &object["tensor_types"][0];
    assert_eq!((&matrices["type"], &matrices["bits_per_weight"]), (&"Q8_0".into(), &8.5.into()));
    // 2 layers of 2 heads of 32 values, keys and values, 2 bytes each, at no less than 100 positions.
    let cache = object["memory"]["kv_cache_f16_bytes"].as_u64().unwrap();
    assert!((51_200..2 * 51_200).contains(&cache), "{cache}");
    assert!(object["memory"]["kv_cache_q8_0_bytes"].as_u64().unwrap() < cache);
    assert_eq!(object["metadata"]["tokenizer.ggml.tokens"]["array"], "strings");
}

#[test]
fn list_and_pull_name_what_is_here() {
    let server = testkit::server::Server::start(|request, _| {
        testkit::server::Response::file(request, b"not a model, but a file", "\"tag\"")
    });
    let pouch = Pouch::new().with("HF_ENDPOINT", &server.address);
    let pulled = pouch.object(&["pull", "hf:owner/repo/model.gguf", "--json"]);
    insta::assert_snapshot!("pull", shape(&pulled));
    let list = pouch.object(&["list", "--json"]);
    insta::assert_snapshot!("list", shape(&list));
    assert_eq!(list["models"][0]["name"], "hf:owner/repo/model.gguf");
    assert_eq!(list["models"][0]["path"], pulled["path"]);
}

#[test]
fn import_tells_what_it_wrote() {
    let pouch = Pouch::new();
    crate::store::write_llama2c(&pouch);
    let object = pouch.object(&["import", "tiny.bin", "tiny.gguf", "--type", "f32", "--json"]);
    insta::assert_snapshot!(shape(&object));
    assert_eq!(object["architecture"], "llama");
}
