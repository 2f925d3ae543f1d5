//! Packed files and their certificates: `pack`, `certify`.

use compress::certificate::{
    Certificate, Cost, FORMAT, Output, Quality, Settings, Source, Tensor, TextRecord, TypeShare,
    bits_per_weight, sha256_of_files, type_name,
};
use compress::{Effort, Target, Text};
use evaluate::Options;
use kernels::Team;
use model::Model;

use crate::objects::shape;
use crate::support::Pouch;

/// Writes `small.gguf`, the model `original.gguf` in Q8_0, with a certificate whose figures are measured on `text`.
fn certified(pouch: &Pouch, text: &Text) {
    for (name, type_name) in [("original.gguf", "F32"), ("small.gguf", "Q8_0")] {
        let id = gguf::types::by_name(type_name).unwrap().id;
        pouch.write_model_with(name, |options| {
            // Q8_0 asks for widths of which both files need the same.
            *options = options.clone().with_type(8);
            options.type_id = id;
        });
    }
    let [original, small] = ["original.gguf", "small.gguf"].map(|name| pouch.path(name));
    let open = |path| Model::open(path, &model::Options::default()).unwrap();
    let team = Team::new(1);
    let options = Options { context: 64, windows: Some(8), ..Options::default() };
    let comparison =
        evaluate::against(&open(&small), &open(&original), &team, &text.content, &options, &mut |_| {})
            .unwrap();
    let [source, file] = [&original, &small].map(|path| gguf::File::open(path).unwrap());
    let sum = |types: &[TypeShare]| {
        let bytes = types.iter().map(|share| share.bytes).sum();
        let parameters = types.iter().map(|share| share.parameters).sum();
        (parameters, bits_per_weight(bytes, parameters))
    };
    let [before, after] = [&source, &file].map(|file| TypeShare::of(file.tensors()));
    let tensor = |info: &gguf::TensorInfo| Tensor {
        name: info.name.clone(),
        shape: info.shape.clone(),
        source_type: type_name(source.tensor(&info.name).unwrap().type_id),
        type_name: type_name(info.type_id),
        bytes: info.bytes,
        bits_per_weight: bits_per_weight(info.bytes, info.shape.iter().product()),
        sensitivity: None,
        plain_error: None,
        error: None,
        on_grid: false,
        folded: Vec::new(),
        method: "nearest".to_owned(),
    };
    let certificate = Certificate {
        format: FORMAT,
        program: "pouch test".to_owned(),
        source: Source {
            file: "original.gguf".to_owned(),
            bytes: source.total_bytes(),
            sha256: sha256_of_files(&[&original]).unwrap(),
            architecture: "llama".to_owned(),
            parameters: sum(&before).0,
            bits_per_weight: sum(&before).1,
            types: before,
            reference: "the source file, 32-bit floats".to_owned(),
        },
        output: Output {
            file: "small.gguf".to_owned(),
            bytes: file.total_bytes(),
            sha256: sha256_of_files(&[&small]).unwrap(),
            parameters: sum(&after).0,
            bits_per_weight: sum(&after).1,
            types: after,
        },
        settings: Settings {
            target: Target::Recipe("Q8_0".to_owned()).to_string(),
            effort: Effort::Fast.name().to_owned(),
            seed: 0,
            calibration: TextRecord::of(&Text::sample(), 0),
            held_out: TextRecord::of(text, comparison.tested.tokens),
            importance_file: None,
        },
        quality: Quality::of(&comparison),
        won_back: None,
        kv_cache: None,
        cost: Cost { seconds: 1.0, stages: Vec::new(), peak_memory_bytes: 1 << 20, threads: 1 },
        tensors: file.tensors().iter().map(tensor).collect(),
    };
    certificate.write_beside(&small).unwrap();
}

/// Replaces a text in the certificate.
fn change(pouch: &Pouch, from: &str, to: &str) {
    let path = pouch.path("small.certificate.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the certificate");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_file_as_certified_and_ones_that_are_not() {
    let pouch = Pouch::new();
    certified(&pouch, &Text::held_out());
    let mut told = String::new();
    let mut tell = |what: &str, arguments: &[&str], code: i32| {
        let ran = pouch.run(arguments);
        assert_eq!(ran.code, Some(code), "{what}: {}{}", ran.stdout, ran.stderr);
        // Hashes are told, but differ with every change of the models that tests make.
        let ran = ran.told();
        let words = ran.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let word = |word: &str| match word.len() > 63 {
            true => format!("HASH{}", &word[64..]),
            false => word.to_owned(),
        };
        told += &format!("# {what}\n{}\n", words.map(word).collect::<String>());
    };
    tell("as certified", &["certify", "small.gguf"], 0);
    tell("measured again", &["certify", "small.gguf", "--measure"], 0);
    tell("beside the original", &["certify", "small.gguf", "--against", "original.gguf"], 0);
    tell("beside another", &["certify", "small.gguf", "--against", "small.gguf"], 1);
    pouch.write("other.txt", "another text");
    tell("on another text", &["certify", "small.gguf", "--text", "other.txt"], 2);

    change(&pouch, "\"target\": \"Q8_0\"", "\"target\": \"Q4_0\"");
    tell("a changed certificate", &["certify", "small.gguf"], 1);
    change(&pouch, "\"target\": \"Q4_0\"", "\"target\": \"Q8_0\"");
    let mut bytes = std::fs::read(pouch.path("small.gguf")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    pouch.write("small.gguf", bytes);
    tell("a changed file", &["certify", "small.gguf", "--measure"], 1);
    tell("no certificate", &["certify", "original.gguf"], 1);
    pouch.write("small.certificate.json", "{\"format\": 99}");
    tell("a newer certificate", &["certify", "small.gguf"], 1);
    insta::assert_snapshot!(told);
}

#[test]
fn certify_gives_an_object() {
    let pouch = Pouch::new();
    let text = Text {
        name: "text.txt".to_owned(),
        content: "the rain in the plain falls on the train, ".repeat(60),
    };
    certified(&pouch, &text);
    pouch.write("text.txt", &text.content);
    let arguments = ["certify", "small.gguf", "--text", "text.txt", "--against", "original.gguf", "--json"];
    let object = pouch.object(&arguments);
    insta::assert_snapshot!(shape(&object));
    assert_eq!((&object["valid"], &object["problems"]), (&true.into(), &serde_json::json!([])));
    let figures = object["measured"].as_array().unwrap();
    assert_eq!(figures.len(), 4);
    assert!(figures.iter().all(|figure| figure["agrees"] == true), "{figures:?}");
    // The text is not the built-in one, so it has to be named.
    assert_eq!(pouch.run(&["certify", "small.gguf", "--measure"]).code, Some(2));
}

#[test]
fn packing_in_ways_that_mean_nothing() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write("exists.gguf", "");
    let mut told = String::new();
    for (code, arguments) in [
        (2, &["pack", "tiny.gguf"][..]),
        (2, &["pack", "tiny.gguf", "-o", "out.gguf"]),
        (2, &["pack", "tiny.gguf", "-o", "out.gguf", "--bits", "4", "--type", "Q4_0"]),
        (2, &["pack", "tiny.gguf", "-o", "out.gguf", "--bits", "64"]),
        (2, &["pack", "tiny.gguf", "-o", "out.gguf", "--size", "400"]),
        (2, &["pack", "tiny.gguf", "-o", "out.gguf", "--size", "4MB", "--effort", "heroic"]),
        (2, &["pack", "tiny.gguf", "-o", "exists.gguf", "--bits", "4"]),
        (2, &["pack", "tiny.gguf", "-o", "tiny.gguf", "--bits", "4", "--force"]),
        (1, &["pack", "tiny.gguf", "-o", "out.gguf", "--bits", "4", "--text", "absent.txt"]),
        (1, &["pack", "absent.gguf", "-o", "out.gguf", "--bits", "4"]),
    ] {
        let ran = pouch.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        told += &format!("# {}\n{}\n", arguments.join(" "), ran.told());
    }
    insta::assert_snapshot!(told);
    assert!(!pouch.path("out.gguf").exists() && !pouch.path("out.gguf.packing").exists());
}

/// From a model to a certified file and back to answers; the file does not depend on the number of threads.
#[test]
fn packs_what_it_then_certifies() {
    let pouch = Pouch::new();
    pouch.write_model_with("original.gguf", |options| *options = options.clone().with_type(8));
    let text = Text::sample().content;
    let (first, second) = text.split_at((0..=9000).rev().find(|&at| text.is_char_boundary(at)).unwrap());
    pouch.write("calibration.txt", first);
    pouch.write("other.txt", &second[..(0..=4000).rev().find(|&at| second.is_char_boundary(at)).unwrap()]);
    let pack = |output: &str, threads: &str| {
        let texts = ["--text", "calibration.txt", "--held-out", "other.txt", "--threads", threads];
        let packed = pouch
            .run(&[&["pack", "original.gguf", "-o", output, "--bits", "5.6", "--json"][..], &texts].concat());
        assert_eq!((packed.code, &*packed.stderr), (Some(0), ""), "nothing is told when piped");
        serde_json::from_str::<serde_json::Value>(&packed.stdout).unwrap()
    };
    let object = pack("one.gguf", "1");
    insta::assert_snapshot!(shape(&object));
    pack("two.gguf", "2");
    let [one, two] = ["one.gguf", "two.gguf"].map(|name| std::fs::read(pouch.path(name)).unwrap());
    assert!(one == two, "the same file by one thread and by two");
    let certificate = &object["certificate"];
    assert!(certificate["output"]["bits_per_weight"].as_f64().unwrap() <= 5.6);
    assert!(certificate["won_back"]["share"].as_f64().unwrap() > 0.0);
    let certified = pouch.run(&["certify", "one.gguf", "--against", "original.gguf", "--text", "other.txt"]);
    assert_eq!(certified.code, Some(0), "{}{}", certified.stdout, certified.stderr);
    assert_eq!(pouch.run(&["run", "-m", "one.gguf", "a", "-n", "3"]).code, Some(0));
}
