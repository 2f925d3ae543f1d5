//! The one owner of standard output and standard error.
//!
//! Output reads without colour: colour only repeats what the words say, and goes away for files, pipes and `NO_COLOR`.
//! Text that comes from models, files and servers is shown without control characters, which could drive a terminal.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::errors::Failure;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Where everything the program says goes through.
pub(crate) struct Printer {
    quiet: bool,
    output_is_terminal: bool,
    /// Whether the last text on standard output ended without a line break.
    open_line: Cell<bool>,
}

impl Printer {
    /// A quiet one leaves out everything but results, warnings and errors.
    pub(crate) fn new(quiet: bool) -> Printer {
        Printer { quiet, output_is_terminal: io::stdout().is_terminal(), open_line: Cell::new(false) }
    }

    /// A piece of an answer, shown at once.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.open_line.set(!text.ends_with('\n'));
        let text = if self.output_is_terminal { printable(text) } else { Cow::Borrowed(text) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output)
    }

    /// A piece of what a model thinks before it answers: beside the answer, so on terminals alone.
    pub(crate) fn thought(&self, text: &str) -> Result<(), Failure> {
        if self.quiet || !self.output_is_terminal || text.is_empty() {
            return Ok(());
        }
        self.open_line.set(!text.ends_with('\n'));
        let mut out = anstream::stdout().lock();
        write!(out, "{DIM}{}{DIM:#}", printable(text)).and_then(|()| out.flush()).map_err(output)
    }

    /// Ends the line that [`Printer::text`] left open, if any.
    pub(crate) fn end_line(&self) -> Result<(), Failure> {
        if self.open_line.get() { self.text("\n") } else { Ok(()) }
    }

    /// A line of a result.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{}", printable(line)).and_then(|()| out.flush()).map_err(output)
    }

    /// A line of a result that heads others.
    pub(crate) fn heading(&self, line: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{BOLD}{}{BOLD:#}", printable(line)).map_err(output)
    }

    /// A result for programs: one object on one line.
    pub(crate) fn json(&self, object: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, object).map_err(|error| output(error.into()))?;
        writeln!(out).and_then(|()| out.flush()).map_err(output)
    }

    /// Something worth knowing besides the result.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            self.say(&format!("{DIM}{}{DIM:#}", printable(message)));
        }
    }

    /// Something that may make the result other than expected.
    pub(crate) fn warning(&self, message: &str) {
        self.say(&format!("{WARNING}warning:{WARNING:#} {}", printable(message)));
    }

    /// Why there is no result.
    pub(crate) fn error(&self, message: &str) {
        self.say(&format!("{ERROR}error:{ERROR:#} {}", printable(message)));
    }

    /// A line on standard error. Nobody is left to tell where that fails.
    fn say(&self, line: &str) {
        if self.output_is_terminal {
            let _ = self.end_line();
        }
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }

    /// A bar on standard error for `total` units, or a running figure where the total is unknown. Shown on terminals only.
    pub(crate) fn bar(&self, what: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
        let shown = !self.quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = match (total, unit) {
            (Some(_), Unit::Bytes) => {
                "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}"
            }
            (None, Unit::Bytes) => "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
            (_, Unit::Share) => "{msg} {wide_bar} {percent} % {eta} left",
            (_, Unit::Count) => "{msg} {wide_bar} {pos}/{len} {eta}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(total, target).with_message(printable(what).into_owned());
        bar.set_style(style);
        bar
    }

    /// A sign of life on standard error for work that cannot say how far it is.
    pub(crate) fn spinner(&self, what: &str) -> ProgressBar {
        let bar = self.bar(what, None, Unit::Count);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

/// What a bar counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Count,
    /// Of a whole whose units mean nothing to people.
    Share,
}

fn output(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Output(error),
    }
}

/// The text without control characters other than line break and tab.
fn printable(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(drives) { Cow::Owned(text.replace(drives, "")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_left_out() {
        assert_eq!(printable("plain\n\ttext 你好"), "plain\n\ttext 你好");
        assert_eq!(printable("\u{1b}[2Jgone\u{9b}31m\r\u{7}"), "[2Jgone31m");
    }
}
