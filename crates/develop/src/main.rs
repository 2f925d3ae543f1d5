//! What developers run, and nobody else: `cargo run --release -p develop -- COMMAND`.

#![expect(clippy::print_stderr, reason = "a program for developers says what it did")]

mod group;
mod grown_model;
mod page;
mod plans;
mod predictions;
mod program;
mod random_model;
mod speed;
mod starts;
mod streaming;
mod train;

use std::process::ExitCode;

use clap::Parser;

/// Tools for working on this project
#[derive(Parser)]
#[command(name = "develop", disable_help_subcommand = true)]
enum Command {
    GrownModel(grown_model::Arguments),
    /// Make the tables of docs/plan.md from the profiles and the records in benches/record
    Plans,
    Predictions(predictions::Arguments),
    RandomModel(random_model::Arguments),
    /// Draw the table of speeds in README.md and the plot in docs/speed.svg from benches/record/speed.csv
    Speed,
    Starts(starts::Arguments),
    Streaming(streaming::Arguments),
    Train(train::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::GrownModel(arguments) => grown_model::run(&arguments),
        Command::Plans => plans::run(),
        Command::Predictions(arguments) => predictions::run(&arguments),
        Command::RandomModel(arguments) => random_model::run(&arguments),
        Command::Speed => speed::run(),
        Command::Starts(arguments) => starts::run(&arguments),
        Command::Streaming(arguments) => streaming::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
