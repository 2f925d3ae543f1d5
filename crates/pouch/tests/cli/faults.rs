//! `pouch serve` where something is wrong with the machine: a clear word, and no answer lost that can be given.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use client::{Client, Error};
use serde_json::{Value, json};

use crate::serve::{signal, started};
use crate::support::{Pouch, argument};

/// A server and what it says on standard error, which is read at its end.
struct Served {
    child: Child,
    client: Client,
}

impl Served {
    fn start(pouch: &Pouch, arguments: &[&str]) -> Served {
        let all = [&["serve", "./tiny.gguf", "--json", "--port", "0", "--threads", "1"], arguments].concat();
        let (child, said) = started(pouch.command(&all));
        Served::of(child, &said)
    }

    fn of(child: Child, said: &Value) -> Served {
        Served { child, client: Client::at(said["addresses"][0].as_str().unwrap()).unwrap() }
    }

    fn answer(&self, prompt: &str) -> Result<String, Error> {
        let request = json!({"prompt": prompt, "max_tokens": 20, "temperature": 0});
        let answer = self.client.post("/v1/completions", &request)?;
        Ok(answer["choices"][0]["text"].as_str().unwrap().to_owned())
    }

    /// Ends it; returns what it said on standard error.
    fn end(self) -> String {
        signal(&self.child, "TERM");
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    }
}

fn with_model() -> Pouch {
    let pouch = Pouch::new();
    pouch.write_model_with("tiny.gguf", |options| options.context = 4096);
    pouch
}

/// A prompt of several pages of keys and values.
fn document(number: usize) -> String {
    format!("{number}: {}", "all that there is to know of it. ".repeat(20))
}

#[test]
fn folders_that_are_none_are_told_and_answers_are_given() {
    let pouch = with_model();
    let answer = Served::start(&pouch, &[]);
    let undisturbed = answer.answer(&document(1)).unwrap();
    answer.end();
    pouch.write("file", "no folder");
    let file = pouch.path("file");
    let pouch = pouch.with("POUCH_CACHE", argument(&file)).with("POUCH_DATA", argument(&file));
    let served = Served::start(&pouch, &[]);
    assert_eq!(served.answer(&document(1)).unwrap(), undisturbed);
    let stored = json!({"input": "short", "max_output_tokens": 5, "store": true});
    match served.client.post("/v1/responses", &stored) {
        Err(Error::Refused { status: 507, code, message }) => {
            assert_eq!(code.as_deref(), Some("not_stored"));
            assert!(message.contains("ask without `store`"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let said = served.end();
    assert!(said.contains("no answers can be stored"), "{said}");
    assert_eq!(fs::read_to_string(file).unwrap(), "no folder");
}

/// A limit to the size of files stands for a full disk: from some byte on nothing more is written.
#[test]
fn on_a_full_disk_answers_go_on_and_what_cannot_be_kept_is_refused() {
    let pouch = with_model();
    // Beyond it a write fails, rather than kill the process: the signal is ignored. Blocks of 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("sh");
    let own = pouch.command(&["serve", "./tiny.gguf", "--json", "--port", "0", "--threads", "1"]);
    command.arg("-c").arg(script).arg(own.get_program()).args(own.get_args());
    command.current_dir(own.get_current_dir().unwrap()).env_clear().stdin(Stdio::null());
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (child, said) = started(command);
    let served = Served::of(child, &said);
    let answer = served.answer(&document(1)).unwrap();
    assert_eq!(served.answer(&document(1)).unwrap(), answer);
    let stored =
        |input: &str| json!({"input": input, "max_output_tokens": 5, "background": true, "store": true});
    served.client.post("/v1/responses", &stored("short")).unwrap();
    match served.client.post("/v1/responses", &stored(&document(1).repeat(4))) {
        Err(Error::Refused { status: 507, message, .. }) => {
            assert!(message.contains("free some space"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let conversation = json!({"id": "long", "title": "x", "model": "tiny", "messages": [{"role": "user", "content": document(1).repeat(9)}]});
    match served.client.put("/pouch/v1/conversations/long", &conversation) {
        Err(Error::Refused { status: 500.., message, .. }) => assert!(!message.is_empty()),
        other => panic!("{other:?}"),
    }
    assert_eq!(served.answer(&document(1)).unwrap(), answer);
    served.end();
}

#[test]
fn pages_and_journals_with_flipped_bits_cost_time_and_nothing_else() {
    let pouch = with_model();
    let served = Served::start(&pouch, &[]);
    let undisturbed: Vec<String> = (0..3).map(|number| served.answer(&document(number)).unwrap()).collect();
    let request = json!({"input": "kept", "max_output_tokens": 5, "background": true, "store": true});
    served.client.post("/v1/responses", &request).unwrap();
    served.end();
    let mut damaged = 0;
    for folder in [pouch.path("cache"), pouch.path("data").join("journal")] {
        for file in files(&folder) {
            let mut bytes = fs::read(&file).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 2, "{damaged} files");
    let served = Served::start(&pouch, &[]);
    for (number, text) in undisturbed.iter().enumerate() {
        assert_eq!(served.answer(&document(number)).unwrap(), *text);
    }
    served.end();
}

#[test]
fn a_clock_that_jumps_changes_no_answer_and_no_bound() {
    let pouch = with_model();
    let served = Served::start(&pouch, &["--prefix-cache", "200kB"]);
    let undisturbed = served.answer(&document(1)).unwrap();
    served.end();
    // To who looks at them now, files of before the jump are from another time.
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(40 * 365 * 86400)] {
        for file in files(&pouch.path("cache")).into_iter().chain(files(&pouch.path("data"))) {
            fs::File::options().append(true).open(file).unwrap().set_modified(time).unwrap();
        }
        let served = Served::start(&pouch, &["--prefix-cache", "200kB"]);
        assert_eq!(served.answer(&document(1)).unwrap(), undisturbed);
        for number in 2..12 {
            served.answer(&document(number)).unwrap();
        }
        served.end();
        let pages = files(&pouch.path("cache").join("pages"));
        let bytes: u64 = pages.iter().map(|page| fs::metadata(page).unwrap().len()).sum();
        assert!(!pages.is_empty() && bytes <= 200_000, "{bytes} bytes in {} files", pages.len());
    }
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
