//! `pouch chat`: a conversation in the terminal, or line by line through a pipe; in this process, or through a server that runs.

mod alone;
mod document;
mod input;
mod shared;
mod stream;

use std::path::{Path, PathBuf};

use client::Client;
use hub::Folder;

use crate::errors::Failure;
use crate::generation::GenerationArguments;
use crate::interrupt;
use crate::printer::Printer;

use alone::Alone;
use input::Input;
use shared::Shared;

/// Hold a conversation
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Go on with a conversation that /save wrote
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,

    /// Go on with a conversation that the server keeps, the latest one without ID
    #[arg(long = "continue", value_name = "ID", num_args = 0..=1, conflicts_with_all = ["load", "alone"])]
    resume: Option<Option<String>>,

    /// Open the model here even if a server runs, and keep nothing
    #[arg(long)]
    alone: bool,

    /// The data folder of the server to go through [default: the user's data folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "alone")]
    data: Option<PathBuf>,

    #[command(flatten)]
    generation: GenerationArguments,
}

const EXAMPLES: &str = "\
Where `pouch serve` runs with the same data folder, the chat goes through it: no model is opened twice, and the conversation is kept,
so that the web page shows it and either can go on with it.

In the conversation:
  /reset        forget everything but the system message
  /save FILE    write the conversation to a file
  /load FILE    go on with a saved conversation
  /list         conversations that the server keeps
  /open N       go on with one of them, by its number in the list or its id
  /help         show these commands
  /exit         end, as Ctrl-D does
Ctrl-C ends an answer. A line that ends in \\ goes on in the next one.

Examples:
  pouch chat
  pouch chat -m qwen2.5-0.5b --system \"You are a patient teacher.\"
  pouch chat --continue
  printf 'Hello\\nAnd in French?\\n' | pouch chat --quiet";

/// A conversation, wherever it is held.
trait Talk {
    /// Who answers, and by which way.
    fn greeting(&self) -> String;

    /// The commands that it has.
    fn commands(&self) -> &'static str;

    /// Has a message answered and shows the answer. What is refused is told, and the conversation goes on.
    fn say(&mut self, line: &str, printer: &Printer) -> Result<(), Failure>;

    /// Begins anew, with the system message alone.
    fn reset(&mut self, printer: &Printer);

    fn save(&self, path: &Path) -> Result<(), Failure>;

    /// Takes over a saved conversation; returns how many messages it has.
    fn load(&mut self, path: &Path) -> Result<usize, Failure>;

    /// Shows the conversations that are kept.
    fn list(&mut self, printer: &Printer) -> Result<(), Failure>;

    /// Goes on with one of them.
    fn open(&mut self, which: &str, printer: &Printer) -> Result<(), Failure>;
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let mut talk: Box<dyn Talk> = match arguments.server(printer)? {
        Some((client, model)) => Box::new(Shared::new(client, model, &arguments.generation)),
        None if arguments.resume.is_some() => {
            let message =
                "--continue goes on with what a server keeps, and none can be asked: start `pouch serve`";
            return Err(Failure::Usage(message.to_owned()));
        }
        None => Box::new(Alone::new(&arguments.generation, printer)?),
    };
    if let Some(path) = &arguments.load {
        talk.load(path)?;
    }
    interrupt::install()?;
    if let Some(which) = &arguments.resume {
        talk.open(which.as_deref().unwrap_or("1"), printer)?;
    }
    printer.note(&format!("{}; {}", talk.greeting(), talk.commands()));

    let mut input = Input::new()?;
    while let Some(line) = input.message()? {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()));
        let done = match (word, rest) {
            ("", _) => Ok(()),
            ("/exit" | "/quit", "") => break,
            ("/help", "") => {
                printer.note(&format!("{}; a line that ends in \\ goes on in the next", talk.commands()));
                Ok(())
            }
            ("/reset", "") => {
                talk.reset(printer);
                Ok(())
            }
            ("/list", "") => talk.list(printer),
            ("/save" | "/load", "") => {
                printer.warning("which file? write /save FILE or /load FILE");
                Ok(())
            }
            ("/open", "") => {
                printer.warning("which one? write /open N with a number of /list, or /open ID");
                Ok(())
            }
            ("/save", file) => talk.save(Path::new(file)).map(|()| printer.note(&format!("saved to {file}"))),
            ("/load", file) => {
                talk.load(Path::new(file)).map(|count| printer.note(&format!("{count} messages loaded")))
            }
            ("/open", which) => talk.open(which, printer),
            (word, _) if is_command(word) => {
                printer.warning(&format!("there is no command {word}; /help shows those there are"));
                Ok(())
            }
            _ => match talk.say(line, printer) {
                // At a terminal the server may be started again; in a pipe the rest would go unanswered.
                Err(error) if !(input.is_terminal() && error.is_a_servers()) => return Err(error),
                said => said,
            },
        };
        if let Some(message) = done.err().and_then(|error| error.message()) {
            printer.error(&message);
        }
    }
    Ok(())
}

impl Arguments {
    /// The server to go through and the model to ask it for, if one runs that can do what these arguments say.
    fn server(&self, printer: &Printer) -> Result<Option<(Client, String)>, Failure> {
        let Some(data) = self.data.clone().or_else(|| Folder::Data.path()).filter(|_| !self.alone) else {
            return Ok(None);
        };
        let socket = server::socket(&data);
        let Some(path) = socket.to_str().filter(|_| socket.exists()) else { return Ok(None) };
        // Where there are no such sockets there is no such server.
        let Ok(client) = Client::at(&format!("unix:{path}")) else { return Ok(None) };
        // A server that was killed leaves its socket; one that stops is as good as gone.
        let Ok(models) = client.get("/v1/models") else { return Ok(None) };
        if let Some(option) = self.generation.for_this_process() {
            printer.note(&format!(
                "{option} is nothing that the running server can be asked for, so this chat goes without it"
            ));
            return Ok(None);
        }
        let model = match self.generation.named_model() {
            None => models["data"][0]["id"].as_str().map(str::to_owned),
            Some(name) => match client.get(&format!("/v1/models/{}", client::segment(name))) {
                Ok(model) => model["id"].as_str().map(str::to_owned),
                Err(client::Error::Refused { status: 404, .. }) => {
                    printer.note(&format!(
                        "the running server does not serve {name}, so this chat goes without it"
                    ));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            },
        };
        Ok(model.map(|model| (client, model)))
    }
}

/// Whether a word is meant as a command rather than, say, a path: a slash and letters.
fn is_command(word: &str) -> bool {
    word.strip_prefix('/')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()))
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
