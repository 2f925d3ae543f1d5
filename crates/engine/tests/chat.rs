//! Conversations on a tiny random model: what is said before is not computed again, and what is saved comes back.

mod common;

use std::sync::atomic::AtomicBool;

use common::{engine, open, options};
use engine::{Conversation, Engine, Error, Generation, SamplerOptions, SessionOptions, encode_prompt};
use testkit::TinyOptions;
use text::Message;

fn start(engine: &Engine, messages: Vec<Message>) -> Conversation {
    let options = SessionOptions { sampler: SamplerOptions::greedy(), ..options(0, 12) };
    Conversation::new(engine.session(options).unwrap(), messages)
}

fn say(engine: &mut Engine, conversation: &mut Conversation, text: &str) -> Generation {
    conversation.say(engine, Message::new("user", text), &AtomicBool::new(false), &mut |_| {}).unwrap()
}

#[test]
fn a_turn_computes_only_what_is_new() {
    let model = open(&TinyOptions::new("qwen2"));
    let mut engine = engine(&model, 2, 32);
    let mut conversation = start(&engine, vec![Message::new("system", "You are a hen.")]);
    let first = say(&mut engine, &mut conversation, "Who are you?");
    assert_eq!(first.figures.reused_tokens, 0);
    let second = say(&mut engine, &mut conversation, "And then?");
    // All of the first prompt at least; the answer's text may come back as other tokens.
    assert!(second.figures.reused_tokens >= first.figures.prompt_tokens, "{:?}", second.figures);
    let roles: Vec<&str> = conversation.messages().iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    // Saved and loaded into a fresh session, the conversation goes on in the same words.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.json");
    conversation.save(&path).unwrap();
    conversation.save(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    let mut loaded = start(&engine, Vec::new());
    loaded.load(&path).unwrap();
    assert_eq!(loaded.messages(), conversation.messages());
    let (here, there) =
        (say(&mut engine, &mut conversation, "Go on."), say(&mut engine, &mut loaded, "Go on."));
    assert_eq!(here.token_ids, there.token_ids);
    assert_eq!(there.figures.reused_tokens, 0);
    conversation.reset();
    assert_eq!(conversation.messages(), [Message::new("system", "You are a hen.")]);
    let again = say(&mut engine, &mut conversation, "Who are you?");
    assert_eq!(again.token_ids, first.token_ids);
    assert!(again.figures.reused_tokens > 0);
}

/// A template may write BOS itself, and some files ask for EOS after every text.
#[test]
fn prompts_begin_once_and_do_not_end() {
    let asks = |key: &str| (format!("tokenizer.ggml.{key}"), gguf::Value::Bool(true));
    let mut options = TinyOptions::new("gemma3");
    options.extra = vec![asks("add_bos_token"), asks("add_eos_token")];
    let tokenizer = &open(&options).tokenizer;
    let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
    let written = format!("{}the hen", tokenizer.piece(bos));
    for (text, parse_special) in [("the hen", false), (written.as_str(), true)] {
        let tokens = encode_prompt(tokenizer, text, parse_special);
        assert_eq!(tokens[0], bos);
        assert!(tokens.len() > 1 && !tokens[1..].contains(&bos) && !tokens.contains(&eos), "{tokens:?}");
    }
    assert_eq!(encode_prompt(tokenizer, "", true), [bos]);
}

#[test]
fn what_fails_or_is_cancelled_leaves_no_trace() {
    let model = open(&TinyOptions::new("qwen2"));
    let mut engine = engine(&model, 2, 32);
    let mut conversation = start(&engine, Vec::new());
    let long = "a long story ".repeat(2000);
    let never = AtomicBool::new(false);
    let failed = conversation.say(&mut engine, Message::new("user", long), &never, &mut |_| {});
    assert!(matches!(failed, Err(Error::ContextFull { .. })), "{failed:?}");
    assert!(conversation.messages().is_empty());
    let cancelled = conversation
        .say(&mut engine, Message::new("user", "Hi"), &AtomicBool::new(true), &mut |_| {})
        .unwrap();
    assert_eq!(cancelled.end, None);
    assert!(conversation.messages().is_empty());
    say(&mut engine, &mut conversation, "Hi");
    assert_eq!(conversation.messages().len(), 2);
}

#[test]
fn a_file_that_is_no_conversation_is_refused() {
    let model = open(&TinyOptions::new("qwen2"));
    let engine = engine(&model, 1, 32);
    let mut conversation = start(&engine, vec![Message::new("user", "kept")]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.json");
    assert!(matches!(conversation.load(&path), Err(Error::File { .. })));
    assert!(matches!(conversation.save(&folder.path().join("no/such/folder.json")), Err(Error::File { .. })));
    for text in [
        "",
        "[]",
        r#"{"messages": []}"#,
        r#"{"version": 2, "messages": []}"#,
        r#"{"version": 1}"#,
        r#"{"version": 1, "messages": [{"role": "user"}]}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(conversation.load(&path), Err(Error::Saved { .. })), "{text}");
    }
    assert_eq!(conversation.messages(), [Message::new("user", "kept")]);
    std::fs::write(&path, r#"{"version": 1, "messages": [{"role": "user", "content": "喂"}]}"#).unwrap();
    conversation.load(&path).unwrap();
    assert_eq!(conversation.messages(), [Message::new("user", "喂")]);
}
