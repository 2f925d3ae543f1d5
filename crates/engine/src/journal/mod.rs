//! Sessions written down as they go, so that they outlive the process.
//!
//! Each session has a file that only grows: its state, then the tokens as they are sampled, each time with the state of the
//! random numbers (see [`record`]). What a kill or a power cut leaves of it is a beginning, and a beginning is enough: from
//! any moment of a session its rest follows. So nothing waits for the disk: a thread writes ten times a second and forces
//! what it wrote to disk once a second.

mod record;
mod recovery;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::lock::lock;
use crate::session::{Session, SessionState};
pub use record::Outcome;
use record::{Record, VERSION};
use writer::Writer;

/// A session that an earlier process had written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// As it was given to [`Journal::begin`].
    pub id: String,
    /// What was given with it.
    pub meta: Value,
    /// Where the session was at a moment shortly before the end of the process: [`Engine::restore`](crate::Engine::restore)
    /// goes on from there, to the same tokens.
    pub state: SessionState,
    /// How its answer ended, if it did.
    pub outcome: Option<Outcome>,
}

/// The journal of a folder; clones are the same one.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    sessions: Mutex<HashMap<String, Entry>>,
    writer: Writer,
    /// Held for as long as the journal lives.
    _lock: File,
}

/// What is known of a session in the journal.
#[derive(Debug)]
struct Entry {
    meta: Value,
    /// Tokens written down.
    written: usize,
    /// Revision of the session that they are of; `None` if it is the first that is appended from now on.
    revision: Option<u64>,
    /// Of the last line.
    checksum: u32,
}

impl Journal {
    /// Opens the folder, made if it is not there, and recovers what is in it: the sessions in the order of their ids.
    ///
    /// # Errors
    /// [`Error::JournalInUse`], [`Error::Journal`].
    pub fn open(folder: &Path) -> Result<(Journal, Vec<Recovered>), Error> {
        let failed = |source| Error::Journal { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = lock(folder).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::JournalInUse { path: folder.to_owned() },
            _ => failed(error),
        })?;
        let writer = Writer::start(folder).map_err(failed)?;
        let (mut sessions, mut recovered) = (HashMap::new(), Vec::new());
        for (path, length, checksum, session) in recovery::recover(folder).map_err(failed)? {
            writer.know(&path, length);
            let (meta, written) = (session.meta.clone(), session.state.tokens.len());
            sessions.insert(session.id.clone(), Entry { meta, written, revision: None, checksum });
            recovered.push(session);
        }
        recovered.sort_by(|a: &Recovered, b| a.id.cmp(&b.id));
        let (folder, sessions) = (folder.to_owned(), Mutex::new(sessions));
        Ok((Journal { shared: Arc::new(Shared { folder, sessions, writer, _lock: lock }) }, recovered))
    }

    /// Writes a session down from now on, under an id of the caller's, which the session that is appended next goes on from.
    /// `meta` is given back with it after a restart. An id that is known has its session replaced.
    pub fn begin(&self, id: &str, meta: &Value, state: &SessionState) {
        let mut sessions = self.sessions();
        let entry = sessions.entry(id.to_owned()).or_insert_with(|| Entry {
            meta: Value::Null,
            written: 0,
            revision: None,
            checksum: 0,
        });
        (entry.meta, entry.revision) = (meta.clone(), None);
        self.write_state(id, entry, state.clone());
    }

    /// Writes down what is new of a session since the last call: sampled tokens, or another history. Does not wait for the disk,
    /// and does nothing for an id that is not known.
    pub fn append(&self, id: &str, session: &Session) {
        let mut sessions = self.sessions();
        let Some(entry) = sessions.get_mut(id) else { return };
        let (revision, tokens) = (session.revision(), session.tokens());
        let goes_on =
            entry.revision.is_none_or(|written| written == revision) && entry.written <= tokens.len();
        entry.revision = Some(revision);
        if !goes_on {
            self.write_state(id, entry, session.state());
        } else if entry.written < tokens.len() {
            let (tokens, random) = (tokens[entry.written..].to_vec(), session.random().clone());
            entry.written += tokens.len();
            self.write(id, entry, &Record::Tokens { tokens, random }, false);
        }
    }

    /// Writes down that the answer is over, after a last [`Journal::append`].
    pub fn end(&self, id: &str, outcome: Outcome) {
        let mut sessions = self.sessions();
        let Some(entry) = sessions.get_mut(id) else { return };
        self.write(id, entry, &Record::End { outcome }, true);
    }

    /// Forgets a session.
    pub fn remove(&self, id: &str) {
        // While the sessions are locked, so that a new one of this id comes after.
        let mut sessions = self.sessions();
        if sessions.remove(id).is_some() {
            self.shared.writer.remove(&self.path(id));
        }
    }

    /// Why a session is no longer written down, if so: a full disk, for instance. What was written before stays, and the session
    /// itself does not notice.
    pub fn trouble(&self, id: &str) -> Option<String> {
        self.shared.writer.trouble(&self.path(id))
    }

    /// Waits until what was given of a session is on disk: neither a kill nor a power cut takes it any more.
    ///
    /// # Errors
    /// Why it cannot be put there, as [`Journal::trouble`] has it.
    pub fn settle(&self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        self.shared.writer.settle(&path).map_err(|reason| Error::NotJournalled { path, reason })
    }

    /// Waits until all that was given is on disk, or could not be put there.
    pub fn flush(&self) {
        self.shared.writer.flush();
    }

    fn write_state(&self, id: &str, entry: &mut Entry, state: SessionState) {
        entry.written = state.tokens.len();
        let record = Record::Begin {
            version: VERSION,
            id: id.to_owned(),
            meta: entry.meta.clone(),
            state: Box::new(state),
        };
        self.write(id, entry, &record, true);
    }

    fn write(&self, id: &str, entry: &mut Entry, record: &Record, is_urgent: bool) {
        self.shared.writer.append(&self.path(id), is_urgent, |out| {
            record::write(record, &mut entry.checksum, out);
        });
    }

    /// Ids are the caller's and may hold anything; a hash of them makes a name.
    fn path(&self, id: &str) -> PathBuf {
        let hash = Sha256::digest(id.as_bytes());
        let name: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.shared.folder.join(name).with_extension(recovery::EXTENSION)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
