//! A JSON Schema made ready for the compiler: checked, bounded, and said in the words that the compiler has.

mod disjoint;
mod limits;
mod rewrite;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::error::Error;

/// The space allowed between two parts of a JSON text: one space, or a new line with an indentation. Unbounded space is where
/// small models get lost for ever.
const SPACE: &str = r"\x20|\n[\x20\t]{0,32}";

/// Checks `schema` and gives the one to compile. Whatever fits it fits `schema`; the converse does not hold where `schema`
/// leaves open what nobody wants: an object with `properties` that says nothing about others has no others.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Keyword`].
pub(crate) fn prepare(schema: &Value) -> Result<Value, Error> {
    limits::check(schema)?;
    let mut schema = match rewrite::rewrite(schema)? {
        Value::Object(map) => map,
        Value::Bool(true) => Map::new(),
        _ => return Err(Error::Schema { reason: "nothing fits `false`".to_owned() }),
    };
    let options = json!({"whitespace_flexible": false, "whitespace_pattern": SPACE});
    schema.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(schema))
}
