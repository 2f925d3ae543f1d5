//! Who gives way when memory runs out.
//!
//! First what nobody uses: spare buffers, pages that only the store holds. Then sessions of a rank so much lower that they
//! would have to wait for long anyway: their pages go, and come back from the store, or are computed again, when it is
//! their turn. Whoever finds nobody to give way is parked until memory comes free.
//!
//! A session begins only where there is room for its text beside the texts of those that have begun. Otherwise many would
//! come half of their way together, and push each other out again and again.
//!
//! The limit itself may be lowered while sessions run. Then all of them give way, from the lowest rank on, until what is
//! taken is no more than may be; those that no longer fit are told so when it is their turn.

use std::time::Duration;

use super::jobs::Job;
use super::runner::Runner;
use super::world::World;
use super::{Keeping, RequestId};
use crate::error::Error;

/// A session gives its memory to one of a higher class that is ahead of it by so many classes, or the wait that counts as
/// much.
const LEAD: f64 = 1.0;

/// The same among peers, whose work is undone by each change of places: half a minute of waiting.
const LEAD_OF_PEERS: f64 = 15.0;

/// How long parked sessions wait at most before they are looked at again: their ranks grow.
const PARKED: Duration = Duration::from_millis(100);

/// Whether there is room for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is some now.
    Made,
    /// Others must end first.
    Later,
    /// It does not fit even alone.
    Never,
}

impl Error {
    /// The bytes that a budget did not have, if that is what is wrong.
    pub(super) fn is_short_of(&self) -> Option<usize> {
        match self {
            Error::Model(model::Error::Budget { needed, free, .. }) => {
                Some(needed.saturating_sub(*free).max(1))
            }
            _ => None,
        }
    }
}

impl<W: World> Runner<W> {
    /// Bytes that are missing for `leader` to begin beside those that have.
    pub(super) fn missing_to_begin(&self, leader: &Job) -> Option<usize> {
        if leader.has_begun {
            return None;
        }
        let mut begun = self.jobs().filter(|job| job.has_begun).peekable();
        // Who is alone may try.
        begun.peek()?;
        let taken: usize = begun.map(Job::kv_bytes_to_come).sum();
        let needed = leader.kv_bytes_to_come() + taken;
        let missing = needed.saturating_sub(self.options.keeping.memory.budget().free());
        (missing > 0).then_some(missing)
    }

    /// Gives back what is taken beyond a limit that was lowered, and what nobody uses if memory is fought for.
    pub(super) fn obey(&mut self) {
        let memory = self.options.keeping.memory.clone();
        if !memory.look() {
            return;
        }
        self.stations.drop_spare();
        if let Some(store) = &self.options.keeping.store {
            store.make_room(usize::MAX);
        }
        let (policy, now) = (self.policy, self.now());
        while memory.budget().excess() > 0 {
            let holders = self.jobs().filter(|job| job.kv_bytes() > 0);
            let ranked = holders.map(|job| (job.id, policy.rank(now, &job.claim)));
            let Some((id, _)) = ranked.min_by(|a, b| a.1.total_cmp(&b.1)) else { return };
            self.evict(id);
            if let Some(store) = &self.options.keeping.store {
                store.make_room(usize::MAX);
            }
        }
    }

    /// Looks for `needed` bytes for `leader`.
    pub(super) fn find_room(&mut self, leader: &Job, needed: usize) -> Room {
        match self.stations.drop_spare() {
            true => Room::Made,
            false => self.displace(leader, needed),
        }
    }

    /// The same, but for spare buffers: what is to begin would only find that its pass needs them.
    pub(super) fn displace(&mut self, leader: &Job, needed: usize) -> Room {
        if let Some(store) = &self.options.keeping.store
            && store.make_room(needed) > 0
        {
            return Room::Made;
        }
        let (policy, now) = (self.policy, self.now());
        let is_alone = self.flights.is_empty() && !self.ready.iter().any(|job| job.has_begun);
        let holders = self.jobs().filter(|job| job.kv_bytes() > 0);
        let ranked = holders.map(|job| (job.id, job.claim.class, policy.rank(now, &job.claim)));
        let Some((id, class, rank)) = ranked.min_by(|a, b| a.2.total_cmp(&b.2)) else {
            return match is_alone && !self.wait_for_written_pages() {
                true => Room::Never,
                false => Room::Later,
            };
        };
        // Without a store all of the victim's text must be computed again: not for a peer, or neither would come to an end.
        let is_higher = leader.claim.class > class;
        let is_worth = self.options.keeping.store.is_some() || is_higher;
        let lead = if is_higher { LEAD } else { LEAD_OF_PEERS };
        let is_ahead = is_worth && policy.rank(now, &leader.claim) > rank + lead;
        // Where all wait for memory, somebody must give way.
        if !(is_ahead || is_alone) {
            return Room::Later;
        }
        self.evict(id);
        Room::Made
    }

    /// Takes a session's memory from it, and gives up the pass that it is in.
    fn evict(&mut self, id: RequestId) {
        if let Some(at) = self.flights.iter().position(|flight| flight.jobs.iter().any(|job| job.id == id)) {
            self.ground(at);
        }
        if let Some(victim) = self.find(&mut [], id) {
            victim.evict();
        }
        self.note_eviction();
    }

    /// Waits for pages on their way to the disk, which take memory until they are there: nobody has memory to compute with
    /// meanwhile. Returns whether that freed some.
    fn wait_for_written_pages(&self) -> bool {
        let Keeping { memory, store: Some(store), .. } = &self.options.keeping else { return false };
        let budget = memory.budget();
        let before = budget.used();
        store.flush();
        store.make_room(before);
        budget.used() < before
    }

    /// Sets a session aside until there is memory.
    pub(super) fn park(&mut self, job: Job) {
        self.parked_at = self.now();
        self.parked.push(job);
    }

    /// Memory came free.
    pub(super) fn unpark(&mut self) {
        self.ready.append(&mut self.parked);
    }

    /// Lets parked sessions try again, if it is time to.
    pub(super) fn unpark_in_time(&mut self) {
        let nobody_else = self.ready.is_empty() && self.flights.is_empty();
        if nobody_else || self.now().saturating_sub(self.parked_at) > PARKED {
            self.unpark();
        }
    }
}
