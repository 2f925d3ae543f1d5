//! How each family of models writes calls: a table.

/// How the calls of one answer stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each call is an object between the markers; several follow each other.
    Objects,
    /// One array of objects between the markers.
    List,
    /// The answer is one object and nothing else; without a marker, its brace at the answer's beginning is the sign.
    Bare,
    /// After the marker the name as it is, then the separator, then the arguments alone.
    Named {
        /// What stands between the name and its arguments.
        separator: &'static str,
    },
}

/// How the model learns of the tools and sees earlier calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// The template knows tools and results.
    Template {
        /// Whether it knows calls too; else they are text.
        knows_calls: bool,
    },
    /// The template prints the JSON that stands in the system message's field `tools`; calls are text, results have a role
    /// of this name.
    SystemField {
        /// The role of results.
        result_role: &'static str,
    },
    /// The template knows nothing: the tools stand in the system message, with words on how to call them; calls and results
    /// are text.
    Instructions,
}

/// One family's way.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) name: &'static str,
    /// Texts that all stand in the chat template.
    has: &'static [&'static str],
    /// Texts of which none stands there.
    lacks: &'static [&'static str],
    pub(super) shape: Shape,
    /// What begins a call, or a list of them.
    pub(super) open: &'static str,
    /// What ends it; empty where the JSON's own end does.
    pub(super) close: &'static str,
    /// What the arguments are called in the object.
    pub(super) arguments: &'static str,
    pub(super) prompt: Prompt,
}

const TAGS: Format = Format {
    name: "tags",
    has: &[],
    lacks: &[],
    shape: Shape::Objects,
    open: "<tool_call>",
    close: "</tool_call>",
    arguments: "arguments",
    prompt: Prompt::Template { knows_calls: true },
};

/// The first that fits is meant; the last fits always.
const FORMATS: &[Format] = &[
    // Hermes 2 and 3, Qwen2.5, Qwen3, Granite 4 and many after them.
    Format { name: "hermes", has: &["<tool_call>", "{\"name\": "], lacks: OTHER_TAGS, ..TAGS },
    Format { name: "hermes", has: &["<tool_call>", "{\\\"name\\\": "], lacks: OTHER_TAGS, ..TAGS },
    Format { name: "hermes", has: &["<tool_call>", "{'name': "], lacks: OTHER_TAGS, ..TAGS },
    // Mistral since late 2024: Devstral, Small 3.2, Ministral 3.
    Format {
        name: "mistral-arguments",
        has: &["[TOOL_CALLS]", "[ARGS]"],
        shape: Shape::Named { separator: "[ARGS]" },
        open: "[TOOL_CALLS]",
        close: "",
        ..TAGS
    },
    // Mistral 7B 0.3, Nemo.
    Format {
        name: "mistral",
        has: &["[TOOL_CALLS]"],
        shape: Shape::List,
        open: "[TOOL_CALLS]",
        close: "",
        ..TAGS
    },
    // Llama 3.1 to 3.3.
    Format {
        name: "llama3",
        has: &["<|start_header_id|>", "\"parameters\": "],
        lacks: &["<function="],
        shape: Shape::Bare,
        open: "",
        close: "",
        arguments: "parameters",
        ..TAGS
    },
    // Phi-4-mini.
    Format {
        name: "phi4",
        has: &["message['tools']", "<|tool|>"],
        shape: Shape::List,
        open: "<|tool_call|>",
        close: "<|/tool_call|>",
        prompt: Prompt::SystemField { result_role: "tool_response" },
        ..TAGS
    },
    // Granite 3.
    Format {
        name: "granite3",
        has: &["<|tool_call|>"],
        shape: Shape::List,
        open: "<|tool_call|>",
        close: "",
        prompt: Prompt::Template { knows_calls: false },
        ..TAGS
    },
    // Everything else: the most common form, explained to the model.
    Format { name: "instructions", prompt: Prompt::Instructions, ..TAGS },
];

/// Forms between the same tags that are no JSON.
const OTHER_TAGS: &[&str] = &["<function=", "<arg_key>", "<parameter"];

/// The format of the models with this chat template.
pub(super) fn of_template(template: &str) -> &'static Format {
    let fits = |format: &&Format| {
        format.has.iter().all(|text| template.contains(text))
            && !format.lacks.iter().any(|text| template.contains(text))
    };
    FORMATS.iter().find(fits).unwrap_or(&TAGS)
}
