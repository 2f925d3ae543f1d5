//! The list of tools of a request.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::error::Error;

/// Tools in one list.
const MOST: usize = 128;
/// Letters in a name.
const LONGEST_NAME: usize = 64;

/// A tool, as far as its calls are concerned.
#[derive(Clone, Debug)]
pub(super) struct Tool<'a> {
    pub(super) name: &'a str,
    /// The JSON Schema of its arguments.
    pub(super) parameters: Value,
}

impl<'a> Tool<'a> {
    /// Reads `[{"type": "function", "function": {"name": .., "parameters": ..}}]`; the function's members may also stand beside
    /// `type`, as the responses API has them.
    ///
    /// # Errors
    /// [`Error::Tools`], [`Error::TooLarge`].
    pub(super) fn list(tools: &'a Value) -> Result<Vec<Tool<'a>>, Error> {
        let Value::Array(list) = tools else { return Err(wrong("an array is expected")) };
        if list.len() > MOST {
            return Err(Error::TooLarge { what: "list of tools", got: list.len(), limit: MOST });
        }
        let tools: Vec<Tool<'a>> = list.iter().map(Tool::read).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        match tools.iter().find(|tool| !names.insert(tool.name)) {
            Some(tool) => Err(wrong(&format!("there are two named `{}`", tool.name))),
            None => Ok(tools),
        }
    }

    fn read(tool: &'a Value) -> Result<Tool<'a>, Error> {
        let function = tool.get("function").unwrap_or(tool);
        let name =
            function.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a function has no name"))?;
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_name) {
            let rule = format!("1 to {LONGEST_NAME} letters, digits, `_`, `-` or `.` are expected");
            return Err(wrong(&format!("the name {name:?}: {rule}")));
        }
        let parameters = match function.get("parameters") {
            // Without a word on arguments there are none.
            None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
            Some(Value::Object(map)) if map.is_empty() => json!({"type": "object", "properties": {}}),
            Some(Value::Object(map)) if map.contains_key("type") => Value::Object(map.clone()),
            Some(Value::Object(map)) => {
                let mut map = map.clone();
                map.insert("type".to_owned(), json!("object"));
                Value::Object(map)
            }
            Some(_) => return Err(wrong(&format!("the parameters of `{name}` are no JSON Schema"))),
        };
        Ok(Tool { name, parameters })
    }
}

/// Whether a tool's name may have this character: none that JSON or a grammar would have to escape.
pub(super) fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
}

fn wrong(reason: &str) -> Error {
    Error::Tools { reason: reason.to_owned() }
}
