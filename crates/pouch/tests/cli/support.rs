//! A program to run: with folders of its own, no network, and tiny models beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::{TinyOptions, tiny_model};

/// Runs `pouch` in a folder of its own.
pub(crate) struct Pouch {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Pouch {
    pub(crate) fn new() -> Pouch {
        let folder = tempfile::tempdir().unwrap();
        let nobody = testkit::server::nobody();
        let within = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let variables = [
            ("POUCH_CACHE", within("cache")),
            ("POUCH_DATA", within("data")),
            ("HF_ENDPOINT", nobody.clone()),
            ("MODELSCOPE_DOMAIN", nobody),
        ];
        Pouch { folder, variables: variables.map(|(name, value)| (name.to_owned(), value)).to_vec() }
    }

    /// With an environment variable more.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Pouch {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Writes a tiny llama as `name` whose greedy answers are text and end only where they are made to.
    pub(crate) fn write_model(&self, name: &str) {
        self.write_model_with(name, |_| {});
    }

    /// The same with changed options.
    pub(crate) fn write_model_with(&self, name: &str, change: impl FnOnce(&mut TinyOptions)) {
        let mut options = TinyOptions::new("llama");
        options.endless = true;
        change(&mut options);
        tiny_model(&options).write(&self.path(name));
    }

    /// The command, with an environment that holds nothing else, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pouch"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        // On Windows a process without this one cannot open sockets.
        command.envs(std::env::vars_os().filter(|(name, _)| name == "SystemRoot"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.ran(self.command(arguments).output().unwrap())
    }

    /// With a text on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let file = self.path("input.txt");
        std::fs::write(&file, input).unwrap();
        let input = std::fs::File::open(file).unwrap();
        self.ran(self.command(arguments).stdin(input).output().unwrap())
    }

    /// Turns what a process left into text, with this folder's path as `[folder]`.
    pub(crate) fn ran(&self, output: Output) -> Ran {
        let folder = self.folder.path().to_str().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder, "[folder]");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs with `--json` and reads the object.
    pub(crate) fn object(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }
}

impl Ran {
    /// Everything in one text, for a snapshot: exit code, output, messages, with figures as `N`.
    pub(crate) fn told(&self) -> String {
        let code = self.code.map_or("by a signal".to_owned(), |code| code.to_string());
        let part = |name: &str, text: &str| match text.is_empty() {
            true => String::new(),
            false => format!("--- {name}\n{}", without_figures(text)),
        };
        format!("exit {code}\n{}{}", part("output", &self.stdout), part("messages", &self.stderr))
    }
}

/// Every number that stands alone as `N` (ports, sizes, speeds); digits in names stay.
pub(crate) fn without_figures(text: &str) -> String {
    let of_a_word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| of_a_word(c) != of_a_word(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let number = word.trim_end_matches('.');
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        out.push_str(if is_number { "N" } else { number });
        out.push_str(&word[number.len()..]);
        rest = after;
    }
    out
}

/// A file's path as an argument.
pub(crate) fn argument(path: &Path) -> &str {
    path.to_str().unwrap()
}
