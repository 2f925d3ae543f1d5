//! `pouch pack`: fewer bits for each weight, and a certificate of what that cost.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use compress::certificate::{Certificate, beside};
use compress::{Effort, Options, Progress, Target, Text};
use device::predict::size_budget;
use device::{Profile, Setting, Shape};
use import::FloatType;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::errors::Failure;
use crate::generation::team;
use crate::printer::{Printer, Unit};
use crate::{models, prompt, units};

/// Make a model smaller: fewer bits per weight, with a certificate of what that cost
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["bits", "size", "recipe", "phone"])))]
pub(crate) struct Arguments {
    /// A GGUF file of any type or the name of a model (see `pouch list`); a safetensors folder; a llama2.c checkpoint
    /// NAME.bin with its vocabulary beside it
    model: String,

    /// The GGUF file to write; its certificate appears beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Bits per weight on average, at most, scales included: 4.5
    #[arg(long, value_name = "N", value_parser = bits)]
    bits: Option<f64>,

    /// Size of the file, at most: 400MB, 1.5GiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    size: Option<u64>,

    /// A well-known mix of types: Q4_K_M, Q8_0, ...
    #[arg(long = "type", value_name = "NAME")]
    recipe: Option<String>,

    /// The largest file that stays in the memory of this device with a full KV cache, at most 8.5 bits: a profile's name (see
    /// `pouch plan --help`) or a file of `pouch probe -o`
    #[arg(long, value_name = "PROFILE")]
    phone: Option<String>,

    /// Tokens of that KV cache [default: the model's own context, at most 8192]
    #[arg(long, value_name = "N", requires = "phone", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,

    /// How much work the quality is worth
    #[arg(long, value_name = "EFFORT", value_enum, default_value_t = How::Good)]
    effort: How,

    /// Also try to scale channels and rotate heads before rounding, and keep what leaves less error on windows set aside;
    /// not with --effort fast or --imatrix
    #[arg(long)]
    fold: bool,

    /// The text to calibrate on [default: a built-in one of English, Chinese and code]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,

    /// The text to measure on, with no part of the calibration text in it [default: another built-in one]
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,

    /// Memory to take at most: 4GB [default: what is useful]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    memory: Option<u64>,

    /// Importance of each weight from a file of llama.cpp's llama-imatrix, in place of calibrating
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    imatrix: Option<PathBuf>,

    /// Save the importance that calibrating found, in the same format
    #[arg(long, value_name = "FILE", conflicts_with = "imatrix")]
    save_imatrix: Option<PathBuf>,

    /// Same seed, same file
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Threads to compute with; the file does not depend on them [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Write over the output if it exists
    #[arg(long)]
    force: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
The result is a standard GGUF file. Effort `fast` rounds by importance; `good` also chooses types
by measured sensitivity and compensates errors; `best` trains on top of that, for hours, but not
models with experts. A run that was stopped goes on where it was when the same command is given
again; until it is done, what it has lies in OUT.gguf.packing.

Examples:
  pouch pack model-f16.gguf -o small.gguf --bits 4.5
  pouch pack Qwen2.5-0.5B-Instruct/ -o small.gguf --size 350MB --effort best
  pouch pack model-f16.gguf -o for-my-phone.gguf --phone pixel-8-pro --context 4096
  pouch pack model-f16.gguf -o model-q4_k_m.gguf --type Q4_K_M --text my-documents.txt
  pouch certify small.gguf";

/// [`Effort`] on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum How {
    Fast,
    Good,
    Best,
}

impl From<How> for Effort {
    fn from(how: How) -> Effort {
        match how {
            How::Fast => Effort::Fast,
            How::Good => Effort::Good,
            How::Best => Effort::Best,
        }
    }
}

/// The budgets that can mean something: fewer bits no format has, and from 32 on nothing becomes smaller.
fn bits(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (1.0..32.0).contains(&bits) => Ok(bits),
        _ => Err("bits per weight are a number from 1 to below 32".to_owned()),
    }
}

#[derive(Serialize)]
struct Output<'a> {
    path: &'a Path,
    certificate_json: PathBuf,
    certificate_html: PathBuf,
    certificate: &'a Certificate,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let output = &arguments.output;
    if output.exists() && !arguments.force {
        return Err(Failure::Usage(format!("{} exists already; --force writes over it", output.display())));
    }
    // All that can be wrong with files is told before a download or an hour of work.
    let calibration = text(arguments.text.as_deref(), Text::sample)?;
    let held_out = text(arguments.held_out.as_deref(), Text::held_out)?;
    let phone = arguments.phone.as_deref().map(super::plan::profile).transpose()?;
    let work_folder = compress::work_folder(output);
    let (source, name) = source(&arguments.model, &work_folder, printer)?;
    let target = match &phone {
        Some((_, profile)) => arguments.target_for(profile, &source, printer)?,
        None => arguments.target()?,
    };
    if same_file(&source, output) {
        return Err(Failure::Usage(format!("{} cannot be packed into itself", output.display())));
    }

    let stages = Stages { printer, current: RefCell::new(None) };
    let options = Options {
        target: &target,
        effort: arguments.effort.into(),
        fold: arguments.fold,
        calibration: &calibration,
        held_out: &held_out,
        seed: arguments.seed,
        memory: arguments.memory,
        imatrix_in: arguments.imatrix.as_deref(),
        imatrix_out: arguments.save_imatrix.as_deref(),
        work_folder: Some(&work_folder),
        source_name: name.as_deref(),
        progress: &|progress| stages.show(progress),
    };
    let packed = compress::pack(&team(arguments.threads), &source, output, &options);
    stages.clear();
    let certificate = packed?.certificate;
    let (certificate_json, certificate_html) = beside(output);
    if arguments.json {
        return printer.json(&Output {
            path: output,
            certificate_json,
            certificate_html,
            certificate: &certificate,
        });
    }
    print(output, &certificate, printer)?;
    printer.line(&format!("certificate     {}", certificate_html.display()))
}

impl Arguments {
    /// What leaves room for keys, values and everything else on a device.
    fn target_for(&self, profile: &Profile, source: &Path, printer: &Printer) -> Result<Target, Failure> {
        let file = gguf::File::open(source)?;
        let shape = Shape::new(file.metadata(), file.tensors())?;
        let usual = shape.config.context.min(engine::DEFAULT_CONTEXT);
        let context = self.context.map_or(usual, |context| context as usize);
        let setting = Setting {
            context,
            kv_type: model::KvType::F16,
            batch: engine::DEFAULT_BATCH,
            prompt: context,
            at_context: 0,
            threads: None,
        };
        let budget = size_budget(profile, &shape, &setting).ok_or_else(|| {
            Failure::Usage(format!("{} has no room for a context of {context} tokens", profile.name))
        })?;
        printer.note(&format!(
            "{}: {:.2} bits per weight, {} of weights beside a context of {context} tokens",
            profile.name,
            budget.bits,
            units::bytes(budget.bytes)
        ));
        Ok(Target::Bits(budget.bits))
    }

    fn target(&self) -> Result<Target, Failure> {
        match (self.bits, self.size, &self.recipe) {
            (Some(bits), None, None) => Ok(Target::Bits(bits)),
            (None, Some(bytes), None) => Ok(Target::Size(bytes)),
            (None, None, Some(name)) => Ok(Target::Recipe(name.clone())),
            // The command line has refused this before.
            _ => Err(Failure::Usage(
                "one of --bits, --size, --type and --phone says how small to become".to_owned(),
            )),
        }
    }
}

/// The text of a file, or a built-in one.
fn text(path: Option<&Path>, built_in: fn() -> Text) -> Result<Text, Failure> {
    let Some(path) = path else { return Ok(built_in()) };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Text { name, content: prompt::read(path)? })
}

/// The GGUF file to pack: found or fetched, or converted into the work folder; then also what to call it.
fn source(model: &str, work_folder: &Path, printer: &Printer) -> Result<(PathBuf, Option<String>), Failure> {
    let path = Path::new(model);
    let known =
        |ending: &std::ffi::OsStr| ["bin", "safetensors", "json"].iter().any(|known| ending == *known);
    let checkpoint = path.is_dir() || path.exists() && path.extension().is_some_and(known);
    if !checkpoint {
        return Ok((models::fetch(&models::hub()?, model, printer)?, None));
    }
    std::fs::create_dir_all(work_folder).map_err(|source| Failure::io("create", work_folder, source))?;
    let target = work_folder.join("source.gguf");
    let stages = Stages { printer, current: RefCell::new(None) };
    let progress = |done, total| stages.show(Progress { stage: "importing", done, total });
    let options = import::Options { float: FloatType::Source, progress: Some(&progress) };
    let result = import::import(path, &target, &options);
    stages.clear();
    let summary = result.inspect_err(|_| {
        // Empty, or a former run's: only the former is removed.
        let _ = std::fs::remove_dir(work_folder);
    })?;
    summary.warnings.iter().for_each(|warning| printer.warning(&warning.to_string()));
    let name =
        path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok((target, name.or_else(|| Some(model.to_owned()))))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A bar for the stage that runs, with the time that it will take yet.
struct Stages<'a> {
    printer: &'a Printer,
    current: RefCell<Option<(String, ProgressBar)>>,
}

impl Stages<'_> {
    fn show(&self, Progress { stage, done, total }: Progress<'_>) {
        let mut current = self.current.borrow_mut();
        if let Some((shown, bar)) = &*current
            && shown == stage
        {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        if let Some((_, bar)) = current.take() {
            bar.finish_and_clear();
        }
        let bar = self.printer.bar(stage, Some(total), Unit::Share);
        bar.set_position(done);
        // What an earlier run had done says nothing about this one's speed.
        bar.reset_eta();
        *current = Some((stage.to_owned(), bar));
    }

    fn clear(&self) {
        if let Some((_, bar)) = self.current.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

fn print(path: &Path, certificate: &Certificate, printer: &Printer) -> Result<(), Failure> {
    let Certificate { source, output, quality, .. } = certificate;
    printer.line(&format!(
        "{}  {}, {:.2} bits per weight (source {}, {:.2})",
        path.display(),
        units::bytes(output.bytes),
        output.bits_per_weight,
        units::bytes(source.bytes),
        source.bits_per_weight
    ))?;
    let (before, after) = (quality.perplexity_before, quality.perplexity_after);
    printer.line(&format!(
        "perplexity      {:.4} +/- {:.4} (before {:.4} +/- {:.4})",
        after.value, after.stderr, before.value, before.stderr
    ))?;
    printer.line(&format!(
        "KL divergence   {:.6} +/- {:.6} nats, 99th percentile {:.6}, largest {:.6}",
        quality.kl_mean.value, quality.kl_mean.stderr, quality.kl_p99, quality.kl_max
    ))?;
    let agreement = quality.top1_agreement;
    printer.line(&format!(
        "same top token  {:.2} +/- {:.2} %",
        agreement.value * 100.0,
        agreement.stderr * 100.0
    ))?;
    if let Some(won) = &certificate.won_back {
        printer.line(&format!(
            "loss won back   {:.1} % of plain rounding's KL divergence of {:.6}",
            won.share * 100.0,
            won.kl_plain.value
        ))?;
    }
    if let Some(cache) = &certificate.kv_cache {
        printer.line(&format!("KV cache        {} is recommended", cache.recommended))?;
    }
    printer.line(&format!("compared with   {}", source.reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_mean_something() {
        assert_eq!(bits("4.5"), Ok(4.5));
        assert_eq!(bits("1"), Ok(1.0));
        for wrong in ["0.9", "32", "-4", "NaN", "inf", "four", ""] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
    }
}
