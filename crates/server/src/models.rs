//! The models by name: opened when somebody asks for one, closed when another needs the memory.
//!
//! Opening takes seconds and happens on a thread of its own: whoever asked waits, requests of other models go on. The weights
//! count against the budget; where they do not fit, models that nobody uses are closed, the one whose last use is longest
//! ago first.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{DEFAULT_BATCH, Demand, Memory, conversations};
use grammar::Grammars;
use model::{Model, Workspace};
use tokio::sync::Mutex;

use crate::api_error::ApiError;
use crate::card::Card;
use crate::error::Error;
use crate::generation::Common;

/// The name that always stands for the first model.
const DEFAULT: &str = "default";

/// A model that clients may ask for.
#[derive(Debug)]
pub struct ModelFile {
    /// The name it goes by.
    pub name: String,
    /// Other names for it, where they are no model's own.
    pub aliases: Vec<String>,
    /// The file, or its first part.
    pub path: PathBuf,
    /// Where what is computed from the file is kept.
    pub cache_folder: Option<PathBuf>,
    /// The model, if it is open already.
    pub open: Option<Arc<Model>>,
}

/// All models that can be asked for.
pub(crate) struct Models {
    entries: Vec<Arc<Entry>>,
    /// Decides what models may take.
    memory: Memory,
    /// What each is asked for.
    demand: Demand,
    /// Counts uses, to tell which is longest ago.
    clock: AtomicU64,
}

/// One of them.
pub(crate) struct Entry {
    pub(crate) card: Card,
    aliases: Vec<String>,
    path: PathBuf,
    cache_folder: Option<PathBuf>,
    /// Locked while it is being opened.
    slot: Mutex<Option<Arc<Loaded>>>,
    last_use: AtomicU64,
}

/// A model in memory. Whoever works with it holds an `Arc`, which is what keeps it from being closed.
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) model: Arc<Model>,
    pub(crate) grammars: Grammars,
    /// What buffers take: of one pass, and of one that was put aside for it.
    buffers: usize,
    memory: Memory,
}

impl Loaded {
    fn new(name: &str, model: Arc<Model>, memory: &Memory) -> Arc<Loaded> {
        let grammars = Grammars::new(&model.tokenizer);
        let buffers = 2 * Workspace::new(&model.config, DEFAULT_BATCH).bytes();
        Arc::new(Loaded { name: name.to_owned(), model, grammars, buffers, memory: memory.clone() })
    }

    /// Bytes that keys and values may take beside the model and its buffers.
    pub(crate) fn bytes_beside(&self) -> usize {
        let taken = self.memory.held_bytes(&self.model) + self.buffers;
        self.memory.budget().limit().saturating_sub(taken)
    }
}

impl Models {
    pub(crate) fn new(files: Vec<ModelFile>, memory: Memory, common: Common) -> Result<Models, Error> {
        let demand = conversations(common.context, Some(common.kv_type), DEFAULT_BATCH, None);
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for file in files {
            let card = Card::read(&file.name, &file.path)?;
            if let Some(other) = entries.iter().find(|entry| entry.is_called(&file.name)) {
                let (first, second) = (other.path.clone(), file.path);
                return Err(Error::SameName { name: file.name, first, second });
            }
            let loaded = match file.open {
                Some(model) => {
                    memory.fit(&model, &demand).map_err(Error::Memory)?;
                    Some(Loaded::new(&file.name, model, &memory))
                }
                None => None,
            };
            entries.push(Arc::new(Entry {
                card,
                aliases: file.aliases,
                path: file.path,
                cache_folder: file.cache_folder,
                slot: Mutex::new(loaded),
                last_use: AtomicU64::new(0),
            }));
        }
        match entries.is_empty() {
            true => Err(Error::NoModel),
            false => Ok(Models { entries, memory, demand, clock: AtomicU64::new(1) }),
        }
    }

    /// All of them, the default first.
    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// What decides how much they may take.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The model that goes by `name`; the first if there is none, or `default`.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<Entry>, ApiError> {
        let name = match name {
            None | Some("" | DEFAULT) => return Ok(&self.entries[0]),
            Some(name) => name,
        };
        // Ollama's clients add the tag that they take for granted.
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        let mut named = self.entries.iter().filter(|entry| entry.is_called(plain));
        let mut nicknamed = self.entries.iter().filter(|entry| entry.is_also_called(plain));
        named.next().or_else(|| nicknamed.next()).ok_or_else(|| {
            let known: Vec<&str> = self.entries.iter().map(|entry| entry.card.name.as_str()).collect();
            let message =
                format!("the model {name:?} does not exist; there are {DEFAULT}, {}", known.join(", "));
            ApiError::not_found("model_not_found", message).with_param("model")
        })
    }

    /// The model, opened if it is not yet.
    pub(crate) async fn get(self: &Arc<Models>, name: Option<&str>) -> Result<Arc<Loaded>, ApiError> {
        let entry = Arc::clone(self.find(name)?);
        entry.last_use.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(loaded) = entry.slot.lock().await.as_ref() {
            return Ok(Arc::clone(loaded));
        }
        // A task of its own, so that the work is not lost when the client that asked first goes away.
        let models = Arc::clone(self);
        let opening = tokio::spawn(async move { models.open(&entry).await });
        opening.await.unwrap_or_else(|_| Err(ApiError::server("model_failed", "opening the model failed")))
    }

    async fn open(&self, entry: &Arc<Entry>) -> Result<Arc<Loaded>, ApiError> {
        let mut slot = entry.slot.lock().await;
        if let Some(loaded) = slot.as_ref() {
            return Ok(Arc::clone(loaded));
        }
        let name = &entry.card.name;
        let model = loop {
            let (path, folder) = (entry.path.clone(), entry.cache_folder.clone());
            let (memory, demand) = (self.memory.clone(), self.demand);
            let opened = tokio::task::spawn_blocking(move || {
                let options = model::Options { cache_folder: folder.as_deref(), ..model::Options::default() };
                memory.open(&path, &options, &demand)
            });
            match opened.await {
                Ok(Ok((model, plan))) => {
                    // Rather than have layers read for every token, what nobody uses is closed.
                    while plan.streams() && self.close_one() {
                        let fitted = self.memory.fit(&model, &self.demand);
                        if fitted.is_ok_and(|plan| !plan.streams()) {
                            break;
                        }
                    }
                    break model;
                }
                Ok(Err(error)) if is_short(&error) => {
                    if !self.close_one() {
                        let message = format!("the model {name} does not fit: {error}");
                        return Err(ApiError::unavailable("insufficient_memory", message));
                    }
                }
                Ok(Err(error)) => return Err(failed(name, &error)),
                Err(error) => return Err(failed(name, &error)),
            }
        };
        let loaded = Loaded::new(name, model, &self.memory);
        *slot = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Closes models that nobody uses as long as less than `bytes` are free.
    pub(crate) fn make_room(&self, bytes: usize) {
        while self.memory.budget().free() < bytes && self.close_one() {}
    }

    /// Closes the model that nobody uses and whose last use is longest ago. Returns whether there was one.
    fn close_one(&self) -> bool {
        let idle = self.entries.iter().filter_map(|entry| {
            // Locked is one that is being opened.
            let slot = entry.slot.try_lock().ok()?;
            let is_idle = slot.as_ref().is_some_and(|loaded| Arc::strong_count(loaded) == 1);
            is_idle.then_some((entry.last_use.load(Ordering::Relaxed), slot))
        });
        match idle.min_by_key(|(last_use, _)| *last_use) {
            Some((_, mut slot)) => slot.take().is_some(),
            None => false,
        }
    }
}

impl Entry {
    fn is_called(&self, name: &str) -> bool {
        self.card.name.eq_ignore_ascii_case(name)
    }

    fn is_also_called(&self, name: &str) -> bool {
        self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// Whether it is in memory, as far as that can be told without waiting.
    pub(crate) fn is_loaded(&self) -> bool {
        self.slot.try_lock().is_ok_and(|slot| slot.is_some())
    }
}

/// Whether a model was refused for want of memory, which another may leave. One that may only be streamed, for which there is no
/// disk, is.
fn is_short(error: &engine::Error) -> bool {
    use model::Error::{Budget, NoCopy};
    matches!(error, engine::Error::Refused(_) | engine::Error::Model(Budget { .. } | NoCopy))
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::server("model_failed", format!("the model {name} cannot be opened: {error}"))
}
