//! Models larger than memory: decode speed under a limit, beside llama.cpp under the same, one after the other.

use std::path::Path;

use crate::group::Group;
use crate::predictions::append;
use crate::predictions::limits::forget;
use crate::program::{Common, ask};

const COLUMNS: &str = "date,cpu,model,threads,limit_bytes,resident,decode_tok_s,peer,peer_decode_tok_s";

/// Measure decode speed under a memory limit, beside llama.cpp's llama-bench under the same
#[derive(clap::Args)]
#[command(after_help = "Needs the rights to make a control group of version 1.\n\nExample:\n  \
    develop streaming qwen3-8b.gguf --limit 3221225472 --llama-bench bin/llama-bench --prepared ~/.cache/pouch/derived")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,

    /// Memory limit in bytes
    #[arg(long, value_name = "BYTES")]
    limit: u64,

    /// Tokens that are decoded, and those that llama.cpp decodes
    #[arg(long, value_name = "N", default_value_t = 12)]
    decode: usize,

    /// See `decode`
    #[arg(long, value_name = "N", default_value_t = 3)]
    peer_decode: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let Arguments { common, limit, .. } = arguments;
    let (head, forget) = (common.cells(), || forget(&common.model, &common.prepared));
    for _ in 0..common.rounds {
        forget()?;
        let (tok_s, resident) = ours(arguments)?;
        let mut row = format!("{head},{limit},{resident},{tok_s:.3},");
        if let Some(peer) = &common.llama_bench {
            forget()?;
            row += &format!("llama.cpp,{:.3}", llama(arguments, peer)?);
        } else {
            row += ",";
        }
        eprintln!("{row}");
        append(&common.record.join("streaming.csv"), COLUMNS, &format!("{row}\n"))?;
    }
    Ok(())
}

/// Tokens a second, and the layers or experts that stayed.
fn ours(Arguments { common, limit, decode, .. }: &Arguments) -> Result<(f64, String), String> {
    let numbers = [decode.to_string(), common.threads.to_string()];
    let group = Group::new(*limit)?;
    let mut command = group.command(&common.pouch);
    command.arg("bench").arg(&common.model).args(["--prefill", "8", "--runs", "1", "--json"]);
    let object = ask(command.args(["--decode", &numbers[0], "--threads", &numbers[1]]))?;
    let model = &object["models"][0];
    let tok_s = model["decode"][0]["decode_tok_s"].as_f64();
    let resident = &model["residency"]["resident"];
    let resident = resident.as_u64().map_or_else(|| "all".to_owned(), |count| count.to_string());
    Ok((tok_s.ok_or_else(|| format!("no speed in {object}"))?, resident))
}

/// Tokens a second of llama.cpp, which repacks weights into memory unless it is told not to, and is killed then.
fn llama(Arguments { common, limit, peer_decode, .. }: &Arguments, program: &Path) -> Result<f64, String> {
    let numbers = [peer_decode.to_string(), common.threads.to_string()];
    let group = Group::new(*limit)?;
    let mut command = group.command(program);
    command.arg("-m").arg(&common.model).args(["-p", "0", "-r", "1", "--repack", "0", "-o", "json"]);
    let object = ask(command.args(["-n", &numbers[0], "-t", &numbers[1]]))?;
    object[0]["avg_ts"].as_f64().ok_or_else(|| format!("no speed in {object}"))
}
