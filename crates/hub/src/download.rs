//! One file over HTTP: continued where it stopped, hashed while it streams, put in place only when complete and right.
//!
//! Bytes go to `FILE.partial`; `FILE.partial.tag` keeps the validator the server gave with them, so that a later process can
//! ask for the rest of *the same* file (`Range` with `If-Range`) and gets the whole file if it has changed.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;

use crate::{Error, Event, http};

/// Bytes read, hashed and written at a time.
const CHUNK: usize = 256 << 10;
/// Broken connections in a row, without a byte between them, before giving up.
const FRUITLESS_RETRIES: u32 = 4;

/// What to download.
pub(crate) struct Job<'a> {
    pub(crate) url: &'a str,
    pub(crate) token: Option<&'a str>,
    /// The checksum the file must have.
    pub(crate) sha256: Option<&'a str>,
    /// Whether this host's entity tags may be SHA-256 sums of the file, as the hubs' are.
    pub(crate) announces_sha256: bool,
    pub(crate) target: &'a Path,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Downloads to `job.target`. Expects the caller to hold the target's lock.
pub(crate) fn download(agent: &Agent, job: &Job, events: &mut dyn FnMut(Event)) -> Result<Fetched, Error> {
    let mut partial = Partial::open(job.target)?;
    // Without any way to tell whether the rest belongs to the same file, the old bytes are worthless.
    if partial.done > 0 && partial.validator.is_none() && job.sha256.is_none() {
        partial.restart()?;
    }
    let continued = partial.done > 0;
    if continued {
        events(Event::Resuming { done: partial.done });
        events(Event::Verifying);
        partial.hash_what_is_there()?;
    }
    let expected = receive(agent, job, &mut partial, events)?;
    events(Event::Verifying);
    match partial.finish(job.target, expected.as_deref()) {
        // The old bytes may have been those of another file: once more from the start.
        Err(Error::WrongHash { .. }) if continued => {
            let mut partial = Partial::open(job.target)?;
            let expected = receive(agent, job, &mut partial, events)?;
            partial.finish(job.target, expected.as_deref())
        }
        result => result,
    }
}

/// Brings the partial file to its full length, through as many connections as it takes. Returns the checksum to expect.
fn receive(
    agent: &Agent,
    job: &Job,
    partial: &mut Partial,
    events: &mut dyn FnMut(Event),
) -> Result<Option<String>, Error> {
    let mut fruitless = 0;
    loop {
        let before = partial.done;
        let reason = match connect(agent, job, partial, events) {
            Ok(Outcome::Complete(sha256)) => return Ok(sha256),
            Ok(Outcome::Cut(reason)) => reason,
            // A connection that cannot be taken up again is a broken download; one that never was, a dead source.
            Err(Error::Unreachable { reason, .. }) if before > 0 && fruitless > 0 => reason,
            Err(error) => return Err(error),
        };
        fruitless = if partial.done > before { 1 } else { fruitless + 1 };
        if fruitless > FRUITLESS_RETRIES {
            partial.sync()?;
            return Err(Error::Cut { done: partial.done, reason });
        }
        events(Event::Reconnecting { done: partial.done, reason });
        // 0, 0.25, 0.5, 1 s: a cut is mostly the server's time limit, and the next connection works at once.
        if fruitless > 1 {
            std::thread::sleep(Duration::from_millis(125 << (fruitless - 1)));
        }
    }
}

enum Outcome {
    /// Every byte is here; with the checksum to expect, if any is known.
    Complete(Option<String>),
    /// The connection broke off.
    Cut(String),
}

/// One connection: asks for what is missing and appends it.
fn connect(
    agent: &Agent,
    job: &Job,
    partial: &mut Partial,
    events: &mut dyn FnMut(Event),
) -> Result<Outcome, Error> {
    let mut headers = Vec::new();
    if partial.done > 0 {
        headers.push(("Range", format!("bytes={}-", partial.done)));
        headers.extend(partial.validator.clone().map(|validator| ("If-Range", validator)));
    }
    let mut answer = http::get(agent, job.url, job.token, &headers)?;
    if answer.status == 416 && partial.done > 0 {
        // Nothing is left to send, or the file is another, shorter one now.
        if matches!(answer.range, Some((_, Some(size))) if size == partial.done) {
            return Ok(Outcome::Complete(job.sha256.map(str::to_owned)));
        }
        partial.restart()?;
        answer = http::get(agent, job.url, job.token, &[])?;
    }
    let continues = answer.status == 206 && matches!(answer.range, Some((first, _)) if first == partial.done);
    if answer.status == 206 && !continues {
        partial.restart()?;
        answer = http::get(agent, job.url, job.token, &[])?;
    }
    if answer.status == 416 || (answer.status == 206 && !continues) {
        return Err(Error::Status { host: answer.host, url: job.url.to_owned(), status: answer.status });
    }

    let announced = answer.sha256.filter(|_| job.announces_sha256);
    let expected = match (job.sha256, announced) {
        (Some(expected), Some(got)) if expected != got => {
            return Err(Error::DifferentFile { host: answer.host, expected: expected.to_owned(), got });
        }
        (Some(expected), _) => Some(expected.to_owned()),
        (None, announced) => announced,
    };
    if !continues && partial.done > 0 {
        partial.restart()?;
    }
    partial.remember(answer.validator)?;
    let total = match answer.range.filter(|_| continues) {
        Some((_, size)) => size,
        None => answer.length,
    };

    let mut body = answer.body.into_reader();
    let mut chunk = vec![0; CHUNK];
    events(Event::Progress { done: partial.done, total });
    loop {
        let count = match body.read(&mut chunk) {
            Ok(0) if total.is_some_and(|total| partial.done < total) => {
                return Ok(Outcome::Cut("the connection was closed".to_owned()));
            }
            Ok(0) => return Ok(Outcome::Complete(expected)),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Outcome::Cut(error.to_string())),
        };
        partial.append(&chunk[..count])?;
        events(Event::Progress { done: partial.done, total });
    }
}

/// The unfinished file: its bytes, their hash so far, and the validator they came with.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    done: u64,
    hash: Sha256,
    validator: Option<String>,
}

impl Partial {
    /// Opens what an earlier process left, or starts.
    pub(crate) fn open(target: &Path) -> Result<Partial, Error> {
        let path = partial_path(target);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| Error::io("write", &path, source))?;
        let done = file.metadata().map_err(|source| Error::io("read", &path, source))?.len();
        let validator = fs::read_to_string(tag_path(&path)).ok().filter(|tag| !tag.is_empty());
        Ok(Partial { path, file, done, hash: Sha256::new(), validator })
    }

    /// Forgets what is there.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|source| Error::io("empty", &self.path, source))?;
        self.done = 0;
        self.hash = Sha256::new();
        self.remember(None)
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))?;
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Puts the file in its place if it is what it should be; deletes it otherwise.
    pub(crate) fn finish(self, target: &Path, expected: Option<&str>) -> Result<Fetched, Error> {
        self.sync()?;
        let got = hex(&self.hash.finalize());
        let _ = fs::remove_file(tag_path(&self.path));
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            fs::remove_file(&self.path).map_err(|source| Error::io("delete", &self.path, source))?;
            return Err(Error::WrongHash { expected: expected.to_owned(), got });
        }
        // Windows does not rename an open file.
        drop(self.file);
        fs::rename(&self.path, target).map_err(|source| Error::io("rename to", target, source))?;
        Ok(Fetched { bytes: self.done, sha256: got })
    }

    fn hash_what_is_there(&mut self) -> Result<(), Error> {
        let fail = |source| Error::io("read", &self.path, source);
        // A second handle: the first one only ever appends.
        let mut file = File::open(&self.path).map_err(fail)?;
        let mut chunk = vec![0; CHUNK];
        let mut left = self.done;
        while left > 0 {
            let want = left.min(CHUNK as u64) as usize;
            file.read_exact(&mut chunk[..want]).map_err(fail)?;
            self.hash.update(&chunk[..want]);
            left -= want as u64;
        }
        Ok(())
    }

    /// Keeps the validator beside the bytes it stands for.
    fn remember(&mut self, validator: Option<String>) -> Result<(), Error> {
        let path = tag_path(&self.path);
        match &validator {
            Some(tag) => fs::write(&path, tag).map_err(|source| Error::io("write", &path, source))?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", &path, error));
                }
                _ => {}
            },
        }
        self.validator = validator;
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| Error::io("write", &self.path, source))
    }
}

/// Where the bytes of an unfinished `target` are.
pub(crate) fn partial_path(target: &Path) -> PathBuf {
    with_suffix(target, ".partial")
}

/// Where their validator is.
pub(crate) fn tag_path(partial: &Path) -> PathBuf {
    with_suffix(partial, ".tag")
}

/// `path` with something after its last extension.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
