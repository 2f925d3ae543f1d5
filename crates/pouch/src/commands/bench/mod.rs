//! `pouch bench`: how fast a model runs here, beside how fast this machine could run it, and beside another engine.

pub(super) mod figures;
mod measure;
pub(super) mod peer;
mod record;

use std::path::PathBuf;

use device::default_threads;
use device::machine::Machine;
use kernels::Team;
use model::KvType;

use crate::commands::MODEL_HELP;
use crate::csv::Record;
use crate::errors::Failure;
use crate::generation::Kv;
use crate::memory::MEMORY_HELP;
use crate::printer::Printer;
use crate::units;
use figures::Output;
use measure::{Phase, Test};
use peer::Peer;

/// Measure prefill and decode speed, beside the limits of this machine
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", default_value = hub::DEFAULT_MODEL, help = MODEL_HELP)]
    models: Vec<String>,

    /// Prompt lengths to measure prefill with, in tokens
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "512")]
    prefill: Vec<usize>,

    /// Tokens to decode, one after another
    #[arg(long, value_name = "N", default_value_t = 128)]
    decode: usize,

    /// Tokens that are in the context already when decoding starts
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "0")]
    at_context: Vec<usize>,

    /// Tokens to compute in one pass with logits for all, as drafts are checked; at the first of the contexts
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    verify: Vec<usize>,

    /// How many rounds are measured, after one that does not count; figures are their medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    /// Threads to compute with, one count after another [default: the fast cores this process may use]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,

    /// Number format of the keys and values kept for the context
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Kv::F16)]
    kv: Kv,

    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes, help = MEMORY_HELP)]
    memory: Option<u64>,

    /// Let another engine do the same in every round: a program with the options and the JSON of llama-bench
    #[arg(long, value_name = "[NAME=]PROGRAM")]
    against: Option<String>,

    /// Append every round to this CSV file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Prefill is bound by 8-bit multiplication, decode by the bandwidth at which weights, keys and values
are read; both limits are measured in every round. Speeds of a busy machine say little: quote ratios.

Examples:
  pouch bench
  pouch bench smollm2-135m --prefill 128,512 --decode 64 --threads 1,2
  pouch bench model.gguf --at-context 0,4096 --json
  pouch bench model.gguf --at-context 512 --verify 4,8
  pouch bench model.gguf --against llama.cpp=bin/llama-bench --record record.csv";

impl Arguments {
    /// What each round measures.
    fn tests(&self) -> Vec<Test> {
        let prefill = self.prefill.iter().filter(|&&tokens| tokens > 0);
        let prefill = prefill.map(|&tokens| Test { phase: Phase::Prefill, tokens, at_context: 0 });
        let decode = self.at_context.iter().filter(|_| self.decode > 0);
        let decode = decode.map(|&at_context| Test { phase: Phase::Decode, tokens: self.decode, at_context });
        let at_context = self.at_context.first().copied().unwrap_or(0);
        let verify = self.verify.iter().filter(|&&tokens| tokens > 0);
        let verify = verify.map(|&tokens| Test { phase: Phase::Verify, tokens, at_context });
        prefill.chain(decode).chain(verify).collect()
    }

    fn teams(&self) -> Vec<usize> {
        match self.threads[..] {
            [] => vec![default_threads()],
            ref counts => counts.iter().copied().map(usize::from).collect(),
        }
    }
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let machine = Machine::this();
    let kv = KvType::from(arguments.kv);
    let mut record =
        arguments.record.as_deref().map(|path| Record::open(path, record::COLUMNS)).transpose()?;
    let mut peer = arguments.against.as_deref().map(|program| Peer::new(program, kv));
    let mut models = Vec::new();
    for name in &arguments.models {
        for threads in arguments.teams() {
            let team = Team::new(threads);
            let measured = measure::measure(name, &team, &arguments, peer.as_mut(), printer)?;
            if let Some(record) = &mut record {
                record.append(record::rows(&machine, &measured, kv, peer.as_ref()))?;
            }
            models.push(figures::Model::of(&measured));
        }
    }
    let output = Output {
        isa: kernels::cpu::tier().name(),
        machine,
        kv: kv.name(),
        rounds: arguments.runs,
        against: peer.and_then(Peer::introduce),
        models,
    };
    if arguments.json { printer.json(&output) } else { figures::print(&output, printer) }
}
