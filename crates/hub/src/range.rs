//! A piece of a file on the network: HTTP ranges, for whoever only wants to know what a file is.

use std::io::Read;
use std::ops::Range;

use crate::source::Source;
use crate::{Error, Settings, http};

/// Bytes of a file on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes asked for, or fewer where the file ends.
    pub bytes: Vec<u8>,
    /// Bytes of the whole file, if the server says.
    pub file_bytes: Option<u64>,
    /// Who gave them.
    pub source: String,
}

impl Source {
    /// Bytes `range` of the file, at least one. A server that knows no ranges sends the file from its beginning, of which no more
    /// is read than is needed.
    pub(crate) fn read_range(&self, range: Range<u64>, settings: &Settings) -> Result<Piece, Error> {
        let no_address = || Error::BadReference {
            reference: self.reference(),
            reason: "a package has to be fetched as a whole".to_owned(),
        };
        let url = self.url(settings).ok_or_else(no_address)?;
        let agent = http::agent(settings)?;
        let last = range.end.saturating_sub(1).max(range.start);
        let headers = [("Range", format!("bytes={}-{last}", range.start))];
        let answer = http::get(&agent, &url, self.token(settings), &headers)?;
        let wrong = |status| Error::Status { host: answer.host.clone(), url: url.clone(), status };
        let (skipped, file_bytes) = match (answer.status, answer.range) {
            (206, Some((first, size))) if first == range.start => (0, size),
            (416, Some((_, size))) => {
                return Ok(Piece { bytes: Vec::new(), file_bytes: size, source: self.to_string() });
            }
            (200, _) => (range.start, answer.length),
            (status, _) => return Err(wrong(status)),
        };
        let cut = |done: u64, error: std::io::Error| Error::Cut { done, reason: error.to_string() };
        let mut body = answer.body.into_reader();
        std::io::copy(&mut body.by_ref().take(skipped), &mut std::io::sink())
            .map_err(|error| cut(0, error))?;
        let mut bytes = Vec::new();
        body.take(range.end.saturating_sub(range.start))
            .read_to_end(&mut bytes)
            .map_err(|error| cut(bytes.len() as u64, error))?;
        Ok(Piece { bytes, file_bytes, source: self.to_string() })
    }
}
