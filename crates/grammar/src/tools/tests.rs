//! Families are told apart, calls are found however the text is cut, conversations become renderable.

use proptest::prelude::*;
use serde_json::{Value, json};
use text::Message;

use super::{Error, Piece, ToolFormat};

const HERMES: &str =
    r#"<tools>...<tool_call>\n{\"name\": <function-name>, \"arguments\": <args>}\n</tool_call>"#;
const MISTRAL: &str = "{{ '[TOOL_CALLS][' }}";
const MISTRAL_ARGUMENTS: &str = "{{ '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}";
const LLAMA: &str =
    r#"<|start_header_id|>Respond in the format {"name": function name, "parameters": dictionary}"#;
const PHI: &str = "{% if 'tools' in message %}{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}";
const GEMMA: &str = "{{ '<start_of_turn>' + role }}";

fn format(template: &str) -> ToolFormat {
    ToolFormat::of_source(template)
}

#[test]
fn the_template_tells_the_family() {
    for (template, name) in [
        (HERMES, "hermes"),
        (MISTRAL, "mistral"),
        (MISTRAL_ARGUMENTS, "mistral-arguments"),
        (LLAMA, "llama3"),
        (PHI, "phi4"),
        ("<|tool_call|>[", "granite3"),
        (GEMMA, "instructions"),
        ("", "instructions"),
        // Calls between the same tags, but in another language.
        (r#"<tool_call>\n<function=name>\n<parameter=x> {"name": "#, "instructions"),
    ] {
        assert_eq!(format(template).name(), name, "{template}");
    }
}

/// The whole text, and each call's name and arguments; ids are checked on the way.
fn read(template: &str, parts: &[&str]) -> (String, Vec<(String, String)>) {
    let mut parser = format(template).parser(7);
    let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| parser.push(part)).collect();
    pieces.extend(parser.finish());
    let (mut text, mut calls, mut ids): (String, Vec<(String, String)>, Vec<String>) = Default::default();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(&part),
            Piece::CallStart { index, id, name } => {
                assert_eq!(index, calls.len());
                assert!(
                    id.len() == 9
                        && id.chars().all(|letter| letter.is_ascii_alphanumeric())
                        && !ids.contains(&id)
                );
                ids.push(id);
                calls.push((name, String::new()));
            }
            Piece::Arguments { index, delta } => calls[index].1.push_str(&delta),
        }
    }
    assert_eq!(parser.calls(), calls.len());
    (text, calls)
}

fn calls(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect()
}

#[test]
fn each_family_s_calls_are_read() {
    let two = calls(&[("a", r#"{"x": "}]\"<"}"#), ("b.c-d", "{}")]);
    for (template, text) in [
        (
            HERMES,
            "Well.\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": \"}]\\\"<\"}}\n</tool_call>\n<tool_call>{\"name\":\"b.c-d\"}</tool_call>\n",
        ),
        (
            MISTRAL,
            r#"Well.[TOOL_CALLS] [{"name": "a", "arguments": {"x": "}]\"<"}, "id": "123456789"}, {"arguments": {}, "name": "b.c-d"}]"#,
        ),
        (MISTRAL_ARGUMENTS, r#"Well.[TOOL_CALLS]a[ARGS]{"x": "}]\"<"}[TOOL_CALLS]b.c-d[ARGS]{}"#),
        (
            PHI,
            r#"Well. <|tool_call|>[{"name": "a", "arguments": {"x": "}]\"<"}},{"name": "b.c-d", "arguments": {}}]<|/tool_call|>"#,
        ),
    ] {
        assert_eq!(read(template, &[text]), ("Well.".to_owned(), two.clone()), "{text}");
    }
    let llama = " {\"name\": \"a\", \"parameters\": {\"x\": 1}}";
    assert_eq!(read(LLAMA, &[llama]), (String::new(), calls(&[("a", "{\"x\": 1}")])));
}

#[test]
fn what_comes_to_nothing_is_text() {
    for (template, text) in [
        (HERMES, "a < b <tool_cal <tool_call> is how calls begin"),
        (HERMES, "<tool_call>"),
        (HERMES, "\n<tool_call>\n{\"name\": \"unfinished"),
        (HERMES, "<tool_call>{\"arguments\": {\"x\": 1}}</tool_call>"),
        (HERMES, "<tool_call>{\"name\": \"bad name\", \"arguments\": {}}"),
        (HERMES, "<tool_call>{\"name\": 5}"),
        (HERMES, "space at the end \n\n"),
        (MISTRAL, "[TOOL_CALLS] {\"name\": \"a\"}"),
        (MISTRAL, "[TOOL_CALLS"),
        (MISTRAL_ARGUMENTS, "[TOOL_CALLS]a [ARGS"),
        (MISTRAL_ARGUMENTS, "[TOOL_CALLS][ARGS]{}"),
        (LLAMA, "{\"a\": 1}"),
        (LLAMA, "See: {\"name\": \"a\", \"parameters\": {}}"),
        (GEMMA, ""),
    ] {
        assert_eq!(read(template, &[text]), (text.to_owned(), Vec::new()), "{text}");
    }
    // After a marker that came to nothing the next one counts.
    let text = "<tool_call><tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>";
    assert_eq!(read(HERMES, &[text]), ("<tool_call>".to_owned(), calls(&[("a", "{}")])));
    // A call that was cut off is one, as far as it came.
    let text = "<tool_call>{\"name\": \"a\", \"arguments\": {\"x\": \"lon";
    assert_eq!(read(HERMES, &[text]), (String::new(), calls(&[("a", "{\"x\": \"lon")])));
}

#[test]
fn markers_in_thoughts_are_thoughts() {
    let thinking = format!("{HERMES}<think></think>");
    let text = "<think>\nA <tool_call>? </thin\n</think>\n\n<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>";
    let expected = "<think>\nA <tool_call>? </thin\n</think>".to_owned();
    assert_eq!(read(&thinking, &[text]), (expected, calls(&[("a", "{}")])));
}

#[test]
fn arguments_come_while_they_are_written() {
    let mut parser = format(HERMES).parser(1);
    assert_eq!(parser.push("Hm <tool"), [Piece::Text("Hm".to_owned())]);
    assert_eq!(parser.push("_call>\n{\"name\": \"f"), []);
    let pieces = parser.push("n\", \"arguments\": {\"a");
    assert!(matches!(&pieces[0], Piece::CallStart { index: 0, name, .. } if name == "fn"), "{pieces:?}");
    assert_eq!(pieces[1..], [Piece::Arguments { index: 0, delta: "{\"a".to_owned() }]);
    assert_eq!(parser.push("\":1"), [Piece::Arguments { index: 0, delta: "\":1".to_owned() }]);
    assert_eq!(parser.push("}}</tool_call>"), [Piece::Arguments { index: 0, delta: "}".to_owned() }]);
    assert_eq!(parser.finish(), []);
}

/// Texts of what confuses a reader of calls.
fn any_answer() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(
        prop::sample::select(vec![
            "<tool_call>",
            "</tool_call>",
            "<tool",
            "[TOOL_CALLS]",
            "[ARGS]",
            "<|tool_call|>",
            "<|/tool_call|>",
            "<think>",
            "</think>",
            "{\"name\": \"a\", \"arguments\": ",
            "{\"name\": \"a\", \"parameters\": ",
            "{\"x\": [1, \"é\\\"}\"]}",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "\"",
            "\\",
            " ",
            "\n",
            "汉字",
            "get",
            "{\"arguments\": {}, \"name\": \"b\"}",
            "5",
            "é",
            "<",
        ]),
        0..14,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// How a text is cut makes no difference, and without calls every character comes out.
    #[test]
    fn cuts_change_nothing(parts in any_answer(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let text = parts.concat();
        let boundaries: Vec<usize> = text.char_indices().map(|(start, _)| start).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.get(&boundaries)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let letters: Vec<&str> = boundaries.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let thinking = format!("{HERMES}<think>");
        for template in [HERMES, MISTRAL, MISTRAL_ARGUMENTS, LLAMA, PHI, GEMMA, &thinking] {
            let whole = read(template, &[&text]);
            prop_assert_eq!(&read(template, &pieces), &whole);
            prop_assert_eq!(&read(template, &letters), &whole);
            if whole.1.is_empty() {
                prop_assert_eq!(&whole.0, &text);
            }
        }
    }
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}])
}

fn conversation() -> Vec<Message> {
    let mut call = Message::new("assistant", "");
    call.tool_calls = Some(
        json!([{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bern\"}"}}]),
    );
    let result = |text: &str| {
        let mut result = Message::new("tool", text);
        result.fields.insert("tool_call_id".to_owned(), json!("call_1"));
        result
    };
    vec![Message::new("user", "Weather?"), call, result("rain"), result("cold")]
}

#[test]
fn templates_that_know_tools_get_them() {
    let (messages, tools) = format(MISTRAL).prompt(conversation(), &weather()).expect("a list of tools");
    assert_eq!(tools, Some(weather()));
    let id = messages[1].tool_calls.as_ref().expect("calls")[0]["id"].as_str().expect("an id").to_owned();
    assert!(id.len() == 9 && messages[2].fields["tool_call_id"] == json!(id), "{id}");
    // One that knows no calls gets them as the model writes them.
    let (messages, tools) =
        format("<|tool_call|>").prompt(conversation(), &weather()).expect("a list of tools");
    assert_eq!((tools, messages[2].role.as_str(), &messages[1].tool_calls), (Some(weather()), "tool", &None));
    assert_eq!(
        messages[1].content,
        "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]"
    );
    // The responses API leaves out `function`.
    let flat = json!([{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
    assert_eq!(format(HERMES).prompt(Vec::new(), &flat).expect("a list of tools").1, Some(weather()));
}

#[test]
fn templates_that_know_none_get_words() {
    let (messages, tools) = format(GEMMA).prompt(conversation(), &weather()).expect("a list of tools");
    let roles: Vec<&str> = messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!((roles, tools), (vec!["system", "user", "assistant", "user"], None));
    assert!(
        messages[0].content.contains(r#"{"type":"function","function":{"name":"weather""#),
        "{}",
        messages[0].content
    );
    assert!(messages[2].tool_calls.is_none());
    assert_eq!(
        messages[2].content,
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>"
    );
    assert_eq!(
        messages[3].content,
        "<tool_response>\nrain\n</tool_response>\n<tool_response>\ncold\n</tool_response>"
    );
    // What the model is shown is what the parser reads.
    assert_eq!(read(GEMMA, &[&messages[2].content]).1, calls(&[("weather", "{\"city\": \"Bern\"}")]));

    let (messages, tools) = format(PHI).prompt(conversation(), &weather()).expect("a list of tools");
    assert_eq!(
        (
            messages[0].fields["tools"]
                .as_str()
                .is_some_and(|tools| tools.starts_with("[{\"name\":\"weather\"")),
            tools
        ),
        (true, None)
    );
    assert_eq!(
        messages[2].content,
        "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]<|/tool_call|>"
    );
    assert_eq!((messages[3].role.as_str(), messages[3].content.as_str()), ("tool_response", "rain\ncold"));
}

#[test]
fn malformed_lists_are_refused() {
    for tools in [
        json!({}),
        json!([{}]),
        json!([{"function": {"name": "two words"}}]),
        json!([{"function": {"name": ""}}]),
        json!([{"function": {"name": "a", "parameters": 5}}]),
        json!([{"function": {"name": "a"}}, {"function": {"name": "a"}}]),
    ] {
        assert!(matches!(format(HERMES).prompt(Vec::new(), &tools), Err(Error::Tools { .. })), "{tools}");
    }
}
