//! The program, asked for its JSON objects.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::Case;
use crate::group::Group;
use crate::program::{ask, within};

pub(super) struct Programs<'a> {
    pub(super) pouch: &'a Path,
}

/// What a plan is asked for besides the case.
pub(super) struct Question<'a> {
    /// A profile's file.
    pub(super) profile: &'a Path,
    pub(super) context: usize,
    pub(super) prompt: usize,
    pub(super) at_context: usize,
    /// The program's own if `None`.
    pub(super) batch: Option<usize>,
}

impl Programs<'_> {
    /// The object that a run prints.
    pub(super) fn ask(&self, words: &[String], group: Option<&Group>) -> Result<Value, String> {
        ask(within(group, self.pouch).args(words))
    }

    /// A run, in a control group where there is one.
    pub(super) fn run(&self, words: &[String], group: Option<&Group>) -> Result<Output, String> {
        let output = within(group, self.pouch).args(words).output();
        output.map_err(|error| format!("cannot start {}: {error}", self.pouch.display()))
    }

    /// Measures the machine with these numbers of threads, and writes its profile.
    pub(super) fn probe(&self, threads: &str, profile: &Path) -> Result<Value, String> {
        let path = profile.display().to_string();
        let words = ["probe", "--no-storage", "--threads", threads, "-o", &path, "--json"];
        self.ask(&words.map(str::to_owned), None)
    }

    /// The plan of a case.
    pub(super) fn plan(&self, case: &Case<'_>, question: &Question<'_>) -> Result<Value, String> {
        let Question { profile, context, prompt, at_context, batch } = question;
        let mut words = vec!["plan".to_owned()];
        words.extend(case.words());
        words.extend(["--phone".to_owned(), profile.display().to_string(), "--json".to_owned()]);
        let numbers = [("--context", context), ("--prompt", prompt), ("--at-context", at_context)];
        for (name, value) in numbers.into_iter().chain(batch.iter().map(|batch| ("--batch", batch))) {
            words.extend([name.to_owned(), value.to_string()]);
        }
        Ok(self.ask(&words, None)?["plans"][0].clone())
    }
}

pub(crate) fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("{value} where a number was expected"))
}

/// The sum of fields.
pub(super) fn sum(value: &Value, names: &[&str]) -> Result<f64, String> {
    names.iter().map(|name| number(&value[*name])).sum()
}

/// Where profiles lie between probe and plan.
pub(super) fn profile_path() -> PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("predictions-{}.toml", std::process::id()))
}
