//! Models larger than memory: decode speed under a limit, beside llama.cpp under the same, one after the other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::group::Group;
use crate::predictions::append;
use crate::predictions::limits::forget;
use crate::predictions::number;
use crate::program::{Common, ask};

const COLUMNS: &str = "date,cpu,model,threads,limit_bytes,resident,decode_tok_s,peer,peer_decode_tok_s,streamed_bytes,direct_gb_s,draft_model,tokens_a_pass";

/// What is asked with a draft model: an answer as assistants give them, partly text and partly code.
const QUESTION: &str = "Write a Python class for a stack with push, pop, peek and size, and explain in a few sentences how to use it.";

/// How direct reads are measured that do nothing else: so many at a time, each of so many bytes, of so many of the file's first.
const READERS: usize = 4;
const PIECE_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 1 << 30;

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

    /// A smaller model that drafts; an answer to a question is then measured, which random weights have none to
    #[arg(long, value_name = "FILE")]
    draft_model: Option<PathBuf>,

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
        let before = direct_rate(&common.model)?;
        let Ours { tok_s, resident, tokens_a_pass } = match &arguments.draft_model {
            None => ours(arguments)?,
            Some(draft_model) => drafted(arguments, draft_model)?,
        };
        let direct = (before + direct_rate(&common.model)?) / 2.0;
        let streamed = streamed_bytes(&common.model, &resident)?;
        let mut row = format!("{head},{limit},{resident},{tok_s:.3},");
        if let Some(peer) = &common.llama_bench {
            forget()?;
            row += &format!("llama.cpp,{:.3}", llama(arguments, peer)?);
        } else {
            row += ",";
        }
        let draft_model = arguments.draft_model.as_deref().and_then(Path::file_stem).unwrap_or_default();
        row += &format!(",{streamed:.0},{direct:.3},{},{tokens_a_pass:.2}", draft_model.to_string_lossy());
        eprintln!("{row}: {:.0} % of what storage gives", streamed * tok_s / tokens_a_pass / direct / 1e7);
        append(&common.record.join("streaming.csv"), COLUMNS, &format!("{row}\n"))?;
    }
    Ok(())
}

/// What Pouch did.
struct Ours {
    tok_s: f64,
    /// Layers or experts that stayed.
    resident: String,
    tokens_a_pass: f64,
}

impl Ours {
    /// From what a command says of its residency.
    fn new(tok_s: &Value, residency: &Value, tokens_a_pass: f64) -> Result<Ours, String> {
        let resident = &residency["resident"];
        let resident = resident.as_u64().map_or_else(|| "all".to_owned(), |count| count.to_string());
        Ok(Ours { tok_s: number(tok_s)?, resident, tokens_a_pass })
    }
}

/// An answer with drafts.
fn drafted(Arguments { common, limit, decode, .. }: &Arguments, draft_model: &Path) -> Result<Ours, String> {
    let numbers = [decode.to_string(), common.threads.to_string()];
    let group = Group::new(*limit)?;
    let mut command = group.command(&common.pouch);
    command.arg("run").arg("-m").arg(&common.model).arg("--draft-model").arg(draft_model);
    command.args([
        "--temperature",
        "0",
        "--json",
        "--tokens",
        &numbers[0],
        "--threads",
        &numbers[1],
        QUESTION,
    ]);
    let answer = ask(&mut command)?;
    // The first comes with the prompt.
    let decoded = number(&answer["generated_tokens"])? - 1.0;
    let passes = decoded - number(&answer["accepted_tokens"])?;
    Ours::new(&answer["decode_tok_s"], &answer["residency"], decoded / passes.max(1.0))
}

/// Tokens one by one.
fn ours(Arguments { common, limit, decode, .. }: &Arguments) -> Result<Ours, String> {
    let numbers = [decode.to_string(), common.threads.to_string()];
    let group = Group::new(*limit)?;
    let mut command = group.command(&common.pouch);
    command.arg("bench").arg(&common.model).args(["--prefill", "8", "--runs", "1", "--json"]);
    let object = ask(command.args(["--decode", &numbers[0], "--threads", &numbers[1]]))?;
    let model = &object["models"][0];
    Ours::new(&model["decode"][0]["decode_tok_s"], &model["residency"], 1.0)
}

/// Bytes that a token reads from storage, on paper: the share of the layers that do not stay. Nothing is said of mixtures, whose
/// experts come as the text wants them.
fn streamed_bytes(model: &Path, resident: &str) -> Result<f64, String> {
    let file = gguf::File::open(model).map_err(|error| error.to_string())?;
    let shape = device::Shape::new(file.metadata(), file.tensors()).map_err(|error| error.to_string())?;
    let Ok(resident) = resident.parse::<usize>() else { return Ok(0.0) };
    if shape.config.experts.is_some() {
        return Ok(0.0);
    }
    let all: u64 = shape.layers.iter().map(device::LayerShape::bytes).sum();
    Ok(all as f64 * (1.0 - resident as f64 / shape.layers.len() as f64))
}

/// GB/s of direct reads that do nothing else.
fn direct_rate(model: &Path) -> Result<f64, String> {
    let file = gguf::DirectFile::open(model).map_err(|error| error.to_string())?;
    let pieces = (file.len() as usize).min(READ_BYTES) / PIECE_BYTES;
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let read = || -> Result<(), String> {
        let mut buffer = gguf::DirectBuffer::new(PIECE_BYTES).map_err(|error| error.to_string())?;
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(());
            }
            file.read_at((piece * PIECE_BYTES) as u64, &mut buffer).map_err(|error| error.to_string())?;
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().map_err(|_| "a reader panicked".to_owned())?)
    })?;
    Ok((pieces * PIECE_BYTES) as f64 / start.elapsed().as_secs_f64() / 1e9)
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
