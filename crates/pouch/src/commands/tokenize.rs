//! `pouch tokenize`: how a model cuts a text into tokens.

use gguf::File;
use serde::Serialize;
use text::{Encode, Tokenizer};

use crate::commands::MODEL_HELP;
use crate::errors::{Failure, InFile};
use crate::printer::Printer;
use crate::{models, prompt};

/// Show how a model cuts a text into tokens
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", help = MODEL_HELP)]
    model: String,

    /// The text; standard input if left out or `-`
    text: Option<String>,

    /// Leave out the tokens that the model wants around every text
    #[arg(long)]
    bare: bool,

    /// Read names of control tokens in the text, such as <|im_start|>, as those tokens
    #[arg(long)]
    special: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  pouch tokenize smollm2-135m \"Hello, world\"
  pouch tokenize model.gguf --json < text.txt
  pouch tokenize smollm2-135m --special \"<|im_start|>user\"";

#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    text: &'a str,
    token_ids: &'a [u32],
    pieces: Vec<&'a str>,
    token_count: usize,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let text = prompt::gather(arguments.text.as_deref(), None)?;
    let path = models::fetch(&models::hub()?, &arguments.model, printer)?;
    let file = File::open(&path)?;
    let tokenizer = Tokenizer::from_metadata(file.metadata()).in_file(&path)?;
    let ids =
        tokenizer.encode(&text, Encode { add_special: !arguments.bare, parse_special: arguments.special });
    if arguments.json {
        return printer.json(&Output {
            model: &arguments.model,
            text: &text,
            token_ids: &ids,
            pieces: ids.iter().map(|&id| tokenizer.piece(id)).collect(),
            token_count: ids.len(),
        });
    }
    for &id in &ids {
        // A token may be a part of a character.
        let bytes = tokenizer.token_bytes(id, true);
        printer.line(&format!("{id:>7}  {:?}", String::from_utf8_lossy(&bytes)))?;
    }
    printer.note(&format!("{} tokens", ids.len()));
    Ok(())
}
