//! What is refused, and with which words; what is said otherwise.

use serde_json::{Value, json};

use super::prepare;
use crate::error::Error;

fn keyword(schema: &Value) -> (String, String) {
    match prepare(schema) {
        Err(Error::Keyword { path, keyword, .. }) => (path, keyword),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_name_keyword_and_place() {
    let cases = [
        (json!({"not": {}}), "#", "not"),
        (
            json!({"properties": {"a": {"type": "array", "uniqueItems": true}}}),
            "#/properties/a",
            "uniqueItems",
        ),
        (json!({"anyOf": [{}, {"if": {}, "then": {}}]}), "#/anyOf/1", "if"),
        (json!({"$defs": {"a/b": {"contains": {}}}}), "#/$defs/a~1b", "contains"),
        (json!({"items": 5}), "#/items", "items"),
        (json!({"items": {"minItems": -1}}), "#/items", "minItems"),
        (json!({"$ref": "other.json"}), "#", "$ref"),
        (json!({"$ref": "#/$defs/missing"}), "#", "$ref"),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "#", "oneOf"),
        (json!({"properties": []}), "#/properties", "properties"),
    ];
    for (schema, path, name) in cases {
        assert_eq!(keyword(&schema), (path.to_owned(), name.to_owned()), "{schema}");
    }
    // A property may be called as it likes.
    assert!(prepare(&json!({"properties": {"not": {"type": "string"}, "if": {}}})).is_ok());
}

#[test]
fn objects_that_name_their_properties_have_no_others() {
    let closed =
        |schema: Value| prepare(&schema).expect("it can be served")["additionalProperties"] == json!(false);
    assert!(closed(json!({"properties": {"a": {}}})));
    assert!(closed(json!({"type": "object", "properties": {"a": {}}, "required": ["a"]})));
    assert!(!closed(json!({"type": "object"})));
    assert!(!closed(json!({"properties": {"a": {}}, "additionalProperties": true})));
    assert!(!closed(json!({"properties": {"a": {}}, "required": ["b"]})));
    assert!(!closed(json!({"properties": {"a": {}}, "patternProperties": {"^x": {}}})));
    // The parts of one object know of each other.
    assert!(!closed(json!({"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]})));
    assert!(!closed(json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {}]})));
}

#[test]
fn one_of_is_any_of_where_nothing_fits_two() {
    let kinds = |a: Value, b: Value| {
        json!({"oneOf": [
            {"type": "object", "properties": {"kind": a}, "required": ["kind"]},
            {"type": "object", "properties": {"kind": b}, "required": ["kind"]},
        ]})
    };
    let is_served = |schema: Value| prepare(&schema).is_ok_and(|schema| schema.get("anyOf").is_some());
    assert!(is_served(kinds(json!({"const": "a"}), json!({"const": "b"}))));
    assert!(is_served(kinds(json!({"enum": ["a", "b"]}), json!({"const": "c"}))));
    assert!(!is_served(kinds(json!({"enum": ["a", "b"]}), json!({"const": "b"}))));
    assert!(!is_served(kinds(json!({"type": "string"}), json!({"const": "b"}))));
    assert!(is_served(
        json!({"oneOf": [{"type": "string"}, {"type": ["null", "integer"]}, {"type": "object"}]})
    ));
    assert!(!is_served(json!({"oneOf": [{"const": 1}, {"const": 1.0}]})));
    assert!(!is_served(json!({"oneOf": [{}, {"type": "string"}]})));
    let recursive =
        json!({"oneOf": [{"$ref": "#/$defs/a"}, {"type": "string"}], "$defs": {"a": {"$ref": "#/$defs/a"}}});
    assert!(!is_served(recursive));
}

#[test]
fn limits_hold() {
    let nested = |depth| (0..depth).fold(json!({}), |inner, _| json!({"items": inner}));
    assert!(prepare(&nested(40)).is_ok());
    assert!(matches!(prepare(&nested(60)), Err(Error::TooLarge { .. })));
    assert!(matches!(prepare(&json!({"enum": vec![0; 50_000]})), Err(Error::TooLarge { .. })));
    assert!(matches!(prepare(&json!({"title": "x".repeat(1 << 20)})), Err(Error::TooLarge { .. })));
    assert!(matches!(prepare(&json!(false)), Err(Error::Schema { .. })));
}
