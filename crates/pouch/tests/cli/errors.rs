//! Messages for what people get wrong: which file, what is wrong with it, what to do, and the exit code.

use crate::support::Pouch;

#[test]
fn files_that_are_no_models() {
    let pouch = Pouch::new();
    pouch.write("page.gguf", "<!DOCTYPE html><html>");
    pouch.write("empty.gguf", "");
    pouch.write_model("tiny.gguf");
    let whole = std::fs::read(pouch.path("tiny.gguf")).unwrap();
    pouch.write("short.gguf", &whole[..whole.len() / 2]);
    pouch.write("head.gguf", &whole[..100]);
    pouch.write_model_with("mamba.gguf", |options| {
        options.extra.push(("general.architecture".to_owned(), gguf::Value::String("mamba".to_owned())));
    });
    let mut told = String::new();
    for file in ["missing.gguf", "page.gguf", "empty.gguf", "short.gguf", "head.gguf", "mamba.gguf", "."] {
        let ran = pouch.run(&["run", "-m", &format!("./{file}"), "hello"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{file}");
        told += &format!("# {file}\n{}\n", ran.told());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn info_tells_what_it_can_of_an_unknown_architecture() {
    let pouch = Pouch::new();
    pouch.write_model_with("mamba.gguf", |options| {
        options.extra.push(("general.architecture".to_owned(), gguf::Value::String("mamba".to_owned())));
    });
    insta::assert_snapshot!(pouch.run(&["info", "mamba.gguf"]).told());
}

#[test]
fn names_that_stand_for_nothing() {
    let pouch = Pouch::new();
    let mut told = String::new();
    for name in ["smolm2-135m", "nonesuch", "hf:owner/repo", "pip:anything==1"] {
        let ran = pouch.run(&["run", "-m", name, "hello"]);
        assert_eq!(ran.code, Some(1), "{name}");
        told += &format!("# {name}\n{}\n", ran.told());
    }
    let ran = pouch.run(&["info", "smollm2"]);
    assert_eq!(ran.code, Some(1));
    told += &format!("# info of what is not here\n{}\n", ran.told());
    told += &format!("# rm of what is not here\n{}\n", pouch.run(&["rm", "smollm2"]).told());
    insta::assert_snapshot!(told);
}

#[test]
fn a_hub_that_refuses_and_one_that_is_down() {
    let server = testkit::server::Server::start(|request, _| {
        testkit::server::Response::status(if request.path.contains("gated") { 401 } else { 404 })
    });
    let pouch = Pouch::new().with("HF_ENDPOINT", &server.address);
    let mut told = String::new();
    for name in ["hf:owner/repo/absent.gguf", "hf:owner/repo/gated.gguf", "ms:owner/repo/model.gguf"] {
        told += &format!("# {name}\n{}\n", pouch.run(&["pull", name]).told());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn asking_in_ways_that_mean_nothing_is_a_usage_error() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write("exists.gguf", "");
    let mut told = String::new();
    for arguments in [
        &["run", "-m", "tiny.gguf", ""][..],
        &["run", "-m", "tiny.gguf", "--temperature", "-1", "hello"],
        &["run", "-m", "tiny.gguf", "--top-p", "2", "hello"],
        &["run", "-m", "tiny.gguf", "--threads", "0", "hello"],
        &["run", "--raw", "--system", "x", "hello"],
        &["import", "tiny.bin", "exists.gguf"],
        &["rm"],
        &["frobnicate"],
    ] {
        let ran = pouch.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        told += &format!("# {}\n{}\n", arguments.join(" "), ran.told());
    }
    insta::assert_snapshot!(told);
}

#[test]
fn texts_that_do_not_fit() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write("short.txt", "too short");
    let mut told = String::new();
    for arguments in [
        &["run", "-m", "tiny.gguf", "--context", "8", "a longer prompt than eight tokens"][..],
        &["eval", "tiny.gguf", "--text", "short.txt"],
        &["eval", "tiny.gguf", "--text", "absent.txt"],
        &["run", "-m", "tiny.gguf", "--file", "absent.txt"],
    ] {
        let ran = pouch.run(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {}", ran.stderr);
        told += &format!("# {}\n{}\n", arguments.join(" "), ran.told());
    }
    insta::assert_snapshot!(told);
}
