//! `pouch import`: other kinds of checkpoints into GGUF.

use std::path::PathBuf;

use import::{FloatType, Options};
use serde::Serialize;

use crate::errors::Failure;
use crate::printer::{Printer, Unit};
use crate::units;

/// Turn a safetensors or llama2.c checkpoint into a GGUF file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A folder with config.json, tokenizer.json and model.safetensors, or a llama2.c checkpoint NAME.bin with its
    /// vocabulary beside it
    source: PathBuf,

    /// The GGUF file to write
    target: PathBuf,

    /// Number format of the matrices; `source` keeps the checkpoint's own
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Float::Source)]
    float: Float,

    /// Write over TARGET if it exists
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  pouch import Qwen2.5-0.5B-Instruct/ qwen2.5-0.5b.gguf --type bf16
  pouch import stories260K.bin stories260K.gguf --type f32";

/// Number formats that can be written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Float {
    Source,
    F32,
    F16,
    Bf16,
}

#[derive(Serialize)]
struct Output<'a> {
    path: &'a str,
    architecture: &'a str,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let target = &arguments.target;
    if target.exists() && !arguments.force {
        return Err(Failure::Usage(format!("{} exists already; --force writes over it", target.display())));
    }
    let bar = std::cell::OnceCell::new();
    let progress = |done: u64, total: u64| {
        bar.get_or_init(|| printer.bar("importing", Some(total), Unit::Bytes)).set_position(done);
    };
    let float = match arguments.float {
        Float::Source => FloatType::Source,
        Float::F32 => FloatType::F32,
        Float::F16 => FloatType::F16,
        Float::Bf16 => FloatType::Bf16,
    };
    let result = import::import(&arguments.source, target, &Options { float, progress: Some(&progress) });
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    let summary = result?;
    for warning in &summary.warnings {
        printer.warning(&warning.to_string());
    }
    if arguments.json {
        return printer.json(&Output {
            path: &target.to_string_lossy(),
            architecture: &summary.architecture,
            tensors: summary.tensors,
            parameters: summary.parameters,
            bytes: summary.bytes,
            warnings: summary.warnings.iter().map(ToString::to_string).collect(),
        });
    }
    printer.note(&format!(
        "{}, {} tensors, {} parameters, {}",
        summary.architecture,
        summary.tensors,
        units::count(summary.parameters),
        units::bytes(summary.bytes)
    ));
    printer.line(&target.to_string_lossy())
}
