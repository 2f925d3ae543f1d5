//! Help texts, word for word.

use crate::support::Pouch;

#[test]
fn every_command_explains_itself() {
    let pouch = Pouch::new();
    for command in [
        "",
        "run",
        "chat",
        "serve",
        "pull",
        "list",
        "rm",
        "info",
        "plan",
        "probe",
        "tokenize",
        "eval",
        "import",
        "pack",
        "certify",
        "bench",
        "bench-serve",
    ] {
        let arguments = [command, "--help"];
        let ran = pouch.run(if command.is_empty() { &arguments[1..] } else { &arguments });
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let name = if command.is_empty() { "help" } else { command };
        insta::assert_snapshot!(format!("help_{name}"), ran.stdout);
    }
}

#[test]
fn the_version_is_told() {
    let ran = Pouch::new().run(&["--version"]);
    assert_eq!(ran.stdout, format!("pouch {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_command_the_help_is_shown_and_that_is_a_usage_error() {
    let ran = Pouch::new().run(&[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Usage: pouch"));
}
