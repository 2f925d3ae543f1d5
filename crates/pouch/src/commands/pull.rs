//! `pouch pull`: fetches a model and prints where it is.

use serde::Serialize;

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::models;
use crate::printer::Printer;

/// Fetch a model
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "NAME", help = MODEL_HELP)]
    name: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
An interrupted download continues where it stopped. The file is checked by SHA-256 and lies in the
user's cache folder; POUCH_CACHE sets another one. HF_ENDPOINT and MODELSCOPE_DOMAIN set mirrors,
HF_TOKEN opens gated models, HTTPS_PROXY and SSL_CERT_FILE work as everywhere.

Examples:
  pouch pull smollm2-135m
  pouch pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf
  pouch pull ms:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf
  HF_ENDPOINT=https://mirror.example pouch pull qwen3-0.6b";

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    path: &'a str,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let hub = models::hub()?;
    let name = arguments.name.as_str();
    if hub.find(name)?.is_some() {
        printer.note(&format!("{name} is here already"));
    }
    let path = models::fetch(&hub, name, printer)?;
    let path = &*path.to_string_lossy();
    if arguments.json { printer.json(&Output { name, path }) } else { printer.line(path) }
}
