//! Another engine, doing the same in the same minutes: a program with the options and the JSON of llama-bench, as
//! llama.cpp and ik_llama.cpp have it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::KvType;
use serde::{Deserialize, Serialize};

use super::measure::{Phase, Test};
use crate::errors::Failure;

/// The other program.
pub(super) struct Peer {
    name: String,
    program: PathBuf,
    kv: KvType,
    version: Option<String>,
}

/// What a result says of the other engine.
#[derive(Serialize)]
pub(super) struct Introduction {
    /// The engine's name, as it was given.
    pub(super) name: String,
    pub(super) program: String,
    /// Build number and commit, as it states them.
    pub(super) version: String,
    /// The options it gets besides model, threads, sizes and output.
    pub(super) flags: String,
}

/// One element of its JSON; the names are its own. ik_llama.cpp knows no depth.
#[derive(Deserialize)]
struct Entry {
    build_commit: String,
    build_number: i64,
    n_prompt: usize,
    n_gen: usize,
    #[serde(default)]
    n_depth: usize,
    avg_ts: f64,
}

/// Name and path of a program given as `PROGRAM`, whose file's name it then goes by, or `NAME=PROGRAM`.
pub(in crate::commands) fn named(program: &str) -> (String, PathBuf) {
    let named = program.split_once('=').filter(|(name, _)| !name.contains(std::path::is_separator));
    let file_name = || Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
    match named {
        Some((name, program)) => (name.to_owned(), program.into()),
        None => (file_name().unwrap_or_default(), program.into()),
    }
}

impl Peer {
    /// From `PROGRAM`, which then is the name too, or `NAME=PROGRAM`.
    pub(super) fn new(program: &str, kv: KvType) -> Peer {
        let (name, program) = named(program);
        Peer { name, program, kv, version: None }
    }

    /// Its best attention, and our format of keys and values.
    fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec!["-fa", "1"];
        if self.kv != KvType::F16 {
            flags.extend(["-ctk", self.kv.name(), "-ctv", self.kv.name()]);
        }
        flags
    }

    /// Who it is: a tiny run, so that what cannot work ends before anything is measured.
    pub(super) fn meet(&mut self, model: &Path, threads: usize) -> Result<(), Failure> {
        self.run(model, threads, &[Test { phase: Phase::Prefill, tokens: 1, at_context: 0 }]).map(drop)
    }

    /// Name and version.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name, self.version.as_deref().unwrap_or_default())
    }

    pub(super) fn flags_line(&self) -> String {
        self.flags().join(" ")
    }

    pub(super) fn introduce(self) -> Option<Introduction> {
        let (program, flags) = (self.program.display().to_string(), self.flags_line());
        Some(Introduction { name: self.name, program, version: self.version?, flags })
    }

    /// Tokens a second in each of the tests, which are of one phase.
    pub(super) fn run(&mut self, model: &Path, threads: usize, tests: &[Test]) -> Result<Vec<f64>, Failure> {
        let sizes = |size: fn(&Test) -> usize| {
            let mut sizes: Vec<usize> = tests.iter().map(size).collect();
            sizes.sort_unstable();
            sizes.dedup();
            sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
        };
        let tokens = sizes(|test| test.tokens);
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(model).arg("-t").arg(threads.to_string()).args(self.flags());
        command.args(["-r", "1", "-o", "json"]);
        match tests.first().map(|test| test.phase) {
            Some(Phase::Decode) => command.args(["-p", "0", "-n", &tokens]),
            _ => command.args(["-p", &tokens, "-n", "0"]),
        };
        if tests.iter().any(|test| test.at_context > 0) {
            command.args(["-d", &sizes(|test| test.at_context)]);
        }
        let entries = self.entries(&mut command)?;
        let of = |test: &Test| {
            let (prompt, generated) = match test.phase {
                Phase::Prefill | Phase::Verify => (test.tokens, 0),
                Phase::Decode => (0, test.tokens),
            };
            let same = |entry: &&Entry| {
                (entry.n_prompt, entry.n_gen, entry.n_depth) == (prompt, generated, test.at_context)
                    && entry.avg_ts > 0.0
            };
            let found = entries.iter().find(same);
            found.map(|entry| entry.avg_ts).ok_or_else(|| {
                self.failure(format!(
                    "gave no speed for {prompt} tokens of prompt and {generated} decoded at {}",
                    test.at_context
                ))
            })
        };
        let speeds = tests.iter().map(of).collect();
        self.version =
            entries.first().map(|entry| format!("{} ({})", entry.build_number, entry.build_commit));
        speeds
    }

    fn entries(&self, command: &mut Command) -> Result<Vec<Entry>, Failure> {
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| self.failure(format!("cannot be started: {error}")))?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr);
            let last = messages.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
            return Err(self.failure(format!("ended with {}: {}", output.status, last.trim())));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            self.failure(format!("did not print what `llama-bench -o json` prints: {error}"))
        })
    }

    fn failure(&self, problem: String) -> Failure {
        Failure::Peer { program: self.program.clone(), problem }
    }
}
