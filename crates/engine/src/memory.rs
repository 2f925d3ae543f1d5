//! The one place that decides how much memory anything may take.
//!
//! Models, keys and values, and the buffers of passes count against one [`Budget`], whose limit is the [`Room`] that
//! `device` finds. A model is opened by the plan that `device` makes for it, and from then on [`Memory::look`], called
//! between steps, obeys a limit that is lowered or raised meanwhile: first weights stop to stay in memory, then nothing more
//! is granted, and whoever has something to give back is told to.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use device::{
    Demand, MemoryTable, Residency, Room, Shape, Watch, default_threads, least, residency, resident,
};
use model::{Budget, Grant, KvType, Model, Options, Resident};

use crate::error::Error;
use crate::session::DEFAULT_CONTEXT;

/// What the budget is told that a model is.
const MODEL: &str = "the model";

/// Weights that had to go do not come back sooner.
const REST: Duration = Duration::from_secs(10);

/// The context that a conversation must have room for if nobody asked for one.
const LEAST_CONTEXT: usize = 2048;

/// What conversations ask of memory: the `context` that was chosen, or as much of the usual one as there is room for.
pub fn conversations(
    context: Option<usize>,
    kv_type: Option<KvType>,
    batch: usize,
    threads: Option<usize>,
) -> Demand {
    Demand {
        context: context.unwrap_or(DEFAULT_CONTEXT),
        least_context: context.unwrap_or(LEAST_CONTEXT),
        kv_type,
        batch,
        threads: threads.unwrap_or_else(default_threads),
        beside: 0,
    }
}

/// What may be taken, and who has it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None where only a fixed budget counts.
    watch: Option<Watch>,
    room: Room,
    held: Vec<Held>,
}

/// Bytes that are taken.
#[derive(Clone, Copy)]
struct Taken {
    all: usize,
    /// By models, besides keys, values and buffers.
    fixed: usize,
}

/// A model that is open.
#[derive(Debug)]
struct Held {
    model: Weak<Model>,
    shape: Shape,
    plan: Residency,
    /// What the plan leaves to others: see [`Demand::beside`].
    beside: u64,
    /// When its weights last had to give way.
    lowered: Option<Instant>,
    grant: Grant,
}

impl From<Budget> for Memory {
    /// Of which nobody but the budget has to say anything: all of a model counts against it, and stays in memory.
    fn from(budget: Budget) -> Memory {
        Memory::new(budget, None, Room::endless())
    }
}

impl Memory {
    /// As much as there is, and nobody watches it.
    pub fn unlimited() -> Memory {
        Memory::from(Budget::unlimited())
    }

    /// What the system below `root` leaves, which is `/` but for tests, and at most `cap` bytes.
    pub fn of_system(root: &Path, cap: Option<u64>) -> Memory {
        let room = Room::now(root, cap);
        Memory::new(Budget::new(granted(&room)), Some(Watch::new(root, cap)), room)
    }

    fn new(budget: Budget, watch: Option<Watch>, room: Room) -> Memory {
        let state = State { watch, room, held: Vec::new() };
        Memory { shared: Arc::new(Shared { budget, state: Mutex::new(state) }) }
    }

    /// What keys, values and buffers count against.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }

    /// What there is, by the last look.
    pub fn room(&self) -> Room {
        self.state().room.clone()
    }

    /// Whether the limit may change by itself, so that [`Memory::look`] has something to see.
    pub fn is_watched(&self) -> bool {
        self.state().watch.is_some()
    }

    /// Opens the model at `path` so that it fits, with its plan. What cannot fit is refused before it is loaded.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no plan, and those of opening.
    pub fn open(
        &self,
        path: &Path,
        options: &Options<'_>,
        demand: &Demand,
    ) -> Result<(Arc<Model>, Residency), Error> {
        let file = model::File::open(path).map_err(model::Error::from)?;
        let mut state = self.state();
        state.forget_closed();
        let mut options = *options;
        // What is wrong with a file is better said by who opens it.
        if let (true, Ok(shape)) = (state.watch.is_some(), Shape::new(file.metadata(), file.tensors())) {
            options.needs_file = residency(&shape, demand, &state.free(self.budget()))?.streams();
        }
        drop(state);
        let model = Arc::new(Model::from_file(file, &options)?);
        let plan = self.fit(&model, demand)?;
        Ok((model, plan))
    }

    /// Plans how `model` is run, whatever was planned for it before, and has it keep to that.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no plan; without a watch, [`Error::Model`] where the budget has no room for all of it.
    pub fn fit(&self, model: &Arc<Model>, demand: &Demand) -> Result<Residency, Error> {
        let shape = Shape::new(model.metadata(), model.tensors())?;
        let mut state = self.state();
        state.forget_closed();
        state.held.retain(|held| !held.is_of(model));
        let plan = residency(&shape, demand, &state.free(self.budget()))?;
        let memory = model.memory();
        let bytes = match state.watch {
            Some(_) => to_usize(plan.fixed_bytes()),
            None => memory.weights + memory.embedding,
        };
        let grant = self.budget().take(MODEL, bytes)?;
        model.keep(plan.resident)?;
        let (model, beside) = (Arc::downgrade(model), demand.beside);
        let held = Held { model, shape, plan: plan.clone(), beside, lowered: None, grant };
        state.held.push(held);
        Ok(plan)
    }

    /// The same with a `draft_model`, which stays in memory as a whole, and takes keys, values and buffers for the same text:
    /// `model` gets what that leaves.
    ///
    /// # Errors
    /// As [`Memory::fit`], and [`Error::DraftStreams`] if all of the draft model does not fit by itself.
    pub fn fit_with_draft(
        &self,
        model: &Arc<Model>,
        draft_model: &Arc<Model>,
        demand: &Demand,
    ) -> Result<Residency, Error> {
        // Whatever was planned for it before would stand in the way.
        self.state().held.retain(|held| !held.is_of(model));
        let plan = self.fit(draft_model, demand)?;
        if plan.streams() {
            return Err(Error::DraftStreams);
        }
        let MemoryTable { kv_cache_bytes, buffers_bytes, .. } = plan.memory;
        self.fit(model, &Demand { beside: kv_cache_bytes + buffers_bytes, ..*demand })
    }

    /// Bytes that `model` takes now besides keys, values and buffers; 0 for one that was not opened here.
    pub fn held_bytes(&self, model: &Arc<Model>) -> usize {
        self.state().held.iter().find(|held| held.is_of(model)).map_or(0, |held| held.grant.bytes())
    }

    /// Sees whether the room has changed, at most ten times a second, and has the models keep to it. Returns whether it saw that
    /// memory is short: more is taken than may be, or it is fought for. Whoever calls then gives back what it can spare.
    pub fn look(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let Some(sight) = state.watch.as_mut().and_then(|watch| watch.look(now)) else { return false };
        self.budget().set_limit(granted(&sight.room));
        let is_fought_for = sight.calm_bytes < sight.room.bytes;
        state.room = sight.room;
        state.forget_closed();
        for at in 0..state.held.len() {
            let fixed = state.held.iter().map(|held| held.grant.bytes()).sum();
            state.held[at].keep_within(sight.calm_bytes, Taken { all: self.budget().used(), fixed }, now);
        }
        is_fought_for || self.budget().excess() > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What nobody has yet, as far as a plan may count on it.
    fn free(&self, budget: &Budget) -> Room {
        match self.watch {
            Some(_) => {
                let bytes = (budget.free() as u64).saturating_sub(self.room.spare_bytes());
                Room { bytes, ..self.room.clone() }
            }
            None => self.room.clone(),
        }
    }

    fn forget_closed(&mut self) {
        self.held.retain(|held| held.model.strong_count() > 0);
    }
}

impl Held {
    fn is_of(&self, model: &Arc<Model>) -> bool {
        std::ptr::eq(self.model.as_ptr(), Arc::as_ptr(model))
    }

    /// Lets as much of the weights stay in memory as there is room for in `bytes`, beside what is taken and what was planned to be.
    fn keep_within(&mut self, bytes: u64, taken: Taken, now: Instant) {
        let plan = &self.plan;
        let planned = plan.memory.kv_cache_bytes + plan.memory.buffers_bytes + self.beside;
        let growing = taken.all.saturating_sub(taken.fixed) as u64;
        let other_models = (taken.fixed - self.grant.bytes()) as u64;
        let others = other_models + self.beside + growing.saturating_sub(planned);
        let bytes = bytes.saturating_sub(others);
        let kept = resident(&self.shape, &plan.memory, bytes).unwrap_or_else(|| least(&self.shape));
        let may_rise = self.lowered.is_none_or(|lowered| now.saturating_duration_since(lowered) >= REST);
        if kept == plan.resident
            || rank(kept) > rank(plan.resident) && !(may_rise && is_worth(plan.resident, kept))
        {
            return;
        }
        // Where they cannot be read all stay mapped, as they were, and the system drops and reads them as it likes.
        let Some(true) = self.model.upgrade().map(|model| model.keep(kept).is_ok()) else { return };
        if rank(kept) < rank(plan.resident) {
            self.lowered = Some(now);
        }
        self.plan.resident = kept;
        self.plan.memory = self.plan.memory.keeping(&self.shape, kept);
        self.grant.resize(to_usize(self.plan.fixed_bytes()));
    }
}

/// What keys, values and buffers are granted: a little more than plans count on.
fn granted(room: &Room) -> usize {
    to_usize(room.bytes.saturating_add(room.spare_bytes()))
}

/// By how much stays in memory.
fn rank(resident: Resident) -> usize {
    match resident {
        Resident::All => usize::MAX,
        Resident::Layers(count) | Resident::Experts(count) => count,
    }
}

/// Whether it is worth the while to let more stay: experts that are held are given up for it.
fn is_worth(before: Resident, after: Resident) -> bool {
    match (before, after) {
        (Resident::Experts(before), Resident::Experts(after)) => after > before + before / 4,
        _ => true,
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
