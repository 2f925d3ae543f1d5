//! `pouch`: language models on this machine, from the command line.
//!
//! Each command is one file in `commands/`. Answers go to standard output and nothing else does; everything a person may
//! want to know besides goes to standard error. Exit codes: 0 done, 1 failed, 2 asked wrongly.

mod cli;
mod commands;
mod csv;
mod errors;
mod generation;
mod interrupt;
mod memory;
mod models;
mod printer;
mod prompt;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let printer = printer::Printer::new(cli.quiet);
    match cli.command.run(&printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                printer.error(&message);
            }
            failure.exit_code()
        }
    }
}
