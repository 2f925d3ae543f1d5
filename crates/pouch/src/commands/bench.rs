//! `pouch bench`: how fast a model runs here, beside how fast this machine could run it.

use std::time::Instant;

use kernels::{Team, probe};
use model::{KvCache, Logits, Model, Workspace};
use serde::Serialize;

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::generation::{Compute, team};
use crate::models;
use crate::printer::{Printer, Unit};

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

    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    #[command(flatten)]
    compute: Compute,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Prefill is bound by 8-bit multiplication, decode by the bandwidth at which weights are read; both
limits are measured in the same run. Speeds of a busy machine say little: quote ratios.

Examples:
  pouch bench
  pouch bench smollm2-135m --prefill 128,512 --decode 64 --threads 2
  pouch bench model.gguf --at-context 0,4096 --json";

#[derive(Serialize)]
struct Output {
    threads: usize,
    isa: &'static str,
    /// Bytes a second, in 10^9.
    read_bandwidth_gb_s: f64,
    /// 8-bit multiplications with addition a second, in 10^9.
    int8_peak_gmac_s: f64,
    models: Vec<Figures>,
}

#[derive(Serialize)]
struct Figures {
    model: String,
    weights_bytes: usize,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
}

#[derive(Serialize)]
struct Prefill {
    tokens: usize,
    prefill_tok_s: f64,
    gmac_s: f64,
    percent_of_int8_peak: f64,
}

#[derive(Serialize)]
struct Decode {
    at_context: usize,
    tokens: usize,
    decode_tok_s: f64,
    ms_per_token: f64,
    weights_gb_s: f64,
    percent_of_bandwidth: f64,
}

/// Tokens computed together in prefill.
const BATCH: usize = 512;

/// What the bandwidth is measured on: far more than a cache holds.
const BANDWIDTH_BYTES: usize = 256 << 20;

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let team = team(arguments.compute.threads);
    let mut output = Output {
        threads: team.threads(),
        isa: kernels::cpu::tier().name(),
        read_bandwidth_gb_s: probe::read_bandwidth(&team, BANDWIDTH_BYTES) / 1e9,
        int8_peak_gmac_s: probe::int8_peak(&team) / 1e9,
        models: Vec::new(),
    };
    for name in &arguments.models {
        let model = models::open(name, &team, printer)?;
        let figures = measure(name, &model, &team, &arguments, &output, printer)?;
        output.models.push(figures);
    }
    if arguments.json { printer.json(&output) } else { print(&output, printer) }
}

fn measure(
    name: &str,
    model: &Model,
    team: &Team,
    arguments: &Arguments,
    limits: &Output,
    printer: &Printer,
) -> Result<Figures, Failure> {
    let deepest = arguments.at_context.iter().map(|at| at + arguments.decode);
    let capacity = arguments.prefill.iter().copied().chain(deepest).max().unwrap_or(0).max(1);
    let mut bench = Bench {
        model,
        team,
        workspace: Workspace::new(&model.config, BATCH.min(capacity)),
        cache: KvCache::new(&model.config, capacity, arguments.compute.kv.into())?,
    };
    let config = &model.config;
    let experts = config.experts.as_ref().map_or(0, |experts| experts.used);
    let matrices = || model.weights().layer_matrices(experts);
    let head = model.weights().output.matrix;
    let layer_macs: usize = matrices().map(|matrix| matrix.rows * matrix.columns).sum();
    let read_bytes = matrices().map(|matrix| matrix.bytes()).sum::<usize>() + head.bytes();

    let runs = usize::from(arguments.runs);
    let total = (arguments.prefill.len() + arguments.at_context.len()) * (runs + 1);
    let bar = printer.bar(&format!("measuring {name}"), Some(total as u64), Unit::Count);
    let mut prefill = Vec::new();
    for &tokens in arguments.prefill.iter().filter(|&&tokens| tokens > 0) {
        let seconds = median(runs, || {
            bar.inc(1);
            bench.prefill(tokens)
        })?;
        let gmac_s = (layer_macs * tokens + head.rows * head.columns) as f64 / seconds / 1e9;
        prefill.push(Prefill {
            tokens,
            prefill_tok_s: tokens as f64 / seconds,
            gmac_s,
            percent_of_int8_peak: 100.0 * gmac_s / limits.int8_peak_gmac_s,
        });
    }
    let mut decode = Vec::new();
    for &at_context in arguments.at_context.iter().filter(|_| arguments.decode > 0) {
        let seconds = median(runs, || {
            bar.inc(1);
            bench.decode(at_context, arguments.decode)
        })?;
        let tok_s = arguments.decode as f64 / seconds;
        let weights_gb_s = read_bytes as f64 * tok_s / 1e9;
        decode.push(Decode {
            at_context,
            tokens: arguments.decode,
            decode_tok_s: tok_s,
            ms_per_token: 1e3 / tok_s,
            weights_gb_s,
            percent_of_bandwidth: 100.0 * weights_gb_s / limits.read_bandwidth_gb_s,
        });
    }
    bar.finish_and_clear();
    Ok(Figures { model: name.to_owned(), weights_bytes: read_bytes, prefill, decode })
}

/// The middle of `runs` times after one that does not count.
fn median(runs: usize, mut run: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    run()?;
    let mut times = (0..runs).map(|_| run()).collect::<Result<Vec<f64>, Failure>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[runs / 2])
}

struct Bench<'a> {
    model: &'a Model,
    team: &'a Team,
    workspace: Workspace,
    cache: KvCache,
}

impl Bench<'_> {
    /// Some token for each position: which one makes no difference to the speed.
    fn token(&self, position: usize) -> u32 {
        (position * 31 + 7) as u32 % self.model.config.vocabulary as u32
    }

    fn prefill(&mut self, tokens: usize) -> Result<f64, Failure> {
        self.cache.clear();
        let prompt: Vec<u32> = (0..tokens).map(|position| self.token(position)).collect();
        let start = Instant::now();
        let mut left = tokens;
        for batch in prompt.chunks(self.workspace.max_batch()) {
            left -= batch.len();
            let want = if left == 0 { Logits::Last } else { Logits::None };
            self.model.forward(self.team, &mut self.workspace, &mut self.cache, batch, want)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn decode(&mut self, at_context: usize, tokens: usize) -> Result<f64, Failure> {
        if self.cache.len() >= at_context {
            self.cache.truncate(at_context);
        } else {
            self.prefill(at_context)?;
        }
        let start = Instant::now();
        for position in at_context..at_context + tokens {
            let token = [self.token(position)];
            self.model.forward(self.team, &mut self.workspace, &mut self.cache, &token, Logits::Last)?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

fn print(output: &Output, printer: &Printer) -> Result<(), Failure> {
    printer.line(&format!(
        "{} threads, {}: reads {:.1} GB/s, multiplies {:.0} GMAC/s in 8 bits",
        output.threads, output.isa, output.read_bandwidth_gb_s, output.int8_peak_gmac_s
    ))?;
    for model in &output.models {
        printer.heading(&model.model)?;
        for prefill in &model.prefill {
            printer.line(&format!(
                "  prefill {:5} tokens        {:8.1} tok/s  {:6.1} GMAC/s  {:3.0} % of the 8-bit peak",
                prefill.tokens, prefill.prefill_tok_s, prefill.gmac_s, prefill.percent_of_int8_peak
            ))?;
        }
        for decode in &model.decode {
            printer.line(&format!(
                "  decode  {:5} tokens at {:4} {:8.1} tok/s  {:6.1} GB/s    {:3.0} % of the bandwidth",
                decode.tokens,
                decode.at_context,
                decode.decode_tok_s,
                decode.weights_gb_s,
                decode.percent_of_bandwidth
            ))?;
        }
    }
    Ok(())
}
