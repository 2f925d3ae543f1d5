//! `pouch bench`: what it tells, what it asks of another engine, what it records. No time is held to anything.

use serde_json::Value;

use crate::objects::shape;
use crate::support::Pouch;

const SIZES: [&str; 6] = ["--prefill", "16", "--decode", "4", "--runs", "1"];

fn bench<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["bench", "tiny.gguf"][..], &SIZES, more].concat()
}

/// The object's names and kinds, with null for what only some systems tell: energy and memory.
fn portable_shape(mut object: Value) -> String {
    for model in object["models"].as_array_mut().unwrap() {
        assert!(model["memory"].is_object() || cfg!(not(target_os = "linux")));
        model["memory"].take();
        for phase in ["prefill", "decode"] {
            for result in model[phase].as_array_mut().unwrap() {
                let joules = result["joules_per_token"].take();
                assert!(joules.is_null() || joules.as_f64().unwrap() >= 0.0);
            }
        }
    }
    shape(&object)
}

#[test]
fn speeds_stand_beside_the_machines_limits() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let object = pouch.object(&bench(&["--json", "--threads", "1,2", "--at-context", "0,20"]));
    insta::assert_snapshot!("speeds", portable_shape(object.clone()));
    let models = object["models"].as_array().unwrap();
    assert_eq!((models.len(), &models[0]["threads"], &models[1]["threads"]), (2, &1.into(), &2.into()));
    for model in models {
        assert_eq!(model["prefill"][0]["tokens"], 16);
        assert_eq!(model["decode"][1]["at_context"], 20);
        for decode in model["decode"].as_array().unwrap() {
            let figure = |name: &str| decode[name].as_f64().unwrap();
            assert!(figure("weights_gb_s") > 0.0);
            assert!(figure("weights_and_kv_gb_s") > figure("weights_gb_s"));
            let product = figure("decode_tok_s") * figure("ms_per_token");
            assert!((product - 1000.0).abs() < 1e-6, "{product}");
            let bytes = model["weights_bytes"].as_f64().unwrap() * figure("decode_tok_s");
            assert!((figure("weights_gb_s") / (bytes / 1e9) - 1.0).abs() < 1e-6);
        }
    }
    // The keys and values of one more position: 2 layers of 2 heads of 16 values each, 2 bytes a value.
    let kv_bytes = |decode: &Value| {
        let figure = |name: &str| decode[name].as_f64().unwrap();
        (figure("weights_and_kv_gb_s") - figure("weights_gb_s")) * figure("ms_per_token") * 1e6
    };
    let more = kv_bytes(&models[0]["decode"][1]) - kv_bytes(&models[0]["decode"][0]);
    assert!((more / (20.0 * 256.0) - 1.0).abs() < 0.02, "{more}");
    if cfg!(target_os = "linux") {
        let memory = &models[0]["memory"];
        assert_eq!(memory["context"], 24);
        let bytes = |name: &str| memory[name].as_u64().unwrap();
        assert!(bytes("anonymous_bytes") > 0 && bytes("resident_bytes") > bytes("anonymous_bytes"));
    }
}

#[test]
fn a_pass_that_checks_drafts_stands_beside_a_token() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let more = ["--json", "--threads", "1", "--at-context", "20,0", "--verify", "4,8"];
    let object = pouch.object(&bench(&more));
    let model = &object["models"][0];
    for (verify, tokens) in model["verify"].as_array().unwrap().iter().zip([4, 8]) {
        assert_eq!((&verify["tokens"], &verify["at_context"]), (&tokens.into(), &20.into()));
        let (pass, times) =
            (verify["pass_ms"].as_f64().unwrap(), verify["times_one_token"].as_f64().unwrap());
        // One round: the ratio is that of the two figures.
        let token = model["decode"][0]["ms_per_token"].as_f64().unwrap();
        assert!((pass / token / times - 1.0).abs() < 1e-6, "{pass} {token} {times}");
    }
    let alone =
        pouch.object(&["bench", "tiny.gguf", "--decode", "0", "--verify", "2", "--runs", "1", "--json"]);
    assert_eq!(alone["models"][0]["verify"][0]["times_one_token"], Value::Null);
    let ran = pouch.run(&bench(&["--threads", "1", "--verify", "4"]));
    assert!(ran.stdout.lines().any(|line| line.starts_with("  verify ") && line.contains("times one token")));
}

#[test]
fn for_people_it_is_lines_and_nothing_is_said_into_a_pipe() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let ran = pouch.run(&bench(&["--threads", "1"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.lines().nth(1), Some("tiny.gguf, 1 thread"));
    for (start, unit) in [("  prefill ", " tok/s "), ("  decode ", " GB/s "), ("  first token ", " ms ")] {
        assert!(
            ran.stdout.lines().any(|line| line.starts_with(start) && line.contains(unit)),
            "{start}: {}",
            ran.stdout
        );
    }
}

/// A program in the place of llama-bench.
#[cfg(unix)]
mod against {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Writes a shell script that can be run.
    fn script(pouch: &Pouch, name: &str, lines: &str) {
        pouch.write(name, format!("#!/bin/sh\n{lines}\n"));
        std::fs::set_permissions(pouch.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Answers what it is asked for, each token taking a hundredth of a second, and keeps what that was.
    const ANSWERS: &str = r#"
echo "$@" >> asked
echo "a log" >&2
depths=0
while [ $# -gt 0 ]; do
    case "$1" in
        -p) prompts=$2 ;; -n) generated=$2 ;; -d) depths=$2 ;;
    esac
    shift 2
done
comma=""
echo "["
for p in $(echo $prompts | tr , ' '); do for n in $(echo $generated | tr , ' '); do for d in $(echo $depths | tr , ' '); do
    echo "$comma{\"build_commit\": \"abc123\", \"build_number\": 7, \"n_prompt\": $p, \"n_gen\": $n, \"n_depth\": $d,"
    echo "\"avg_ts\": 100.0, \"samples_ns\": [1]}"
    comma=,
done; done; done
echo "]""#;

    #[test]
    fn the_other_engine_does_the_same_in_every_round() {
        let pouch = Pouch::new().with("PATH", "/usr/bin:/bin");
        pouch.write_model("tiny.gguf");
        script(&pouch, "llama-bench", ANSWERS);
        let sizes = ["bench", "tiny.gguf", "--prefill", "16,8", "--decode", "4", "--at-context", "0,20"];
        let more =
            ["--runs", "2", "--threads", "1", "--kv", "f16", "--against", "peer=./llama-bench", "--json"];
        let object = pouch.object(&[&sizes[..], &more].concat());
        insta::assert_snapshot!("against", portable_shape(object.clone()));
        assert_eq!(object["against"]["name"], "peer");
        assert_eq!(object["against"]["version"], "7 (abc123)");
        let model = &object["models"][0];
        let results = [
            (&model["prefill"][0], "prefill_tok_s"),
            (&model["prefill"][1], "prefill_tok_s"),
            (&model["decode"][0], "decode_tok_s"),
            (&model["decode"][1], "decode_tok_s"),
        ];
        for (result, ours) in results {
            let against = |name: &str| result["against"][name].as_f64().unwrap();
            assert_eq!(against("tok_s"), 100.0);
            assert!((against("ratio") / (result[ours].as_f64().unwrap() / 100.0) - 1.0).abs() < 1e-9);
            assert!(against("ratio_min") <= against("ratio") && against("ratio") <= against("ratio_max"));
        }
        let asked = std::fs::read_to_string(pouch.path("asked")).unwrap();
        let common = "-m tiny.gguf -t 1 -fa 1 -r 1 -o json";
        let meeting = format!("{common} -p 1 -n 0\n");
        let round = format!("{common} -p 8,16 -n 0\n{common} -p 0 -n 4 -d 0,20\n");
        assert_eq!(asked, meeting + &round + &round);
    }

    #[test]
    fn a_quantized_cache_is_asked_of_the_other_engine_too() {
        let pouch = Pouch::new().with("PATH", "/usr/bin:/bin");
        pouch.write_model_with("tiny.gguf", |options| options.head_dim = 32);
        script(&pouch, "llama-bench", ANSWERS);
        let object = pouch.object(&bench(&["--kv", "q8_0", "--against", "./llama-bench", "--json"]));
        assert_eq!(object["against"]["name"], "llama-bench");
        assert_eq!(object["against"]["flags"], "-fa 1 -ctk q8_0 -ctv q8_0");
    }

    #[test]
    fn programs_that_cannot_be_measured_are_told_apart() {
        let pouch = Pouch::new().with("PATH", "/usr/bin:/bin");
        pouch.write_model("tiny.gguf");
        script(&pouch, "fails", "echo 'loading' >&2; echo 'error: unknown model architecture' >&2; exit 3");
        script(&pouch, "chats", "echo 'Hello, how can I help you?'");
        script(&pouch, "idles", "echo '[]'");
        let mut told = String::new();
        for program in ["./absent", "./fails", "./chats", "./idles", "."] {
            let ran = pouch.run(&bench(&["--against", program]));
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{program}");
            told += &format!("# {program}\n{}\n", ran.told());
        }
        insta::assert_snapshot!("peers_that_fail", told);
    }

    #[test]
    fn a_record_grows_by_a_row_for_every_round() {
        let pouch = Pouch::new().with("PATH", "/usr/bin:/bin");
        pouch.write_model("tiny.gguf");
        script(&pouch, "llama-bench", ANSWERS);
        let recorded = ["--threads", "1", "--record", "record.csv"];
        pouch.object(&bench(&[&recorded[..], &["--json"]].concat()));
        let sizes = ["bench", "tiny.gguf", "--prefill", "16", "--decode", "4", "--runs", "3", "--json"];
        pouch.object(&[&sizes[..], &recorded, &["--against", "./llama-bench"]].concat());
        let record = std::fs::read_to_string(pouch.path("record.csv")).unwrap();
        let rows: Vec<Vec<&str>> = record.lines().map(|line| line.split(',').collect()).collect();
        insta::assert_snapshot!("record_columns", record.lines().next().unwrap());
        // Processor names with commas are quoted; all else is one cell a column.
        let column = |name: &str| rows[0].iter().rev().position(|column| *column == name).unwrap();
        let cells =
            |name: &str| rows[1..].iter().map(|row| row[row.len() - 1 - column(name)]).collect::<Vec<&str>>();
        assert_eq!(
            cells("phase"),
            ["prefill", "decode", "prefill", "prefill", "prefill", "decode", "decode", "decode"]
        );
        assert_eq!(cells("round"), ["1", "1", "1", "2", "3", "1", "2", "3"]);
        assert_eq!(cells("model"), ["tiny"; 8]);
        assert_eq!(cells("peer")[..3], ["", "", "llama-bench 7 (abc123)"]);
        assert_eq!(cells("peer_tok_s")[1..3], ["", "100.0"]);
        assert!(cells("tok_s").iter().all(|cell| cell.parse::<f64>().unwrap() > 0.0));
        assert!(rows[1..].iter().all(|row| row[0].len() == "2026-01-01".len() && row[0].starts_with("20")));
    }
}

#[test]
fn a_file_that_is_no_record_is_left_alone() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    pouch.write("notes.txt", "my notes\n");
    let ran = pouch.run(&bench(&["--record", "notes.txt"]));
    insta::assert_snapshot!("record_refused", ran.told());
    assert_eq!(std::fs::read_to_string(pouch.path("notes.txt")).unwrap(), "my notes\n");
}
