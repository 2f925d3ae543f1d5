//! `pouch run`: one answer to one prompt.

use std::path::PathBuf;
use std::time::Instant;

use engine::{Event, encode_prompt, generate};
use serde::Serialize;
use text::{Message, Render};

use crate::errors::Failure;
use crate::generation::{AnswerFigures, GenerationArguments, Machine, Started, finish_reason};
use crate::memory::Told;
use crate::printer::Printer;
use crate::{interrupt, prompt};

/// Answer one prompt
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to answer; standard input if left out or `-`
    prompt: Option<String>,

    /// Read the prompt from a file; with PROMPT, the file's text follows it
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Continue the text as it is, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,

    /// Print one JSON object instead of streaming
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    generation: GenerationArguments,
}

const EXAMPLES: &str = "\
Ctrl-C ends the answer; its figures are printed all the same.

Examples:
  pouch run \"Why is the sky blue?\"
  pouch run -m qwen2.5-0.5b --system \"Answer in French.\" \"Good morning\"
  pouch run \"Summarise this text:\" --file report.txt
  git diff | pouch run -m qwen2.5-coder-0.5b --system \"Write a commit message.\"
  pouch run -m qwen2.5-coder-1.5b --draft-model qwen2.5-coder-0.5b \"Sort a list in C\"
  pouch run --raw -n 64 --temperature 0 \"Once upon a time\"
  pouch run --json --seed 7 \"Name three rivers\"";

#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    text: &'a str,
    token_ids: &'a [u32],
    finish_reason: &'a str,
    prompt_tokens: usize,
    generated_tokens: usize,
    prefill_tok_s: f64,
    decode_tok_s: f64,
    drafted_tokens: usize,
    accepted_tokens: usize,
    time_to_first_token_ms: Option<f64>,
    load_ms: f64,
    seed: u64,
    threads: usize,
    context: usize,
    residency: Told,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let text = prompt::gather(arguments.prompt.as_deref(), arguments.file.as_deref())?;
    if text.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty".to_owned()));
    }
    let start = Instant::now();
    let machine = arguments.generation.open(printer)?;
    let load = start.elapsed();
    let tokens = prompt_tokens(&arguments, &text, &machine, printer)?;
    let Started { mut engine, mut session, plan } =
        arguments.generation.start(&machine, Some(tokens.len()), printer)?;
    session.push(&tokens)?;

    interrupt::install()?;
    let mut shown = Ok(());
    let generation = interrupt::during(|cancel| {
        generate(&mut engine, &mut session, cancel, &mut |event| {
            if let (Event::Text(piece), false, Ok(())) = (event, arguments.json, &shown) {
                shown = printer.text(piece);
                // Nobody reads on: no reason to go on writing.
                cancel.fetch_or(shown.is_err(), std::sync::atomic::Ordering::SeqCst);
            }
        })
    })?;
    shown?;
    if arguments.json {
        let figures = &generation.figures;
        printer.json(&Output {
            model: arguments.generation.model(),
            text: &generation.text,
            token_ids: &generation.token_ids,
            finish_reason: finish_reason(&generation),
            prompt_tokens: figures.prompt_tokens,
            generated_tokens: figures.generated_tokens,
            prefill_tok_s: figures.prefill_tok_s(),
            decode_tok_s: figures.decode_tok_s(),
            drafted_tokens: figures.drafts.drafted,
            accepted_tokens: figures.drafts.accepted,
            time_to_first_token_ms: figures.time_to_first_token.map(|time| time.as_secs_f64() * 1e3),
            load_ms: load.as_secs_f64() * 1e3,
            seed: machine.seed,
            threads: engine.team().threads(),
            context: session.context(),
            residency: Told::of(&plan),
        })?;
    } else {
        printer.end_line()?;
    }
    printer.note(&AnswerFigures::of(&generation).line());
    Ok(())
}

/// The prompt as the model wants it.
fn prompt_tokens(
    arguments: &Arguments,
    text: &str,
    machine: &Machine,
    printer: &Printer,
) -> Result<Vec<u32>, Failure> {
    let model = &machine.model;
    if arguments.raw {
        return Ok(encode_prompt(&model.tokenizer, text, false));
    }
    if model.chat_template.is_fallback() {
        printer.warning(
            "the file has no chat template, so a common one is used; --raw continues the text instead",
        );
    }
    let system = arguments.generation.system.iter().map(|system| Message::new("system", system));
    let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
    let render = Render { add_generation_prompt: true, ..Render::default() };
    Ok(encode_prompt(&model.tokenizer, &model.chat_template.render(&messages, render)?, true))
}
