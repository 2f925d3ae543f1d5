//! Who gives way when memory runs out.
//!
//! First what nobody uses: spare buffers, pages that only the store holds. Then sessions of a rank so much lower that they
//! would have to wait for long anyway: their pages go, and come back from the store, or are computed again, when it is
//! their turn. Whoever finds nobody to give way is parked until memory comes free.

use std::time::Duration;

use super::jobs::Job;
use super::runner::{Runner, best};
use super::world::World;
use crate::error::Error;

/// A session gives its memory to another that is ahead of it by so many classes, or the wait that counts as much: sessions
/// of one class that do not fit together change places every few seconds, not at every turn.
const LEAD: f64 = 1.0;

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
    /// Looks for `needed` bytes for `leader`.
    pub(super) fn find_room(&mut self, leader: &Job, needed: usize) -> Room {
        if self.stations.drop_spare() {
            return Room::Made;
        }
        if let Some(store) = &self.options.keeping.store
            && store.make_room(needed) > 0
        {
            return Room::Made;
        }
        let (policy, now) = (self.policy, self.now());
        let is_alone = self.ready.is_empty() && self.flights.is_empty();
        let holds = |job: &Job| job.kv_bytes() > 0;
        let least =
            self.jobs().filter(|job| holds(job)).map(|job| policy.rank(now, &job.claim)).reduce(f64::min);
        let has_lead = least.is_some_and(|least| policy.rank(now, &leader.claim) > least + LEAD);
        if least.is_none() && is_alone {
            return Room::Never;
        }
        // Where all wait for memory, somebody must give way.
        if !(has_lead || is_alone) {
            return Room::Later;
        }
        while let Some(at) =
            self.flights.iter().position(|flight| flight.rank(&policy, now) <= least.unwrap_or(0.0))
        {
            self.ground(at);
        }
        let value = |job: &Job| if holds(job) { -policy.rank(now, &job.claim) } else { f64::NEG_INFINITY };
        let (ready, parked) = (best(&self.ready, value), best(&self.parked, value));
        let victim = match (ready, parked) {
            (Some((at, value)), parked) if parked.is_none_or(|(_, other)| value >= other) => {
                self.ready.get_mut(at)
            }
            (_, Some((at, _))) => self.parked.get_mut(at),
            _ => None,
        };
        match victim.filter(|job| holds(job)) {
            Some(victim) => {
                victim.evict();
                self.note_eviction();
                Room::Made
            }
            // What holds memory is a member of a pass that others have a share in.
            None => Room::Later,
        }
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
