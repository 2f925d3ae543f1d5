//! Predictions beside measurements: `pouch probe`, then `pouch bench` and `pouch plan` of the same cells, as rows of two records:
//! speeds and memory, and what happens under a memory limit.

pub(crate) mod limits;
mod programs;
mod speeds;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use programs::Programs;
pub(crate) use programs::number;

use crate::program::cells;

/// Compare what `pouch plan` predicts with what `pouch bench` measures on this machine
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program to run
    #[arg(long, value_name = "FILE", default_value = "target/release/pouch")]
    pouch: PathBuf,

    /// Models, each a file or a name
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,

    /// Numbers of threads
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u16>,

    /// Formats of keys and values
    #[arg(long, value_name = "FORMAT,..", value_delimiter = ',', default_value = "f16,q8_0")]
    kv: Vec<String>,

    /// Prompt lengths
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "32,128,512")]
    prefill: Vec<usize>,

    /// Tokens in the context before decoding
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "0,512,2048")]
    at_context: Vec<usize>,

    /// Tokens that are decoded
    #[arg(long, value_name = "N", default_value_t = 16)]
    decode: usize,

    /// Measurements in a round, of which the middle counts
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: u16,

    /// Rounds of probe and bench, of which the best counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Memory limit of the runs that are timed, as a multiple of the memory predicted; 0 is none
    #[arg(long, value_name = "FACTOR", default_value_t = 0.0)]
    limit: f64,

    /// Instead of speeds, what happens under limits of so many times the memory predicted, and of less than what cannot be
    /// dropped; needs the rights to make a control group of version 1
    #[arg(long, value_name = "FACTOR,..", value_delimiter = ',')]
    verdicts: Vec<f64>,

    /// The folder of prepared weights, which the system has to forget before each run under a limit
    #[arg(long, value_name = "FOLDER")]
    prepared: Option<PathBuf>,

    /// The folder of the records to append to
    #[arg(long, value_name = "FOLDER", default_value = "benches/record")]
    record: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let programs = Programs { pouch: &arguments.pouch };
    let mut cases = Vec::new();
    for model in &arguments.models {
        for &threads in &arguments.threads {
            cases.extend(arguments.kv.iter().map(|kv| Case { model, threads, kv }));
        }
    }
    match &arguments.verdicts[..] {
        [] => speeds::compare(arguments, &programs, &cases)?,
        factors => cases.iter().try_for_each(|case| limits::compare(arguments, &programs, case, factors))?,
    }
    let _ = std::fs::remove_file(programs::profile_path());
    Ok(())
}

/// What all rows of a model with a team have in common.
#[derive(Clone, Copy)]
struct Case<'a> {
    model: &'a str,
    threads: u16,
    kv: &'a str,
}

impl Case<'_> {
    /// How the programs are asked for it.
    fn words(&self) -> [String; 5] {
        let threads = self.threads.to_string();
        [self.model, "--threads", &threads, "--kv", self.kv].map(str::to_owned)
    }

    /// The first cells of a row.
    fn cells(&self, cpu: &str) -> String {
        format!("{},{}", cells(cpu, Path::new(self.model), self.threads), self.kv)
    }
}

/// Adds rows to a record, which begins with the names of its columns.
pub(crate) fn append(path: &Path, columns: &str, rows: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let head = if is_new { format!("{columns}\n") } else { String::new() };
    file.write_all((head + rows).as_bytes()).map_err(failed)
}
