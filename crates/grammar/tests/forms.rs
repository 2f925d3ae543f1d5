//! Whatever is drawn under a constraint has its form, and the forms allow what they should.

mod support;

use grammar::Error;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::validate::validate;
use support::{bytes, draw, fits, tokenizer};
use testkit::TokenizerKind;

/// Schemas as people and generators write them. All bounded, so that random answers have an end.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
            "address": {"type": "object", "properties": {
                "city": {"type": "string", "maxLength": 6}, "zip": {"type": ["integer", "null"], "minimum": 1, "maximum": 99999}
            }, "required": ["city", "zip"]}
        }, "required": ["name", "age", "address"]}),
        json!({"type": "object", "properties": {"颜色": {"enum": ["红色", "绿色", "azul\"\\", "\u{1f600}"]}, "größe": {"const": "groß"}},
            "required": ["颜色", "größe"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "number", "minimum": -2.5, "maximum": 1e3}, "minItems": 2, "maxItems": 5}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "null"}, {"enum": [1, 2.5, "three", [4], {"five": 6}]}]}),
        json!({"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "boolean"}],
            "items": {"type": "string", "maxLength": 2}, "minItems": 2, "maxItems": 3}),
        // A tree: a schema that means itself.
        json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
            "value": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 5},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}
        }, "required": ["value"]}}}),
        // A discriminated union as Pydantic writes it.
        json!({"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "$defs": {
            "Cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["kind", "lives"]},
            "Dog": {"type": "object", "properties": {"kind": {"const": "dog"}, "good": {"type": "boolean"}}, "required": ["kind", "good"]}
        }}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 3}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"], "additionalProperties": {"type": "integer", "maximum": 2}}]}),
    ]
}

#[test]
fn random_answers_fit_their_schema() {
    let (tokenizer, grammars) = bytes();
    for schema in schemas() {
        let mut complete = 0;
        for seed in 0..40 {
            let mut constraint = grammars.json_schema(&schema).expect("it can be served");
            let drawn = draw(&tokenizer, &mut *constraint, seed, 1500, &[]);
            if drawn.is_complete {
                complete += 1;
                let value: Value = serde_json::from_str(&drawn.text)
                    .unwrap_or_else(|error| panic!("{error}: {}", drawn.text));
                validate(&schema, &schema, &value).unwrap_or_else(|error| panic!("{error}: {}", drawn.text));
            }
        }
        assert!(complete >= 30, "{complete} of 40 answers ended for {schema}");
    }
}

#[test]
fn sentence_pieces_write_the_same_forms() {
    let tokenizer = tokenizer(TokenizerKind::SentencePiece, &[]);
    let grammars = grammar::Grammars::new(&tokenizer);
    for schema in schemas() {
        for seed in 0..5 {
            let mut constraint = grammars.json_schema(&schema).expect("it can be served");
            let drawn = draw(&tokenizer, &mut *constraint, seed, 1500, &[]);
            if drawn.is_complete {
                let value: Value = serde_json::from_str(&drawn.text)
                    .unwrap_or_else(|error| panic!("{error}: {}", drawn.text));
                validate(&schema, &schema, &value).unwrap_or_else(|error| panic!("{error}: {}", drawn.text));
            }
        }
    }
}

#[test]
fn a_json_object_is_an_object() {
    let (tokenizer, grammars) = bytes();
    let mut complete = 0;
    for seed in 0..40 {
        let mut constraint = grammars.json_object().expect("it can be served");
        let drawn = draw(&tokenizer, &mut *constraint, seed, 800, &[]);
        if drawn.is_complete {
            complete += 1;
            match serde_json::from_str::<Value>(&drawn.text) {
                Ok(value) => assert!(value.is_object(), "{}", drawn.text),
                // JSON knows 1e999, Rust does not.
                Err(error) => {
                    assert!(error.to_string().starts_with("number out of range"), "{error}: {}", drawn.text)
                }
            }
        }
    }
    assert!(complete >= 10, "{complete} ended");
    let fits = |text| fits(&tokenizer, grammars.json_object().expect("it can be served"), text);
    assert!(fits(r#"{"a": [1, 2.5e3, {"b": null}], "中文": "汉字\n"}"#));
    assert!(fits("{\n  \"a\": 1,\n  \"b\": {\n    \"c\": true\n  }\n}"));
    assert!(!fits("[1]") && !fits("{} {}") && !fits("{\"a\": 01}") && !fits("{\"a\": 1,}") && !fits("\n{}"));
    // Space is bounded, or a small model would go on with it for ever.
    assert!(!fits("{\n\n\n\n\n}"));
}

#[test]
fn a_regular_expression_matches_as_a_whole() {
    let (tokenizer, grammars) = bytes();
    for seed in 0..20 {
        let mut constraint = grammars.regex("(ja|nein|是的), [0-9]{3}(-[a-f]+)?").expect("it compiles");
        let drawn = draw(&tokenizer, &mut *constraint, seed, 200, &[]);
        let rest = ["ja, ", "nein, ", "是的, "].iter().find_map(|start| drawn.text.strip_prefix(start));
        let rest = rest.unwrap_or_else(|| panic!("{}", drawn.text));
        assert!(drawn.is_complete && rest[..3].chars().all(|digit| digit.is_ascii_digit()), "{}", drawn.text);
    }
    let fits = |text| fits(&tokenizer, grammars.regex("a+b?").expect("it compiles"), text);
    assert!(fits("a") && fits("aab") && !fits("b") && !fits("abb") && !fits(""));
    for wrong in ["(", "a{2,1}", r"(?=a)b", r"(a)\1"] {
        assert!(matches!(grammars.regex(wrong), Err(Error::Regex { .. })), "{wrong}");
    }
    assert!(matches!(grammars.regex(&"a".repeat(100_000)), Err(Error::TooLarge { .. })));
}

#[test]
fn an_expression_that_nothing_follows_ends_the_answer() {
    let (tokenizer, grammars) = bytes();
    let mut constraint = grammars.regex("ab").expect("it compiles");
    let ids = tokenizer.encode("ab", text::Encode::default());
    let (last, first) = ids.split_last().expect("two letters");
    assert!(first.iter().all(|&id| !constraint.accept(id).expect("it fits")));
    assert!(constraint.accept(*last).expect("it fits"), "nothing can follow");
    let mut logits = vec![0.0; tokenizer.vocab_size()];
    constraint.mask(&mut logits).expect("the end may follow");
    assert!((0..).zip(&logits).all(|(id, logit)| logit.is_finite() == tokenizer.is_end_of_generation(id)));
    assert!(constraint.accept(first.first().copied().unwrap_or(*last)).is_err());
}

#[test]
fn a_grammar_derives_the_answer() {
    let (tokenizer, grammars) = bytes();
    let sum = "start: term (\" + \" term)*\nterm: NUMBER | \"(\" start \")\"\nNUMBER: /[0-9]{1,3}/";
    let fits = |text| fits(&tokenizer, grammars.lark(sum).expect("it compiles"), text);
    assert!(fits("1 + (22 + 333)") && !fits("1 +") && !fits("(1"));
    assert!(matches!(grammars.lark("start: nothing"), Err(Error::Grammar { .. })));
}

#[test]
fn control_tokens_never_come_whatever_a_grammar_says() {
    let (tokenizer, grammars) = bytes();
    let start = tokenizer.id("<|im_start|>").expect("it is there");
    for wish in [
        format!("start: \"a\" <[{start}]> \"b\""),
        "start: \"a\" <|im_start|>".to_owned(),
        "start: \"a\" <[*]>".to_owned(),
    ] {
        let Ok(mut constraint) = grammars.lark(&wish) else { continue };
        constraint.accept(tokenizer.id("a").expect("it is there")).expect("it fits");
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        if constraint.mask(&mut logits).is_ok() {
            assert_eq!(logits[start as usize], f32::NEG_INFINITY, "{wish}");
        }
        assert!(constraint.accept(start).is_err(), "{wish}");
    }
}

#[test]
fn a_token_that_was_masked_is_refused() {
    let (tokenizer, grammars) = bytes();
    let mut constraint = grammars.json_object().expect("it can be served");
    assert!(matches!(
        constraint.accept(tokenizer.id("x").expect("it is there")),
        Err(engine::Error::Constraint { .. })
    ));
    assert!(matches!(
        grammars.json_object().expect("it can be served").accept(u32::MAX),
        Err(engine::Error::Constraint { .. })
    ));
}

/// JSON that looks like a schema, more or less.
fn any_schema() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "enum",
        "const",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "additionalProperties",
        "patternProperties",
        "minProperties",
        "maxProperties",
        "not",
        "if",
        "x-guidance",
        "$schema",
        "a",
        "b",
    ]);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        prop::sample::select(vec![
            "string",
            "object",
            "array",
            "integer",
            "number",
            "null",
            "#",
            "#/$defs/a",
            "#/properties/a",
            "a",
            "(",
            "[a-z]+",
            "^a|b$",
            "date",
            "\\p{L}"
        ])
        .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5i64..20).prop_map(Value::from),
        any::<f64>().prop_filter_map("no number of JSON", |number| serde_json::Number::from_f64(number)
            .map(Value::Number)),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// A schema from a stranger is served or refused; what is served gives tokens or gives up with an error.
    #[test]
    fn no_schema_does_harm(schema in any_schema(), seed in any::<u64>()) {
        let (tokenizer, grammars) = bytes();
        if let Ok(mut constraint) = grammars.json_schema(&schema) {
            let mut random = testkit::Random::new(seed);
            for _ in 0..40 {
                let mut logits: Vec<f32> = (0..tokenizer.vocab_size()).map(|_| random.signed()).collect();
                if constraint.mask(&mut logits).is_err() {
                    break;
                }
                let best = (0..).zip(&logits).max_by(|a: &(u32, &f32), b| a.1.total_cmp(b.1)).expect("there are tokens");
                prop_assert!(best.1.is_finite());
                if constraint.accept(best.0).map_or(true, |is_complete| is_complete) {
                    break;
                }
            }
        }
    }
}

#[test]
fn attacks_are_refused_or_served_in_time() {
    let (tokenizer, grammars) = bytes();
    let nested = |depth| {
        (0..depth).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}))
    };
    let refused = [
        nested(60),
        json!({"enum": (0..30_000).collect::<Vec<_>>()}),
        json!({"const": "x".repeat(1 << 20)}),
        json!({"type": "string", "minLength": 4_000_000_000_u64}),
        json!({"type": "array", "minItems": 1_000_000}),
        json!({"$ref": "http://example.com/schema"}),
        json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
    ];
    for schema in refused {
        let shown: String = schema.to_string().chars().take(80).collect();
        assert!(grammars.json_schema(&schema).is_err(), "{shown}");
    }
    // What means itself and nothing else has no answer.
    for schema in [json!({"$ref": "#"}), json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})]
    {
        if let Ok(mut constraint) = grammars.json_schema(&schema) {
            assert!(constraint.mask(&mut vec![0.0; tokenizer.vocab_size()]).is_err(), "{schema}");
        }
    }
    // Each level doubles the intersections.
    let doubling = (0..12).fold(json!({"type": "object"}), |inner, _| json!({"allOf": [{"anyOf": [inner, {"type": "null"}]}, {"anyOf": [inner, {"type": "string"}]}]}));
    let _ = grammars.json_schema(&doubling);
    let _ = grammars.json_schema(&json!({"type": "integer", "minimum": 1e300, "multipleOf": 1e-300}));
    let _ = grammars.json_schema(
        &json!({"type": "string", "pattern": "((((a{1,1000}){1,1000}){1,1000}){1,1000}){1,1000}"}),
    );
    let _ = grammars.json_schema(&json!({"type": "string", "pattern": "(a|b|ab)*c(a|b|ab){50}d(x*){40}"}));
}
