//! Models larger than memory: decode speed under a limit, beside llama.cpp under the same, one after the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use device::machine::Machine;
use serde_json::Value;

use crate::group::Group;
use crate::predictions::append;
use crate::predictions::limits::forget;

const COLUMNS: &str = "date,cpu,model,threads,limit_bytes,resident,decode_tok_s,peer,peer_decode_tok_s";

/// Measure decode speed under a memory limit, beside llama.cpp's llama-bench under the same
#[derive(clap::Args)]
#[command(after_help = "Needs the rights to make a control group of version 1.\n\nExample:\n  \
    develop streaming qwen3-8b.gguf --limit 3221225472 --llama-bench bin/llama-bench --prepared ~/.cache/pouch/derived")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,

    /// Memory limit in bytes
    #[arg(long, value_name = "BYTES")]
    limit: u64,

    /// llama.cpp's program; nothing beside if it is left out
    #[arg(long, value_name = "FILE")]
    llama_bench: Option<PathBuf>,

    /// The folder of prepared weights, which the system has to forget before each run
    #[arg(long, value_name = "FOLDER")]
    prepared: PathBuf,

    /// Tokens that are decoded, and those that llama.cpp decodes
    #[arg(long, value_name = "N", default_value_t = 12)]
    decode: usize,

    /// See `decode`
    #[arg(long, value_name = "N", default_value_t = 3)]
    peer_decode: usize,

    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: u16,

    /// Rounds, a row of the record each
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u16,

    /// The program to run
    #[arg(long, value_name = "FILE", default_value = "target/release/pouch")]
    pouch: PathBuf,

    /// The folder of the record to append to
    #[arg(long, value_name = "FOLDER", default_value = "benches/record")]
    record: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let Arguments { model, limit, threads, .. } = arguments;
    let date = text::format_time(std::time::SystemTime::now(), "%F");
    let (cpu, name) = (Machine::this().cpu, model.file_stem().unwrap_or_default().to_string_lossy());
    for _ in 0..arguments.rounds {
        forget(model, &arguments.prepared)?;
        let (tok_s, resident) = ours(arguments)?;
        let mut row =
            format!("{date},\"{}\",{name},{threads},{limit},{resident},{tok_s:.3},", cpu.replace('"', ""));
        if let Some(peer) = &arguments.llama_bench {
            forget(model, &arguments.prepared)?;
            row += &format!("llama.cpp,{:.3}", llama(arguments, peer)?);
        } else {
            row += ",";
        }
        eprintln!("{row}");
        append(&arguments.record.join("streaming.csv"), COLUMNS, &format!("{row}\n"))?;
    }
    Ok(())
}

/// Tokens a second, and the layers or experts that stayed.
fn ours(arguments: &Arguments) -> Result<(f64, String), String> {
    let numbers = [arguments.decode.to_string(), arguments.threads.to_string()];
    let group = Group::new(arguments.limit)?;
    let mut command = group.command(&arguments.pouch);
    command.arg("bench").arg(&arguments.model).args(["--prefill", "8", "--runs", "1", "--json"]);
    let object = ask(command.args(["--decode", &numbers[0], "--threads", &numbers[1]]))?;
    let model = &object["models"][0];
    let tok_s = model["decode"][0]["decode_tok_s"].as_f64();
    let resident = &model["residency"]["resident"];
    let resident = resident.as_u64().map_or_else(|| "all".to_owned(), |count| count.to_string());
    Ok((tok_s.ok_or_else(|| format!("no speed in {object}"))?, resident))
}

/// Tokens a second of llama.cpp, which repacks weights into memory unless it is told not to, and is killed then.
fn llama(arguments: &Arguments, program: &Path) -> Result<f64, String> {
    let numbers = [arguments.peer_decode.to_string(), arguments.threads.to_string()];
    let group = Group::new(arguments.limit)?;
    let mut command = group.command(program);
    command.arg("-m").arg(&arguments.model).args(["-p", "0", "-r", "1", "--repack", "0", "-o", "json"]);
    let object = ask(command.args(["-n", &numbers[0], "-t", &numbers[1]]))?;
    object[0]["avg_ts"].as_f64().ok_or_else(|| format!("no speed in {object}"))
}

fn ask(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}
