//! JSON Schema as far as the suites use it, straight from the standard's words.

use serde_json::Value;

/// Why `value` does not fit, if it does not.
pub(crate) fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let map = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(map) => map,
        _ => return Err(format!("{value} against {schema}")),
    };
    for (keyword, wanted) in map {
        let holds = match keyword.as_str() {
            "type" => types(wanted).any(|name| is_type(value, name)),
            "const" => value == wanted,
            "enum" => list(wanted).any(|one| one == value),
            "$ref" => {
                let target = root.pointer(&wanted.as_str().expect("a string")[1..]).expect("it is there");
                validate(root, target, value)?;
                true
            }
            "anyOf" => list(wanted).any(|one| validate(root, one, value).is_ok()),
            "oneOf" => list(wanted).filter(|one| validate(root, one, value).is_ok()).count() == 1,
            "allOf" => list(wanted).all(|one| validate(root, one, value).is_ok()),
            "minimum" => value.as_f64().is_none_or(|value| value >= number(wanted)),
            "maximum" => value.as_f64().is_none_or(|value| value <= number(wanted)),
            "exclusiveMinimum" => value.as_f64().is_none_or(|value| value > number(wanted)),
            "multipleOf" => value.as_f64().is_none_or(|value| (value / number(wanted)).fract() == 0.0),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= number(wanted)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= number(wanted)),
            "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number(wanted)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= number(wanted)),
            "items" => match value {
                Value::Array(items) => {
                    let skipped = map.get("prefixItems").map_or(0, |prefix| list(prefix).count());
                    items.iter().skip(skipped).try_for_each(|item| validate(root, wanted, item))?;
                    true
                }
                _ => true,
            },
            "prefixItems" => match value {
                Value::Array(items) => {
                    items.iter().zip(list(wanted)).try_for_each(|(item, one)| validate(root, one, item))?;
                    true
                }
                _ => true,
            },
            "properties" | "additionalProperties" => match value {
                Value::Object(members) => {
                    for (name, member) in members {
                        let named = map.get("properties").and_then(|all| all.get(name));
                        match (keyword.as_str(), named) {
                            ("properties", Some(one)) => validate(root, one, member)?,
                            ("additionalProperties", None) => validate(root, wanted, member)?,
                            _ => {}
                        }
                    }
                    true
                }
                _ => true,
            },
            "required" => match value {
                Value::Object(members) => {
                    list(wanted).all(|name| members.contains_key(name.as_str().unwrap_or("")))
                }
                _ => true,
            },
            // Annotations, and what the suites check on their own.
            "$defs" | "title" | "description" | "pattern" | "format" | "default" => true,
            _ => panic!("the suites' validator has no {keyword}"),
        };
        if !holds {
            return Err(format!("{keyword}: {wanted} does not hold for {value}"));
        }
    }
    Ok(())
}

fn types(wanted: &Value) -> impl Iterator<Item = &str> {
    wanted.as_str().into_iter().chain(list(wanted).filter_map(Value::as_str))
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("no type {name}"),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}
