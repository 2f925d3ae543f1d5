//! From starting the program to the first token of an answer: with files that the system has in memory and without, under memory
//! limits, beside llama.cpp under the same, one after the other.

use std::path::Path;
use std::time::Instant;

use crate::group::Group;
use crate::predictions::append;
use crate::predictions::limits::forget;
use crate::program::{Common, ask, within};

const COLUMNS: &str = "date,cpu,model,threads,limit_bytes,files,seconds,load_ms,streams,peer,peer_seconds";

/// A question of about so many tokens.
const PROMPT_TOKENS: usize = 18;
const PROMPT: &str = "Write a function that adds two numbers, and tell in a sentence what it does.";

/// Measure the time from starting the program to the first token, under memory limits, beside llama.cpp
#[derive(clap::Args)]
#[command(after_help = "Needs the rights to make a control group of version 1.\n\nExample:\n  \
    develop starts model.gguf --limits 0,900000000,500000000 --llama-bench bin/llama-bench --prepared ~/.cache/pouch/derived")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,

    /// Memory limits in bytes; 0 is none
    #[arg(long, value_name = "BYTES,..", value_delimiter = ',', default_value = "0")]
    limits: Vec<u64>,
}

pub(crate) fn run(Arguments { common, limits }: &Arguments) -> Result<(), String> {
    let (head, forget) = (common.cells(), || forget(&common.model, &common.prepared));
    for &limit in limits {
        for _ in 0..common.rounds {
            // Who runs second finds nothing that the first has left.
            forget()?;
            let ours = [ours(common, limit)?, ours(common, limit)?];
            let peers = match &common.llama_bench {
                Some(program) => {
                    forget()?;
                    [llama(common, program, limit)?, llama(common, program, limit)?].map(Some)
                }
                None => [None; 2],
            };
            let mut lines = String::new();
            for ((files, start), peer) in ["cold", "warm"].into_iter().zip(ours).zip(peers) {
                let Start { seconds, load_ms, streams } = start;
                let peer = match peer {
                    None => ",".to_owned(),
                    Some(None) => "llama.cpp,failed".to_owned(),
                    Some(Some(seconds)) => format!("llama.cpp,{seconds:.3}"),
                };
                lines += &format!("{head},{limit},{files},{seconds:.3},{load_ms:.0},{streams},{peer}\n");
            }
            eprint!("{lines}");
            append(&common.record.join("starts.csv"), COLUMNS, &lines)?;
        }
    }
    Ok(())
}

struct Start {
    /// Of the whole run: it ends with the first token.
    seconds: f64,
    /// Of these, finding and opening the model.
    load_ms: f64,
    streams: bool,
}

fn ours(common: &Common, limit: u64) -> Result<Start, String> {
    let threads = common.threads.to_string();
    let group = group(limit)?;
    let mut command = within(group.as_ref(), &common.pouch);
    command.args(["run", "--raw", "--json", "--temperature", "0", "-n", "1", "--threads", &threads, "-m"]);
    let start = Instant::now();
    let answer = ask(command.arg(&common.model).arg(PROMPT))?;
    let seconds = start.elapsed().as_secs_f64();
    let load_ms = answer["load_ms"].as_f64().ok_or_else(|| format!("no time in {answer}"))?;
    Ok(Start { seconds, load_ms, streams: answer["residency"]["streams"] == true })
}

/// Seconds of llama.cpp's run, `None` if it did not end well: under a limit it may be killed. It takes as many tokens without
/// reading them from text.
fn llama(common: &Common, program: &Path, limit: u64) -> Result<Option<f64>, String> {
    let threads = common.threads.to_string();
    let group = group(limit)?;
    let mut command = within(group.as_ref(), program);
    // Under a limit it may not copy weights, or it is killed.
    let repack = if limit > 0 { "0" } else { "1" };
    command.args(["-p", &PROMPT_TOKENS.to_string(), "-n", "0", "-r", "1", "--no-warmup", "--repack", repack]);
    command.args(["-t", &threads, "-o", "json", "-m"]).arg(&common.model);
    let start = Instant::now();
    let output = command.output();
    let seconds = start.elapsed().as_secs_f64();
    Ok(output.map_err(|error| format!("{command:?}: {error}"))?.status.success().then_some(seconds))
}

fn group(limit: u64) -> Result<Option<Group>, String> {
    (limit > 0).then(|| Group::new(limit)).transpose()
}
