//! `pouch bench-serve`: what requests wait when many arrive, here and at another engine's server.

mod drive;
mod figures;
mod load;
mod servers;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use device::default_threads;
use device::machine::Machine;

use crate::commands::MODEL_HELP;
use crate::commands::bench::figures::median;
use crate::commands::bench::peer;
use crate::csv::Record;
use crate::errors::Failure;
use crate::models;
use crate::printer::{Printer, Unit};
use drive::Played;
use figures::{LoadFigures, Output, Ratios, background_after_burst};
use load::{Load, Size};
use servers::Server;

/// Measure what requests wait while a server is busy, beside another engine's
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", default_value = hub::DEFAULT_MODEL, help = MODEL_HELP)]
    model: String,

    /// Questions in a round, first alone and then beside a busy background
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    questions: u16,

    /// Seconds from one arrival to the next, on average
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5, value_parser = positive)]
    every: f64,

    /// Seconds of arrivals of all classes at random; 0 leaves them out
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    mixed: u16,

    /// Seconds in which the background's speed is measured, before a burst of questions and after it
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0, value_parser = positive)]
    window: f64,

    /// How often everything is measured; percentiles are of all rounds together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Seconds after the last arrival when requests without an end are given up
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u16,

    /// Threads that each server computes with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Fixes arrivals and prompts [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Let the same arrive here with fair shares too: `pouch serve --policy fair`, told as pouch-fair
    #[arg(long)]
    fair: bool,

    /// Let the same arrive at another engine: a program with the options of llama-server
    #[arg(long, value_name = "[NAME=]PROGRAM")]
    against: Option<String>,

    /// Append the percentiles to this CSV file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Four loads arrive at a server of its own each, whatever it takes to answer: questions alone; the same
beside an 8,000-token prompt and four answers in the background; answers in the background with a
burst of questions; all classes at random. A busy machine says little: quote ratios.

Examples:
  pouch bench-serve
  pouch bench-serve qwen2.5-0.5b --against llama.cpp=bin/llama-server --record record.csv
  pouch bench-serve model.gguf --questions 50 --mixed 0 --json
  pouch bench-serve qwen2.5-0.5b --fair";

/// The first line of the record. Times are milliseconds.
const COLUMNS: &str = "date,cpu,cores,isa,threads,model,pouch,server,flags,seed,load,class,asked,ended,\
first_p50,first_p95,first_p99,first_max,next_p50,next_p95,next_p99,next_max";

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let mut record = arguments.record.as_deref().map(|path| Record::open(path, COLUMNS)).transpose()?;
    let path = models::fetch(&models::hub()?, &arguments.model, printer)?;
    let threads = arguments.threads.map_or_else(default_threads, usize::from);
    let mut servers = vec![Server::own("pouch", threads, &[])?];
    if arguments.fair {
        servers.push(Server::own("pouch-fair", threads, &["--policy", "fair"])?);
    }
    if let Some(program) = &arguments.against {
        let (name, program) = peer::named(program);
        servers.push(Server::peer(name, program, threads));
    }
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
    });
    let size = Size {
        questions: arguments.questions.into(),
        every: arguments.every,
        mixed: arguments.mixed.into(),
        window: arguments.window,
        seed,
    };
    let round = |round| load::loads(Size { seed: seed.wrapping_add(round), ..size });
    let loads: Vec<Vec<Load>> = (0..u64::from(arguments.rounds)).map(round).collect();
    let kinds = loads.first().map_or(0, Vec::len);
    // By load and server, each round's.
    let mut played: Vec<Vec<Vec<Played>>> =
        (0..kinds).map(|_| servers.iter().map(|_| Vec::new()).collect()).collect();
    let bar = printer.bar("measuring", Some((kinds * servers.len() * loads.len()) as u64), Unit::Count);
    let folder = std::env::temp_dir().join(format!("pouch-bench-serve-{}", std::process::id()));
    // What cannot work ends before anything is measured.
    for server in &servers {
        server.start(&path, &folder)?;
    }
    let patience = Duration::from_secs(arguments.patience.into());
    for round in &loads {
        for (load, played) in round.iter().zip(&mut played) {
            for (server, played) in servers.iter().zip(played) {
                bar.set_message(format!("{} at {}", load.name, server.name));
                let mut running = server.start(&path, &folder)?;
                let client = running.client.clone();
                played.push(drive::play(&client, load, patience, || running.kill()));
                // Where it is not there, nothing was kept.
                let _ = std::fs::remove_dir_all(&folder);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    tell_problems(&played, printer);
    let names = loads.iter().flatten().map(|load| load.name);
    let by_server = |rounds: &Vec<Vec<Played>>, name| {
        let figures =
            servers.iter().zip(rounds).map(|(server, rounds)| LoadFigures::of(name, server, rounds));
        figures.collect::<Vec<_>>()
    };
    let figures: Vec<LoadFigures> =
        played.iter().zip(names).flat_map(|(rounds, name)| by_server(rounds, name)).collect();
    let output = Output {
        machine: Machine::this(),
        isa: kernels::cpu::tier().name(),
        model: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        threads,
        rounds: arguments.rounds,
        seed,
        ratios: ratios(size, &servers, &figures, &played),
        servers,
        loads: figures,
    };
    if let Some(record) = &mut record {
        record.append(rows(&output))?;
    }
    if arguments.json { printer.json(&output) } else { figures::print(&output, printer) }
}

/// What awaited requests were refused with.
fn tell_problems(played: &[Vec<Vec<Played>>], printer: &Printer) {
    let samples = played.iter().flatten().flatten().flat_map(|round| &round.samples);
    let mut problems: Vec<&str> =
        samples.filter(|sample| sample.is_awaited).filter_map(|sample| sample.problem.as_deref()).collect();
    problems.sort_unstable();
    problems.dedup();
    problems.into_iter().for_each(|problem| printer.warning(&format!("a request did not end: {problem}")));
}

fn ratios(
    size: Size,
    servers: &[Server],
    figures: &[LoadFigures],
    played: &[Vec<Vec<Played>>],
) -> Vec<Ratios> {
    let first = |load: &str, server: &Server| {
        let of_load = |figures: &&LoadFigures| figures.load == load && figures.server == server.name;
        figures
            .iter()
            .find(of_load)
            .and_then(|figures| figures.classes.first())
            .map(|class| class.first_token_ms)
    };
    let ratio = |(index, server): (usize, &Server)| {
        let (idle, busy) = (first("idle", server)?, first("busy", server)?);
        let bursts = played.get(load::BURST_LOAD)?.get(index)?;
        let kept = bursts.iter().map(|round| background_after_burst(size, round)).collect();
        Some(Ratios {
            server: server.name.clone(),
            busy_by_idle_p50: busy.p50 / idle.p50,
            busy_by_idle_p99: busy.p99 / idle.p99,
            background_after_burst: median(kept),
        })
    };
    servers.iter().enumerate().filter_map(ratio).collect()
}

/// The record's rows.
fn rows(output: &Output) -> Vec<Vec<String>> {
    let date = text::format_time(SystemTime::now(), "%F");
    let flags = |name: &str| {
        let server = output.servers.iter().find(|server| server.name == name);
        server.map_or_else(String::new, |server| server.flags.join(" "))
    };
    let mut rows = Vec::new();
    for load in &output.loads {
        for class in &load.classes {
            let spread = |spread: figures::Spread| [spread.p50, spread.p95, spread.p99, spread.max];
            let mut row = vec![
                date.clone(),
                output.machine.cpu.clone(),
                output.machine.cores.to_string(),
                output.isa.to_owned(),
                output.threads.to_string(),
                output.model.clone(),
                env!("CARGO_PKG_VERSION").to_owned(),
                load.server.clone(),
                flags(&load.server),
                output.seed.to_string(),
                load.load.to_owned(),
                class.class.to_string(),
                class.asked.to_string(),
                class.ended.to_string(),
            ];
            let times = [spread(class.first_token_ms), spread(class.next_token_ms)].concat();
            row.extend(times.iter().map(|ms| format!("{ms:.1}")));
            rows.push(row);
        }
    }
    rows
}

/// A number of seconds above 0.
fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0)
        .ok_or_else(|| format!("{text:?} is no number of seconds above 0"))
}
