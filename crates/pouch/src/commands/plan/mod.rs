//! `pouch plan`: what a model will do on a device, known before it is loaded or even fetched.

mod page;
mod print;

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use device::predict::{Fit, Plan, Recommendation};
use device::profile::catalogue;
use device::{Profile, Setting, Shape, plan, probe};
use serde::Serialize;

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::generation::Kv;
use crate::printer::{Printer, Unit};
use crate::{models, units};

/// Tell what a model will do on a device: does it fit, how fast is it, how is it best run
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("device").args(["phone", "here"])))]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", default_value = hub::DEFAULT_MODEL, help = MODEL_HELP)]
    model: String,

    /// The device: a profile's name, `all` of them ranked, or the file that `pouch probe -o` wrote
    #[arg(long, value_name = "PROFILE")]
    phone: Option<String>,

    /// This device, measured now for the formats of this model [default]
    #[arg(long)]
    here: bool,

    /// Tokens there shall be room for [default: the model's own context, at most 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,

    /// Tokens of the prompt that the first token waits for [default: 512, or the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,

    /// Tokens in the context when decoding is timed [default: the prompt]
    #[arg(long, value_name = "N")]
    at_context: Option<u32>,

    /// Tokens of a prompt that are computed together
    #[arg(long, value_name = "N", default_value_t = engine::DEFAULT_BATCH as u32, value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: u32,

    /// Threads [default: those that are fastest, for prompts and for answers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Number format of the keys and values kept for the context
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Kv::F16)]
    kv: Kv,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Write a page with tables and plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Of a model that is not here only the header is read. Figures of phones are estimates from public
data; `pouch probe -o` measures a device, and docs/plan.md tells how far to trust either.

Examples:
  pouch plan smollm2-135m
  pouch plan qwen3-4b --phone galaxy-s24-ultra --context 4096
  pouch plan hf:Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf --phone all --html plan.html
  pouch plan model.gguf --phone my-phone.toml --json";

/// Everything that was found out.
#[derive(Serialize)]
struct Report {
    /// As it was asked for.
    model: String,
    /// `general.name`.
    name: Option<String>,
    architecture: String,
    parameters: u64,
    /// Tensor data.
    bytes: u64,
    bits_per_weight: f64,
    context: usize,
    kv: &'static str,
    batch: usize,
    prompt: usize,
    at_context: usize,
    plans: Vec<Planned>,
}

/// One device.
#[derive(Serialize)]
struct Planned {
    profile: String,
    device: String,
    chip: String,
    system: &'static str,
    /// Whether speeds follow from measurements on the device.
    measured: bool,
    /// Figures of the profile that nobody states.
    estimated_figures: usize,
    #[serde(flatten)]
    plan: Plan,
    #[serde(skip)]
    description: Profile,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let hub = models::hub()?;
    let described = models::describe(&hub, &arguments.model, printer)?;
    let shape = Shape::new(&described.metadata, &described.tensors)?;
    let setting = arguments.setting(&shape)?;
    let mut plans: Vec<Planned> = profiles(&arguments, &shape, printer)?
        .into_iter()
        .map(|(id, profile)| Planned::new(id, profile, &shape, &setting))
        .collect();
    if plans.len() > 1 {
        plans.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    }
    let report = Report {
        model: arguments.model.clone(),
        name: shape.config.name.clone(),
        architecture: shape.config.architecture.clone(),
        parameters: shape.parameters,
        bytes: shape.tensor_bytes,
        bits_per_weight: shape.bits_per_weight(),
        context: setting.context,
        kv: setting.kv_type.name(),
        batch: setting.batch,
        prompt: setting.prompt,
        at_context: setting.at_context,
        plans,
    };
    if let Some(path) = &arguments.html {
        std::fs::write(path, page::page(&report)).map_err(|source| Failure::io("write", path, source))?;
    }
    if arguments.json {
        return printer.json(&report);
    }
    print::print(&report, printer)?;
    arguments.html.iter().for_each(|path| printer.note(&format!("page at {}", path.display())));
    Ok(())
}

impl Arguments {
    fn setting(&self, shape: &Shape) -> Result<Setting, Failure> {
        let usual = shape.config.context.min(engine::DEFAULT_CONTEXT);
        let context = self.context.map_or(usual, |context| context as usize);
        let prompt = self.prompt.map_or(context.min(512), |prompt| prompt as usize);
        let at_context = self.at_context.map_or(prompt, |tokens| tokens as usize);
        let kv_type = model::KvType::from(self.kv);
        if prompt.max(at_context) > context {
            return Err(Failure::Usage(format!("a context of {context} tokens has no room for these")));
        }
        if !kv_type.fits(shape.config.head_dim) {
            let head_dim = shape.config.head_dim;
            return Err(model::Error::KvType { kv_type: kv_type.name(), head_dim }.into());
        }
        let threads = self.threads.map(usize::from);
        Ok(Setting { context, kv_type, batch: self.batch as usize, prompt, at_context, threads })
    }
}

/// The devices asked for, by name.
fn profiles(
    arguments: &Arguments,
    shape: &Shape,
    printer: &Printer,
) -> Result<Vec<(String, Profile)>, Failure> {
    match arguments.phone.as_deref() {
        Some("all") => {
            Ok(catalogue::all()?.into_iter().map(|(id, profile)| (id.to_owned(), profile)).collect())
        }
        Some(name) => Ok(vec![profile(name)?]),
        None => Ok(vec![("here".to_owned(), here(shape, arguments.threads, printer)?)]),
    }
}

/// A profile by its name in the catalogue or its file.
pub(crate) fn profile(name: &str) -> Result<(String, Profile), Failure> {
    let path = Path::new(name);
    if path.extension().is_some_and(|ending| ending == "toml") || path.is_file() {
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return Ok((stem, Profile::open(path)?));
    }
    Ok((name.to_owned(), catalogue::find(name)?))
}

/// This device, measured for what the model needs.
fn here(shape: &Shape, threads: Option<u16>, printer: &Printer) -> Result<Profile, Failure> {
    let mut formats: Vec<&'static kernels::Format> = Vec::new();
    for matrix in shape.matrices() {
        if !formats.iter().any(|format| format.id == matrix.format.id) {
            formats.push(matrix.format);
        }
    }
    let most = threads.map_or_else(device::default_threads, usize::from);
    let folder = models::hub()?.settings().cache.clone();
    let options = probe::Options {
        root: Path::new("/"),
        folder: Some(&folder),
        threads: if most > 1 { vec![1, most] } else { vec![1] },
        formats,
        by: super::probe::by(),
    };
    let bar = printer.bar("measuring this device", Some(1), Unit::Count);
    let measured = probe::measure(&options, &|done, steps| {
        bar.set_length(steps as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(measured?.0)
}

impl Planned {
    fn new(id: String, profile: Profile, shape: &Shape, setting: &Setting) -> Planned {
        let memory = &profile.memory;
        let figures = [&memory.total_gb, &memory.free_gb, &memory.limit_gb]
            .into_iter()
            .chain(&memory.bandwidth_gb_s)
            .chain(profile.cores.iter().filter_map(|cores| cores.ghz.as_ref()))
            .chain(profile.storage.iter().map(|storage| &storage.read_gb_s));
        Planned {
            profile: id,
            device: profile.name.clone(),
            chip: profile.chip.clone(),
            system: profile.system.name(),
            measured: profile.measured.is_some(),
            estimated_figures: figures.filter(|figure| figure.is_estimated()).count(),
            plan: plan(&profile, shape, setting),
            description: profile,
        }
    }
}

/// What devices are ranked by: those that it fits first, then the speed of answers.
fn rank(planned: &Planned) -> f64 {
    let fits = match planned.plan.verdict.fit {
        Fit::Fits => 2e6,
        Fit::Streams { .. } => 1e6,
        Fit::Killed => 0.0,
    };
    fits + planned.plan.decode.map_or(0.0, |speed| speed.tok_s)
}

/// `fits`, `streams, 12 of 28 layers stay`, `killed`.
fn fit(planned: &Planned) -> String {
    match planned.plan.verdict.fit {
        Fit::Fits => "fits".to_owned(),
        Fit::Streams { .. } => format!("must stream, {}", stays(&planned.plan.recommendation)),
        Fit::Killed => "will be killed".to_owned(),
    }
}

/// `12 of 28 layers stay`, `900 of 6144 experts stay`.
fn stays(recommendation: &Recommendation) -> String {
    let &Recommendation { resident_layers, layers, resident_experts, experts, .. } = recommendation;
    match experts {
        0 => format!("{resident_layers} of {layers} layers stay"),
        _ => format!("{resident_experts} of {experts} experts stay"),
    }
}

/// The memory table: what, bytes, what can be done about it.
fn memory_rows(planned: &Planned, kv: &str, context: usize) -> Vec<[String; 3]> {
    let memory = &planned.plan.memory;
    let row = |what: &str, bytes: u64, about: &str| [what.to_owned(), units::bytes(bytes), about.to_owned()];
    let mut rows = vec![
        row("weights", memory.weights_bytes, "mapped: the system can drop and read them again"),
        row("model file", memory.file_bytes, "mapped: the embeddings that are used"),
        row("program", memory.program_bytes, "mapped"),
        row(&format!("KV cache {}", kv), memory.kv_cache_bytes, &format!("{context} tokens")),
        row("buffers", memory.buffers_bytes, "activations and logits"),
        row("vocabulary", memory.vocabulary_bytes, "the tokenizer's tables"),
        row("other", memory.other_bytes, "threads, small weights"),
    ];
    if memory.streaming_bytes > 0 {
        rows.push(row("streaming", memory.streaming_bytes, "layers on their way from storage"));
    }
    rows
}
