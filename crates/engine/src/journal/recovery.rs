//! What is left in the folder when a process starts.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::Recovered;
use super::record::{self, Record, Sound, VERSION};

/// What the names of the files end with.
pub(super) const EXTENSION: &str = "journal";

/// Each file that tells of a session, cut to its sound beginning: with its length, the checksum of its last line, and the
/// session. Files without a sound beginning are removed; those of a later version are left alone.
pub(super) fn recover(folder: &Path) -> io::Result<Vec<(PathBuf, u64, u32, Recovered)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let bytes = fs::read(&path)?;
        let Sound { records, length, checksum, is_foreign } = record::read(&bytes);
        if is_foreign {
            continue;
        }
        if records.is_empty() {
            fs::remove_file(&path)?;
            continue;
        }
        if length < bytes.len() {
            OpenOptions::new().write(true).open(&path)?.set_len(length as u64)?;
        }
        if let Some(session) = replay(records) {
            all.push((path, length as u64, checksum, session));
        }
    }
    Ok(all)
}

/// The session after all records.
fn replay(records: Vec<Record>) -> Option<Recovered> {
    let mut recovered: Option<Recovered> = None;
    for record in records {
        match (record, &mut recovered) {
            (Record::Begin { version: VERSION, id, meta, state }, _) => {
                recovered = Some(Recovered { id, meta, state: *state, outcome: None });
            }
            (Record::Tokens { tokens, random }, Some(session)) => {
                session.state.tokens.extend(tokens);
                session.state.random = random;
            }
            (Record::End { outcome }, Some(session)) => session.outcome = Some(outcome),
            _ => return None,
        }
    }
    recovered
}
