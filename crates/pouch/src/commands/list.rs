//! `pouch list`: the models that are here, and those known by name.

use serde::Serialize;

use crate::errors::Failure;
use crate::models;
use crate::printer::Printer;
use crate::units;

/// List models
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  pouch list
  pouch list --json";

#[derive(Serialize)]
struct Output {
    models: Vec<Here>,
    catalogue: Vec<Known>,
}

#[derive(Serialize)]
struct Here {
    name: String,
    path: String,
    bytes: u64,
    sha256: String,
    source: String,
    licence: Option<String>,
}

#[derive(Serialize)]
struct Known {
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    licence: &'static str,
    bytes: Option<u64>,
    sha256: Option<&'static str>,
    sources: &'static [&'static str],
    here: bool,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let hub = models::hub()?;
    let here: Vec<Here> = hub
        .list()?
        .into_iter()
        .map(|entry| Here {
            name: entry.name,
            path: entry.path.to_string_lossy().into_owned(),
            bytes: entry.bytes,
            sha256: entry.sha256,
            source: entry.source,
            licence: entry.licence,
        })
        .collect();
    let is_here = |name: &str| here.iter().any(|model| model.name == name);
    let known: Vec<Known> = hub::CATALOGUE
        .iter()
        .map(|model| Known {
            name: model.name,
            aliases: model.aliases,
            about: model.about,
            licence: model.licence,
            bytes: model.bytes,
            sha256: model.sha256,
            sources: model.sources,
            here: is_here(model.name),
        })
        .collect();
    if arguments.json {
        return printer.json(&Output { models: here, catalogue: known });
    }

    if !here.is_empty() {
        printer.heading(&format!("Models in {}", hub.models_folder().display()))?;
        let row = |model: &Here| {
            let licence = model.licence.clone().unwrap_or_default();
            vec![format!("  {}", model.name), units::bytes(model.bytes), licence]
        };
        for line in units::table(&here.iter().map(row).collect::<Vec<_>>(), &[1]) {
            printer.line(&line)?;
        }
        printer.line("")?;
    }
    printer.heading("Known by name, fetched by `pouch pull NAME` or on first use")?;
    let row = |model: &Known| {
        let about = match model.name == hub::DEFAULT_MODEL {
            true => format!("{} (the default)", model.about),
            false => model.about.to_owned(),
        };
        vec![format!("  {}", model.name), about, model.licence.to_owned()]
    };
    let rows: Vec<Vec<String>> = known.iter().filter(|model| !model.here).map(row).collect();
    for line in units::table(&rows, &[]) {
        printer.line(&line)?;
    }
    Ok(())
}
