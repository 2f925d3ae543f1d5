//! Runs this whole suite again on every other tier of instructions that this processor has.

use std::process::Command;

use kernels::cpu::{self, Tier};

/// Set for the runs started here, to the tier that they must find.
const GUARD: &str = "POUCH_SUITE_TIER";

#[test]
fn every_tier() {
    if let Ok(tier) = std::env::var(GUARD) {
        assert_eq!(cpu::tier().name(), tier, "POUCH_ISA was not obeyed");
        return;
    }
    let own = std::env::current_exe().expect("the path of this program");
    let others = Tier::ALL.iter().filter(|tier| tier.is_available() && **tier != cpu::tier());
    for tier in others.map(|tier| tier.name()) {
        let mut command = match runner() {
            Some(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).arg(&own);
                command
            }
            None => Command::new(&own),
        };
        let output = command.env("POUCH_ISA", tier).env(GUARD, tier).output().unwrap_or_else(|error| {
            panic!(
                "{command:?} cannot start: {error}; an emulated suite needs {} to be set",
                runner_variable()
            )
        });
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "tier {tier}: {}\n{out}\n{err}", output.status);
        assert!(out.contains("test tiers::every_tier ... ok"), "tier {tier} ran other tests:\n{out}");
    }
}

/// Where cargo looks for the command that runs programs of this target, an emulator as a rule.
fn runner_variable() -> String {
    let target = match (std::env::consts::ARCH, std::env::consts::OS) {
        (arch, "linux") => {
            format!("{arch}-unknown-linux-{}", if cfg!(target_env = "musl") { "musl" } else { "gnu" })
        }
        (arch, "android") => format!("{arch}-linux-android"),
        (arch, "macos") => format!("{arch}-apple-darwin"),
        (arch, _) => format!("{arch}-pc-windows-msvc"),
    };
    format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"))
}

fn runner() -> Option<Vec<String>> {
    let words: Vec<String> =
        std::env::var(runner_variable()).ok()?.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}
