//! `pouch serve`: it starts, says where it is, answers, and ends when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::support::Pouch;

/// Starts a server and returns what it said of itself.
pub(crate) fn start(pouch: &Pouch, arguments: &[&str]) -> (Child, serde_json::Value) {
    started(pouch.command(&[&["serve", "./tiny.gguf", "--json"], arguments].concat()))
}

/// The same, whatever the command.
pub(crate) fn started(mut command: Command) -> (Child, serde_json::Value) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    match serde_json::from_str(&line) {
        Ok(said) => (child, said),
        Err(_) => panic!("{}", String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr)),
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success()
    );
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_answers_until_it_is_told_to_end() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    for name in ["TERM", "INT"] {
        let (mut child, said) = start(&pouch, &["--port", "0"]);
        assert_eq!(said["models"][0], "tiny");
        let address = said["addresses"][0].as_str().unwrap().strip_prefix("http://").unwrap();
        let body = r#"{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}"#;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(TcpStream::connect(address).unwrap(), &request);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"completion_tokens\":3"), "{answer}");
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_socket_alone_opens_no_port() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let (mut child, said) = start(&pouch, &["--socket", "pouch.sock"]);
    assert_eq!(said["addresses"], serde_json::json!(["unix:pouch.sock"]));
    let stream = std::os::unix::net::UnixStream::connect(pouch.path("pouch.sock")).unwrap();
    let answer = exchange(stream, "GET /health HTTP/1.1\r\nHost: pouch\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!pouch.path("pouch.sock").exists());
}

#[test]
fn what_cannot_be_served_is_told() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write("key.txt", "short\n");
    let mut told = String::new();
    for (arguments, code) in [
        (&["serve", "./tiny.gguf", "--host", "0.0.0.0", "--port", "0"][..], 2),
        (&["serve", "./tiny.gguf", "--port", "0", "--api-key-file", "key.txt"], 2),
        (&["serve", "./tiny.gguf", "--port", "0", "--api-key-file", "absent.txt"], 1),
        (&["serve", "./tiny.gguf", "./tiny.gguf", "--port", "0"], 1),
        (&["serve", "./absent.gguf"], 1),
        (&["serve", "./tiny.gguf", "--port", "0", "--memory", "10kB"], 1),
    ] {
        let ran = pouch.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", ran.stderr);
        told += &format!("# {}\n{}\n", arguments.join(" "), ran.told());
    }
    insta::assert_snapshot!(told);
}
