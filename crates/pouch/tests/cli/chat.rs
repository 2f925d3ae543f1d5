//! `pouch chat` through a pipe: one message a line.

use crate::support::Pouch;

const CHAT: [&str; 7] = ["chat", "-m", "tiny.gguf", "-n", "6", "--temperature", "0"];

fn pouch_with_model() -> Pouch {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch
}

#[test]
fn each_line_is_answered_and_earlier_turns_are_kept() {
    let pouch = pouch_with_model();
    let ran = pouch.run_with_input(&CHAT, "hello\n\nand again\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let figures: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("prompt ")).collect();
    assert_eq!(figures.len(), 2, "an empty line is no message: {}", ran.stderr);
    assert!(!figures[0].contains("kept") && figures[1].contains(" kept) tokens"), "{figures:?}");
}

#[test]
fn a_conversation_is_saved_and_loaded() {
    let pouch = pouch_with_model();
    let first = pouch.run_with_input(&CHAT, "hello\n/save talk.json\nhow are you\n");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pouch.path("talk.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][0]["content"], "hello");
    assert_eq!(saved["messages"][1]["role"], "assistant");

    // The second answer is the same, whether the first was just given or loaded, by command or by option.
    let second_answer = |ran: crate::support::Ran| ran.stdout;
    let loaded = second_answer(pouch.run_with_input(&CHAT, "/load talk.json\nhow are you\n"));
    assert!(first.stdout.ends_with(&loaded) && !loaded.is_empty());
    let option = [&CHAT[..], &["--load", "talk.json"]].concat();
    assert_eq!(second_answer(pouch.run_with_input(&option, "how are you\n")), loaded);
}

#[test]
fn reset_forgets_all_but_the_system_message() {
    let pouch = pouch_with_model();
    let chat = [&CHAT[..], &["--system", "be brief"]].concat();
    let once = pouch.run_with_input(&chat, "hello\n").stdout;
    let twice = pouch.run_with_input(&chat, "hello\n/reset\nhello\n/exit\nnever read\n").stdout;
    assert_eq!(twice, once.repeat(2));
}

#[test]
fn commands_that_mean_nothing_are_told_and_the_chat_goes_on() {
    let pouch = pouch_with_model();
    let ran = pouch.run_with_input(&CHAT, "/nonsense\n/save\n/load absent.json\n/help\nhello\n");
    assert_eq!(ran.code, Some(0));
    assert!(!ran.stdout.is_empty());
    let told: Vec<&str> = ran.stderr.lines().filter(|line| !line.starts_with("prompt ")).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_full_context_is_told_and_reset_helps() {
    let pouch = pouch_with_model();
    let chat = [&CHAT[..], &["--context", "48"]].concat();
    let ran = pouch.run_with_input(&chat, &format!("hello\n{}\n/reset\nhello\n", "long ".repeat(40)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("/reset starts anew, --context gives more room"), "{}", ran.stderr);
    let answers: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("prompt ")).collect();
    assert_eq!(answers.len(), 2);
}

#[test]
fn a_line_that_ends_in_a_backslash_goes_on() {
    let pouch = pouch_with_model();
    pouch.run_with_input(&CHAT, "one\\\ntwo\n/save talk.json\n");
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pouch.path("talk.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][0]["content"], "one\ntwo");
}
