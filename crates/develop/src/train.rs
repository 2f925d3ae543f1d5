//! `train`: a small model from nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compress::float::Source;
use compress::journal::Journal;
use compress::train::{Schedule, Shape, Trainer, start};
use sha2::{Digest, Sha256};
use text::Encode;

/// Train a small model in F32 from scratch
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The file to write
    file: PathBuf,

    /// The text to learn
    #[arg(long, value_name = "FILE")]
    text: PathBuf,

    /// Steps of training
    #[arg(long, value_name = "N", default_value_t = 1000)]
    steps: usize,

    /// Windows of text in a step
    #[arg(long, value_name = "N", default_value_t = 4)]
    windows: usize,

    /// Tokens in a window, and the context of the model
    #[arg(long, value_name = "N", default_value_t = 256)]
    length: usize,

    /// The highest learning rate
    #[arg(long, value_name = "X", default_value_t = 3e-3)]
    rate: f32,

    /// Blocks
    #[arg(long, value_name = "N", default_value_t = 6)]
    layers: usize,

    /// Width of the residual stream
    #[arg(long, value_name = "N", default_value_t = 256)]
    width: usize,

    /// Attention heads
    #[arg(long, value_name = "N", default_value_t = 4)]
    heads: usize,

    /// Width of the feed-forward blocks
    #[arg(long, value_name = "N", default_value_t = 768)]
    feed_forward: usize,

    /// Tokens of the vocabulary, which is learned from the text
    #[arg(long, value_name = "N", default_value_t = 2048)]
    vocabulary: usize,

    /// The same seed gives the same model
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

const EXAMPLES: &str = "\
The state is kept every two minutes in a folder beside the file: a killed run, started again with the same
arguments, goes on from there. Widths that are whole multiples of 256 fit every number format.

Examples:
  develop train small.gguf --text book.txt
  develop train smaller.gguf --text book.txt --layers 4 --feed-forward 512 --steps 2000";

/// How often the state is kept.
const KEEP: Duration = Duration::from_secs(120);
/// How often a line is printed.
const TELL: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let told = |error: compress::Error| error.to_string();
    let text = std::fs::read_to_string(&arguments.text)
        .map_err(|error| format!("cannot read {}: {error}", arguments.text.display()))?;
    let folder = beside(&arguments.file);
    let journal = Journal::open(&folder, &key(arguments, &text)).map_err(told)?;
    let first = journal.path("start.gguf");
    if !first.is_file() {
        let shape = Shape {
            layers: arguments.layers,
            width: arguments.width,
            heads: arguments.heads,
            kv_heads: arguments.heads,
            feed_forward: arguments.feed_forward,
            context: arguments.length,
            vocabulary: arguments.vocabulary,
        };
        start(&first, &shape, &text, arguments.seed).map_err(told)?;
    }
    let source = Source::open(&first).map_err(told)?;
    let tokens = source.tokenizer.encode(&text, Encode { add_special: false, parse_special: false });
    if tokens.len() <= arguments.length {
        return Err(format!("the text has {} tokens, fewer than a window", tokens.len()));
    }
    eprintln!("{} tokens of text, {:.2} bytes each", tokens.len(), text.len() as f64 / tokens.len() as f64);
    let schedule = Schedule {
        steps: arguments.steps,
        windows: arguments.windows,
        length: arguments.length,
        rate: arguments.rate,
        seed: arguments.seed,
    };
    let mut trainer = Trainer::new(&source, &tokens, schedule).map_err(told)?;
    trainer.resume(&journal).map_err(told)?;
    train(arguments, &mut trainer, &journal).map_err(told)?;
    trainer.write(&arguments.file, source.file.metadata()).map_err(told)?;
    drop(trainer);
    drop(source);
    journal.remove().map_err(told)
}

/// All steps that are left.
fn train(arguments: &Arguments, trainer: &mut Trainer<'_>, journal: &Journal) -> Result<(), compress::Error> {
    let (begun, first) = (Instant::now(), trainer.done());
    let (mut told, mut kept) = (begun, begun);
    let (mut sum, mut count) = (0.0, 0);
    while trainer.done() < arguments.steps {
        let step = trainer.step();
        sum += step.loss;
        count += 1;
        if told.elapsed() > TELL || step.done == arguments.steps {
            let seconds = begun.elapsed().as_secs_f64() / (step.done - first) as f64;
            let (pace, left) = (arguments.windows * arguments.length, arguments.steps - step.done);
            eprintln!(
                "step {:5} of {}  loss {:.3}  {:.0} tok/s  {:.0} s left",
                step.done,
                arguments.steps,
                sum / f64::from(count),
                pace as f64 / seconds,
                seconds * left as f64
            );
            (sum, count, told) = (0.0, 0, Instant::now());
        }
        if kept.elapsed() > KEEP {
            trainer.save(journal)?;
            kept = Instant::now();
        }
    }
    Ok(())
}

/// The folder of a run.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".training");
    file.with_file_name(name)
}

/// What makes a run another one.
fn key(arguments: &Arguments, text: &str) -> String {
    let Arguments {
        steps, windows, length, rate, layers, width, heads, feed_forward, vocabulary, seed, ..
    } = arguments;
    format!(
        "{steps} {windows} {length} {rate} {layers} {width} {heads} {feed_forward} {vocabulary} {seed} {:x}",
        Sha256::digest(text)
    )
}
