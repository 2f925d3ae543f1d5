//! Values as Python writes them.
//!
//! Templates are written for Jinja in Python, and models were trained on what it prints: JSON with a space
//! behind `,` and `:` and without escapes for HTML, `True` and `None` with capitals.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Values nested deeper than this are refused: printing them would take as many stack frames.
const MAXIMUM_DEPTH: usize = 100;

/// How `json.dumps` is asked to write.
pub(crate) struct Json<'a> {
    pub(crate) indent: Option<usize>,
    pub(crate) item_separator: &'a str,
    pub(crate) key_separator: &'a str,
    pub(crate) ensure_ascii: bool,
    pub(crate) sort_keys: bool,
}

impl Json<'_> {
    pub(crate) const PLAIN: Json<'static> = Json {
        indent: None,
        item_separator: ", ",
        key_separator: ": ",
        ensure_ascii: false,
        sort_keys: false,
    };

    pub(crate) fn write(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.value(value, 0, &mut out)?;
        Ok(out)
    }

    fn value(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        check_depth(depth)?;
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.items(['[', ']'], items, depth, out)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    items.push((Some(key.to_string()), item));
                }
                if self.sort_keys {
                    items.sort_by(|left, right| left.0.cmp(&right.0));
                }
                self.items(['{', '}'], items, depth, out)?;
            }
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            _ => out.push_str("null"),
        }
        Ok(())
    }

    fn items(
        &self,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let new_line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent.saturating_mul(depth).min(1000)));
            }
        };
        out.push(open);
        let is_empty = items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(self.item_separator);
            }
            new_line(depth + 1, out);
            if let Some(key) = key {
                self.string(&key, out);
                out.push_str(self.key_separator);
            }
            self.value(&item, depth + 1, out)?;
        }
        if !is_empty {
            new_line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{C}' => out.push_str("\\f"),
                _ if character < ' ' || (self.ensure_ascii && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

fn check_depth(depth: usize) -> Result<(), Error> {
    if depth < MAXIMUM_DEPTH {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply to be written"))
}

/// What `str(value)` gives: strings as they are, everything else as [`write_repr`] has it.
pub(crate) fn write_str(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => {
            out.push_str(value.as_str().unwrap_or_default());
            Ok(())
        }
        _ => write_repr(value, 0, out),
    }
}

/// What `repr(value)` gives.
fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::None => out.push_str("None"),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            out.push(quote);
            for character in text.chars() {
                match character {
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    '\\' => out.push_str("\\\\"),
                    _ if character == quote => out.extend(['\\', quote]),
                    _ => out.push(character),
                }
            }
            out.push(quote);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::value::Serde;

    fn value(json: &str) -> Value {
        Value::from(Serde(serde_json::from_str::<serde_json::Value>(json).unwrap()))
    }

    #[test]
    fn json_as_python_writes_it() {
        let example = value(r#"{"b": [1, 2.5, true, null], "a": "<é\n\"'>", "e": {}}"#);
        let plain = r#"{"b": [1, 2.5, true, null], "a": "<é\n\"'>", "e": {}}"#;
        assert_eq!(Json::PLAIN.write(&example).unwrap(), plain);
        let ascii = Json { ensure_ascii: true, sort_keys: true, ..Json::PLAIN };
        assert_eq!(
            ascii.write(&value(r#"{"b": 1, "a": "é🦀"}"#)).unwrap(),
            r#"{"a": "\u00e9\ud83e\udd80", "b": 1}"#
        );
        let indented = Json { indent: Some(2), item_separator: ",", ..Json::PLAIN };
        assert_eq!(
            indented.write(&value(r#"{"a": [1, 2]}"#)).unwrap(),
            "{\n  \"a\": [\n    1,\n    2\n  ]\n}"
        );
    }

    #[test]
    fn repr_as_python_writes_it() {
        let mut out = String::new();
        write_str(&value(r#"[true, null, 1, "it's", "a\nb", {"k": false}]"#), &mut out).unwrap();
        assert_eq!(out, r#"[True, None, 1, "it's", 'a\nb', {'k': False}]"#);
    }

    #[test]
    fn deep_values_are_refused() {
        let deep = (0..1000).fold(Value::from(1), |inner, _| Value::from(vec![inner]));
        assert!(Json::PLAIN.write(&deep).is_err());
        assert!(write_str(&deep, &mut String::new()).is_err());
    }
}
