//! The lines of a journal: eight digits of checksum, a space, JSON.
//!
//! The checksum of a line goes on from that of the line before it, so that a line counts only after the very lines that it
//! was written after. What follows the first line that does not count is cut off: a kill or a power cut leaves a beginning.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::Random;
use crate::session::{EndReason, SessionState};

/// Rises when an older program could misread a newer file.
pub(super) const VERSION: u32 = 1;

/// Digits of the checksum, and the space.
const PREFIX: usize = 9;

/// How an answer that was written down ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is complete.
    Ended(EndReason),
    /// Nobody wanted more of it.
    Cancelled,
    /// It could not be made, for this reason.
    Failed(String),
}

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// All there is to know at this moment. Replaces what was before.
    Begin {
        /// [`VERSION`].
        version: u32,
        id: String,
        meta: Value,
        state: Box<SessionState>,
    },
    /// The tokens sampled since, and what the next draws follow from.
    Tokens { tokens: Vec<u32>, random: Random },
    /// The answer is over.
    End { outcome: Outcome },
}

/// Appends the record's line to `out`; `checksum` is that of the line before, and then this line's.
pub(super) fn write(record: &Record, checksum: &mut u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + PREFIX, b' ');
    // Strings, numbers and JSON values always serialise.
    if serde_json::to_writer(&mut *out, record).is_err() {
        out.truncate(start);
        return;
    }
    *checksum = checksum_of(*checksum, &out[start + PREFIX..]);
    out[start..start + PREFIX - 1].copy_from_slice(format!("{checksum:08x}").as_bytes());
    out.push(b'\n');
}

/// The sound beginning of a file.
#[derive(Debug, Default)]
pub(super) struct Sound {
    pub(super) records: Vec<Record>,
    /// Its bytes.
    pub(super) length: usize,
    /// Of its last line.
    pub(super) checksum: u32,
    /// A line is as it was written, but not by a program like this one.
    pub(super) is_foreign: bool,
}

pub(super) fn read(bytes: &[u8]) -> Sound {
    let mut sound = Sound::default();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let whole = line.strip_suffix(b"\n").and_then(|line| line.split_at_checked(PREFIX));
        let Some((prefix, json)) = whole else { break };
        let checksum = checksum_of(sound.checksum, json);
        if prefix != format!("{checksum:08x} ").as_bytes() {
            break;
        }
        let Ok(record) = serde_json::from_slice(json) else {
            sound.is_foreign = true;
            break;
        };
        sound.records.push(record);
        sound.length += line.len();
        sound.checksum = checksum;
    }
    sound
}

fn checksum_of(before: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(bytes);
    hasher.finalize()
}
