//! The program that is measured: where it is, what all measurements of it are told, and its answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use device::machine::Machine;
use serde_json::Value;

use crate::group::Group;

/// What measurements of one model under memory limits have in common.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The model's file
    pub(crate) model: PathBuf,

    /// llama.cpp's llama-bench; nothing beside if it is left out
    #[arg(long, value_name = "FILE")]
    pub(crate) llama_bench: Option<PathBuf>,

    /// The folder of prepared weights, which the system has to forget before it is measured what reading them takes
    #[arg(long, value_name = "FOLDER")]
    pub(crate) prepared: PathBuf,

    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: u16,

    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: u16,

    /// The program to run
    #[arg(long, value_name = "FILE", default_value = "target/release/pouch")]
    pub(crate) pouch: PathBuf,

    /// The folder of the record to append to
    #[arg(long, value_name = "FOLDER", default_value = "benches/record")]
    pub(crate) record: PathBuf,
}

impl Common {
    /// The first cells of a row: date, processor, model, threads.
    pub(crate) fn cells(&self) -> String {
        cells(&Machine::this().cpu, &self.model, self.threads)
    }
}

/// The first cells of a row of today.
pub(crate) fn cells(cpu: &str, model: &Path, threads: u16) -> String {
    let date = text::format_time(std::time::SystemTime::now(), "%F");
    let model = model.file_stem().unwrap_or_default().to_string_lossy();
    format!("{date},\"{}\",{model},{threads}", cpu.replace('"', ""))
}

/// A program, in a control group where there is one.
pub(crate) fn within(group: Option<&Group>, program: &Path) -> Command {
    match group {
        Some(group) => group.command(program),
        None => Command::new(program),
    }
}

/// The object that a run prints.
pub(crate) fn ask(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}
