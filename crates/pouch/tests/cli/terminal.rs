//! `pouch chat` through a running server in a terminal: what is typed, shown and interrupted there. `script`, of util-linux, has the
//! terminal; what it reads is what is typed.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;

use crate::share::{Served, roles};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A program in a terminal of its own.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not waited for yet.
    shown: String,
}

impl Terminal {
    fn chat(served: &Served, arguments: &[&str]) -> Terminal {
        let chat = served.pouch.command(&[&["chat"], arguments].concat());
        let words = std::iter::once(chat.get_program()).chain(chat.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut command = std::process::Command::new("script");
        // A shell that stays between would take Ctrl-C for its own too.
        let line = format!("exec {}", line.join(" "));
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.current_dir(chat.get_current_dir().unwrap()).env_clear();
        command.envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
            .envs([("TERM", "xterm"), ("SHELL", "/bin/sh")])
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script, of util-linux");
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let _ = sender.send(bytes[..count].to_vec());
            }
        });
        Terminal { child, keys: Some(keys), screen, shown: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.as_ref().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until something is shown and forgets all up to its end.
    fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            let more = self.screen.recv_timeout(Duration::from_secs(60));
            let more =
                more.unwrap_or_else(|error| panic!("{text:?} is not shown, {error}: {:?}", self.shown));
            self.shown += &String::from_utf8_lossy(&more);
        }
    }

    fn end(mut self) -> Option<i32> {
        drop(self.keys.take());
        while self.screen.recv().is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program in it ends with its terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_typed_is_answered_and_ctrl_d_leaves() {
    let served = Served::new();
    let mut terminal = Terminal::chat(&served, &["-n", "6", "--temperature", "0"]);
    terminal.wait_for("tiny listens, through the running server");
    terminal.wait_for("> ");
    terminal.type_in("hello\r");
    terminal.wait_for("| answer 6 tokens, ");
    terminal.wait_for("> ");
    // A line that was given up is not asked.
    terminal.type_in("never mind");
    terminal.wait_for("never mind");
    terminal.type_in(CTRL_C);
    terminal.wait_for("> ");
    terminal.type_in("and\\\r");
    terminal.wait_for(". ");
    terminal.type_in("more\r");
    terminal.wait_for("| answer 6 tokens, ");
    terminal.wait_for("> ");
    terminal.type_in(CTRL_D);
    assert_eq!(terminal.end(), Some(0));
    let conversation = served.only();
    assert_eq!(roles(&conversation), ["user", "assistant", "user", "assistant"]);
    assert_eq!(conversation["messages"][2]["content"], "and\nmore");
}

#[test]
fn ctrl_c_ends_the_answer_and_the_chat_goes_on() {
    let served = Served::new();
    let mut terminal = Terminal::chat(&served, &["-n", "7000", "--temperature", "0"]);
    terminal.wait_for("> ");
    terminal.type_in("hello\r");
    served.wait_for_an_answer();
    terminal.type_in(CTRL_C);
    terminal.wait_for("| interrupted");
    terminal.wait_for("> ");
    let answer = &served.only()["messages"][1];
    assert_eq!(answer["state"], "stopped");
    let requests = served.client().get("/pouch/v1/requests").unwrap();
    assert_eq!(requests["requests"], json!([]), "the server goes on");
    terminal.type_in("/exit\r");
    assert_eq!(terminal.end(), Some(0));
}
