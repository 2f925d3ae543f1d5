//! A conversation: messages in, answers out, through the model's chat template.
//!
//! The messages are the truth and the session follows them: for each answer the whole conversation is rendered and
//! encoded anew, and what its tokens share with the session's is not computed again. So templates may rewrite earlier
//! turns (some drop a reasoning part), and loading or editing a conversation needs nothing special.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use text::{Message, Render};

use crate::engine::Engine;
use crate::error::Error;
use crate::generate::{Event, Generation, generate};
use crate::prompt::encode_prompt;
use crate::session::Session;

/// The version of the saved form. It rises when an older program could misread a newer file.
const VERSION: u32 = 1;

/// A conversation and the session that computes its answers.
pub struct Conversation {
    session: Session,
    messages: Vec<Message>,
    /// The tools that the model may call: an array of JSON schemas as in the OpenAI API.
    pub tools: Option<serde_json::Value>,
    /// Variables that only some templates know, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// For templates that name the date: fixed, so that midnight does not void what is computed.
    began: SystemTime,
}

/// The saved form of a conversation.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    messages: Vec<SavedMessage>,
}

/// The saved form of a message.
#[derive(Serialize, Deserialize)]
struct SavedMessage {
    role: String,
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_calls: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    fields: serde_json::Map<String, serde_json::Value>,
}

impl Conversation {
    /// A conversation that starts with `messages`, usually a system message or none.
    pub fn new(session: Session, messages: Vec<Message>) -> Conversation {
        Conversation {
            session,
            messages,
            tools: None,
            variables: serde_json::Map::new(),
            began: SystemTime::now(),
        }
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The session that computes the answers.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Adds `message`, has the model answer, and adds the answer. An answer that is cancelled is kept as far as it came; if
    /// nothing came, or on an error, the conversation is as it was.
    ///
    /// # Errors
    /// [`Error::Text`] if the template refuses, [`Error::ContextFull`] if the conversation has outgrown the context, and
    /// those of [`Engine::step`].
    pub fn say(
        &mut self,
        engine: &mut Engine,
        message: Message,
        cancel: &AtomicBool,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Generation, Error> {
        self.messages.push(message);
        let answer = self.answer(engine, cancel, on_event);
        match &answer {
            Ok(generation) if generation.end.is_some() || !generation.text.is_empty() => {
                self.messages.push(Message::new("assistant", generation.text.clone()));
            }
            _ => {
                self.messages.pop();
            }
        }
        answer
    }

    fn answer(
        &mut self,
        engine: &mut Engine,
        cancel: &AtomicBool,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Generation, Error> {
        let prompt = self.prompt()?;
        self.session.replace(&prompt)?;
        generate(engine, &mut self.session, cancel, on_event)
    }

    /// The tokens of the whole conversation, up to where the assistant's next answer begins.
    fn prompt(&self) -> Result<Vec<u32>, Error> {
        let model = self.session.model();
        let render = Render {
            add_generation_prompt: true,
            tools: self.tools.clone(),
            variables: self.variables.clone(),
            now: Some(self.began),
        };
        let text = model.chat_template.render(&self.messages, render)?;
        Ok(encode_prompt(&model.tokenizer, &text, true))
    }

    /// Forgets everything but the system messages at the start.
    pub fn reset(&mut self) {
        let system = self.messages.iter().take_while(|message| message.role == "system").count();
        self.messages.truncate(system);
    }

    /// Writes the conversation to `path`, as [`save_messages`] does.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        save_messages(path, &self.messages)
    }

    /// Takes over the messages of a saved conversation in place of this one's.
    ///
    /// # Errors
    /// Those of [`load_messages`]; the conversation is then as it was.
    pub fn load(&mut self, path: &Path) -> Result<(), Error> {
        self.messages = load_messages(path)?;
        Ok(())
    }
}

fn messages_to_json(messages: &[Message]) -> String {
    let saved = |message: &Message| SavedMessage {
        role: message.role.clone(),
        content: message.content.clone(),
        tool_calls: message.tool_calls.clone(),
        fields: message.fields.clone(),
    };
    let saved = Saved { version: VERSION, messages: messages.iter().map(saved).collect() };
    // Strings and JSON values always serialise.
    serde_json::to_string_pretty(&saved).unwrap_or_default()
}

/// What [`messages_to_json`] wrote, unless in a later version.
fn messages_from_json(json: &str) -> Result<Vec<Message>, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let wrong = |error: serde_json::Error| Error::Saved { reason: error.to_string() };
    // The version first: what else is in a later one is not known here.
    let Version { version } = serde_json::from_str(json).map_err(wrong)?;
    if version != VERSION {
        let reason = format!("it has version {version}, this program reads {VERSION}");
        return Err(Error::Saved { reason });
    }
    let saved: Saved = serde_json::from_str(json).map_err(wrong)?;
    let message =
        |SavedMessage { role, content, tool_calls, fields }| Message { role, content, tool_calls, fields };
    Ok(saved.messages.into_iter().map(message).collect())
}

/// Writes a conversation to `path` as JSON: an object with `version` and `messages`. A file that is there is replaced only by a
/// whole new one.
///
/// # Errors
/// [`Error::File`].
pub fn save_messages(path: &Path, messages: &[Message]) -> Result<(), Error> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(messages_to_json(messages).as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&partial);
        Error::File { path: path.to_owned(), source }
    })
}

/// Reads what [`save_messages`] wrote.
///
/// # Errors
/// [`Error::File`], and [`Error::Saved`] for what is no such conversation, or one of a later version.
pub fn load_messages(path: &Path) -> Result<Vec<Message>, Error> {
    let json = fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    messages_from_json(&json)
}
