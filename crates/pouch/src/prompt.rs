//! Where a text comes from: an argument, a file, standard input.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::errors::Failure;

/// The text of an argument, a file, both (the argument first, then a blank line), or else standard input. `-` as argument
/// means standard input too.
pub(crate) fn gather(argument: Option<&str>, file: Option<&Path>) -> Result<String, Failure> {
    let argument = match argument {
        Some("-") => Some(standard_input()?),
        Some(text) => Some(text.to_owned()),
        None => None,
    };
    match (argument, file) {
        (Some(text), None) => Ok(text),
        (None, Some(path)) => read(path),
        (Some(text), Some(path)) => Ok(format!("{text}\n\n{}", read(path)?)),
        (None, None) if std::io::stdin().is_terminal() => Err(Failure::Usage(
            "no text given: write it as an argument, name a --file, or pipe it in".to_owned(),
        )),
        (None, None) => standard_input(),
    }
}

/// A file's text.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::io("read", path, source))
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let path = Path::new("standard input");
    std::io::stdin().read_to_string(&mut text).map_err(|source| Failure::io("read", path, source))?;
    // The line break that `echo` adds is no part of what was asked.
    if text.ends_with('\n') {
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    Ok(text)
}
