//! How large a schema may be: room for what people write by hand or generate from types, none for attacks.

use serde_json::Value;

use crate::error::Error;

/// Arrays and objects within each other.
const DEPTH: usize = 48;
/// Values, counting those inside of others.
const VALUES: usize = 20_000;
/// Bytes in strings and names.
const TEXT: usize = 256 << 10;

/// # Errors
/// [`Error::TooLarge`].
pub(super) fn check(schema: &Value) -> Result<(), Error> {
    let (mut values, mut text) = (0, 0);
    // A stack of our own: this is what finds out how deep the schema is.
    let mut open = vec![(schema, 1)];
    while let Some((value, depth)) = open.pop() {
        values += 1;
        match value {
            Value::String(string) => text += string.len(),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => {
                text += map.keys().map(String::len).sum::<usize>();
                open.extend(map.values().map(|value| (value, depth + 1)));
            }
            _ => {}
        }
        at_most("depth of the JSON Schema", depth, DEPTH)?;
        // Those that wait are counted too, so that a huge array is never walked.
        at_most("JSON Schema in values", values + open.len(), VALUES)?;
        at_most("JSON Schema in bytes of text", text, TEXT)?;
    }
    Ok(())
}

fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if got > limit { Err(Error::TooLarge { what, got, limit }) } else { Ok(()) }
}
