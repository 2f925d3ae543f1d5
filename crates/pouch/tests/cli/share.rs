//! `pouch chat` through a `pouch serve` that runs: the same answers, and a conversation that others can go on with.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use client::Client;
use serde_json::{Value, json};

use crate::serve::{signal, start};
use crate::support::{Pouch, Ran};

const GREEDY: [&str; 4] = ["-n", "6", "--temperature", "0"];

/// A server of a tiny model; ends with the test.
pub(crate) struct Served {
    pub(crate) pouch: Pouch,
    server: Option<Child>,
}

impl Served {
    pub(crate) fn new() -> Served {
        let pouch = Pouch::new();
        pouch.write_model_with("tiny.gguf", |options| options.context = 8192);
        let mut served = Served { pouch, server: None };
        served.start();
        served
    }

    fn start(&mut self) {
        self.server = Some(start(&self.pouch, &["--port", "0", "--threads", "1"]).0);
    }

    /// Ends it at once, without a word to anybody.
    fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::at(&format!("unix:{}", self.pouch.path("data/pouch.sock").display())).unwrap()
    }

    /// Chats through a pipe.
    fn chat(&self, arguments: &[&str], input: &str) -> Ran {
        let ran = self.pouch.run_with_input(&[&["chat"], arguments].concat(), input);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran
    }

    /// The conversations that the server keeps, the latest first.
    fn kept(&self) -> Vec<Value> {
        let list = self.client().get("/pouch/v1/conversations").unwrap();
        let ids =
            list["conversations"].as_array().unwrap().iter().map(|heading| heading["id"].as_str().unwrap());
        ids.map(|id| self.client().get(&format!("/pouch/v1/conversations/{id}")).unwrap()).collect()
    }

    /// The one conversation.
    pub(crate) fn only(&self) -> Value {
        let mut kept = self.kept();
        assert_eq!(kept.len(), 1);
        kept.remove(0)
    }

    /// Waits until some of an answer has come.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_for_an_answer(&self) {
        let name = loop {
            let requests = self.client().get("/pouch/v1/requests").unwrap();
            match requests["requests"][0].as_str() {
                Some(name) => break name.to_owned(),
                None => std::thread::yield_now(),
            }
        };
        let path = format!("/v1/responses/{name}");
        while self.client().get(&path).unwrap()["output"][0]["content"][0]["text"].is_null() {
            std::thread::yield_now();
        }
    }

    /// A chat that goes on while the test does something.
    fn talk(&self, arguments: &[&str]) -> Talk {
        let mut command = self.pouch.command(&[&["chat"], arguments].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Talk { child, input: Some(input), output }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn say(&mut self, line: &str) {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
    }

    /// Waits until some of an answer has come.
    fn some(&mut self) {
        assert!(!self.output.fill_buf().unwrap().is_empty(), "{}", self.child.wait().unwrap());
    }

    fn end(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        self.output.read_to_end(&mut Vec::new()).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

pub(crate) fn roles(conversation: &Value) -> Vec<&str> {
    conversation["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect()
}

#[test]
fn the_answers_are_those_of_a_chat_alone_and_the_page_finds_the_conversation() {
    let served = Served::new();
    // What fills no page of the cache, 64 tokens, is computed again.
    let said = format!("hello{}\n\nand again\n", " there".repeat(30));
    let shared = served.chat(&[&GREEDY[..], &["--system", "be brief"]].concat(), &said);
    assert!(shared.stderr.contains("tiny listens, through the running server; /reset"), "{}", shared.stderr);
    let figures: Vec<&str> = shared.stderr.lines().filter(|line| line.starts_with("prompt ")).collect();
    assert!(figures.len() == 2 && figures[1].contains(" kept) tokens"), "{}", shared.stderr);
    assert!(
        figures[0].contains("| answer 6 tokens, ") && figures[0].contains("| first token after "),
        "{figures:?}"
    );

    let alone = [&GREEDY[..], &["--alone", "-m", "tiny.gguf", "--system", "be brief"]].concat();
    assert_eq!(served.chat(&alone, &said).stdout, shared.stdout);

    let conversation = served.only();
    assert!(conversation["title"].as_str().unwrap().starts_with("hello there"), "{conversation}");
    assert_eq!(conversation["model"], "tiny");
    assert_eq!(conversation["settings"], json!({"system": "be brief", "max_tokens": 6, "temperature": 0.0}));
    assert_eq!(roles(&conversation), ["user", "assistant", "user", "assistant"]);
    let answer = &conversation["messages"][1];
    assert_eq!((&answer["state"], &answer["finish"]), (&json!("done"), &json!("length")));
    assert_eq!(answer["figures"]["tokens"], 6);
    assert_eq!(shared.stdout.lines().next(), answer["content"].as_str().unwrap().lines().next());
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
}

#[test]
fn a_conversation_goes_on_wherever_it_was_left() {
    let served = Served::new();
    let whole = served.chat(&GREEDY, "one\ntwo\nthree\n").stdout;
    let first = served.chat(&GREEDY, "one\n").stdout;
    let second = served.chat(&["--continue"], "two\n");
    assert!(second.stderr.contains("one, 2 messages\n> one\n"), "{}", second.stderr);
    let document = served.kept().remove(0);
    assert_eq!(roles(&document).len(), 4);
    let id = document["id"].as_str().unwrap().to_owned();
    let third = served.chat(&["--continue", &id], "three\n").stdout;
    assert_eq!([first, second.stdout, third].concat(), whole);

    let listed = served.chat(&GREEDY, "/list\n/open 2\n/open 7\n/open nothing\n/open\nfour\n");
    for told in [
        "  1  one  (just now)",
        "  2  one  (",
        "is no conversation 7: 2 are kept",
        "\"nothing\"",
        "which one?",
    ] {
        assert!(listed.stderr.contains(told), "{told}: {}", listed.stderr);
    }
    let mut lengths: Vec<usize> = served.kept().iter().map(|kept| roles(kept).len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [6, 8]);
}

#[test]
fn what_is_said_elsewhere_meanwhile_is_taken_over() {
    let served = Served::new();
    let mut talk = served.talk(&GREEDY);
    talk.say("one");
    talk.some();
    let mut document = loop {
        match served.kept().pop() {
            Some(document) if document["messages"][1]["state"] == "done" => break document,
            _ => std::thread::yield_now(),
        }
    };
    let messages = document["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "user", "content": "from the page"}));
    messages.push(json!({"role": "assistant", "content": "indeed", "state": "done"}));
    let path = format!("/pouch/v1/conversations/{}", document["id"].as_str().unwrap());
    served.client().put(&path, &document).unwrap();
    talk.say("two");
    let (code, told) = talk.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("2 messages have come from elsewhere"), "{told}");
    let conversation = served.only();
    assert_eq!(conversation["messages"][3]["content"], "indeed");
    assert_eq!(roles(&conversation).len(), 6);
}

#[test]
fn what_is_written_in_the_middle_of_an_answer_is_not_lost() {
    let served = Served::new();
    let mut talk = served.talk(&["-n", "8000", "--temperature", "0"]);
    talk.say("one");
    talk.some();
    // As somebody writes it who has read it before the question was there, and does not look again.
    let mut document = served.only();
    document["title"] = "theirs".into();
    document["messages"] = json!([
        {"role": "user", "content": "by hand"}, {"role": "assistant", "content": "indeed", "state": "done"},
    ]);
    let path = format!("/pouch/v1/conversations/{}", document["id"].as_str().unwrap());
    served.client().put(&path, &document).unwrap();
    signal(&talk.child, "INT");
    let (code, told) = talk.end();
    assert_eq!(code, Some(0), "{told}");
    let conversation = served.only();
    let said = conversation["messages"].as_array().unwrap();
    let contents: Vec<&str> = said[..3].iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["by hand", "indeed", "one"], "{conversation}");
    assert_eq!(
        (said.len(), &said[3]["state"], &conversation["title"]),
        (4, &json!("stopped"), &json!("theirs"))
    );
}

#[test]
fn what_the_server_cannot_do_is_done_without_it() {
    let served = Served::new();
    served.pouch.write_model("other.gguf");
    for (arguments, told) in [
        (
            &["-m", "other.gguf"][..],
            "the running server does not serve other.gguf, so this chat goes without it\n",
        ),
        (
            &["-m", "tiny.gguf", "--threads", "1"],
            "--threads is nothing that the running server can be asked for",
        ),
        (&["-m", "tiny.gguf", "--alone"], "tiny.gguf listens; /reset"),
    ] {
        let ran = served.chat(&[&GREEDY[..], arguments].concat(), "hello\n/list\n");
        assert!(ran.stderr.contains(told) && !ran.stdout.is_empty(), "{}", ran.stderr);
        assert!(ran.stderr.contains("only a server keeps conversations"), "{}", ran.stderr);
    }
    assert!(served.kept().is_empty());
    let nobody = Pouch::new().run(&["chat", "--continue"]);
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.stderr.contains("start `pouch serve`"), "{}", nobody.stderr);
}

#[test]
fn saved_conversations_are_those_of_a_chat_alone() {
    let served = Served::new();
    let system = [&GREEDY[..], &["--system", "be brief"]].concat();
    served.chat(&system, "hello\n/save shared.json\n/reset\nhello\n/save again.json\n");
    let alone = [&system[..], &["--alone", "-m", "tiny.gguf"]].concat();
    served.chat(&alone, "hello\n/save alone.json\n");
    let file = |name| std::fs::read_to_string(served.pouch.path(name)).unwrap();
    assert_eq!(file("shared.json"), file("alone.json"));
    assert_eq!(file("again.json"), file("alone.json"), "a new conversation has the system message too");
    assert_eq!(served.kept().len(), 2);
    let load = |how: &[&str]| {
        served.chat(&[how, &GREEDY[..], &["--load", "alone.json"]].concat(), "and now\n").stdout
    };
    assert_eq!(load(&[]), load(&["--alone", "-m", "tiny.gguf"]));
}

#[test]
fn a_question_that_is_refused_is_taken_back() {
    let served = Served::new();
    let long = "long ".repeat(9000);
    let ran = served.chat(&GREEDY, &format!("{long}\nhello\n{long}\n"));
    assert_eq!(ran.stderr.matches("fit together with the answer").count(), 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("; /reset starts anew"));
    let conversation = served.only();
    assert_eq!((roles(&conversation).len(), &conversation["title"]), (2, &json!("hello")));
}

#[test]
fn an_interrupt_ends_the_answer_and_keeps_what_came() {
    let served = Served::new();
    let mut talk = served.talk(&["-n", "8000", "--temperature", "0"]);
    talk.say("hello");
    talk.some();
    signal(&talk.child, "INT");
    let (code, told) = talk.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.trim_end().ends_with("| interrupted"), "{told}");
    let answer = &served.only()["messages"][1];
    assert_eq!(answer["state"], "stopped");
    assert!(!answer["content"].as_str().unwrap().is_empty());
    let requests = served.client().get("/pouch/v1/requests").unwrap();
    assert_eq!(requests["requests"], json!([]), "the server goes on");
}

#[test]
fn a_killed_server_loses_nothing() {
    let mut served = Served::new();
    let mut talk = served.talk(&["-n", "1500", "--temperature", "0"]);
    talk.say("hello");
    talk.some();
    served.kill();
    let (code, told) = talk.end();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("The conversation is kept as far as it came: `pouch chat --continue "), "{told}");

    served.start();
    let ran = served.chat(&["--continue", "-n", "6"], "and now?\n");
    assert!(!ran.stdout.is_empty());
    let conversation = served.only();
    assert_eq!(roles(&conversation), ["user", "assistant", "user", "assistant"]);
    let answer = &conversation["messages"][1];
    assert_eq!(answer["state"], "done", "{answer}");
    let whole = [&["--alone", "-m", "tiny.gguf"][..], &["-n", "1500", "--temperature", "0"]].concat();
    let whole = served.chat(&whole, "hello\n").stdout;
    assert_eq!(answer["content"].as_str().unwrap().trim_end(), whole.trim_end());
}

#[test]
fn a_server_that_nobody_can_find_says_so_and_serves() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let (server, said) = start(&pouch, &["--port", "0", "--data", &"long/".repeat(40)]);
    assert!(said["addresses"][0].as_str().unwrap().starts_with("http://"));
    signal(&server, "TERM");
    let output = server.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("`pouch chat` will not find this server: "), "{told}");
}
