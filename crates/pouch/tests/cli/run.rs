//! `pouch run`: where prompts come from, what is repeatable, and how it ends.

use std::io::Read;
use std::process::Stdio;

use testkit::TokenizerKind;

use crate::support::{Pouch, without_figures};

fn pouch_with_model() -> Pouch {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch
}

#[test]
fn the_answer_is_on_standard_output_and_the_figures_are_not() {
    let pouch = pouch_with_model();
    // Guesses would be counted in the figures, and how many there are depends on the clock.
    let asked = ["-m", "tiny.gguf", "-n", "12", "--temperature", "0", "--no-speculation", "hello"];
    let ran = pouch.run(&[&["run"], &asked[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.ends_with('\n'));
    let figures = without_figures(ran.stderr.lines().last().unwrap());
    let (line, reason) = figures.rsplit_once(" | ").unwrap();
    assert_eq!(line, "prompt N tokens, N tok/s | answer N tokens, N tok/s | first token after N ms");
    assert!(["max tokens", "end of generation"].contains(&reason));

    let quiet = pouch.run(&[&["run", "-q"], &asked[..]].concat());
    assert_eq!((quiet.stdout, quiet.stderr.as_str()), (ran.stdout, ""));
}

#[test]
fn a_seed_repeats_an_answer_and_threads_do_not_change_it() {
    let pouch = pouch_with_model();
    let ids = |more: &[&str]| {
        let common = ["run", "-m", "tiny.gguf", "-n", "24", "--temperature", "2", "--json", "hello"];
        pouch.object(&[&common[..], more].concat())["token_ids"].clone()
    };
    assert_eq!(ids(&["--seed", "5"]), ids(&["--seed", "5", "--threads", "1"]));
    assert_ne!(ids(&["--seed", "5"]), ids(&["--seed", "6"]));
}

#[test]
fn guessed_tokens_do_not_change_the_answer() {
    let pouch = pouch_with_model();
    pouch.write_model_with("draft.gguf", |options| options.seed = 2);
    let run = |more: &[&str]| {
        let common = ["run", "-m", "tiny.gguf", "-n", "60", "--seed", "5", "--json", "hello"];
        pouch.object(&[&common[..], more].concat())
    };
    let plain = run(&["--no-speculation"]);
    assert_eq!((&plain["drafted_tokens"], &plain["accepted_tokens"]), (&0.into(), &0.into()));
    assert_eq!(run(&[])["token_ids"], plain["token_ids"]);
    assert_eq!(run(&["--draft-model", "draft.gguf"])["token_ids"], plain["token_ids"]);

    pouch.write_model_with("foreign.gguf", |options| options.tokenizer = TokenizerKind::SentencePiece);
    let refused = pouch.run(&["run", "-m", "tiny.gguf", "--draft-model", "foreign.gguf", "hello"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("the draft model has another vocabulary: token 0 is"),
        "{}",
        refused.stderr
    );
}

#[test]
fn prompts_come_from_argument_file_and_standard_input() {
    let pouch = pouch_with_model();
    pouch.write("prompt.txt", "hello");
    pouch.write("other.txt", "hello\n\nhello");
    let common = ["run", "-m", "tiny.gguf", "-n", "8", "--temperature", "0", "-q"];
    let argument = pouch.run(&[&common[..], &["hello"]].concat()).stdout;
    assert!(!argument.is_empty());
    assert_eq!(pouch.run(&[&common[..], &["--file", "prompt.txt"]].concat()).stdout, argument);
    assert_eq!(pouch.run_with_input(&common, "hello\n").stdout, argument);
    assert_eq!(pouch.run_with_input(&[&common[..], &["-"]].concat(), "hello").stdout, argument);
    let both = pouch.run(&[&common[..], &["hello", "--file", "prompt.txt"]].concat()).stdout;
    assert_eq!(both, pouch.run(&[&common[..], &["--file", "other.txt"]].concat()).stdout);
}

#[test]
fn a_template_frames_the_prompt_unless_it_is_raw() {
    let pouch = pouch_with_model();
    let prompt_tokens = |more: &[&str]| {
        let common = ["run", "-m", "tiny.gguf", "-n", "1", "--json", "hello"];
        pouch.object(&[&common[..], more].concat())["prompt_tokens"].as_u64().unwrap()
    };
    let (raw, framed) = (prompt_tokens(&["--raw"]), prompt_tokens(&[]));
    assert!(raw < framed && framed < prompt_tokens(&["--system", "be brief"]));
}

#[test]
fn a_model_without_a_template_is_warned_about() {
    let pouch = Pouch::new();
    pouch.write_model_with("base.gguf", |options| options.chat_template = None);
    let ran = pouch.run(&["run", "-m", "base.gguf", "-n", "2", "hello"]);
    assert!(ran.stderr.starts_with("warning: the file has no chat template"), "{}", ran.stderr);
    assert!(!pouch.run(&["run", "-m", "base.gguf", "-n", "2", "--raw", "hello"]).stderr.contains("warning"));
}

#[test]
fn every_format_of_the_cache_works() {
    let pouch = Pouch::new();
    // Blocks of q8_0 and q4_0 are 32 values.
    pouch.write_model_with("tiny.gguf", |options| options.head_dim = 32);
    for format in ["f16", "q8_0", "q4_0"] {
        let object = pouch.object(&["run", "-m", "tiny.gguf", "-n", "4", "--kv", format, "--json", "hello"]);
        assert_eq!(object["context"], 512);
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let pouch = pouch_endless();
    let mut child = pouch.command(&ENDLESS).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ran = pouch.ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_answer_and_the_figures_still_come() {
    let pouch = pouch_endless();
    let mut child = pouch.command(&ENDLESS).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let ran = pouch.ran(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.trim_end().ends_with("| interrupted"), "{}", ran.stderr);
    assert!(ran.stdout.ends_with('\n'));
}

/// An answer that goes on for longer than any test waits.
const ENDLESS: [&str; 10] =
    ["run", "-m", "tiny.gguf", "-n", "1000000", "--context", "1000000", "--temperature", "0", "hello"];

fn pouch_endless() -> Pouch {
    let pouch = Pouch::new();
    pouch.write_model_with("tiny.gguf", |options| options.context = 1 << 20);
    pouch
}
