//! A conversation with a model of this process.

use std::path::Path;
use std::sync::atomic::Ordering;

use engine::{Conversation, Engine, Event};
use text::Message;

use super::Talk;
use crate::errors::Failure;
use crate::generation::{AnswerFigures, GenerationArguments, Started};
use crate::interrupt;
use crate::printer::Printer;

pub(super) struct Alone {
    engine: Engine,
    conversation: Conversation,
    model: String,
}

impl Alone {
    /// Opens the model.
    pub(super) fn new(arguments: &GenerationArguments, printer: &Printer) -> Result<Alone, Failure> {
        let machine = arguments.open(printer)?;
        if machine.model.chat_template.is_fallback() {
            printer.warning("the file has no chat template, so a common one is used; its answers may ramble");
        }
        let Started { engine, session, .. } = arguments.start(&machine, None, printer)?;
        let system = arguments.system.iter().map(|system| Message::new("system", system));
        let conversation = Conversation::new(session, system.collect());
        Ok(Alone { engine, conversation, model: arguments.model().to_owned() })
    }
}

impl Talk for Alone {
    fn greeting(&self) -> String {
        format!("{} listens", self.model)
    }

    fn commands(&self) -> &'static str {
        "/reset, /save FILE, /load FILE, /help, /exit; Ctrl-C ends an answer"
    }

    fn say(&mut self, line: &str, printer: &Printer) -> Result<(), Failure> {
        let mut shown = Ok(());
        let answer = interrupt::during(|cancel| {
            self.conversation.say(&mut self.engine, Message::new("user", line), cancel, &mut |event| {
                if let (Event::Text(piece), Ok(())) = (event, &shown) {
                    shown = printer.text(piece);
                    cancel.fetch_or(shown.is_err(), Ordering::SeqCst);
                }
            })
        });
        shown?;
        printer.end_line()?;
        match answer {
            Ok(generation) => printer.note(&AnswerFigures::of(&generation).line()),
            Err(error @ engine::Error::ContextFull { .. }) => {
                printer.error(&format!("{error}; /reset starts anew, --context gives more room"));
            }
            // The conversation is as it was, and there may be more memory the next moment.
            Err(engine::Error::Model(error @ model::Error::Budget { .. })) => {
                printer.error(&format!("{error}; /reset starts anew with less"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn reset(&mut self, printer: &Printer) {
        self.conversation.reset();
        printer.note("forgotten");
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        Ok(self.conversation.save(path)?)
    }

    fn load(&mut self, path: &Path) -> Result<usize, Failure> {
        self.conversation.load(path)?;
        Ok(self.conversation.messages().len())
    }

    fn list(&mut self, _: &Printer) -> Result<(), Failure> {
        Err(nothing_is_kept())
    }

    fn open(&mut self, _: &str, _: &Printer) -> Result<(), Failure> {
        Err(nothing_is_kept())
    }
}

fn nothing_is_kept() -> Failure {
    Failure::Usage("only a server keeps conversations: start `pouch serve`, then this chat anew".to_owned())
}
