//! The commands: one file and one line here each.

mod bench;
mod bench_serve;
mod certify;
mod chat;
mod eval;
mod import;
mod info;
mod list;
mod pack;
mod plan;
mod probe;
mod pull;
mod rm;
mod run;
mod serve;
mod tokenize;

use crate::errors::Failure;
use crate::printer::Printer;

/// Everything `pouch` can be asked to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(run::Arguments),
    Chat(chat::Arguments),
    Serve(serve::Arguments),
    Pull(pull::Arguments),
    List(list::Arguments),
    Rm(rm::Arguments),
    Info(info::Arguments),
    Plan(plan::Arguments),
    Probe(probe::Arguments),
    Tokenize(tokenize::Arguments),
    Eval(eval::Arguments),
    Import(import::Arguments),
    Pack(pack::Arguments),
    Certify(certify::Arguments),
    Bench(bench::Arguments),
    BenchServe(bench_serve::Arguments),
}

impl Command {
    pub(crate) fn run(self, printer: &Printer) -> Result<(), Failure> {
        match self {
            Command::Run(arguments) => run::run(arguments, printer),
            Command::Chat(arguments) => chat::run(arguments, printer),
            Command::Serve(arguments) => serve::run(arguments, printer),
            Command::Pull(arguments) => pull::run(arguments, printer),
            Command::List(arguments) => list::run(arguments, printer),
            Command::Rm(arguments) => rm::run(arguments, printer),
            Command::Info(arguments) => info::run(arguments, printer),
            Command::Plan(arguments) => plan::run(arguments, printer),
            Command::Probe(arguments) => probe::run(arguments, printer),
            Command::Tokenize(arguments) => tokenize::run(arguments, printer),
            Command::Eval(arguments) => eval::run(arguments, printer),
            Command::Import(arguments) => import::run(arguments, printer),
            Command::Pack(arguments) => pack::run(arguments, printer),
            Command::Certify(arguments) => certify::run(arguments, printer),
            Command::Bench(arguments) => bench::run(arguments, printer),
            Command::BenchServe(arguments) => bench_serve::run(arguments, printer),
        }
    }
}

/// The short and long help of a model argument.
pub(crate) const MODEL_HELP: &str = "\
A model: a catalogue name (see `pouch list`), hf:owner/repo/file[@revision], \
ms:owner/repo/file[@revision], an http(s) address, or a path";
