//! What `run` and `chat` share: how answers are made, and the line of figures after each.

use std::sync::Arc;

use engine::{
    DEFAULT_BATCH, Drafts, Engine, Figures, Generation, Limits, SamplerOptions, Session, SessionOptions,
    Speculation,
};
use kernels::Team;
use model::{KvType, Model};

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::models;
use crate::printer::Printer;

/// Options of every command that makes text.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerationArguments {
    #[arg(short, long, value_name = "MODEL", default_value = hub::DEFAULT_MODEL, help = MODEL_HELP)]
    pub(crate) model: String,

    /// Tell the model how to behave: the system message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// Generate at most N tokens an answer
    #[arg(short = 'n', long = "tokens", value_name = "N", default_value_t = 512)]
    pub(crate) tokens: usize,

    /// Freedom of choice: 0 always takes the likeliest token, 1 follows the model's own probabilities
    #[arg(long, value_name = "T", default_value_t = 0.6, allow_negative_numbers = true, help_heading = SAMPLING)]
    temperature: f32,

    /// Choose among the K likeliest tokens only; 0 is off
    #[arg(long, value_name = "K", default_value_t = 40, help_heading = SAMPLING)]
    top_k: usize,

    /// Choose among the fewest tokens whose probabilities sum to P; 1 is off
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true, help_heading = SAMPLING)]
    top_p: f32,

    /// Leave out tokens less than P times as likely as the likeliest; 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.05, allow_negative_numbers = true, help_heading = SAMPLING)]
    min_p: f32,

    /// Make tokens seen among the last 64 less likely; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.1, allow_negative_numbers = true, help_heading = SAMPLING)]
    repeat_penalty: f32,

    /// Same seed, same answer [default: another one each time]
    #[arg(long, value_name = "N", help_heading = SAMPLING)]
    seed: Option<u64>,

    /// Threads to compute with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = MACHINE)]
    pub(crate) threads: Option<u16>,

    /// Tokens that fit, prompt and answer together [default: the model's own, at most 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = MACHINE)]
    context: Option<u32>,

    /// Number format of the keys and values kept for the context: q8_0 takes about half the memory and costs some
    /// accuracy, q4_0 a quarter and costs much
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Kv::F16, help_heading = MACHINE)]
    kv: Kv,

    /// Have a smaller model of the same family guess tokens that the model then checks several at a time
    #[arg(long, value_name = "MODEL", help_heading = MACHINE)]
    draft_model: Option<String>,

    /// Compute one token at a time. Else text that repeats earlier text is guessed and checked several tokens at a
    /// time; the answer is the same
    #[arg(long, conflicts_with = "draft_model", help_heading = MACHINE)]
    no_speculation: bool,
}

const SAMPLING: &str = "Sampling";
const MACHINE: &str = "Machine";

/// Options of the commands that measure a model.
#[derive(Debug, clap::Args)]
pub(crate) struct Compute {
    /// Threads to compute with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the keys and values kept for the context
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Kv::F16)]
    pub(crate) kv: Kv,
}

/// Number formats of the KV cache.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kv {
    F16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> KvType {
        match kv {
            Kv::F16 => KvType::F16,
            Kv::Q8_0 => KvType::Q8_0,
            Kv::Q4_0 => KvType::Q4_0,
        }
    }
}

/// Threads asked for, or all that this process may use.
pub(crate) fn team(threads: Option<u16>) -> Arc<Team> {
    Arc::new(Team::new(threads.map_or_else(engine::default_threads, usize::from)))
}

/// An engine with its model, ready to answer.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) model: Arc<Model>,
    /// The seed in use, given or drawn.
    pub(crate) seed: u64,
}

impl GenerationArguments {
    /// Fetches and opens the model.
    pub(crate) fn open(&self, printer: &Printer) -> Result<Machine, Failure> {
        let team = team(self.threads);
        let model = models::open(&self.model, &team, printer)?;
        let mut engine = Engine::with_team(Arc::clone(&model), Arc::clone(&team), DEFAULT_BATCH);
        if let Some(name) = &self.draft_model {
            engine.set_draft_model(models::open(name, &team, printer)?)?;
        }
        Ok(Machine { engine, model, seed: self.seed.unwrap_or_else(any_seed) })
    }

    /// A session with room for a prompt of `needed` tokens and its answer.
    pub(crate) fn session(
        &self,
        machine: &Machine,
        needed: usize,
        printer: &Printer,
    ) -> Result<Session, Failure> {
        let trained = machine.model.config.context;
        let context = match self.context {
            Some(context) => context as usize,
            None => (needed + self.tokens).max(engine::DEFAULT_CONTEXT).min(trained),
        };
        if context > trained {
            printer.warning(&format!(
                "the model was trained for {trained} tokens; beyond them answers get worse"
            ));
        }
        let options = SessionOptions {
            context: Some(context),
            kv_type: self.kv.into(),
            sampler: SamplerOptions {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repeat_penalty: self.repeat_penalty,
                seed: machine.seed,
                ..SamplerOptions::default()
            },
            limits: Limits { max_tokens: Some(self.tokens), ..Limits::default() },
            speculation: if self.no_speculation { Speculation::Off } else { Speculation::Adaptive },
            shown: Vec::new(),
        };
        Ok(machine.engine.session(options)?)
    }
}

/// A seed that differs from run to run, small enough to be exact in every JSON reader.
fn any_seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    (since.as_nanos() as u64 ^ u64::from(std::process::id()) << 20) % (1 << 32)
}

/// Why an answer is over, as JSON and notes name it.
pub(crate) fn finish_reason(generation: &Generation) -> &'static str {
    generation.end.map_or("interrupted", |end| end.name())
}

/// The figures of an answer in one line.
pub(crate) fn figures_line(generation: &Generation) -> String {
    let figures: &Figures = &generation.figures;
    let first = match figures.time_to_first_token {
        Some(time) => format!("first token after {:.0} ms", time.as_secs_f64() * 1e3),
        None => "no token".to_owned(),
    };
    let reused = match figures.reused_tokens {
        0 => String::new(),
        reused => format!(" (+{reused} kept)"),
    };
    let guessed = match figures.drafts {
        Drafts { drafted: 0, .. } => String::new(),
        Drafts { drafted, accepted } => format!(" | {accepted} of {drafted} guesses right"),
    };
    format!(
        "prompt {}{reused} tokens, {:.1} tok/s | answer {} tokens, {:.1} tok/s{guessed} | {first} | {}",
        figures.prompt_tokens,
        figures.prefill_tok_s(),
        figures.generated_tokens,
        figures.decode_tok_s(),
        finish_reason(generation).replace('_', " "),
    )
}
