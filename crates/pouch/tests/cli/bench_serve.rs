//! `pouch bench-serve`: loads arrive at a server of its own and of another engine's, and what requests waited is told.

use crate::support::Pouch;

/// The other engine: it takes llama-server's options and is this program.
fn write_peer(pouch: &Pouch) {
    use std::os::unix::fs::PermissionsExt;

    let script = "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --model) model=$2;; --port) port=$2;; esac; shift; done\n\
                  exec POUCH serve \"$model\" --port \"$port\" --threads 1 --context 9216 --data peer\n";
    pouch.write("peer.sh", script.replace("POUCH", env!("CARGO_BIN_EXE_pouch")));
    std::fs::set_permissions(pouch.path("peer.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_requests_wait_is_told_beside_another_engine() {
    let pouch = Pouch::new().with("PATH", "/bin:/usr/bin");
    pouch.write_model_with("tiny.gguf", |options| options.context = 16_384);
    write_peer(&pouch);
    let output = pouch.object(&[
        "bench-serve",
        "./tiny.gguf",
        "--questions",
        "2",
        "--every",
        "0.2",
        "--mixed",
        "2",
        "--window",
        "0.5",
        "--threads",
        "1",
        "--seed",
        "3",
        "--fair",
        "--against",
        "other=./peer.sh",
        "--record",
        "record.csv",
        "--json",
    ]);
    let loads = output["loads"].as_array().unwrap();
    let names: Vec<_> =
        loads.iter().map(|load| (load["load"].as_str().unwrap(), load["server"].as_str().unwrap())).collect();
    let expected = ["idle", "busy", "burst", "mixed"]
        .map(|load| [(load, "pouch"), (load, "pouch-fair"), (load, "other")])
        .concat();
    assert_eq!(names, expected);
    for load in loads {
        let first = &load["classes"][0];
        assert_eq!((&first["class"], &first["asked"]), (&"interactive".into(), &first["ended"]), "{load}");
        let wait = &first["first_token_ms"];
        assert!(
            wait["p50"].as_f64().unwrap() > 0.0 && wait["p50"].as_f64() <= wait["max"].as_f64(),
            "{load}"
        );
    }
    let ratios = output["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 3);
    assert!(ratios.iter().all(|ratio| ratio["busy_by_idle_p99"].as_f64().unwrap() > 0.0), "{ratios:?}");
    let record = std::fs::read_to_string(pouch.path("record.csv")).unwrap();
    assert!(record.starts_with("date,cpu,") && record.lines().count() > 8, "{record}");
    assert!(
        record.contains(",pouch-fair,--threads 1 --context 9216 --prefix-cache 0 --policy fair,"),
        "{record}"
    );
}

#[test]
fn what_cannot_be_measured_is_told() {
    let pouch = Pouch::new();
    pouch.write_model("tiny.gguf");
    let mut told = String::new();
    for (arguments, code) in [
        (
            &["bench-serve", "./tiny.gguf", "--against", "./absent", "--questions", "1", "--every", "0.1"][..],
            1,
        ),
        (&["bench-serve", "./tiny.gguf", "--every", "0"], 2),
        (&["bench-serve", "./absent.gguf"], 1),
    ] {
        let ran = pouch.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", ran.stderr);
        told += &format!("# {}\n{}\n", arguments.join(" "), ran.told());
    }
    insta::assert_snapshot!(told);
}
