//! Random models, held to forms by the engine: every answer that is over has its form, guessed ahead or not.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{
    EndReason, Engine, EngineOptions, Generation, Limits, SamplerOptions, SessionOptions, Speculation,
    generate,
};
use grammar::{Calls, Grammars, Piece, ToolChoice, ToolFormat};
use model::Model;
use serde_json::{Value, json};
use support::validate::validate;
use testkit::{TinyOptions, tiny_model};

fn open(architecture: &str) -> Arc<Model> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    tiny_model(&TinyOptions::new(architecture)).write(&path);
    Arc::new(Model::open(&path, &model::Options::default()).expect("a tiny model opens"))
}

fn answer(
    model: &Arc<Model>,
    constraint: Box<dyn engine::Constraint>,
    seed: u64,
    speculation: Speculation,
) -> Generation {
    let mut engine = Engine::new(Arc::clone(model), EngineOptions { threads: Some(1), batch: 32 });
    let options = SessionOptions {
        sampler: SamplerOptions { temperature: 1.2, seed, ..SamplerOptions::default() },
        limits: Limits { max_tokens: Some(450), ..Limits::default() },
        speculation,
        ..SessionOptions::default()
    };
    let mut session = engine.session(options).expect("a session");
    session.push(&model.tokenizer.encode("Say it:", text::Encode::default())).expect("it fits");
    session.constrain(constraint).expect("nothing is said yet");
    generate(&mut engine, &mut session, &AtomicBool::new(false), &mut |_| {}).expect("an answer")
}

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 6},
            "kind": {"enum": ["猫", "狗", "ñandú"]},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": -3, "maximum": 300}, "maxItems": 3},
            "owner": {"anyOf": [{"$ref": "#/$defs/owner"}, {"type": "null"}]}
        }, "required": ["name", "kind", "sizes", "owner"], "$defs": {
            "owner": {"type": "object", "properties": {"id": {"type": "number", "minimum": 0, "maximum": 1}, "ok": {"type": "boolean"}}, "required": ["ok"]}
        }}),
        json!({"type": "array", "items": {"enum": ["ja", "是", 3, null]}, "minItems": 1, "maxItems": 4}),
    ]
}

#[test]
fn answers_of_models_fit_their_schema() {
    for architecture in ["qwen2", "gemma3"] {
        let model = open(architecture);
        let grammars = Grammars::new(&model.tokenizer);
        for schema in schemas() {
            let mut complete = 0;
            for seed in 0..8 {
                let constraint = || grammars.json_schema(&schema).expect("it can be served");
                let generation = answer(&model, constraint(), seed, Speculation::Off);
                assert_eq!(
                    answer(&model, constraint(), seed, Speculation::Fixed(4)).token_ids,
                    generation.token_ids,
                    "guesses change nothing"
                );
                if matches!(generation.end, Some(EndReason::EndOfGeneration(_) | EndReason::Complete)) {
                    complete += 1;
                    let value: Value = serde_json::from_str(&generation.text)
                        .unwrap_or_else(|error| panic!("{error}: {}", generation.text));
                    validate(&schema, &schema, &value)
                        .unwrap_or_else(|error| panic!("{error}: {}", generation.text));
                }
            }
            assert!(complete >= 4, "{complete} of 8 answers of {architecture} ended");
        }
    }
}

#[test]
fn calls_of_models_fit_their_tool() {
    let model = open("qwen2");
    let grammars = Grammars::new(&model.tokenizer);
    // The tiny template knows no tools, so they come with words of ours.
    let format = ToolFormat::of(&model.chat_template);
    assert_eq!(format.name(), "instructions");
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]});
    let tools = json!([{"type": "function", "function": {"name": "count", "parameters": schema}}]);
    let calls = Calls { choice: ToolChoice::Required, parallel: false };
    for seed in 0..8 {
        let constraint = format
            .constraint(&grammars, &tools, &calls)
            .expect("the tools are sound")
            .expect("a call is required");
        let generation = answer(&model, constraint, seed, Speculation::default());
        assert!(matches!(generation.end, Some(EndReason::Complete)), "{:?}", generation.end);
        let mut parser = format.parser(seed);
        let mut pieces = parser.push(&generation.text);
        pieces.extend(parser.finish());
        let [Piece::CallStart { name, .. }, Piece::Arguments { delta, .. }] = &pieces[..] else {
            panic!("{pieces:?}")
        };
        assert_eq!(name, "count");
        let arguments: Value = serde_json::from_str(delta).expect("arguments are JSON");
        validate(&schema, &schema, &arguments).expect("they fit");
    }
}
