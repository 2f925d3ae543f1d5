//! Whether no value can fit two schemas at once: what turns `oneOf` into `anyOf`.
//!
//! The answer may be a wrong no, never a wrong yes.

use serde_json::Value;

/// References and properties that are followed.
const DEPTH: usize = 8;

/// Alternatives that are compared, each with each.
const MOST: usize = 128;

/// Whether each two of `schemas` are disjoint. References are to places in `root`.
pub(super) fn all(root: &Value, schemas: &[Value]) -> bool {
    schemas.len() <= MOST
        && schemas
            .iter()
            .enumerate()
            .all(|(index, a)| schemas[index + 1..].iter().all(|b| are_disjoint(root, a, b, DEPTH)))
}

/// The place in `root` that a reference such as `#/$defs/Name` means.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?.trim_end_matches('/'))
}

fn are_disjoint(root: &Value, a: &Value, b: &Value, depth: usize) -> bool {
    let (Some(a), Some(b), Some(depth)) = (follow(root, a), follow(root, b), depth.checked_sub(1)) else {
        return false;
    };
    if a == &Value::Bool(false) || b == &Value::Bool(false) {
        return true;
    }
    if let (Some(a), Some(b)) = (literals(a), literals(b)) {
        return a.iter().all(|a| b.iter().all(|b| !are_equal(a, b)));
    }
    if let (Some(a), Some(b)) = (types(a), types(b))
        && a.iter().all(|a| b.iter().all(|b| !may_share(a, b)))
    {
        return true;
    }
    // Of two objects: a property that one must have and that cannot be as both want it.
    let only_objects = |schema| types(schema).is_some_and(|types| types == ["object"]);
    (only_objects(a) || only_objects(b))
        && required(a).chain(required(b)).any(|name| {
            let property =
                |schema: &'_ Value| schema.get("properties").and_then(|all| all.get(name)).cloned();
            match (property(a), property(b)) {
                (Some(a), Some(b)) => are_disjoint(root, &a, &b, depth),
                _ => false,
            }
        })
}

/// The schema behind references that stand alone.
fn follow<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..DEPTH {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => schema = resolve(root, reference)?,
            None => return Some(schema),
        }
    }
    None
}

/// The only values that fit, where they are listed.
fn literals(schema: &Value) -> Option<&[Value]> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(std::slice::from_ref(value)),
        (None, Some(Value::Array(values))) => Some(values),
        _ => None,
    }
}

/// The types that fit, where they are said.
fn types(schema: &Value) -> Option<Vec<&str>> {
    if let Some(values) = literals(schema) {
        return Some(values.iter().map(type_of).collect());
    }
    match schema.get("type")? {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn may_share(a: &str, b: &str) -> bool {
    let number = |name| if name == "integer" { "number" } else { name };
    number(a) == number(b)
}

/// Numbers are equal by value: 1 and 1.0 are one.
fn are_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        // What contains numbers is not looked into.
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
        _ => a == b,
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
