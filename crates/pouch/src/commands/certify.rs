//! `pouch certify`: whether a packed file is what its certificate says.

use std::path::{Path, PathBuf};

use compress::certificate::{
    Certificate, Deviation, Problem, Report, check, check_original, deviations, sha256,
};
use compress::sample;
use evaluate::Progress;
use model::{KvType, Model};
use serde::Serialize;

use crate::errors::Failure;
use crate::generation::team;
use crate::printer::{Printer, Unit};
use crate::{memory, models, prompt, units};

/// Check a packed model against the certificate beside it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The packed model; its certificate is FILE.certificate.json without the .gguf
    file: PathBuf,

    /// Measure perplexity again, on the certificate's text: the built-in one, or --text
    #[arg(long)]
    measure: bool,

    /// The text that the certificate's figures are of; implies --measure
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,

    /// Measure the divergence from the original again, a path or a model's name; implies --measure
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<String>,

    /// Threads to compute with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Compared are size, content (SHA-256) and tensors of the file, and the figures of the certificate
with one another. The exit code is 0 if everything holds and 1 if anything does not.

Examples:
  pouch certify small.gguf
  pouch certify small.gguf --measure
  pouch certify small.gguf --against model-f16.gguf";

#[derive(Serialize)]
struct Output<'a> {
    file: &'a Path,
    certificate: &'a Path,
    valid: bool,
    problems: Vec<String>,
    measured: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    figure: &'static str,
    certified: f64,
    certified_stderr: f64,
    measured: f64,
    agrees: bool,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let spinner = printer.spinner("reading the file");
    let report = check(&arguments.file);
    spinner.finish_and_clear();
    let report = report?;
    let measure = arguments.measure || arguments.text.is_some() || arguments.against.is_some();
    // Figures of another file would prove nothing.
    let measured = match measure && report.passed() {
        true => measure_again(&arguments, &report, printer)?,
        false => Vec::new(),
    };
    let valid = report.passed() && measured.iter().all(Deviation::agrees);
    if arguments.json {
        print_json(&arguments.file, &report, &measured, valid, printer)?;
    } else {
        print(&arguments.file, &report, &measured, valid, printer)?;
    }
    if valid { Ok(()) } else { Err(Failure::NotCertified { path: arguments.file }) }
}

/// Measures on the certified text, with the original if one is named.
fn measure_again(
    arguments: &Arguments,
    report: &Report,
    printer: &Printer,
) -> Result<Vec<Deviation>, Failure> {
    let text = certified_text(arguments.text.as_deref(), &report.certificate)?;
    let team = team(arguments.threads);
    let memory = memory::memory(None);
    let context = report.certificate.quality.context as usize;
    let demand = memory::for_text(context, Some(KvType::F16), team.threads());
    let open = |reference: &str| -> Result<_, Failure> {
        let (model, plan) = models::open(reference, &team, &memory, &demand, printer)?;
        memory::tell(&plan, &demand, &model, &memory, printer);
        Ok(model)
    };
    let original: Option<std::sync::Arc<Model>> = arguments.against.as_deref().map(open).transpose()?;
    if let Some(original) = &original {
        check_original(&report.certificate, original.paths())?;
    }
    let tested = open(&arguments.file.to_string_lossy())?;
    let quality = &report.certificate.quality;
    let options = evaluate::Options {
        context: quality.context as usize,
        windows: Some(quality.windows as usize),
        kv_type: KvType::F16,
    };
    let bar = printer.bar("measuring", None, Unit::Count);
    let mut progress = |progress: Progress| {
        bar.set_length(progress.windows as u64);
        bar.set_position(progress.done as u64);
    };
    let result = match &original {
        None => evaluate::perplexity(&tested, &team, &text, &options, &mut progress)
            .map(|perplexity| deviations(&report.certificate, &perplexity, None)),
        Some(original) => evaluate::against(&tested, original, &team, &text, &options, &mut progress)
            .map(|comparison| deviations(&report.certificate, &comparison.tested, Some(&comparison))),
    };
    bar.finish_and_clear();
    Ok(result?)
}

/// The text that the certificate's figures are of.
fn certified_text(path: Option<&Path>, certificate: &Certificate) -> Result<String, Failure> {
    let certified = &certificate.settings.held_out;
    let text = match path {
        Some(path) => prompt::read(path)?,
        None => sample::held_out().to_owned(),
    };
    if sha256(text.as_bytes()) == certified.sha256 {
        return Ok(text);
    }
    let name = &certified.name;
    Err(Failure::Usage(match path {
        Some(path) => {
            format!("{} is not the text that the certificate's figures are of ({name})", path.display())
        }
        None => format!("the certificate's figures are of another text ({name}); name its file with --text"),
    }))
}

fn print(
    file: &Path,
    report: &Report,
    measured: &[Deviation],
    valid: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let certificate = &report.certificate;
    let verdict = if valid { "is as certified" } else { "is not as certified" };
    printer.heading(&format!("{} {verdict}", file.display()))?;
    if report.passed() {
        let output = &certificate.output;
        printer.line(&format!(
            "  size         {}, {:.2} bits per weight",
            units::bytes(output.bytes),
            output.bits_per_weight
        ))?;
        printer.line(&format!("  SHA-256      {}", output.sha256))?;
        printer
            .line(&format!("  tensors      {}, with their shapes and types", certificate.tensors.len()))?;
        printer
            .line("  certificate  not changed since it was written, its figures agree with one another")?;
    }
    report.problems.iter().try_for_each(|problem: &Problem| printer.line(&format!("  {problem}")))?;
    measured.iter().try_for_each(|deviation| printer.line(&format!("  {deviation}")))
}

fn print_json(
    file: &Path,
    report: &Report,
    measured: &[Deviation],
    valid: bool,
    printer: &Printer,
) -> Result<(), Failure> {
    let figure = |deviation: &Deviation| Measured {
        figure: deviation.what,
        certified: deviation.certified.value,
        certified_stderr: deviation.certified.stderr,
        measured: deviation.measured.value,
        agrees: deviation.agrees(),
    };
    printer.json(&Output {
        file,
        certificate: &report.path,
        valid,
        problems: report.problems.iter().map(Problem::to_string).collect(),
        measured: measured.iter().map(figure).collect(),
    })
}
