//! Messages as they are typed, or piped in.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::errors::Failure;
use crate::models;

/// Lines of history that are kept.
const HISTORY_LINES: usize = 1000;

/// Where messages come from.
pub(super) enum Input {
    Terminal { editor: Box<DefaultEditor>, history: std::path::PathBuf },
    Pipe,
}

impl Input {
    pub(super) fn new() -> Result<Input, Failure> {
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

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal { .. })
    }

    /// The next message, its continued lines joined; `None` at the end.
    pub(super) fn message(&mut self) -> Result<Option<String>, Failure> {
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
