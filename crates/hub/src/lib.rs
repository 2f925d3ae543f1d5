//! Where models come from: a catalogue of names, model hubs, plain addresses and the user's own Python package index.
//!
//! A model is asked for by a *reference* (see [`Reference`]): a catalogue name, `hf:owner/repo/file`, `ms:owner/repo/file`,
//! an http(s) address or a path. [`Hub::fetch`] returns the path of the complete, checked file, downloading it into the
//! user's cache folder when it is not there yet. Nothing is printed: what happens is told through [`Event`]s.
//!
//! ```no_run
//! let hub = hub::Hub::new(hub::Settings::from_environment()?);
//! let path = hub.fetch(hub::DEFAULT_MODEL, &mut |event| eprintln!("{event}"))?;
//! # Ok::<(), hub::Error>(())
//! ```

mod cache;
mod catalogue;
mod download;
mod error;
mod event;
mod http;
mod pip;
mod range;
mod reference;
mod settings;
mod source;

pub use cache::Entry;
pub use catalogue::{CATALOGUE, DEFAULT_MODEL, Model};
pub use error::Error;
pub use event::Event;
pub use range::Piece;
pub use reference::Reference;
pub use settings::{Folder, PipSource, Settings};
pub use source::Source;

use std::path::{Path, PathBuf};

/// The place models are fetched into and looked up in.
pub struct Hub {
    settings: Settings,
}

impl Hub {
    /// A hub with these settings; touches neither the disk nor the network.
    pub fn new(settings: Settings) -> Hub {
        Hub { settings }
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The folder below which everything fetched is kept.
    pub fn models_folder(&self) -> PathBuf {
        self.settings.cache.join("models")
    }

    /// The file a reference stands for, if it is complete on this disk. For a path: the path itself when it exists.
    /// A model in several parts gives its first part.
    pub fn find(&self, reference: &str) -> Result<Option<PathBuf>, Error> {
        Ok(match Reference::parse(reference)? {
            Reference::Path(path) => path.is_file().then_some(path),
            remote => cache::find(&self.models_folder(), &remote),
        })
    }

    /// The path of the complete, checked file: from the cache, or fetched now from the first source that answers.
    /// A second process asking for the same file waits for the first.
    pub fn fetch(&self, reference: &str, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error> {
        let reference = Reference::parse(reference)?;
        if let Reference::Path(path) = reference {
            return if path.is_file() { Ok(path) } else { Err(Error::NoSuchFile { path }) };
        }
        if let Some(path) = cache::find(&self.models_folder(), &reference) {
            return Ok(path);
        }
        let folder = cache::folder(&self.models_folder(), &reference);
        let files = reference.files();
        for file in &files {
            self.fetch_file(&reference, &folder, file, events)?;
        }
        Ok(folder.join(&files[0]))
    }

    /// Bytes `range` of the `part`-th file of a model (from 0), as far as it has them, from the first source that answers; nothing is
    /// kept. Enough to know what a model is before it is fetched.
    ///
    /// # Errors
    /// [`Error::BadReference`] for a path or a part there is none of, otherwise as [`Hub::fetch`].
    pub fn read_range(
        &self,
        reference: &str,
        part: usize,
        range: std::ops::Range<u64>,
    ) -> Result<Piece, Error> {
        let parsed = Reference::parse(reference)?;
        let files = parsed.files();
        let file = files.get(part).ok_or_else(|| Error::BadReference {
            reference: reference.to_owned(),
            reason: "nothing on the network is named by it".to_owned(),
        })?;
        self.first_answer(&parsed.to_string(), parsed.sources(file), |source| {
            source.read_range(range.clone(), &self.settings)
        })
    }

    /// The files that a model on the network consists of; 0 for a path.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parts(&self, reference: &str) -> Result<usize, Error> {
        Ok(Reference::parse(reference)?.files().len())
    }

    /// What the first source gives that gives anything.
    fn first_answer<T>(
        &self,
        name: &str,
        sources: Vec<Source>,
        mut ask: impl FnMut(&Source) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut failures = Vec::new();
        for source in sources {
            match ask(&source) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_local() => return Err(error),
                Err(error) => failures.push((source.to_string(), error)),
            }
        }
        Err(match <[_; 1]>::try_from(failures) {
            Ok([(_, only)]) => only,
            Err(failures) => Error::NoSourceAnswered { name: name.to_owned(), failures },
        })
    }

    /// Every complete model in the cache, by name.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        cache::list(&self.models_folder())
    }

    /// Deletes a cached model, finished or not. Returns the bytes freed. Files outside the cache are never touched.
    pub fn remove(&self, reference: &str) -> Result<u64, Error> {
        match Reference::parse(reference)? {
            Reference::Path(path) => Err(Error::NotInCache { name: path.display().to_string() }),
            remote => cache::remove(&self.models_folder(), &remote),
        }
    }

    /// The folder in which files computed from the model at `path` may be kept; it may not exist yet. For a model in the cache
    /// the folder goes when the model is removed.
    pub fn derived_folder(&self, path: &Path) -> PathBuf {
        cache::derived_folder(&self.settings.cache, &self.models_folder(), path)
    }

    /// Deletes everything computed from models that lie outside the cache, the only thing kept of them. Returns the bytes freed.
    pub fn remove_derived(&self) -> Result<u64, Error> {
        cache::remove_derived(&cache::common_derived_folder(&self.settings.cache))
    }

    /// One file of a model: under its lock, from the first source that gives it.
    fn fetch_file(
        &self,
        reference: &Reference,
        folder: &Path,
        file: &str,
        events: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let target = folder.join(file);
        let parent = target.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|source| Error::io("create the folder", parent, source))?;
        let _lock = cache::lock(&target, events)?;
        if cache::is_complete(&target) {
            return Ok(());
        }

        let (fetched, source) =
            self.first_answer(&reference.to_string(), reference.sources(file), |source| {
                let name = source.to_string();
                events(Event::TryingSource { source: name.clone() });
                match source.fetch_to(&target, reference.model(), &self.settings, events) {
                    Ok(fetched) => Ok((fetched, name)),
                    Err(error) => {
                        if !error.is_local() {
                            events(Event::SourceFailed { source: name, reason: error.to_string() });
                        }
                        Err(error)
                    }
                }
            })?;
        let record = cache::Record {
            name: reference.to_string(),
            source,
            file: file.to_owned(),
            bytes: fetched.bytes,
            sha256: fetched.sha256,
            licence: reference.model().map(|model| model.licence.to_owned()),
        };
        cache::write_record(&target, &record)?;
        events(Event::Done { path: target, bytes: fetched.bytes });
        Ok(())
    }
}
