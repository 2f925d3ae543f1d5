//! The conversation as a template can render it.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use text::Message;

use super::formats::{Format, Prompt, Shape};

/// The conversation and the tools to render it with. `tools` was checked.
pub(super) fn prepare(
    format: &Format,
    messages: Vec<Message>,
    tools: &Value,
) -> (Vec<Message>, Option<Value>) {
    let is_empty = tools.as_array().is_none_or(Vec::is_empty);
    match format.prompt {
        Prompt::Template { knows_calls } => {
            let messages = messages.into_iter().map(with_short_ids);
            let messages = messages
                .map(|message| if knows_calls { message } else { with_calls_as_text(format, message) });
            (messages.collect(), (!is_empty).then(|| wrapped(tools)))
        }
        Prompt::SystemField { result_role } => {
            let mut messages = as_text(format, messages, |result| Message::new(result_role, result));
            if !is_empty {
                // A string, which this kind of template puts out as it is.
                let tools = Value::String(bare(tools).to_string());
                system(&mut messages).fields.insert("tools".to_owned(), tools);
            }
            (messages, None)
        }
        Prompt::Instructions => {
            let result =
                |result: String| Message::new("user", format!("<tool_response>\n{result}\n</tool_response>"));
            let mut messages = as_text(format, messages, result);
            if !is_empty {
                let system = system(&mut messages);
                let gap = if system.content.is_empty() { "" } else { "\n\n" };
                system.content = format!("{}{gap}{}", system.content, instructions(tools));
            }
            (messages, None)
        }
    }
}

/// The system message, which is put in front if there is none.
fn system(messages: &mut Vec<Message>) -> &mut Message {
    if messages.first().is_none_or(|message| message.role != "system") {
        messages.insert(0, Message::new("system", ""));
    }
    &mut messages[0]
}

/// What tells a model that was not trained on tools how to call them: the words of Qwen2.5's template, which many models have seen.
fn instructions(tools: &Value) -> String {
    let mut out = String::from(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
    );
    for tool in wrapped(tools).as_array().into_iter().flatten() {
        let _ = writeln!(out, "{tool}");
    }
    out.push_str(
        "</tools>\n\nFor each function call, return a json object with function name and arguments within \
         <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>",
    );
    out
}

/// Calls and results as the text that a model without a word for them writes and reads. Results in a row become one message.
fn as_text(format: &Format, messages: Vec<Message>, result: impl Fn(String) -> Message) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::new();
    let mut follows_result = false;
    for mut message in messages {
        let is_result = message.role == "tool";
        if is_result {
            message = result(message.content);
        }
        message = with_calls_as_text(format, message);
        match out.last_mut() {
            Some(last) if is_result && follows_result => {
                last.content = format!("{}\n{}", last.content, message.content);
            }
            _ => out.push(message),
        }
        follows_result = is_result;
    }
    out
}

/// The message with its calls in its content.
fn with_calls_as_text(format: &Format, mut message: Message) -> Message {
    if let Some(calls) = message.tool_calls.take() {
        let gap = if message.content.is_empty() { "" } else { "\n" };
        message.content = format!("{}{gap}{}", message.content, written(format, &calls));
    }
    message
}

/// Calls as the model writes them.
fn written(format: &Format, calls: &Value) -> String {
    let calls = calls.as_array().into_iter().flatten().map(|call| {
        let function = call.get("function").unwrap_or(call);
        let name = function.get("name").cloned().unwrap_or_default();
        let arguments = match function.get("arguments") {
            // Text that is no JSON is none of a model's making; it is shown as what it is.
            Some(Value::String(text)) if serde_json::from_str::<Value>(text).is_ok() => text.clone(),
            Some(arguments) => arguments.to_string(),
            None => "{}".to_owned(),
        };
        format!("{{\"name\": {name}, \"{}\": {arguments}}}", format.arguments)
    });
    let (open, close) = (format.open, format.close);
    match format.shape {
        Shape::List => format!("{open}[{}]{close}", calls.collect::<Vec<_>>().join(", ")),
        _ => calls.map(|call| format!("{open}\n{call}\n{close}")).collect::<Vec<_>>().join("\n"),
    }
}

/// Tools as the chat API has them, each in its `function`.
fn wrapped(tools: &Value) -> Value {
    let wrap = |tool: &Value| match tool {
        Value::Object(map) if !map.contains_key("function") => {
            let function: Map<String, Value> = map
                .iter()
                .filter(|(key, _)| *key != "type")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            json!({"type": "function", "function": function})
        }
        _ => tool.clone(),
    };
    tools.as_array().into_iter().flatten().map(wrap).collect()
}

/// Tools without their `function`.
fn bare(tools: &Value) -> Value {
    let bare = |tool: &Value| tool.get("function").unwrap_or(tool).clone();
    tools.as_array().into_iter().flatten().map(bare).collect()
}

/// The message with ids of nine letters and digits, without which Mistral's templates refuse. Equal ids stay equal.
fn with_short_ids(mut message: Message) -> Message {
    let id = message.fields.get_mut("tool_call_id");
    let calls = message.tool_calls.as_mut().and_then(Value::as_array_mut).into_iter().flatten();
    for id in calls.filter_map(|call| call.get_mut("id")).chain(id) {
        if let Value::String(text) = id
            && !(text.len() == super::parser::ID_LENGTH
                && text.chars().all(|character| character.is_ascii_alphanumeric()))
        {
            // FNV-1a
            let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            *text = super::parser::id(hash, 0);
        }
    }
    message
}
