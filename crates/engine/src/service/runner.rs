//! The service's thread: takes requests in, gives each pass to whoever is most urgent, and hands out what comes of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernels::Team;
use model::Model;

use super::flight::{Back, Failure, Flight};
use super::jobs::{Ending, Job};
use super::memory::Room;
use super::station::Stations;
use super::world::World;
use super::{RequestId, ServiceFigures, ServiceOptions};
use crate::scheduler::{Class, Policy};

/// What a handle sends.
pub(super) enum Mail {
    Job(Box<Job>),
    Cancel(RequestId),
    Focus(RequestId, bool),
    Stop,
}

/// Passes that are under way at once, all but one of them put aside. One more would take buffers for nothing: there are
/// three classes.
const MOST_FLIGHTS: usize = 3;

/// How often the room for memory is looked at while nothing is computed.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How fast the speeds that are told follow.
const RATE: f64 = 0.2;

/// The state of the thread.
pub(super) struct Runner<W> {
    world: W,
    pub(super) options: ServiceOptions,
    pub(super) policy: Policy,
    team: Team,
    /// Requests without a session yet; those that wait in the mail count too.
    waiting: Arc<AtomicUsize>,
    told: Arc<Mutex<ServiceFigures>>,
    figures: ServiceFigures,
    queued: Vec<Job>,
    /// Have a session and are in no pass.
    pub(super) ready: Vec<Job>,
    /// Those that are ready too, but for which there was no memory.
    pub(super) parked: Vec<Job>,
    /// When one was parked last.
    pub(super) parked_at: Duration,
    /// Put aside.
    pub(super) flights: Vec<Flight>,
    pub(super) stations: Stations,
    is_stopped: bool,
}

impl<W: World> Runner<W> {
    pub(super) fn new(
        world: W,
        options: ServiceOptions,
        team: Team,
        waiting: Arc<AtomicUsize>,
        told: Arc<Mutex<ServiceFigures>>,
    ) -> Runner<W> {
        Runner {
            world,
            policy: Policy::new(options.policy),
            options,
            team,
            waiting,
            told,
            figures: ServiceFigures::default(),
            queued: Vec::new(),
            ready: Vec::new(),
            parked: Vec::new(),
            parked_at: Duration::ZERO,
            flights: Vec::new(),
            stations: Stations::default(),
            is_stopped: false,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.is_stopped {
            self.receive();
            self.obey();
            self.drop_cancelled();
            self.admit();
            self.unpark_in_time();
            if let Some(flight) = self.next_flight() {
                self.fly(flight);
            }
            self.tell();
        }
        let flying = std::mem::take(&mut self.flights).into_iter().flat_map(|flight| flight.jobs);
        let waiting =
            [&mut self.queued, &mut self.ready, &mut self.parked].into_iter().flat_map(std::mem::take);
        for job in flying.chain(waiting) {
            let ending = if job.is_cancelled { Ending::Cancelled } else { Ending::Stopped };
            job.end(ending, &self.options.keeping);
        }
        if let Some(journal) = &self.options.keeping.journal {
            journal.flush();
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.world.now()
    }

    /// Takes all mail; waits for some if there is nothing to do.
    fn receive(&mut self) {
        if self.queued.is_empty() && self.jobs().next().is_none() {
            self.tell();
            self.stations.forget_closed();
            let most = self.options.keeping.memory.is_watched().then_some(IDLE_LOOK);
            if let Some(mail) = self.world.wait(most) {
                self.take(mail);
            }
        }
        self.take_mail(&mut []);
    }

    /// Takes the mail that is there, while `flying` are being computed. Returns whether there was any.
    fn take_mail(&mut self, flying: &mut [Job]) -> bool {
        let mut any = false;
        while let Some(mail) = self.world.mail() {
            any = true;
            match mail {
                Mail::Cancel(id) => {
                    if let Some(job) = self.find(flying, id) {
                        job.is_cancelled = true;
                    }
                }
                Mail::Focus(id, focused) => {
                    if let Some(job) = self.find(flying, id) {
                        job.claim.focused = focused;
                    }
                }
                mail => self.take(mail),
            }
            if self.is_stopped {
                break;
            }
        }
        any
    }

    fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Job(job) => self.queued.push(*job),
            // Nobody with this name is here.
            Mail::Cancel(_) | Mail::Focus(..) => {}
            Mail::Stop => self.is_stopped = true,
        }
    }

    pub(super) fn find<'a>(&'a mut self, flying: &'a mut [Job], id: RequestId) -> Option<&'a mut Job> {
        let put_aside = self.flights.iter_mut().flat_map(|flight| &mut flight.jobs);
        let waiting = self.queued.iter_mut().chain(&mut self.ready).chain(&mut self.parked);
        waiting.chain(put_aside).chain(flying).find(|job| job.id == id)
    }

    /// Ends what was cancelled and is not being computed at the moment.
    fn drop_cancelled(&mut self) {
        let mut ended = Vec::new();
        let queued = self.queued.len();
        ended.extend(self.queued.extract_if(.., |job| job.is_cancelled));
        self.waiting.fetch_sub(queued - self.queued.len(), Ordering::Relaxed);
        // A pass that is put aside may be so for long: who is cancelled leaves it, for which it is given up.
        while let Some(at) =
            self.flights.iter().position(|flight| flight.jobs.iter().any(|job| job.is_cancelled))
        {
            self.ground(at);
        }
        ended.extend(self.ready.extract_if(.., |job| job.is_cancelled));
        ended.extend(self.parked.extract_if(.., |job| job.is_cancelled));
        self.figures.cancelled += ended.len() as u64;
        if !ended.is_empty() {
            self.unpark();
        }
        for job in ended {
            job.end(Ending::Cancelled, &self.options.keeping);
        }
    }

    /// Gives sessions to those that wait, the most urgent first, as far as there is room.
    fn admit(&mut self) {
        while !self.queued.is_empty() && self.jobs().count() < self.options.most_sessions {
            let now = self.now();
            let Some((first, _)) = best(&self.queued, |job| self.policy.rank(now, &job.claim)) else {
                return;
            };
            let mut job = self.queued.swap_remove(first);
            self.policy.enter(&mut job.claim, self.jobs().map(|job| &job.claim));
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match job.admit(&self.options.keeping) {
                Ok(is_over) => self.come_back(if is_over { Back::Over(job) } else { Back::Ready(job) }),
                Err(error) => self.come_back(Back::Failed(job, error)),
            }
        }
    }

    /// Those with a session, but for a pass that is being computed.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        let waiting = self.ready.iter().chain(&self.parked);
        waiting.chain(self.flights.iter().flat_map(|flight| &flight.jobs))
    }

    /// The pass of the most urgent session, which may have been put aside; `None` if nobody wants one.
    fn next_flight(&mut self) -> Option<Flight> {
        let now = self.now();
        let policy = self.policy;
        let aside = best(&self.flights, |flight| flight.rank(&policy, now));
        let may_start = |job: &Job| self.may_start(job.claim.class, None);
        let rank = |job: &Job| if may_start(job) { policy.rank(now, &job.claim) } else { f64::NEG_INFINITY };
        let ready = best(&self.ready, rank).filter(|(_, rank)| rank.is_finite());
        match (ready, aside) {
            (None, None) => None,
            (Some((ready, rank)), aside) if aside.is_none_or(|(_, other)| rank > other) => {
                let leader = self.ready.swap_remove(ready);
                self.start(leader)
            }
            (_, aside) => aside.map(|(aside, _)| self.flights.swap_remove(aside)),
        }
    }

    /// Whether a session of `class` may start a pass, if `holder` is put aside for it. Where too many are already, one must be
    /// given up, which only a higher class is worth: peers would undo each other's passes for ever.
    fn may_start(&self, class: Class, holder: Option<&Flight>) -> bool {
        let mut aside = self.flights.iter().chain(holder);
        self.flights.len() + usize::from(holder.is_some()) < MOST_FLIGHTS - 1
            || aside.any(|flight| flight.class() < class)
    }

    /// Starts a pass for `leader` and those that may share it.
    fn start(&mut self, mut leader: Job) -> Option<Flight> {
        if self.flights.len() >= MOST_FLIGHTS - 1 {
            let (policy, now, class) = (self.policy, self.now(), leader.claim.class);
            let lowness = |flight: &Flight| match flight.class() < class {
                true => -flight.rank(&policy, now),
                false => f64::NEG_INFINITY,
            };
            if let Some((lowest, _)) = best(&self.flights, lowness) {
                self.ground(lowest);
            }
        }
        let model = Arc::clone(&leader.model);
        let mut own = None;
        while let Some(missing) = self.missing_to_begin(&leader) {
            match self.displace(&leader, missing) {
                Room::Made => {}
                Room::Later => {
                    self.park(leader);
                    return None;
                }
                Room::Never => break,
            }
        }
        leader.has_begun = true;
        loop {
            if std::mem::take(&mut leader.is_evicted) {
                leader.refill(&self.options.keeping);
            }
            let keeping = &self.options.keeping;
            let pass = own
                .take()
                .map_or_else(|| self.stations.pass(&model, self.options.batch, keeping.memory.budget()), Ok);
            let started = match pass {
                Ok(pass) => {
                    let station = self.stations.of(&model);
                    let chunk = self.policy.chunk(pass.batch(), station.token_layer);
                    Flight::start(leader, &mut self.ready, pass, chunk, station, &self.team)
                }
                Err(error) => Err(Box::new(Failure { leader, error, pass: None })),
            };
            let failure = match started {
                Ok(flight) => return Some(flight),
                Err(failure) => *failure,
            };
            (leader, own) = (failure.leader, failure.pass);
            let room = failure.error.is_short_of().map(|needed| self.find_room(&leader, needed));
            if room == Some(Room::Made) {
                continue;
            }
            own.into_iter().for_each(|pass| self.stations.keep(&model, pass));
            match room {
                Some(Room::Later) => self.park(leader),
                _ => self.come_back(Back::Failed(leader, failure.error)),
            }
            return None;
        }
    }

    /// Gives up a pass that is put aside: its sessions are as they were before it.
    pub(super) fn ground(&mut self, at: usize) {
        let flight = self.flights.swap_remove(at);
        self.stations.keep(&flight.model(), flight.pass);
        self.ready.extend(flight.jobs);
    }

    /// Computes a pass to its end, unless somebody more urgent comes.
    fn fly(&mut self, mut flight: Flight) {
        let model = flight.model();
        let mut turn = Duration::ZERO;
        loop {
            let start = self.now();
            let is_done = match flight.advance(&model, &self.team) {
                Ok(is_done) => is_done,
                Err(error) => {
                    let (outcomes, pass) = flight.fail(error);
                    self.stations.keep(&model, pass);
                    return outcomes.into_iter().for_each(|outcome| self.come_back(outcome));
                }
            };
            let spent = self.world.spent(start, flight.pass.len());
            flight.note(spent);
            self.stations.of(&model).note_layer(flight.pass.len(), spent);
            self.note_layer(spent);
            if is_done {
                return self.land(&model, flight);
            }
            self.obey();
            turn += spent;
            if turn >= self.options.policy.longest_wait {
                // It has had its turn: whatever it waited for that is over.
                turn = Duration::ZERO;
                flight.wait_from(self.now());
            }
            if self.take_mail(&mut flight.jobs) {
                if flight.is_cancelled() || self.is_stopped {
                    return self.flights.push(flight);
                }
                self.drop_cancelled();
                self.admit();
            }
            if self.is_outranked(&flight) {
                self.figures.preempted += 1;
                flight.put_aside(self.now());
                return self.flights.push(flight);
            }
        }
    }

    fn is_outranked(&self, flight: &Flight) -> bool {
        let now = self.now();
        let holder = flight.rank(&self.policy, now);
        let outranks = |rank: f64| self.policy.preempts(rank, holder);
        let may_start = |job: &&Job| self.may_start(job.claim.class, Some(flight));
        self.ready.iter().filter(may_start).any(|job| outranks(self.policy.rank(now, &job.claim)))
            || self.flights.iter().any(|other| outranks(other.rank(&self.policy, now)))
    }

    /// Hands out what a pass gave.
    fn land(&mut self, model: &Arc<Model>, flight: Flight) {
        let (tokens, members) = (flight.pass.len(), flight.jobs.len());
        let station = self.stations.of(model);
        let budget = self.options.keeping.memory.budget();
        let (outcomes, time, pass) = flight.land(model, &self.team, station, budget);
        self.stations.keep(model, pass);
        self.note_pass(tokens, members, time);
        let now = self.now();
        for mut outcome in outcomes {
            if let Back::Ready(job) | Back::Over(job) = &mut outcome {
                job.claim.waiting_since = now;
                job.keep(&self.options.keeping);
            }
            self.come_back(outcome);
        }
    }

    fn come_back(&mut self, outcome: Back) {
        match outcome {
            Back::Ready(job) => self.ready.push(job),
            Back::Over(job) => {
                self.figures.ended += 1;
                self.figures.reused_tokens += job.end(Ending::Done, &self.options.keeping) as u64;
                self.unpark();
            }
            Back::Failed(job, error) => {
                self.figures.failed += 1;
                job.fail(error, &self.options.keeping);
                self.unpark();
            }
        }
    }

    /// Takes note that a session gave its memory to another.
    pub(super) fn note_eviction(&mut self) {
        self.figures.evicted += 1;
    }

    /// Takes note of a layer for whoever asks how long a newcomer waits.
    fn note_layer(&mut self, spent: Duration) {
        let spent = spent.as_secs_f64();
        self.figures.busy_seconds += spent;
        // The longest fades, so that one hiccup is not told for ever.
        self.figures.longest_layer_seconds = spent.max(self.figures.longest_layer_seconds * 0.999);
    }

    /// Takes note of a pass over `tokens` tokens of `members` sessions.
    fn note_pass(&mut self, tokens: usize, members: usize, time: Duration) {
        let speed = tokens as f64 / time.as_secs_f64().max(1e-9);
        let figures = &mut self.figures;
        let lately =
            |figure: &mut f64| *figure += if *figure == 0.0 { speed } else { RATE * (speed - *figure) };
        if tokens > members {
            figures.prefilled_tokens += (tokens + 1 - members) as u64;
            figures.decoded_tokens += members as u64 - 1;
            lately(&mut figures.prefill_tok_s);
        } else {
            figures.decoded_tokens += tokens as u64;
            lately(&mut figures.decode_tok_s);
        }
    }

    /// Lets others see the figures.
    fn tell(&mut self) {
        let (mut running, mut kv_bytes) = ([0; 3], 0);
        for job in self.jobs() {
            running[job.claim.class as usize] += 1;
            kv_bytes += job.kv_bytes();
        }
        let figures = &mut self.figures;
        (figures.queued, figures.running, figures.kv_bytes) = (self.queued.len(), running, kv_bytes);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.figures);
    }
}

/// The index and value of the item of the highest value, the first of several.
fn best<T>(items: &[T], value: impl Fn(&T) -> f64) -> Option<(usize, f64)> {
    let valued = items.iter().map(value).enumerate();
    valued.reduce(|best, next| if next.1 > best.1 { next } else { best })
}
