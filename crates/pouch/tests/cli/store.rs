//! Models that come and go: `pull`, `list`, `rm`, `import`.

use testkit::server::{Response, Server};
use testkit::{Random, TinyOptions, tiny_model};

use crate::support::{Pouch, argument, without_figures};

#[test]
fn a_model_is_pulled_listed_used_and_removed() {
    let maker = Pouch::new();
    maker.write_model("tiny.gguf");
    let bytes = std::fs::read(maker.path("tiny.gguf")).unwrap();
    let server = Server::start(move |request, _| Response::file(request, &bytes, "\"tag\""));
    let pouch = Pouch::new().with("HF_ENDPOINT", &server.address);
    const NAME: &str = "hf:owner/repo/tiny.gguf";

    let pulled = pouch.run(&["pull", NAME]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    assert_eq!(pulled.stdout, "[folder]/cache/models/hf/owner/repo/main/tiny.gguf\n");
    insta::assert_snapshot!("pulled", pulled.told());
    let again = pouch.run(&["pull", NAME]);
    assert_eq!((again.stdout, again.stderr), (pulled.stdout, format!("{NAME} is here already\n")));
    assert_eq!(server.requests().len(), 1);

    assert_eq!(pouch.run(&["run", "-m", NAME, "-n", "2", "hello"]).code, Some(0));
    insta::assert_snapshot!("list", pouch.run(&["list"]).told());

    let removed = pouch.run(&["rm", NAME]);
    assert_eq!(without_figures(&removed.stderr), format!("{NAME}: deleted, N kB freed\n"));
    assert!(!pouch.path("cache/models/hf").exists(), "the prepared weights went with the model");
}

#[test]
fn info_shows_a_file() {
    let pouch = Pouch::new();
    pouch.write_model_with("tiny.gguf", |options| *options = options.clone().with_type(8));
    let ran = pouch.run(&["info", "tiny.gguf", "--tensors", "--context", "1000"]);
    assert_eq!(ran.code, Some(0));
    insta::assert_snapshot!(ran.stdout);
}

#[test]
fn prepared_weights_of_own_files_are_removed_on_request() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    assert_eq!(pouch.run(&["run", "-m", "tiny.gguf", "-n", "1", "hello"]).code, Some(0));
    let removed = pouch.run(&["rm", "--prepared"]);
    assert_eq!(without_figures(&removed.stderr), "prepared weights: deleted, N kB freed\n");
    assert!(pouch.path("tiny.gguf").exists());
    assert_eq!(pouch.run(&["rm", argument(&pouch.path("tiny.gguf"))]).code, Some(1));
    assert!(pouch.path("tiny.gguf").exists());
}

#[test]
fn an_imported_model_runs() {
    let pouch = Pouch::new();
    write_llama2c(&pouch);
    let imported = pouch.run(&["import", "tiny.bin", "tiny.gguf", "--type", "f32"]);
    assert_eq!((imported.code, imported.stdout.as_str()), (Some(0), "tiny.gguf\n"), "{}", imported.stderr);
    let ran = pouch.run(&["run", "--raw", "-m", "tiny.gguf", "-n", "4", "--temperature", "0", "a"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn every_architecture_runs() {
    let pouch = Pouch::new();
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3", "qwen3moe"] {
        tiny_model(&TinyOptions::new(architecture)).write(&pouch.path("tiny.gguf"));
        let ran = pouch.run(&["run", "-m", "tiny.gguf", "-n", "4", "hello"]);
        assert_eq!(ran.code, Some(0), "{architecture}: {}", ran.stderr);
    }
}

/// A random llama2.c checkpoint `tiny.bin` of one layer, with its vocabulary `tok270.bin` beside it. The layout is that of
/// llama2.c's `export.py`, version 0.
pub(crate) fn write_llama2c(pouch: &Pouch) {
    const WIDTH: usize = 32;
    const HIDDEN: usize = 48;
    const HEADS: usize = 4;
    const VOCABULARY: usize = 270;
    const CONTEXT: usize = 64;
    let header = [WIDTH, HIDDEN, 1, HEADS, HEADS, VOCABULARY, CONTEXT];
    let mut bytes: Vec<u8> = header.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect();
    let mut random = Random::new(4);
    let mut numbers = |count: usize, middle: f32, spread: f32| {
        bytes.extend((0..count).flat_map(|_| (middle + spread * random.signed()).to_le_bytes()));
    };
    numbers(VOCABULARY * WIDTH, 0.0, 1.0);
    numbers(WIDTH, 1.0, 0.2); // attention norm
    numbers(4 * WIDTH * WIDTH, 0.0, 0.2); // q, k, v, output
    numbers(WIDTH, 1.0, 0.2); // feed-forward norm
    numbers(3 * WIDTH * HIDDEN, 0.0, 0.2); // gate, down, up
    numbers(WIDTH, 1.0, 0.2); // last norm
    numbers(CONTEXT * (WIDTH / HEADS), 0.0, 1.0); // tables of the rotation, unused
    pouch.write("tiny.bin", bytes);

    let mut pieces: Vec<String> = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned).to_vec();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    pieces.extend(" abcdefghij".chars().map(String::from));
    assert_eq!(pieces.len(), VOCABULARY);
    let longest = pieces.iter().map(String::len).max().unwrap() as i32;
    let mut vocabulary = longest.to_le_bytes().to_vec();
    for (index, piece) in pieces.iter().enumerate() {
        vocabulary.extend((-(index as f32)).to_le_bytes());
        vocabulary.extend((piece.len() as i32).to_le_bytes());
        vocabulary.extend(piece.as_bytes());
    }
    pouch.write("tok270.bin", vocabulary);
}
