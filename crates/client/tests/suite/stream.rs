//! Answers that come in events.

use std::sync::mpsc::channel;
use std::thread;

use client::{Error, Events, Stop};
use serde_json::{Value, json};

use crate::support::{begin_stream, end_stream, piece, serve};

fn told(events: Events) -> Vec<String> {
    events.map(|event| event.map_or_else(|error| error.to_string(), |event| event.to_string())).collect()
}

#[test]
fn events_come_as_they_are_sent_however_they_are_cut() {
    const SENT: &str = ": hello\r\n\r\ndata: {\"delta\": \"a\u{4f60}\"}\r\n\r\nevent: x\ndata: {\"delta\":\ndata:  \"b\"}\n\ndata: [DONE]\n\ndata: {\"after\": 1}\n\n";
    for size in [1, 3, 7, SENT.len()] {
        let (client, requests) = serve(move |stream| {
            begin_stream(stream);
            for part in SENT.as_bytes().chunks(size) {
                // Not text: a piece may end inside a character.
                let mut chunk = format!("{:x}\r\n", part.len()).into_bytes();
                chunk.extend_from_slice(part);
                chunk.extend_from_slice(b"\r\n");
                if stream.write_all(&chunk).is_err() {
                    return;
                }
            }
            end_stream(stream);
        });
        let events = client.stream("/v1/chat/completions", &json!({"stream": true})).unwrap();
        assert_eq!(told(events), [json!({"delta": "a你"}).to_string(), json!({"delta": "b"}).to_string()]);
        let request = requests.recv().unwrap();
        assert_eq!(request.header("accept"), Some("text/event-stream"));
        assert_eq!(request.body, r#"{"stream":true}"#);
    }
}

#[test]
fn an_event_is_there_before_the_next_is_sent() {
    let (go, wait) = channel::<()>();
    let (client, _) = serve(move |stream| {
        begin_stream(stream);
        for count in 0..3 {
            assert!(piece(stream, &format!("data: {count}\n\n")));
            wait.recv().unwrap();
        }
        end_stream(stream);
    });
    let mut events = client.stream("/", &Value::Null).unwrap();
    for count in 0..3 {
        assert_eq!(events.next().unwrap().unwrap(), json!(count));
        go.send(()).unwrap();
    }
    assert!(events.next().is_none());
}

#[test]
fn an_answer_without_the_sign_of_its_end_ends_with_the_connection() {
    let (client, _) = serve(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: 1\n\ndata: 2\n").unwrap();
    });
    assert_eq!(told(client.stream("/", &Value::Null).unwrap()), ["1", "2"]);
}

#[test]
fn what_is_cut_off_is_told_after_what_came() {
    for chunked in [true, false] {
        let (client, _) = serve(move |stream| match chunked {
            true => {
                begin_stream(stream);
                piece(stream, "data: 1\n\ndata: {\"de");
            }
            false => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\ndata: {\"de").unwrap(),
        });
        let mut events = client.stream("/", &Value::Null).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), json!(1));
        let error = events.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::CutOff { .. }), "{error:?}");
        assert!(events.next().is_none());
    }
}

#[test]
fn an_error_among_the_events_is_an_error() {
    let (client, _) = serve(|stream| {
        begin_stream(stream);
        piece(stream, "data: {\"error\": null}\n\n");
        piece(
            stream,
            "data: {\"error\": {\"message\": \"no memory\", \"code\": \"insufficient_memory\"}}\n\n",
        );
        piece(stream, "data: {\"after\": 1}\n\n");
        end_stream(stream);
    });
    let mut events = client.stream("/", &Value::Null).unwrap();
    assert!(events.next().unwrap().is_ok());
    let Some(Err(Error::Failed { code, message })) = events.next() else { panic!("no error") };
    assert_eq!((code.as_deref(), message.as_str()), (Some("insufficient_memory"), "no memory"));
    assert!(events.next().is_none());
}

#[test]
fn what_is_no_event_is_told() {
    let (client, _) = serve(|stream| {
        begin_stream(stream);
        piece(stream, "data: 1\n\ndata: nonsense\n\n");
        end_stream(stream);
    });
    let mut events = client.stream("/", &Value::Null).unwrap();
    assert!(events.next().unwrap().is_ok());
    assert!(matches!(events.next(), Some(Err(Error::NotUnderstood { .. }))));
    assert!(events.next().is_none());
}

#[test]
fn a_line_that_never_ends_is_given_up() {
    let (client, _) = serve(|stream| {
        begin_stream(stream);
        while piece(stream, &"x".repeat(1 << 20)) {}
    });
    let events: Vec<_> = client.stream("/", &Value::Null).unwrap().collect();
    assert!(matches!(events.as_slice(), [Err(Error::NotUnderstood { .. })]), "{events:?}");
}

/// A server that sends signs of life until its client is gone, and tells of that.
fn until_gone() -> (client::Client, std::sync::mpsc::Receiver<()>) {
    let (gone, left) = channel();
    let (client, _) = serve(move |stream| {
        begin_stream(stream);
        piece(stream, "data: 1\n\n");
        while piece(stream, ": alive\n\n") {
            thread::yield_now();
        }
        gone.send(()).unwrap();
    });
    (client, left)
}

#[test]
fn dropping_the_events_closes_the_connection() {
    let (client, left) = until_gone();
    let mut events = client.stream("/", &Value::Null).unwrap();
    assert!(events.next().unwrap().is_ok());
    drop(events);
    left.recv().unwrap();
}

#[test]
fn a_stop_ends_the_events_from_another_thread() {
    let (client, left) = until_gone();
    let stop = Stop::new();
    let mut events = client.stream_until("/", &Value::Null, &stop).unwrap();
    assert!(events.next().unwrap().is_ok());
    let stopping = stop.clone();
    let thread = thread::spawn(move || stopping.set());
    assert!(events.next().is_none());
    thread.join().unwrap();
    left.recv().unwrap();
    let again = client.stream_until("/", &Value::Null, &stop).err().unwrap();
    assert!(matches!(again, Error::Stopped));
}

#[test]
fn a_stop_ends_waiting_for_the_answer() {
    let (asked, begun) = channel();
    let (client, _) = serve(move |stream| {
        asked.send(()).unwrap();
        // Says nothing until the client is gone.
        while stream.read(&mut [0]).is_ok_and(|count| count > 0) {}
    });
    let stop = Stop::new();
    let stopping = stop.clone();
    let thread = thread::spawn(move || {
        begun.recv().unwrap();
        stopping.set();
    });
    let error = client.stream_until("/", &Value::Null, &stop).err().unwrap();
    assert!(matches!(error, Error::Stopped), "{error:?}");
    thread.join().unwrap();
}

#[cfg(unix)]
mod unix {
    use super::*;
    use crate::support::{serve_unix, write};

    #[test]
    fn a_socket_serves_as_an_address_does() {
        let folder = tempfile::tempdir().unwrap();
        let (client, requests) = serve_unix(folder.path(), |stream| write(stream, "200 OK", "{\"a\": 1}"));
        assert_eq!(client.put("/v1/x", &json!({"b": "c".repeat(1 << 20)})).unwrap(), json!({"a": 1}));
        let request = requests.recv().unwrap();
        assert_eq!((request.line.as_str(), request.body.len()), ("PUT /v1/x HTTP/1.1", (1 << 20) + 8));
        assert_eq!(request.header("host"), Some("localhost"));
    }

    #[test]
    fn a_socket_streams_and_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (gone, left) = channel();
        let (client, _) = serve_unix(folder.path(), move |stream| {
            begin_stream(stream);
            piece(stream, "data: 1\n\n");
            while piece(stream, ": alive\n\n") {
                thread::yield_now();
            }
            gone.send(()).unwrap();
        });
        let stop = Stop::new();
        let mut events = client.stream_until("/", &Value::Null, &stop).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), json!(1));
        let thread = thread::spawn(move || stop.set());
        assert!(events.next().is_none());
        thread.join().unwrap();
        left.recv().unwrap();
    }

    #[test]
    fn a_socket_without_a_server_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left.sock");
        let client = client::Client::at(&format!("unix:{}", path.display())).unwrap();
        let absent = client.get("/health").unwrap_err();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let left = client.get("/health").unwrap_err();
        for error in [absent, left] {
            assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
            assert!(error.to_string().contains("left.sock"), "{error}");
        }
    }
}
