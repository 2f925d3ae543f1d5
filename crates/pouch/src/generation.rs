//! What `run` and `chat` share: how answers are made, and the line of figures after each.

use std::sync::Arc;

use device::Residency;
use engine::{
    DEFAULT_BATCH, Drafts, Engine, Figures, Generation, Limits, Memory, SamplerOptions, Session,
    SessionOptions, Speculation, conversations,
};
use kernels::Team;
use model::{KvType, Model};
use serde_json::{Map, Value};

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::memory::MEMORY_HELP;
use crate::printer::Printer;
use crate::{memory, models, units};

/// Options of every command that makes text.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerationArguments {
    #[arg(short, long, value_name = "MODEL", help = format!("{MODEL_HELP} [default: {}]", hub::DEFAULT_MODEL))]
    model: Option<String>,

    /// Tell the model how to behave: the system message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// Generate at most N tokens an answer [default: 512]
    #[arg(short = 'n', long = "tokens", value_name = "N")]
    tokens: Option<usize>,

    /// Freedom of choice: 0 always takes the likeliest token, 1 follows the model's own probabilities [default: 0.6]
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = SAMPLING)]
    temperature: Option<f32>,

    /// Choose among the K likeliest tokens only; 0 is off [default: 40]
    #[arg(long, value_name = "K", help_heading = SAMPLING)]
    top_k: Option<usize>,

    /// Choose among the fewest tokens whose probabilities sum to P; 1 is off [default: 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = SAMPLING)]
    top_p: Option<f32>,

    /// Leave out tokens less than P times as likely as the likeliest; 0 is off [default: 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = SAMPLING)]
    min_p: Option<f32>,

    /// Make tokens seen among the last 64 less likely; 1 is off [default: 1.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = SAMPLING)]
    repeat_penalty: Option<f32>,

    /// Same seed, same answer [default: another one each time]
    #[arg(long, value_name = "N", help_heading = SAMPLING)]
    seed: Option<u64>,

    /// Threads to compute with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u16>,

    /// Tokens that fit, prompt and answer together [default: the model's own, at most 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = MACHINE)]
    context: Option<u32>,

    /// Number format of the keys and values kept for the context: q8_0 takes about half the memory and costs some
    /// accuracy, q4_0 a quarter and costs much [default: f16, or q8_0 where only that fits]
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = MACHINE)]
    kv: Option<Kv>,

    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes, help = MEMORY_HELP, help_heading = MACHINE)]
    memory: Option<u64>,

    /// Have a smaller model of the same family guess tokens that the model then checks several at a time
    #[arg(long, value_name = "MODEL", help_heading = MACHINE)]
    draft_model: Option<String>,

    /// Compute one token at a time. Else text that repeats earlier text is guessed and checked several tokens at a
    /// time; the answer is the same
    #[arg(long, conflicts_with = "draft_model", help_heading = MACHINE)]
    no_speculation: bool,
}

const TOKENS: usize = 512;
const TEMPERATURE: f32 = 0.6;
const TOP_K: usize = 40;
const TOP_P: f32 = 0.95;
const MIN_P: f32 = 0.05;
const REPEAT_PENALTY: f32 = 1.1;

const SAMPLING: &str = "Sampling";
const MACHINE: &str = "Machine";

/// Options of the commands that measure a model.
#[derive(Debug, clap::Args)]
pub(crate) struct Compute {
    /// Threads to compute with [default: the fast cores this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the keys and values kept for the context [default: f16]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) kv: Option<Kv>,

    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes, help = MEMORY_HELP)]
    pub(crate) memory: Option<u64>,
}

impl Compute {
    /// How keys and values are kept unless there is a reason to keep them otherwise.
    pub(crate) fn kv_type(&self) -> KvType {
        self.kv.unwrap_or(Kv::F16).into()
    }
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
    Arc::new(Team::new(threads.map_or_else(device::default_threads, usize::from)))
}

/// A model that is open, and what runs it.
pub(crate) struct Machine {
    pub(crate) team: Arc<Team>,
    pub(crate) model: Arc<Model>,
    draft_model: Option<Arc<Model>>,
    pub(crate) memory: Memory,
    /// The seed in use, given or drawn.
    pub(crate) seed: u64,
}

/// An engine with a session that fits into the memory there is, and how.
pub(crate) struct Started {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    pub(crate) plan: Residency,
}

impl GenerationArguments {
    /// The model asked for.
    pub(crate) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(hub::DEFAULT_MODEL)
    }

    /// The model, if one was named.
    pub(crate) fn named_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// An option that was given and that no server takes from its clients.
    pub(crate) fn for_this_process(&self) -> Option<&'static str> {
        let given = [
            (self.threads.is_some(), "--threads"),
            (self.context.is_some(), "--context"),
            (self.kv.is_some(), "--kv"),
            (self.memory.is_some(), "--memory"),
            (self.draft_model.is_some(), "--draft-model"),
            (self.no_speculation, "--no-speculation"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// What was given of what a conversation has for settings, as the fields of a request.
    pub(crate) fn settings(&self) -> Map<String, Value> {
        let settings = [
            ("system", self.system.as_deref().map(Value::from)),
            ("max_tokens", self.tokens.map(Value::from)),
            ("temperature", self.temperature.map(number)),
            ("top_k", self.top_k.map(Value::from)),
            ("top_p", self.top_p.map(number)),
            ("min_p", self.min_p.map(number)),
            ("repeat_penalty", self.repeat_penalty.map(number)),
            ("seed", self.seed.map(Value::from)),
        ];
        settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// Fetches and opens the model.
    pub(crate) fn open(&self, printer: &Printer) -> Result<Machine, Failure> {
        let team = team(self.threads);
        let memory = memory::memory(self.memory);
        let look = memory::for_a_look(self.kv.map(KvType::from), team.threads());
        let open = |name: &str| models::open(name, &team, &memory, &look, printer);
        // First, for it must stay in memory as a whole: the other model gets what it leaves.
        let draft_model = match self.draft_model.as_deref().map(open).transpose()? {
            Some((_, plan)) if plan.streams() => return Err(engine::Error::DraftStreams.into()),
            opened => opened.map(|(model, _)| model),
        };
        let (model, _) = open(self.model())?;
        Ok(Machine { team, model, draft_model, memory, seed: self.seed.unwrap_or_else(any_seed) })
    }

    /// An engine, and a session with room for a prompt of `needed` tokens and its answer, or for a conversation.
    pub(crate) fn start(
        &self,
        machine: &Machine,
        needed: Option<usize>,
        printer: &Printer,
    ) -> Result<Started, Failure> {
        let Machine { team, model, draft_model, memory, seed } = machine;
        let trained = model.config.context;
        let tokens = self.tokens.unwrap_or(TOKENS);
        let chosen = self.context.map(|context| context as usize);
        let most = needed.unwrap_or(0) + tokens;
        let mut context = chosen.unwrap_or(most.max(engine::DEFAULT_CONTEXT).min(trained));
        if context > trained {
            printer.warning(&format!(
                "the model was trained for {trained} tokens; beyond them answers get worse"
            ));
        }
        let kv_type = self.kv.map(KvType::from);
        let demand = match needed {
            Some(_) => memory::for_text(most.min(context), kv_type, team.threads()),
            None => conversations(chosen, kv_type, DEFAULT_BATCH, Some(team.threads())),
        };
        let plan = match draft_model {
            Some(draft_model) => memory.fit_with_draft(model, draft_model, &demand)?,
            None => memory.fit(model, &demand)?,
        };
        memory::tell(&plan, &demand, model, memory, printer);
        if needed.is_none() {
            context = context.min(plan.context);
        }
        let mut engine = Engine::within(Arc::clone(model), Arc::clone(team), plan.batch, memory.clone())?;
        if let Some(draft_model) = draft_model {
            engine.set_draft_model(Arc::clone(draft_model))?;
        }
        let options = SessionOptions {
            context: Some(context),
            kv_type: plan.kv_type,
            sampler: SamplerOptions {
                temperature: self.temperature.unwrap_or(TEMPERATURE),
                top_k: self.top_k.unwrap_or(TOP_K),
                top_p: self.top_p.unwrap_or(TOP_P),
                min_p: self.min_p.unwrap_or(MIN_P),
                repeat_penalty: self.repeat_penalty.unwrap_or(REPEAT_PENALTY),
                seed: *seed,
                ..SamplerOptions::default()
            },
            limits: Limits { max_tokens: Some(tokens), ..Limits::default() },
            speculation: if self.no_speculation { Speculation::Off } else { Speculation::Adaptive },
            shown: Vec::new(),
        };
        let session = engine.session(options)?;
        Ok(Started { engine, session, plan })
    }
}

/// What requests say where nobody says anything else.
pub(crate) fn default_settings() -> Map<String, Value> {
    let settings = [
        ("max_tokens", TOKENS.into()),
        ("temperature", number(TEMPERATURE)),
        ("top_k", TOP_K.into()),
        ("top_p", number(TOP_P)),
        ("min_p", number(MIN_P)),
        ("repeat_penalty", number(REPEAT_PENALTY)),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// As people write it: 0.6, not the number of 64 bits that is nearest to the one of 32.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
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

/// The figures of an answer, whoever made it.
pub(crate) struct AnswerFigures<'a> {
    /// Tokens of the prompt that were computed, and those that needed not be.
    pub(crate) prompt: usize,
    pub(crate) reused: usize,
    pub(crate) prefill_tok_s: f64,
    pub(crate) answer: usize,
    pub(crate) decode_tok_s: f64,
    pub(crate) drafts: Drafts,
    pub(crate) first_token_ms: Option<f64>,
    pub(crate) end: &'a str,
}

impl AnswerFigures<'static> {
    pub(crate) fn of(generation: &Generation) -> AnswerFigures<'static> {
        let figures: &Figures = &generation.figures;
        AnswerFigures {
            prompt: figures.prompt_tokens,
            reused: figures.reused_tokens,
            prefill_tok_s: figures.prefill_tok_s(),
            answer: figures.generated_tokens,
            decode_tok_s: figures.decode_tok_s(),
            drafts: figures.drafts,
            first_token_ms: figures.time_to_first_token.map(|time| time.as_secs_f64() * 1e3),
            end: finish_reason(generation),
        }
    }
}

impl AnswerFigures<'_> {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        let first = match self.first_token_ms {
            Some(time) => format!("first token after {time:.0} ms"),
            None => "no token".to_owned(),
        };
        let reused = match self.reused {
            0 => String::new(),
            reused => format!(" (+{reused} kept)"),
        };
        let guessed = match self.drafts {
            Drafts { drafted: 0, .. } => String::new(),
            Drafts { drafted, accepted } => format!(" | {accepted} of {drafted} guesses right"),
        };
        format!(
            "prompt {}{reused} tokens, {:.1} tok/s | answer {} tokens, {:.1} tok/s{guessed} | {first} | {}",
            self.prompt,
            self.prefill_tok_s,
            self.answer,
            self.decode_tok_s,
            self.end.replace('_', " "),
        )
    }
}
