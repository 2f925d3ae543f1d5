//! From a conversation to the prompt the model was trained on.
//!
//! The template is a Jinja program in the model's file (`tokenizer.chat_template`), written for Python. It
//! comes from a stranger: it sees only the conversation, and its size, its steps and its recursion are bounded.

use std::time::SystemTime;

use gguf::Metadata;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value, filters};
use minijinja_contrib::pycompat;

use crate::calendar;
use crate::error::Error;
use crate::fallback_template;
use crate::own_stack;
use crate::python_text::{self, Json};
use crate::vocabulary::TOKENS;

const TEMPLATE: &str = "tokenizer.chat_template";
const TOOL_TEMPLATE: &str = "tokenizer.chat_template.tool_use";

/// Real templates have 1 to 30 kB. [`own_stack`] relies on this bound.
const MAXIMUM_BYTES: usize = 128 << 10;

/// A template takes some 100 steps for a message: this is enough for thousands of them. [`own_stack`] relies on
/// this bound.
const MAXIMUM_STEPS: u64 = 2_000_000;

/// Macros that call macros, deeper than any real template, shallow enough for the stack of any thread.
const MAXIMUM_RECURSION: usize = 60;

/// The name under which templates get the moment of rendering.
const NOW: &str = "__now";

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// The calls that an assistant makes, as the OpenAI API has them:
    /// `[{"type": "function", "function": {"name": .., "arguments": ..}}]`, arguments as object or as JSON text.
    pub tool_calls: Option<serde_json::Value>,
    /// What else a template may look at: `name`, `tool_call_id`, `reasoning_content`.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }
}

/// How a conversation is rendered.
#[derive(Clone, Debug, Default)]
pub struct Render {
    /// Ends with the beginning of the assistant's reply.
    pub add_generation_prompt: bool,
    /// The tools the model may call: an array of JSON schemas as in the OpenAI API.
    pub tools: Option<serde_json::Value>,
    /// Variables that only some templates know, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The moment for templates that name today's date; now, if none is given. UTC.
    pub now: Option<SystemTime>,
}

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Why a template of the file cannot be used; told when it is needed, since a model without a working
    /// template still completes text.
    broken: Option<String>,
    has_tool_template: bool,
    is_fallback: bool,
    uses_tools: bool,
    bos: String,
    eos: String,
}

/// How the arguments of tool calls are passed on. Some templates want the object, some the JSON text.
#[derive(Clone, Copy, PartialEq)]
enum Arguments {
    Object,
    Text,
}

/// A template's own refusal, told apart from its failures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl ChatTemplate {
    /// The template of a file: `tokenizer.chat_template`, and `tokenizer.chat_template.tool_use` for
    /// conversations with tools. A file without one gets the format whose markers its vocabulary has.
    ///
    /// # Errors
    /// Where the keys are of a wrong type or the template is too large.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let source = metadata.string(TEMPLATE)?.filter(|source| !source.trim().is_empty());
        let tool_source = metadata.string(TOOL_TEMPLATE)?;
        let token = |key| {
            let id = metadata.u32(key).ok().flatten();
            let tokens = metadata.strings(TOKENS).ok().flatten();
            id.zip(tokens).and_then(|(id, tokens)| tokens.get(id as usize)).cloned().unwrap_or_default()
        };
        let mut template = Self {
            environment: environment(),
            broken: None,
            has_tool_template: tool_source.is_some(),
            is_fallback: source.is_none() && tool_source.is_none(),
            uses_tools: [source, tool_source].into_iter().flatten().any(|source| source.contains("tools")),
            bos: token("tokenizer.ggml.bos_token_id"),
            eos: token("tokenizer.ggml.eos_token_id"),
        };
        let main = source.or(tool_source).unwrap_or_else(|| fallback_template::choose(metadata));
        template.add(TEMPLATE, main)?;
        if let Some(source) = tool_source {
            template.add(TOOL_TEMPLATE, source)?;
        }
        Ok(template)
    }

    fn add(&mut self, name: &'static str, source: &str) -> Result<(), Error> {
        if source.len() > MAXIMUM_BYTES {
            return Err(Error::TemplateSize { got: source.len(), limit: MAXIMUM_BYTES });
        }
        let source = without_generation_tags(source);
        let environment = &mut self.environment;
        let broken = own_stack::run(|| {
            Ok(environment.add_template_owned(name, source).err().map(|error| error.to_string()))
        })?;
        self.broken = self.broken.take().or(broken);
        Ok(())
    }

    /// Whether the file has no template, so that a common format is used.
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// Whether the template looks at tools at all. One that does not leaves them out silently.
    pub fn uses_tools(&self) -> bool {
        self.uses_tools
    }

    /// The source of the template that renders conversations with tools; empty where it cannot be used.
    pub fn tool_source(&self) -> String {
        let name = if self.has_tool_template { TOOL_TEMPLATE } else { TEMPLATE };
        self.environment
            .get_template(name)
            .map_or_else(|_| String::new(), |template| template.source().to_owned())
    }

    /// The prompt for a conversation, to be encoded with [`crate::Tokenizer::encode_prompt`].
    ///
    /// A template that knows no system role gets the system message in front of the first user message.
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`] where the file's template cannot be parsed, [`Error::TemplateRefused`] where
    /// it refuses the conversation (often: roles that do not alternate), [`Error::TemplateFailed`] otherwise.
    pub fn render(&self, messages: &[Message], options: Render) -> Result<String, Error> {
        if let Some(message) = &self.broken {
            return Err(Error::TemplateSyntax { message: message.clone() });
        }
        own_stack::run(|| self.render_conversation(messages, &options))
    }

    fn render_conversation(&self, messages: &[Message], options: &Render) -> Result<String, Error> {
        let result = self.render_calls(messages, options);
        match (&result, messages) {
            (Err(Error::TemplateRefused { .. }), [system, user, rest @ ..])
                if system.role == "system" && user.role == "user" =>
            {
                let content = format!("{}\n\n{}", system.content, user.content);
                let mut folded = vec![Message { content, ..user.clone() }];
                folded.extend_from_slice(rest);
                self.render_calls(&folded, options).or(result)
            }
            _ => result,
        }
    }

    /// Renders with the arguments of tool calls in the form that the template wants: one that wants JSON text
    /// fails on an object, or prints it in Python's notation.
    fn render_calls(&self, messages: &[Message], options: &Render) -> Result<String, Error> {
        let result = self.render_with(messages, options, Arguments::Object);
        if messages.iter().all(|message| message.tool_calls.is_none()) {
            return result;
        }
        let is_wrong = match &result {
            Ok(prompt) => prints_python_arguments(prompt, messages),
            Err(_) => true,
        };
        if is_wrong { self.render_with(messages, options, Arguments::Text).or(result) } else { result }
    }

    fn render_with(
        &self,
        messages: &[Message],
        options: &Render,
        arguments: Arguments,
    ) -> Result<String, Error> {
        let name = if self.has_tool_template && options.tools.is_some() { TOOL_TEMPLATE } else { TEMPLATE };
        let messages: Vec<Value> = messages.iter().map(|message| message_value(message, arguments)).collect();
        let now = options.now.unwrap_or_else(SystemTime::now);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |duration| duration.as_secs());
        let mut variables: Vec<(&str, Value)> = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
            (NOW, Value::from(seconds)),
        ];
        // Templates ask whether `tools` is defined; a null would be.
        variables.extend(options.tools.as_ref().map(|tools| ("tools", from_json(tools))));
        variables.extend(options.variables.iter().map(|(name, value)| (name.as_str(), from_json(value))));
        self.environment
            .get_template(name)
            .and_then(|template| template.render(Value::from_pairs(variables)))
            .map_err(explain)
    }
}

/// The environment as Python users of these templates set theirs up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default(),
    );
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.set_formatter(|out, _, value| {
        let mut text = String::new();
        python_text::write_str(value, &mut text)?;
        Ok(out.write_str(&text)?)
    });
    environment.set_fuel(Some(MAXIMUM_STEPS));
    environment.set_recursion_limit(MAXIMUM_RECURSION);
    environment.add_filter("tojson", to_json);
    for name in ["length", "count"] {
        // In Python what is undefined has the length 0, and templates ask for the length of absent tools.
        environment.add_filter(name, |value: Value| match value.is_undefined() {
            true => Ok(0),
            false => filters::length(&value),
        });
    }
    environment.add_filter("string", |value: Value| -> Result<String, minijinja::Error> {
        let mut text = String::new();
        python_text::write_str(&value, &mut text)?;
        Ok(text)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", |state: &State, format: String| {
        let seconds = state.lookup(NOW).and_then(|now| now.as_i64()).unwrap_or(0).max(0) as u64;
        calendar::format_time(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds), &format)
    });
    environment
}

fn to_json(value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = separators.filter(|separators| separators.len() == 2);
    let json = Json {
        indent,
        item_separator: match &separators {
            Some(separators) => &separators[0],
            None if indent.is_some() => ",",
            None => ", ",
        },
        key_separator: separators.as_ref().map_or(": ", |separators| &separators[1]),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    Ok(Value::from_safe_string(json.write(&value)?))
}

/// Python's methods that templates call, beyond those of `pycompat`.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    let text = value.as_str();
    match (method, text, arguments) {
        ("removeprefix", Some(text), [prefix]) => {
            Ok(Value::from(prefix.as_str().and_then(|prefix| text.strip_prefix(prefix)).unwrap_or(text)))
        }
        ("removesuffix", Some(text), [suffix]) => {
            Ok(Value::from(suffix.as_str().and_then(|suffix| text.strip_suffix(suffix)).unwrap_or(text)))
        }
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// Takes out `{% generation %}` and `{% endgeneration %}`: they mark for training what the model wrote and
/// print nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (tag, end) = (&rest[start + 2..start + length], start + length + 2);
        let trimmed = tag.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        if matches!(trimmed, "generation" | "endgeneration") {
            // An empty comment keeps the tag's control of the whitespace around it.
            let sign = |at_edge: bool| if at_edge { "-" } else { "" };
            out.push_str(&format!("{{#{}{}#}}", sign(tag.starts_with('-')), sign(tag.ends_with('-'))));
        } else {
            out.push_str(&rest[start..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn from_json(value: &serde_json::Value) -> Value {
    Value::from(Serde(value))
}

fn message_value(message: &Message, arguments: Arguments) -> Value {
    let mut fields: Vec<(&str, Value)> = vec![
        ("role", Value::from(message.role.as_str())),
        ("content", Value::from(message.content.as_str())),
    ];
    if let Some(calls) = &message.tool_calls {
        let mut calls = calls.clone();
        for call in calls.as_array_mut().into_iter().flatten() {
            set_arguments(call, arguments);
        }
        fields.push(("tool_calls", from_json(&calls)));
    }
    fields.extend(message.fields.iter().map(|(name, value)| (name.as_str(), from_json(value))));
    Value::from_pairs(fields)
}

/// The arguments of a call, in the OpenAI form or without its `function`.
fn arguments_of(call: &mut serde_json::Value) -> Option<&mut serde_json::Value> {
    let holder = if call.get("function").is_some() { call.get_mut("function")? } else { call };
    holder.get_mut("arguments")
}

fn set_arguments(call: &mut serde_json::Value, form: Arguments) {
    let Some(arguments) = arguments_of(call) else { return };
    match (form, &*arguments) {
        (Arguments::Object, serde_json::Value::String(text)) => {
            if let Ok(object @ serde_json::Value::Object(_)) = serde_json::from_str(text) {
                *arguments = object;
            }
        }
        (Arguments::Text, serde_json::Value::Object(_)) => {
            if let Ok(text) = Json::PLAIN.write(&from_json(arguments)) {
                *arguments = serde_json::Value::String(text);
            }
        }
        _ => {}
    }
}

/// Whether the arguments of some call stand in the prompt as Python prints a dictionary.
fn prints_python_arguments(prompt: &str, messages: &[Message]) -> bool {
    messages.iter().filter_map(|message| message.tool_calls.as_ref()?.as_array()).flatten().any(|call| {
        let mut call = call.clone();
        set_arguments(&mut call, Arguments::Object);
        let Some(arguments) = arguments_of(&mut call) else { return false };
        let value = from_json(arguments);
        let mut python = String::new();
        value.kind() == ValueKind::Map
            && value.len() != Some(0)
            && python_text::write_str(&value, &mut python).is_ok()
            && prompt.contains(&python)
    })
}

fn explain(error: minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = source {
        if let Some(Refusal(message)) = current.downcast_ref() {
            return Error::TemplateRefused { message: message.clone() };
        }
        source = current.source();
    }
    Error::TemplateFailed { message: error.to_string() }
}
