//! A schema said in the compiler's words, and refusals that name the keyword.

use serde_json::{Map, Value};

use super::disjoint;
use crate::error::Error;

/// Keywords that a grammar cannot keep token by token, or that the compiler does not know, with a way out where there is one.
const REFUSED: &[(&str, &str)] = &[
    ("not", "say what the value is instead"),
    ("if", "use anyOf with the cases written out"),
    ("then", "use anyOf with the cases written out"),
    ("else", "use anyOf with the cases written out"),
    ("dependencies", "use anyOf with the cases written out"),
    ("dependentRequired", "use anyOf with the cases written out"),
    ("dependentSchemas", "use anyOf with the cases written out"),
    ("contains", "use items or prefixItems"),
    ("minContains", "use items or prefixItems"),
    ("maxContains", "use items or prefixItems"),
    ("uniqueItems", "leave it out and drop duplicates afterwards"),
    ("propertyNames", "use patternProperties"),
    ("unevaluatedItems", "use additionalItems or items"),
    ("unevaluatedProperties", "use additionalProperties"),
    ("$dynamicRef", "use $ref"),
    ("$dynamicAnchor", "use $ref"),
    ("$recursiveRef", "use $ref"),
    ("$recursiveAnchor", "use $ref"),
];

/// Formats that are kept; others are annotations, as the standard has it.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Counts of items, properties or characters beyond this are no wish but an attack.
const LARGEST_COUNT: u64 = 10_000;

/// Keywords about objects.
const OBJECT: &[&str] = &[
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
];

/// What is compiled for `schema`.
///
/// # Errors
/// [`Error::Keyword`].
pub(super) fn rewrite(schema: &Value) -> Result<Value, Error> {
    Rewrite { root: schema, closes: !intersects_objects(schema) }.schema(schema, "#")
}

struct Rewrite<'a> {
    root: &'a Value,
    /// Whether objects that name their properties get no others. Not where objects are put together from several schemas:
    /// what one part names is another to the other part.
    closes: bool,
}

impl Rewrite<'_> {
    fn schema(&self, schema: &Value, path: &str) -> Result<Value, Error> {
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => return Err(wrong(path, last_name(path), "a schema is an object or a boolean")),
        };
        let mut out = Map::new();
        for (keyword, value) in map {
            if let Some((keyword, way_out)) = REFUSED.iter().find(|(refused, _)| refused == keyword) {
                return Err(wrong(
                    path,
                    keyword,
                    &format!("cannot be kept while the answer is written; {way_out}"),
                ));
            }
            let inner = format!("{path}/{keyword}");
            let value = match keyword.as_str() {
                // Which draft it is shows in the keywords; the compiler's own options are not for strangers.
                "$schema" | "x-guidance" => continue,
                "format" if !value.as_str().is_some_and(|format| FORMATS.contains(&format)) => continue,
                "properties" | "patternProperties" | "$defs" | "definitions" => self.named(value, &inner)?,
                "prefixItems" | "anyOf" | "allOf" | "oneOf" => self.list(value, &inner)?,
                "items" if value.is_array() => self.list(value, &inner)?,
                "items" | "additionalItems" | "additionalProperties" => self.schema(value, &inner)?,
                "$ref" => self.reference(value, path)?,
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                    count(value, path, keyword)?
                }
                _ => value.clone(),
            };
            if keyword == "oneOf" {
                self.check_one_of(map, path)?;
                out.insert("anyOf".to_owned(), value);
            } else {
                out.insert(keyword.clone(), value);
            }
        }
        if self.closes && is_open(map) {
            out.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        Ok(Value::Object(out))
    }

    fn named(&self, schemas: &Value, path: &str) -> Result<Value, Error> {
        let Value::Object(map) = schemas else {
            return Err(wrong(path, last_name(path), "an object of schemas is expected"));
        };
        let one = |(name, schema): (&String, &Value)| {
            Ok((name.clone(), self.schema(schema, &format!("{path}/{}", escape(name)))?))
        };
        Ok(Value::Object(map.iter().map(one).collect::<Result<_, Error>>()?))
    }

    fn list(&self, schemas: &Value, path: &str) -> Result<Value, Error> {
        let Value::Array(list) = schemas else {
            return Err(wrong(path, last_name(path), "an array of schemas is expected"));
        };
        let one = |(index, schema)| self.schema(schema, &format!("{path}/{index}"));
        Ok(Value::Array(list.iter().enumerate().map(one).collect::<Result<_, Error>>()?))
    }

    fn reference(&self, value: &Value, path: &str) -> Result<Value, Error> {
        let Some(reference) = value.as_str() else {
            return Err(wrong(path, "$ref", "a string is expected"));
        };
        let is_plain = reference == "#" || reference.starts_with("#/") && !reference.contains(['~', '%']);
        if !is_plain {
            return Err(wrong(
                path,
                "$ref",
                "only places within the schema, such as #/$defs/Name, can be meant",
            ));
        }
        match disjoint::resolve(self.root, reference) {
            Some(_) => Ok(value.clone()),
            None => Err(wrong(path, "$ref", &format!("there is no {reference}"))),
        }
    }

    /// `oneOf` is `anyOf` where no two alternatives can hold at once.
    fn check_one_of(&self, map: &Map<String, Value>, path: &str) -> Result<(), Error> {
        let alternatives = map.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if map.contains_key("anyOf") {
            return Err(wrong(path, "oneOf", "cannot be kept beside anyOf; write the cases out"));
        }
        if !disjoint::all(self.root, alternatives) {
            let reason =
                "two alternatives may hold at once; use anyOf, or give each a property with its own const";
            return Err(wrong(path, "oneOf", reason));
        }
        Ok(())
    }
}

/// Whether some object is described by several schemas at once.
fn intersects_objects(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(intersects_objects),
        Value::Object(map) => {
            let applies =
                ["anyOf", "oneOf", "$ref"].iter().filter(|keyword| map.contains_key(**keyword)).count();
            let is_object = OBJECT.iter().any(|keyword| map.contains_key(*keyword));
            map.contains_key("allOf")
                || applies + usize::from(is_object) > 1
                || map.values().any(intersects_objects)
        }
        _ => false,
    }
}

/// Whether an object of this schema may have any properties beside those named, which nobody asked for.
fn is_open(map: &Map<String, Value>) -> bool {
    let Some(properties) = map.get("properties").and_then(Value::as_object) else { return false };
    let names = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
    let required = map.get("required").and_then(Value::as_array);
    !map.contains_key("additionalProperties")
        && !map.contains_key("patternProperties")
        && map
            .get("minProperties")
            .and_then(Value::as_u64)
            .is_none_or(|least| least <= properties.len() as u64)
        && required.is_none_or(|required| required.iter().all(names))
}

fn count(value: &Value, path: &str, keyword: &str) -> Result<Value, Error> {
    // Some generators write 5.0.
    let count = value.as_u64().or_else(|| {
        value.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0).map(|count| count as u64)
    });
    match count {
        Some(count) if count <= LARGEST_COUNT => Ok(Value::from(count)),
        Some(_) => Err(wrong(path, keyword, &format!("at most {LARGEST_COUNT} can be served"))),
        None => Err(wrong(path, keyword, "a whole number is expected")),
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A name as a part of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn wrong(path: &str, keyword: &str, reason: &str) -> Error {
    Error::Keyword { path: path.to_owned(), keyword: keyword.to_owned(), reason: reason.to_owned() }
}
