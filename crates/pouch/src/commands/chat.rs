//! `pouch chat`: a conversation in the terminal, or line by line through a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::sync::atomic::Ordering;

use engine::{Conversation, Event};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use text::Message;

use crate::errors::Failure;
use crate::generation::{GenerationArguments, Machine, figures_line};
use crate::printer::Printer;
use crate::{interrupt, models};

/// Hold a conversation
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Go on with a conversation that /save wrote
    #[arg(long, value_name = "FILE")]
    load: Option<std::path::PathBuf>,

    #[command(flatten)]
    generation: GenerationArguments,
}

const EXAMPLES: &str = "\
In the conversation:
  /reset        forget everything but the system message
  /save FILE    write the conversation to a file
  /load FILE    go on with a saved conversation
  /help         show these commands
  /exit         end, as Ctrl-D does
Ctrl-C ends an answer. A line that ends in \\ goes on in the next one.

Examples:
  pouch chat
  pouch chat -m qwen2.5-0.5b --system \"You are a patient teacher.\"
  printf 'Hello\\nAnd in French?\\n' | pouch chat --quiet";

const COMMANDS: &str = "/reset, /save FILE, /load FILE, /help, /exit; Ctrl-C ends an answer";

/// Lines of history that are kept.
const HISTORY_LINES: usize = 1000;

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let mut machine = arguments.generation.open(printer)?;
    if machine.model.chat_template.is_fallback() {
        printer.warning("the file has no chat template, so a common one is used; its answers may ramble");
    }
    let session = arguments.generation.session(&machine, 0, printer)?;
    let system = arguments.generation.system.iter().map(|system| Message::new("system", system));
    let mut conversation = Conversation::new(session, system.collect());
    if let Some(path) = &arguments.load {
        conversation.load(path)?;
    }
    interrupt::install()?;
    printer.note(&format!("{} listens; {COMMANDS}", arguments.generation.model));

    let mut input = Input::new()?;
    while let Some(line) = input.message()? {
        let line = line.trim();
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("", _) => {}
            ("/exit" | "/quit", "") => break,
            ("/help", "") => printer.note(&format!("{COMMANDS}; a line that ends in \\ goes on in the next")),
            ("/reset", "") => {
                conversation.reset();
                printer.note("forgotten");
            }
            ("/save" | "/load", "") => printer.warning("which file? write /save FILE or /load FILE"),
            ("/save", file) => match conversation.save(Path::new(file)) {
                Ok(()) => printer.note(&format!("saved to {file}")),
                Err(error) => printer.error(&error.to_string()),
            },
            ("/load", file) => match conversation.load(Path::new(file)) {
                Ok(()) => printer.note(&format!("{} messages loaded", conversation.messages().len())),
                Err(error) => printer.error(&error.to_string()),
            },
            (word, _) if is_command(word) => {
                printer.warning(&format!("there is no command {word}; /help shows those there are"));
            }
            _ => answer(&mut machine, &mut conversation, line, printer)?,
        }
    }
    Ok(())
}

/// Whether a word is meant as a command rather than, say, a path: a slash and letters.
fn is_command(word: &str) -> bool {
    word.strip_prefix('/')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// One answer, streamed. What the engine refuses is told, and the conversation goes on.
fn answer(
    machine: &mut Machine,
    conversation: &mut Conversation,
    line: &str,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut shown = Ok(());
    let answer = interrupt::during(|cancel| {
        conversation.say(&mut machine.engine, Message::new("user", line), cancel, &mut |event| {
            if let (Event::Text(piece), Ok(())) = (event, &shown) {
                shown = printer.text(piece);
                cancel.fetch_or(shown.is_err(), Ordering::SeqCst);
            }
        })
    });
    shown?;
    printer.end_line()?;
    match answer {
        Ok(generation) => printer.note(&figures_line(&generation)),
        Err(error @ engine::Error::ContextFull { .. }) => {
            printer.error(&format!("{error}; /reset starts anew, --context gives more room"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Where messages come from.
enum Input {
    Terminal { editor: Box<DefaultEditor>, history: std::path::PathBuf },
    Pipe,
}

impl Input {
    fn new() -> Result<Input, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        let cache = models::hub()?.settings().cache.clone();
        let fail =
            |error: ReadlineError| Failure::io("read", Path::new("the terminal"), io::Error::other(error));
        let configuration = rustyline::Config::builder().auto_add_history(true);
        let configuration = configuration.max_history_size(HISTORY_LINES).map_err(fail)?.build();
        let mut editor = DefaultEditor::with_config(configuration).map_err(fail)?;
        let history = cache.join("chat-history.txt");
        // Without a history of earlier chats this one still works.
        let _ = editor.load_history(&history);
        Ok(Input::Terminal { editor: Box::new(editor), history })
    }

    /// The next message, its continued lines joined; `None` at the end.
    fn message(&mut self) -> Result<Option<String>, Failure> {
        let mut message = String::new();
        loop {
            let prompt = if message.is_empty() { "> " } else { ". " };
            let Some(line) = self.line(prompt)? else {
                return Ok((!message.is_empty()).then_some(message));
            };
            match line.strip_suffix('\\') {
                Some(part) => {
                    message.push_str(part);
                    message.push('\n');
                }
                None => return Ok(Some(message + &line)),
            }
        }
    }

    fn line(&mut self, prompt: &str) -> Result<Option<String>, Failure> {
        match self {
            Input::Terminal { editor, history } => match editor.readline(prompt) {
                Ok(line) => {
                    let _ = history.parent().map(std::fs::create_dir_all);
                    let _ = editor.append_history(history);
                    Ok(Some(line))
                }
                // Ctrl-C drops the line, Ctrl-D ends the chat.
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(Failure::io("read", Path::new("the terminal"), io::Error::other(error))),
            },
            Input::Pipe => {
                let mut line = String::new();
                let count = io::stdin().lock().read_line(&mut line);
                let count =
                    count.map_err(|source| Failure::io("read", Path::new("standard input"), source))?;
                Ok((count > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_commands() {
        assert!(is_command("/foo"));
        assert!(!is_command("/etc/passwd") && !is_command("/") && !is_command("/2") && !is_command("no"));
    }
}
