//! `pouch rm`: deletes fetched models and what was computed from models.

use crate::errors::Failure;
use crate::models;
use crate::printer::Printer;
use crate::units;

/// Delete a fetched model
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The names of the models, as `pouch list` shows them
    #[arg(value_name = "NAME", required_unless_present = "prepared")]
    names: Vec<String>,

    /// Delete the prepared weights of model files outside the cache; the files themselves stay
    #[arg(long)]
    prepared: bool,
}

const EXAMPLES: &str = "\
Only what lies in Pouch's own cache folder is ever deleted. The prepared weights of a fetched model
go with it; they are made anew when they are needed.

Examples:
  pouch rm qwen2.5-0.5b
  pouch rm --prepared";

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let hub = models::hub()?;
    for name in &arguments.names {
        let freed = hub.remove(name)?;
        printer.note(&format!("{name}: deleted, {} freed", units::bytes(freed)));
    }
    if arguments.prepared {
        let freed = hub.remove_derived()?;
        printer.note(&format!("prepared weights: deleted, {} freed", units::bytes(freed)));
    }
    Ok(())
}
