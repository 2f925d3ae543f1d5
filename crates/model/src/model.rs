//! A model that is open: its configuration, tokenizer and weights. It never changes, so any number of sessions and
//! threads share one behind an `Arc`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use kernels::{Matrix, Team};
use text::{ChatTemplate, Tokenizer};

use crate::arch;
use crate::config::Config;
use crate::error::Error;
use crate::interleaved::{self, Interleaved, Progress, Residence};
use crate::plan::Stored;
use crate::stream::{Held, Resident, Streamer, Streaming};
use crate::weights::Weights;

/// How to open a model.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The folder that keeps interleaved copies between starts; without one each start makes its own.
    pub cache_folder: Option<&'a Path>,
    /// Threads that help to make the copy.
    pub team: Option<&'a Team>,
    /// Told bytes done and bytes in all while the copy is made.
    pub progress: Option<Progress<'a>>,
    /// Whether the copy must be a file in the folder: what is to be streamed does not fit in memory, not even while it is opened.
    pub needs_file: bool,
}

/// Bytes that a model takes, by what can be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// The interleaved matrices, all read for every token.
    pub weights: usize,
    /// The embedding table, of which a token reads one row.
    pub embedding: usize,
}

/// An open model.
pub struct Model {
    /// What the forward pass needs to know.
    pub config: Config,
    /// The file's tokenizer.
    pub tokenizer: Tokenizer,
    /// The file's chat template.
    pub chat_template: ChatTemplate,
    pub(crate) weights: Weights,
    interleaved: Interleaved,
    pub(crate) file: gguf::File,
    identity: u128,
    /// Reads weights that do not stay in memory.
    streamer: RwLock<Option<Arc<Streamer>>>,
}

impl Model {
    /// Opens the model at `path`, any part of it if it has several, and checks all of it.
    ///
    /// # Errors
    /// Whatever is wrong with the file, its tokenizer, its metadata or a tensor; [`Error::OutOfMemory`].
    pub fn open(path: &Path, options: &Options<'_>) -> Result<Model, Error> {
        Model::from_file(gguf::File::open(path)?, options)
    }

    /// The same of a file whose header was looked at already.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_file(mut file: gguf::File, options: &Options<'_>) -> Result<Model, Error> {
        let config = arch::configure(file.metadata())?;
        interleaved::fetch(&file);
        let (weights, plan) = Weights::find(&file, &config)?;
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let chat_template = ChatTemplate::from_metadata(file.metadata())?;
        let identity = interleaved::content(&file);
        let mut interleaved = Interleaved::open(&file, &plan, identity, options)?;
        // Of matrices only the copy is read from now on.
        file.release();
        // Not before the copy is made: what could not be read must not get into it.
        file.guard();
        interleaved.guard();
        let streamer = RwLock::new(None);
        Ok(Model { config, tokenizer, chat_template, weights, interleaved, file, identity, streamer })
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &gguf::Metadata {
        self.file.metadata()
    }

    /// The file's tensors.
    pub fn tensors(&self) -> &[gguf::TensorInfo] {
        self.file.tensors()
    }

    /// The model file, or files.
    pub fn paths(&self) -> &[PathBuf] {
        self.file.paths()
    }

    /// Stands for the content of the file, wherever it lies: 32 hexadecimal digits.
    pub fn identity(&self) -> String {
        format!("{:032x}", self.identity)
    }

    /// Whether a cache of this capacity has keys turned in the way of long contexts, for models that have two ways: keys of
    /// one kind are of no use in a cache of the other.
    pub fn turns_for_long(&self, capacity: usize) -> bool {
        self.weights.rotations.iter().any(|rotation| rotation.is_long(capacity))
    }

    /// Where the interleaved copy is.
    pub fn residence(&self) -> &Residence {
        self.interleaved.residence()
    }

    /// Numbers that training has set: the values of all tensors.
    pub fn parameters(&self) -> u64 {
        self.file.tensors().iter().map(|info| info.shape.iter().product::<u64>()).sum()
    }

    /// Bytes that the weights take. Both figures are of mapped files unless [`Model::residence`] says otherwise.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse { weights: self.interleaved.bytes().len(), embedding: self.embedding_table().len() }
    }

    /// Every weight by its role, for whoever computes a part of the model elsewhere.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// One of the matrices that [`Model::weights`] names, interleaved.
    pub fn matrix(&self, stored: &Stored) -> Matrix<'_> {
        stored.matrix(self.interleaved.bytes(), 0)
    }

    /// Decides what of the weights stays in memory: the rest is read from the copy on disk whenever it is needed. May be called at
    /// any time, by anybody; passes take it up with their next layer. No result depends on it.
    ///
    /// # Errors
    /// [`Error::NoCopy`], [`Error::Resident`], [`Error::File`], [`Error::OutOfMemory`]; all is then as it was.
    pub fn keep(&self, resident: Resident) -> Result<(), Error> {
        let mut streamer = self.streamer.write().unwrap_or_else(PoisonError::into_inner);
        let is_all = match resident {
            Resident::All => true,
            Resident::Layers(layers) => layers >= self.config.layers.len(),
            // A token holds all its experts at once.
            Resident::Experts(experts)
                if self.config.experts.as_ref().is_some_and(|of| experts < of.used) =>
            {
                return Err(Error::Resident { resident });
            }
            Resident::Experts(_) => false,
        };
        if is_all {
            *streamer = None;
        } else if !streamer.as_ref().is_some_and(|streamer| streamer.keep_layers(resident)) {
            let (file, header) = self.interleaved.direct()?;
            *streamer = Some(Arc::new(Streamer::start(file, self.weights.units(header), resident)?));
        }
        Ok(())
    }

    /// How weights are streamed, if they are.
    pub fn streaming(&self) -> Option<Streaming> {
        self.streamer().map(|streamer| streamer.streaming())
    }

    pub(crate) fn streamer(&self) -> Option<Arc<Streamer>> {
        self.streamer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has weights that could not be read be read again, and returns what [`Model::check_read`] compares with.
    pub(crate) fn begin_reading(&self) -> usize {
        self.file.restore();
        self.interleaved.map().into_iter().for_each(gguf::Map::restore);
        self.losses()
    }

    /// Checks that all weights that were read since [`Model::begin_reading`] returned `before` were there to be read.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn check_read(&self, before: usize) -> Result<(), Error> {
        if self.losses() == before {
            return Ok(());
        }
        let of_copy = || match self.residence() {
            Residence::Cached(path) => path.clone(),
            Residence::Temporary | Residence::Memory => std::env::temp_dir(),
        };
        let path = self.file.damaged().map_or_else(of_copy, Path::to_owned);
        Err(gguf::Error::Unreadable { path }.into())
    }

    fn losses(&self) -> usize {
        self.file.losses() + self.interleaved.map().map_or(0, gguf::Map::losses)
    }

    /// All weights, as they are mapped.
    pub(crate) fn mapped(&self) -> Held<'_> {
        Held::Mapped(self.interleaved.bytes())
    }

    /// The embedding table as it stands in the file.
    pub(crate) fn embedding_table(&self) -> &[u8] {
        self.file.data(&self.file.tensors()[self.weights.embedding.tensor])
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("paths", &self.paths())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
