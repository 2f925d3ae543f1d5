//! The whole way from a model to its packed file and certificate.

use std::path::Path;
use std::time::Instant;

use kernels::Team;

use crate::assemble::Parts;
use crate::attest::{Attest, attest};
use crate::calibration::Tokens;
use crate::certificate::{Certificate, Stage, sha256, sha256_of_files};
use crate::error::Error;
use crate::float::Source;
use crate::imatrix::Importance;
use crate::inventory::{self, Kind, values};
use crate::journal::Journal;
use crate::methods::training::{self, DistillOptions, Learn, TrainingOptions, TuneOptions};
use crate::options::{Effort, Options, Progress, Target, work_folder};
use crate::plan::{self, Decision, Sensitivities};
use crate::rounding::Search;
use crate::walk::{Walk, folds, squares};

/// What was made.
#[derive(Debug)]
pub struct Packed {
    /// The certificate, as it lies beside the file.
    pub certificate: Certificate,
}

/// Packs the model file `source` into `target` and writes the certificate beside it. A file that is there is written over
/// once the new one is whole.
///
/// # Errors
/// See [`Error`]; `target` is then as it was before, and the work folder holds what a further run continues from.
pub fn pack(team: &Team, source: &Path, target: &Path, options: &Options<'_>) -> Result<Packed, Error> {
    // The process has one pool; it stays as it is where somebody has set it up already.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(team.threads()).build_global();
    Run::start(team, source, target, options)?.finish()
}

/// A run under way.
struct Run<'a> {
    team: &'a Team,
    target: &'a Path,
    options: &'a Options<'a>,
    source: Source,
    sha256: String,
    kinds: Vec<Kind>,
    /// The calibration text, where it is needed.
    tokens: Option<Tokens>,
    journal: Journal,
    clock: Clock,
}

impl<'a> Run<'a> {
    /// Checks all that can be wrong before the long work.
    fn start(
        team: &'a Team,
        path: &Path,
        target: &'a Path,
        options: &'a Options<'a>,
    ) -> Result<Run<'a>, Error> {
        let clock = Clock::default();
        let source = Source::open(path)?;
        if source.config.experts.is_some() && trains(options) {
            return Err(Error::Experts { architecture: source.config.architecture });
        }
        let kinds = inventory::kinds(&source);
        // What a plan needs is asked of it now, so that an impossible wish is refused at once.
        plan::check(&source, &kinds, options.target)?;
        let tokens = match careful(options) || !matches!(options.target, Target::Recipe(_)) {
            true => Some(Tokens::of(&source, options.calibration, options.effort, options.memory)?),
            false => None,
        };
        let sha256 = sha256_of_files(source.file.paths())?;
        let folder = options.work_folder.map_or_else(|| work_folder(target), Path::to_owned);
        let key = key(&sha256, options)?;
        let journal = Journal::open(&folder, &key)?;
        Ok(Run { team, target, options, source, sha256, kinds, tokens, journal, clock })
    }

    fn finish(mut self) -> Result<Packed, Error> {
        let types = self.types()?;
        let careful = careful(self.options);
        let importance = match self.options.imatrix_in {
            Some(path) => Some(Importance::open(path)?),
            None if careful => Some(self.walk(&types)?),
            None => None,
        };
        if let (Some(path), Some(importance)) = (self.options.imatrix_out, &importance) {
            importance.write(path)?;
        }
        let parts = Parts {
            source: &self.source,
            types: &types,
            journal: careful.then_some(&self.journal),
            importance: importance.as_ref(),
        };
        let progress = self.options.progress;
        let mut tell = |done, total| progress(Progress { stage: "writing", done, total });
        let trains = trains(self.options);
        let rounded = if trains { self.journal.path("rounded.gguf") } else { self.target.to_owned() };
        if !(trains && rounded.exists()) {
            parts.write(self.team, &rounded, &mut tell)?;
        }
        self.clock.stage("writing");
        if trains {
            self.train(&rounded)?;
            self.clock.stage("training");
        }
        let plain = self.journal.path("plain.gguf");
        if careful {
            // What the care was worth shows beside the same types by importance alone.
            Parts { journal: None, ..parts }.write(self.team, &plain, &mut |_, _| ())?;
        }
        let certificate = attest(Attest {
            team: self.team,
            options: self.options,
            source: &self.source,
            source_sha256: &self.sha256,
            target: self.target,
            plain: careful.then_some(&*plain),
            types: &types,
            journal: &self.journal,
            calibration_tokens: self.tokens.as_ref().map_or(0, |tokens| tokens.tokens.len()),
            clock: &mut self.clock,
        })?;
        certificate.write_beside(self.target)?;
        self.journal.remove()?;
        Ok(Packed { certificate })
    }

    /// What each tensor becomes; kept in the journal, for it takes a while to find out.
    fn types(&mut self) -> Result<Vec<Option<Decision>>, Error> {
        if let Some(kept) = self.journal.value::<Vec<Option<(u32, Option<f64>)>>>(TYPES)? {
            let decision = |kept: Option<(u32, Option<f64>)>| {
                let (id, divergence) = kept?;
                Some(Decision { format: kernels::format(id)?, divergence })
            };
            return Ok(kept.into_iter().map(decision).collect());
        }
        let sensitivities = match &self.tokens {
            Some(tokens) => {
                let progress = self.options.progress;
                let mut tell = |done: usize, total: usize| {
                    progress(Progress {
                        stage: "measuring sensitivities",
                        done: done as u64,
                        total: total as u64,
                    });
                };
                let sample = tokens.sample();
                let seed = self.options.seed;
                Some(Sensitivities::measure(&self.source, &sample, tokens.length, seed, &mut tell)?)
            }
            None => None,
        };
        self.clock.stage("measuring sensitivities");
        let types = plan::decide(&self.source, &self.kinds, self.options.target, sensitivities.as_ref())?;
        self.clock.stage("choosing types");
        let kept: Vec<_> =
            types.iter().map(|decision| decision.map(|kept| (kept.format.id, kept.divergence))).collect();
        self.journal.put_value(TYPES, &kept)?;
        Ok(types)
    }

    /// Trains what was rounded, and writes what came of it to the target.
    fn train(&self, rounded: &Path) -> Result<(), Error> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let window = self.source.window(tokens.length);
        let rounded = Source::open(rounded)?;
        // The same model in the coordinates of what was rounded.
        let mut original = Source::open(&self.source.file.paths()[0])?;
        original.folds = folds(&self.journal, original.config.layers.len())?;
        let seed = self.options.seed;
        let options = TrainingOptions {
            tune: TuneOptions { seed, ..TuneOptions::default() },
            distill: Some(DistillOptions { seed, learn: self.what_learns(), ..DistillOptions::default() }),
        };
        let layers = self.source.config.layers.len() as u64;
        let progress = self.options.progress;
        let mut tell = |at: training::Progress| {
            // The whole model at once takes about as long as all its blocks one by one.
            let (blocks, step, steps) = (at.blocks as u64, at.step as u64, at.steps.max(1) as u64);
            let done = if blocks < layers { blocks * steps + step } else { layers * (steps + step) };
            progress(Progress { stage: "training", done, total: 2 * layers * steps });
        };
        let (tensors, _) = training::train(
            &original,
            &rounded,
            &window,
            &tokens.tokens,
            &options,
            &self.journal,
            &mut tell,
        )?;
        tensors.write(self.target)
    }

    /// Levels win back most, but all of them and their moments have to lie in memory at once.
    fn what_learns(&self) -> Learn {
        let parameters: u64 = self.source.file.tensors().iter().map(values).sum();
        let memory = self.options.memory.unwrap_or(TRAINING_MEMORY);
        if parameters * BYTES_PER_LEARNED_WEIGHT <= memory { Learn::All } else { Learn::Scales }
    }

    /// Rounds with care, and returns what the inputs were like.
    fn walk(&mut self, types: &[Option<Decision>]) -> Result<Importance, Error> {
        let Some(tokens) = &self.tokens else { return Ok(Importance::default()) };
        let walk = Walk {
            source: &self.source,
            kinds: &self.kinds,
            types,
            tokens,
            search: if self.options.effort == Effort::Best { Search::Thorough } else { Search::Fast },
            journal: &self.journal,
            fold: self.options.fold.then_some(self.options.seed),
        };
        let progress = self.options.progress;
        walk.run(&mut |done, total| {
            progress(Progress { stage: "rounding", done: done as u64, total: total as u64 });
        })?;
        self.clock.stage("rounding");
        let mut importance = Importance {
            datasets: vec![self.options.calibration.name.clone()],
            chunks: (tokens.tokens.len() / tokens.length) as u32,
            chunk_size: tokens.length as u32,
            ..Importance::default()
        };
        for (index, info) in self.source.file.tensors().iter().enumerate() {
            if let Some(squares) = squares(&self.journal, index, info)? {
                importance.tensors.insert(info.name.clone(), squares);
            }
        }
        Ok(importance)
    }
}

/// Whether matrices are rounded on the calibration text, not by importance alone.
fn careful(options: &Options<'_>) -> bool {
    options.effort != Effort::Fast && options.imatrix_in.is_none()
}

/// Whether what was rounded is trained.
fn trains(options: &Options<'_>) -> bool {
    careful(options) && options.effort == Effort::Best
}

/// Memory that training may take where nobody says.
const TRAINING_MEMORY: u64 = 4 << 30;

/// A weight as it is, as it learns, its gradient and two moments, and what the original has for it.
const BYTES_PER_LEARNED_WEIGHT: u64 = 24;

/// The journal's entry of the types.
const TYPES: &str = "types";

/// What a journal must have been written for: the same source and the same wishes.
fn key(source: &str, options: &Options<'_>) -> Result<String, Error> {
    let Options { target, effort, fold, calibration, seed, memory, imatrix_in, .. } = options;
    let imatrix = match imatrix_in {
        Some(path) => sha256_of_files(&[path])?,
        None => String::new(),
    };
    let text = sha256(calibration.content.as_bytes());
    let version = env!("CARGO_PKG_VERSION");
    let effort = effort.name();
    Ok(format!("{version}\n{source}\n{target}\n{effort}\n{fold}\n{text}\n{seed}\n{memory:?}\n{imatrix}\n"))
}

/// How long each stage took.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    last: Instant,
    pub(crate) stages: Vec<Stage>,
}

impl Default for Clock {
    fn default() -> Clock {
        let now = Instant::now();
        Clock { started: now, last: now, stages: Vec::new() }
    }
}

impl Clock {
    /// A stage has ended.
    pub(crate) fn stage(&mut self, name: &str) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        self.stages.push(Stage { name: name.to_owned(), seconds });
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
