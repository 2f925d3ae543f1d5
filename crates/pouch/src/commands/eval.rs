//! `pouch eval`: how good a model file is, in figures.

use std::path::PathBuf;
use std::sync::Arc;

use evaluate::{Comparison, LogitsFile, Options, Perplexity, Progress};
use kernels::Team;
use model::Model;
use serde::Serialize;

use crate::commands::MODEL_HELP;
use crate::errors::{Failure, InFile};
use crate::generation::{Compute, team};
use crate::printer::{Printer, Unit};
use crate::{memory, models, prompt};

/// Measure a model's perplexity on a text, and its distance from another model
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", help = MODEL_HELP)]
    model: String,

    /// The text to measure on
    #[arg(long, value_name = "FILE")]
    text: PathBuf,

    /// Tokens in a window; figures for different windows cannot be compared
    #[arg(long, value_name = "N", default_value_t = 512)]
    context: usize,

    /// Only the first N windows of the text
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// Compare with a reference, usually the original of a smaller file: a model, or logits that llama-perplexity saved
    #[arg(long, value_name = "OTHER")]
    against: Option<String>,

    #[command(flatten)]
    compute: Compute,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
The text is cut into windows that do not overlap; the second half of each is scored. This is what
llama-perplexity does, so figures for the same text and window can be compared.

Examples:
  pouch eval smollm2-135m --text wikitext.txt
  pouch eval smollm2-135m --text wikitext.txt --chunks 20 --json
  pouch eval small.gguf --text wikitext.txt --against original.gguf";

#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    perplexity: f64,
    perplexity_stderr: f64,
    context: usize,
    windows: usize,
    tokens: usize,
    scored_tokens: u64,
    #[serde(flatten)]
    against: Option<Against<'a>>,
}

#[derive(Serialize)]
struct Against<'a> {
    against: &'a str,
    reference_perplexity: f64,
    kl_mean: f64,
    kl_stderr: f64,
    kl_median: f64,
    kl_p99: f64,
    kl_max: f64,
    top1_agreement: f64,
    top1_stderr: f64,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let text = prompt::read(&arguments.text)?;
    let team = team(arguments.compute.threads);
    let memory = memory::memory(arguments.compute.memory);
    let demand = memory::for_text(arguments.context, Some(arguments.compute.kv_type()), team.threads());
    let open = |name: &str| -> Result<Arc<Model>, Failure> {
        let (model, plan) = models::open(name, &team, &memory, &demand, printer)?;
        memory::tell(&plan, &demand, &model, &memory, printer);
        Ok(model)
    };
    let model = open(&arguments.model)?;
    let options = Options {
        context: arguments.context,
        windows: arguments.chunks,
        kv_type: arguments.compute.kv_type(),
    };
    let bar = printer.bar("measuring", None, Unit::Count);
    let mut progress = |progress: Progress| {
        bar.set_length(progress.windows as u64);
        bar.set_position(progress.done as u64);
        let divergence = progress.kl_mean.map(|mean| format!(", KL {mean:.5}")).unwrap_or_default();
        bar.set_message(format!("perplexity {:.4}{divergence}", progress.perplexity));
    };
    let result = match &arguments.against {
        None => evaluate::perplexity(&model, &team, &text, &options, &mut progress)
            .map_err(Failure::from)
            .map(|perplexity| (perplexity, None)),
        Some(other) => {
            let compared = compare(&model, other, &open, &team, &text, &options, &mut progress);
            compared.map(|comparison| (comparison.tested, Some(comparison)))
        }
    };
    bar.finish_and_clear();
    let (perplexity, comparison) = result?;
    let against = arguments.against.as_deref().zip(comparison);
    if arguments.json {
        print_json(&arguments, &perplexity, against, printer)
    } else {
        print(&perplexity, against, printer)
    }
}

fn compare(
    tested: &Model,
    other: &str,
    open: &dyn Fn(&str) -> Result<Arc<Model>, Failure>,
    team: &Team,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison, Failure> {
    let path = PathBuf::from(other);
    if evaluate::is_logits_file(&path) {
        let mut saved = LogitsFile::open(&path)?;
        return evaluate::against_file(tested, &mut saved, team, Some(text), options, progress)
            .in_file(&path);
    }
    let reference = open(other)?;
    Ok(evaluate::against(tested, &reference, team, text, options, progress)?)
}

fn print(
    perplexity: &Perplexity,
    against: Option<(&str, Comparison)>,
    printer: &Printer,
) -> Result<(), Failure> {
    printer.line(&format!(
        "perplexity      {:.4} +/- {:.4}",
        perplexity.perplexity, perplexity.perplexity_stderr
    ))?;
    if let Some((other, comparison)) = against {
        let reference = &comparison.reference;
        printer.line(&format!(
            "  of {other}  {:.4} +/- {:.4}",
            reference.perplexity, reference.perplexity_stderr
        ))?;
        printer.line(&format!(
            "KL divergence   {:.6} +/- {:.6} nats",
            comparison.kl_mean, comparison.kl_stderr
        ))?;
        printer.line(&format!("  median        {:.6}", comparison.kl_median))?;
        printer.line(&format!("  99th percentile {:.6}", comparison.kl_p99))?;
        printer.line(&format!("  largest       {:.6}", comparison.kl_max))?;
        let (agreement, error) = (comparison.top1_agreement * 100.0, comparison.top1_stderr * 100.0);
        printer.line(&format!("same top token  {agreement:.2} +/- {error:.2} %"))?;
    }
    printer.line(&format!(
        "over {} tokens scored in {} windows of {} ({} tokens in the text)",
        perplexity.scored, perplexity.windows, perplexity.context, perplexity.tokens
    ))
}

fn print_json(
    arguments: &Arguments,
    perplexity: &Perplexity,
    against: Option<(&str, Comparison)>,
    printer: &Printer,
) -> Result<(), Failure> {
    printer.json(&Output {
        model: &arguments.model,
        perplexity: perplexity.perplexity,
        perplexity_stderr: perplexity.perplexity_stderr,
        context: perplexity.context,
        windows: perplexity.windows,
        tokens: perplexity.tokens,
        scored_tokens: perplexity.scored,
        against: against.map(|(against, comparison)| Against {
            against,
            reference_perplexity: comparison.reference.perplexity,
            kl_mean: comparison.kl_mean,
            kl_stderr: comparison.kl_stderr,
            kl_median: comparison.kl_median,
            kl_p99: comparison.kl_p99,
            kl_max: comparison.kl_max,
            top1_agreement: comparison.top1_agreement,
            top1_stderr: comparison.top1_stderr,
        }),
    })
}
