//! From what the user typed to a model that is here: found, fetched, opened, with progress shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::{Demand, Residency};
use engine::Memory;
use hub::{Event, Hub, Settings};
use indicatif::ProgressBar;
use kernels::Team;
use model::{Model, Residence};

use crate::errors::{Failure, InFile};
use crate::printer::{Printer, Unit};
use crate::units;

/// The hub with this user's settings.
pub(crate) fn hub() -> Result<Hub, Failure> {
    Ok(Hub::new(Settings::from_environment()?))
}

/// The path of a model, fetched first if it is not here.
pub(crate) fn fetch(hub: &Hub, reference: &str, printer: &Printer) -> Result<PathBuf, Failure> {
    let mut display = FetchDisplay { reference, printer, bar: None, counts: false, failed: None };
    let result = hub.fetch(reference, &mut |event| display.show(event));
    display.clear();
    Ok(result?)
}

/// A fetch as the user sees it: a line for each thing worth knowing, and under them a spinner until bytes arrive, then a bar.
struct FetchDisplay<'a> {
    reference: &'a str,
    printer: &'a Printer,
    bar: Option<ProgressBar>,
    /// Whether the bar counts bytes; a spinner does not.
    counts: bool,
    /// The last source's failure, told once another source follows; the error at the end tells it otherwise.
    failed: Option<String>,
}

impl FetchDisplay<'_> {
    fn show(&mut self, event: Event) {
        let (reference, printer) = (self.reference, self.printer);
        if let Event::Progress { done, total } = event {
            if !self.counts {
                self.clear();
                self.counts = true;
            }
            self.bar.get_or_insert_with(|| printer.bar(reference, total, Unit::Bytes)).set_position(done);
            return;
        }
        self.clear();
        match event {
            Event::SourceFailed { .. } => self.failed = Some(event.to_string()),
            Event::TryingSource { source } => {
                self.failed.take().iter().for_each(|failed| printer.note(failed));
                printer.note(&format!("{reference}: trying {source}"));
                // pip keeps its progress to itself, and a slow hub has none to give.
                self.bar = Some(printer.spinner("waiting for an answer"));
            }
            Event::Verifying => self.bar = Some(printer.spinner("verifying")),
            Event::Resuming { done } => printer.note(&format!("continuing after {}", units::bytes(done))),
            Event::Reconnecting { done, reason } => {
                printer.note(&format!("{reason} after {}; connecting again", units::bytes(done)));
            }
            Event::Done { path, bytes } => {
                printer.note(&format!("{reference}: {} at {}", units::bytes(bytes), path.display()));
            }
            other => printer.note(&other.to_string()),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.counts = false;
    }
}

/// The path of a model that is already here; nothing is fetched.
pub(crate) fn find(hub: &Hub, reference: &str) -> Result<PathBuf, Failure> {
    match (hub.find(reference)?, hub::Reference::parse(reference)?) {
        (Some(path), _) => Ok(path),
        (None, hub::Reference::Path(path)) => Err(hub::Error::NoSuchFile { path }.into()),
        (None, remote) => Err(Failure::NotHere { name: remote.to_string() }),
    }
}

/// What a model's header says.
pub(crate) struct Described {
    pub(crate) metadata: gguf::Metadata,
    pub(crate) tensors: Vec<gguf::TensorInfo>,
}

/// The header of a model that is here, or else of the one on the network, of which no more is read.
pub(crate) fn describe(hub: &Hub, reference: &str, printer: &Printer) -> Result<Described, Failure> {
    match (hub.find(reference)?, hub::Reference::parse(reference)?) {
        (Some(path), _) => {
            let file = gguf::File::open(&path)?;
            Ok(Described { metadata: file.metadata().clone(), tensors: file.tensors().to_vec() })
        }
        (None, hub::Reference::Path(path)) => Err(hub::Error::NoSuchFile { path }.into()),
        (None, _) => describe_remote(hub, reference, printer),
    }
}

/// Bytes that are asked for first, enough for small vocabularies, and the most that are: no header is longer.
const HEADER_BYTES: std::ops::Range<u64> = 2 << 20..256 << 20;

fn describe_remote(hub: &Hub, reference: &str, printer: &Printer) -> Result<Described, Failure> {
    let mut whole: Option<Described> = None;
    for part in 0..hub.parts(reference)? {
        let header = remote_header(hub, reference, part, printer)?;
        match &mut whole {
            Some(whole) => whole.tensors.extend(header.tensors),
            None => whole = Some(Described { metadata: header.metadata, tensors: header.tensors }),
        }
    }
    whole.ok_or_else(|| Failure::NotHere { name: reference.to_owned() })
}

/// Reads on, twice as much each time, until the header is whole.
fn remote_header(
    hub: &Hub,
    reference: &str,
    part: usize,
    printer: &Printer,
) -> Result<gguf::Header, Failure> {
    let mut bytes = Vec::new();
    let mut end = HEADER_BYTES.start;
    loop {
        let piece = hub.read_range(reference, part, bytes.len() as u64..end)?;
        if bytes.is_empty() {
            printer.note(&format!("{reference}: reading the header from {}", piece.source));
        }
        let is_all = (piece.bytes.len() as u64) < end - bytes.len() as u64;
        bytes.extend(piece.bytes);
        let file_bytes = if is_all { bytes.len() as u64 } else { piece.file_bytes.unwrap_or(u64::MAX) };
        match gguf::parse_start(&bytes, file_bytes) {
            Err(gguf::Error::Truncated { .. } | gguf::Error::Count { .. })
                if !is_all && end < HEADER_BYTES.end =>
            {
                end *= 2;
            }
            result => return Ok(result?),
        }
    }
}

/// Fetches and opens a model. The first start on this machine makes a copy in the layout the kernels read.
/// It is held in `memory` as a plan says that is made for what is asked.
pub(crate) fn open(
    reference: &str,
    team: &Team,
    memory: &Memory,
    demand: &Demand,
    printer: &Printer,
) -> Result<(Arc<Model>, Residency), Failure> {
    let hub = hub()?;
    let path = fetch(&hub, reference, printer)?;
    open_file(&hub, &path, team, memory, demand, printer)
}

/// Opens the model at `path`, as [`open`] does.
pub(crate) fn open_file(
    hub: &Hub,
    path: &Path,
    team: &Team,
    memory: &Memory,
    demand: &Demand,
    printer: &Printer,
) -> Result<(Arc<Model>, Residency), Failure> {
    let bar = std::cell::OnceCell::new();
    let progress = |done: u64, total: u64| {
        let bar = bar.get_or_init(|| printer.bar("preparing the weights", Some(total), Unit::Bytes));
        bar.set_position(done);
    };
    let folder = hub.derived_folder(path);
    let options = model::Options {
        cache_folder: Some(&folder),
        team: Some(team),
        progress: Some(&progress),
        ..model::Options::default()
    };
    let result = memory.open(path, &options, demand);
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    let (model, plan) = result.in_file(path)?;
    if *model.residence() == Residence::Memory {
        printer.warning("no disk has room for the prepared weights, so they take memory; see POUCH_CACHE");
    }
    if !model.tokenizer.pre_tokenizer_is_known() {
        printer.warning("the file's rules for cutting text into words are not known; common ones are used");
    }
    Ok((model, plan))
}
