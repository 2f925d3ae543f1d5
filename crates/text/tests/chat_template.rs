//! Chat templates as files have them: what they print, what happens without one, and what a bad one can do.

use std::time::{Duration, UNIX_EPOCH};

use gguf::Metadata;
use serde_json::json;
use text::{ChatTemplate, Error, Message, Render};

/// The template of the Qwen 2.5 and SmolLM2 family, without its tools.
const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn metadata(template: Option<&str>, tokens: &[&str]) -> Metadata {
    let mut metadata = Metadata::new();
    metadata
        .insert("tokenizer.ggml.tokens", tokens.iter().map(|token| token.to_string()).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.bos_token_id", 0u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 1u32);
    if let Some(template) = template {
        metadata.insert("tokenizer.chat_template", template.to_owned());
    }
    metadata
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_metadata(&metadata(Some(source), &["<s>", "</s>"])).unwrap()
}

fn render(source: &str) -> Result<String, Error> {
    template(source).render(&[Message::new("user", "Hi")], prompt())
}

fn prompt() -> Render {
    Render { add_generation_prompt: true, ..Render::default() }
}

fn conversation() -> Vec<Message> {
    vec![Message::new("system", "Be brief."), Message::new("user", "Hi"), Message::new("assistant", "Hello.")]
}

#[test]
fn a_template_of_the_file_is_used() {
    let template = template(CHATML);
    assert!(!template.is_fallback());
    assert_eq!(
        template.render(&[Message::new("user", "Hi <b>")], prompt()).unwrap(),
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn without_a_template_the_vocabulary_decides() {
    let expected = [
        (
            "<|im_start|>",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "<start_of_turn>",
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "<|start_header_id|>",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("x", "<s>system: Be brief.\nuser: Hi\nassistant: Hello.\nassistant:"),
    ];
    for (marker, prompt_text) in expected {
        let template = ChatTemplate::from_metadata(&metadata(None, &["<s>", "</s>", marker])).unwrap();
        assert!(template.is_fallback());
        assert_eq!(template.render(&conversation(), prompt()).unwrap(), prompt_text, "{marker}");
    }
}

#[test]
fn tools_are_undefined_unless_given_and_have_a_template_of_their_own() {
    let mut metadata = metadata(Some("{% if tools is defined %}tools{% else %}none{% endif %}"), &["<s>"]);
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": "<é>"}}}]);
    let with_tools = Render { tools: Some(tools), ..Render::default() };

    let template = ChatTemplate::from_metadata(&metadata).unwrap();
    assert!(template.uses_tools());
    assert_eq!(template.render(&[], Render::default()).unwrap(), "none");
    assert_eq!(template.render(&[], with_tools.clone()).unwrap(), "tools");

    metadata.insert("tokenizer.chat_template.tool_use", "{{ tools[0].function | tojson }}");
    let template = ChatTemplate::from_metadata(&metadata).unwrap();
    assert_eq!(template.render(&[], Render::default()).unwrap(), "none");
    // As Python's json.dumps writes it: in the caller's order, spaces, no escapes.
    assert_eq!(
        template.render(&[], with_tools).unwrap(),
        r#"{"name": "f", "parameters": {"b": 1, "a": "<é>"}}"#
    );
}

#[test]
fn arguments_of_tool_calls_take_the_form_the_template_wants() {
    let mut call = Message::new("assistant", "");
    call.tool_calls =
        Some(json!([{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]));
    let wants_object = "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
    let wants_text = "{{ messages[0].tool_calls[0].function.arguments }}";
    let joins_text = "{{ 'call ' + messages[0].tool_calls[0].function.arguments }}";
    for (source, expected) in
        [(wants_object, r#"{"a": 1}"#), (wants_text, r#"{"a": 1}"#), (joins_text, r#"call {"a": 1}"#)]
    {
        assert_eq!(
            template(source).render(std::slice::from_ref(&call), Render::default()).unwrap(),
            expected
        );
    }
}

#[test]
fn a_system_message_the_template_refuses_goes_to_the_user() {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.content }}]{% endfor %}";
    let template = template(source);
    assert_eq!(template.render(&conversation(), prompt()).unwrap(), "[Be brief.\n\nHi][Hello.]");
    let refused = template.render(&conversation()[..1], prompt());
    assert!(matches!(refused, Err(Error::TemplateRefused { message }) if message == "no system"));
}

#[test]
fn python_in_templates() {
    let moment = Some(UNIX_EPOCH + Duration::from_secs(1_753_000_000));
    let cases = [
        ("{{ strftime_now('%d %b %Y') }}", "20 Jul 2025"),
        ("{{ ' a '.strip() + 'x-y'.split('-')[-1] + 'abc'.removeprefix('a') }}", "aybc"),
        ("{{ messages[::-1][0].role }}{{ 'abc'[1:] }}", "userbc"),
        ("{{ [true, none, 'a'] }} {{ true }} {{ none }}", "[True, None, 'a'] True None"),
        ("{{ missing | length }}", "0"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n  {% endgeneration %}\n{% endfor %}",
            "Hi\n",
        ),
        ("{%- generation -%} a {%- endgeneration -%} ", "a"),
        ("{{ bos_token }}|{{ eos_token }}|{{ enable_thinking }}", "<s>|</s>|False"),
    ];
    for (source, expected) in cases {
        let mut options = Render { now: moment, ..prompt() };
        options.variables.insert("enable_thinking".into(), json!(false));
        let rendered = template(source).render(&[Message::new("user", "Hi")], options);
        assert_eq!(rendered.unwrap(), expected, "{source}");
    }
}

#[test]
fn a_template_that_does_not_parse_is_told_when_it_is_needed() {
    assert!(matches!(render("{% if %}"), Err(Error::TemplateSyntax { .. })));
}

#[test]
fn hostile_templates_are_stopped() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    let recursion = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    let include = "{% include 'tokenizer.chat_template' %}";
    let deep = "{% set ns = namespace(x=[]) %}{% for a in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}";
    for source in [loops, recursion, include, deep] {
        assert!(matches!(render(source), Err(Error::TemplateFailed { .. })), "{source}");
    }
    let huge = metadata(Some(&" x".repeat(1 << 20)), &["<s>"]);
    assert!(matches!(ChatTemplate::from_metadata(&huge), Err(Error::TemplateSize { .. })));
}

#[test]
fn templates_cannot_exhaust_the_stack() {
    let chains = ["-", "not ", "1+", "1 and ", "1 if 1 else ", "(", "[", "1**"];
    for chain in chains {
        // Whether such a template is refused or gives a number does not matter.
        let _ = render(&format!("{{{{ {}1 }}}}", chain.repeat(120_000 / chain.len())));
    }
    let _ = render(&format!("{{% if 0 %}}{}{{% endif %}}", "{%elif 0%}".repeat(12_000)));
    let nested =
        "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    assert_eq!(render(nested).unwrap(), "");
}
