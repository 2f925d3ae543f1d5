//! Answers with calls: whatever is drawn under the constraint, the parser finds calls of the tools, and their arguments fit.

mod support;

use grammar::{Calls, Error, Grammars, Piece, ToolChoice, ToolFormat};
use serde_json::{Value, json};
use support::validate::validate;
use support::{draw, tokenizer};
use testkit::TokenizerKind;
use text::Tokenizer;

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// What stands in the templates of the families.
const TEMPLATES: &[&str] = &[
    r#"<tool_call>\n{\"name\": <function-name>, \"arguments\": <args>}\n</tool_call>"#,
    r#"<think><tool_call>\n{\"name\": <function-name>, \"arguments\": <args>}\n</tool_call>"#,
    "[TOOL_CALLS][",
    "[TOOL_CALLS] [ARGS]",
    r#"<|start_header_id|> {"name": function name, "parameters": dictionary}"#,
    "message['tools'] <|tool|>",
    "",
];

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "maxLength": 6}, "unit": {"enum": ["°C", "°F"]}
        }, "required": ["city"]}}},
        {"type": "function", "function": {"name": "plan.trip-2", "parameters": {"properties": {
            "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "minItems": 1, "maxItems": 2}
        }, "required": ["stops"], "$defs": {"stop": {"type": "object", "properties": {
            "名": {"type": "string", "maxLength": 3}, "nights": {"type": "integer", "minimum": 0, "maximum": 14}
        }, "required": ["名", "nights"]}}}}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

/// Vocabularies where the markers are text, words of their own, or control tokens.
fn vocabularies() -> Vec<Tokenizer> {
    let extra = |kind| {
        ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|/tool_call|>"]
            .map(|name| (name, kind))
    };
    vec![
        tokenizer(TokenizerKind::Bytes, &[]),
        tokenizer(TokenizerKind::Bytes, &extra(USER_DEFINED)),
        tokenizer(TokenizerKind::Bytes, &extra(CONTROL)),
        tokenizer(TokenizerKind::SentencePiece, &extra(CONTROL)),
    ]
}

/// The text and the calls of an answer.
fn read(format: ToolFormat, answer: &str) -> (String, Vec<(String, String)>) {
    let mut parser = format.parser(1);
    let mut pieces = parser.push(answer);
    pieces.extend(parser.finish());
    let (mut text, mut calls) = (String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(&part),
            Piece::CallStart { name, .. } => calls.push((name, String::new())),
            Piece::Arguments { index, delta } => calls[index].1.push_str(&delta),
        }
    }
    (text, calls)
}

fn check(calls: &[(String, String)], answer: &str) {
    for (name, arguments) in calls {
        let tools = tools();
        let tool =
            tools.as_array().into_iter().flatten().find(|tool| tool["function"]["name"] == json!(name));
        let tool = tool.unwrap_or_else(|| panic!("no tool {name}: {answer}"));
        let arguments: Value =
            serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(arguments.is_object(), "{answer}");
        let schema =
            tool["function"].get("parameters").cloned().unwrap_or(json!({"additionalProperties": false}));
        validate(&schema, &schema, &arguments).unwrap_or_else(|error| panic!("{error}: {answer}"));
    }
}

/// Has a model write `text` and then draws the rest; `None` if that has no end.
fn go_on(
    tokenizer: &Tokenizer,
    format: ToolFormat,
    grammars: &Grammars,
    wish: &Calls,
    text: &str,
    seed: u64,
) -> Option<String> {
    let constraint = format.constraint(grammars, &tools(), wish).expect("the tools are sound");
    let mut constraint = constraint.expect("there are tools");
    for id in tokenizer.encode(text, text::Encode { add_special: false, parse_special: true }) {
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        constraint.mask(&mut logits).expect("something may follow");
        assert_eq!(logits[id as usize], 0.0, "{} in {text:?}", tokenizer.piece(id));
        assert!(!constraint.accept(id).expect("what is not masked is accepted"), "{text:?} may go on");
    }
    let drawn = draw(tokenizer, &mut *constraint, seed, 1500, &format.shown(tokenizer));
    drawn.is_complete.then(|| text.to_owned() + &drawn.text)
}

#[test]
fn random_answers_call_as_they_must() {
    for tokenizer in vocabularies() {
        let grammars = Grammars::new(&tokenizer);
        for template in TEMPLATES {
            let format = ToolFormat::of_source(template);
            // A thought drawn at random would have no end.
            let is_text = tokenizer.id("<tool_call>").is_none_or(|id| !tokenizer.is_control(id));
            let thought = match (template.contains("<think>"), is_text) {
                (true, true) => "\n<think>A <tool_call>?</think>",
                (true, false) => "\n<think>A <tool?</think>",
                (false, _) => "",
            };
            for (choice, parallel) in [
                (ToolChoice::Required, true),
                (ToolChoice::Required, false),
                (ToolChoice::Named("now".to_owned()), false),
                (ToolChoice::Named("plan.trip-2".to_owned()), true),
            ] {
                let wish = Calls { choice, parallel };
                let mut complete = 0;
                for seed in 0..6 {
                    let Some(answer) = go_on(&tokenizer, format, &grammars, &wish, thought, seed) else {
                        continue;
                    };
                    complete += 1;
                    let (text, calls) = read(format, &answer);
                    let answer = format!("{} {wish:?}: {answer}", format.name());
                    assert_eq!(text, thought, "{answer}");
                    assert!(!calls.is_empty() && (parallel || calls.len() == 1), "{answer}");
                    if let ToolChoice::Named(name) = &wish.choice {
                        assert!(calls.iter().all(|(called, _)| called == name), "{answer}");
                    }
                    check(&calls, &answer);
                }
                assert!(complete >= 1, "{} {wish:?}: no answer ended", format.name());
            }
        }
    }
}

#[test]
fn text_is_free_until_a_marker_comes() {
    for tokenizer in vocabularies() {
        let grammars = Grammars::new(&tokenizer);
        let wish = Calls { choice: ToolChoice::Auto, parallel: false };
        for (template, prose, opening) in [
            (TEMPLATES[0], "It is {\"name\": 1} <tool_cal or [ARGS", "\n<tool_call>"),
            (TEMPLATES[1], "<think>\nOr <tool_cal?\n</think>\n\nYes: ", "<tool_call>"),
            (TEMPLATES[2], "a [TOOL {\n", "[TOOL_CALLS]"),
            (TEMPLATES[3], "a [TOOL {\n", "[TOOL_CALLS]"),
            (TEMPLATES[4], "", "{\""),
            (TEMPLATES[5], "Well, <|tool_", "<|tool_call|>"),
            (TEMPLATES[6], "中文 ", "<tool_call>"),
        ] {
            let format = ToolFormat::of_source(template);
            let mut complete = 0;
            for seed in 0..4 {
                if let Some(answer) =
                    go_on(&tokenizer, format, &grammars, &wish, &format!("{prose}{opening}"), seed)
                {
                    complete += 1;
                    let (text, calls) = read(format, &answer);
                    assert_eq!((text.trim(), calls.len()), (prose.trim(), 1), "{answer}");
                    check(&calls, &answer);
                }
            }
            assert!(complete >= 1, "{}: no answer ended", format.name());
        }
    }
}

#[test]
fn text_may_end_without_a_call() {
    for tokenizer in vocabularies() {
        let grammars = Grammars::new(&tokenizer);
        for template in TEMPLATES {
            let format = ToolFormat::of_source(template);
            for text in ["", "No.", "x < y 汉字\n\n{a}", "\n[TOOL_CALL"] {
                let constraint =
                    format.constraint(&grammars, &tools(), &Calls::default()).expect("the tools are sound");
                assert!(
                    support::fits(&tokenizer, constraint.expect("there are tools"), text),
                    "{} {text:?}",
                    format.name()
                );
            }
        }
    }
}

#[test]
fn wishes_that_cannot_be_met_are_refused() {
    let tokenizer = tokenizer(TokenizerKind::Bytes, &[]);
    let (grammars, format) = (Grammars::new(&tokenizer), ToolFormat::of_source(TEMPLATES[0]));
    let constraint =
        |tools: &Value, choice| format.constraint(&grammars, tools, &Calls { choice, parallel: true });
    assert!(constraint(&tools(), ToolChoice::None).expect("nothing to do").is_none());
    assert!(constraint(&json!([]), ToolChoice::Auto).expect("nothing to do").is_none());
    assert!(matches!(constraint(&json!([]), ToolChoice::Required), Err(Error::Tools { .. })));
    assert!(matches!(constraint(&tools(), ToolChoice::Named("fly".to_owned())), Err(Error::NoTool { .. })));
    let unsound = json!([{"function": {"name": "f", "parameters": {"properties": {"a": {"not": {}}}}}}]);
    match constraint(&unsound, ToolChoice::Auto) {
        Err(Error::Keyword { path, keyword, .. }) => {
            assert_eq!((path.as_str(), keyword.as_str()), ("f#/properties/a", "not"));
        }
        other => panic!("{other:?}"),
    }
}
