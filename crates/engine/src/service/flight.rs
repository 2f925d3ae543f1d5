//! A pass under way, with the jobs that it computes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernels::Team;
use model::{Budget, Model};

use super::jobs::Job;
use super::station::Station;
use crate::error::Error;
use crate::pass::Pass;
use crate::scheduler::{Class, Policy};

/// See the module.
pub(super) struct Flight {
    pub(super) pass: Pass,
    pub(super) jobs: Vec<Job>,
    began: Instant,
    /// Time it was computed.
    used: Duration,
    /// Whether it was computed in one go.
    is_whole: bool,
}

/// A pass that could not be started.
pub(super) struct Failure {
    pub(super) leader: Job,
    pub(super) error: Error,
    /// Its buffers, if it had some.
    pub(super) pass: Option<Pass>,
}

/// A job back from a pass.
pub(super) enum Back {
    /// It wants another.
    Ready(Job),
    /// It is over.
    Over(Job),
    /// It failed.
    Failed(Job, Error),
}

impl Flight {
    /// Starts a pass for `leader`, of at most `chunk` tokens of its prompt, and those of `ready` that may share it. On an error
    /// the leader failed and the others are back.
    pub(super) fn start(
        leader: Job,
        ready: &mut Vec<Job>,
        mut pass: Pass,
        chunk: usize,
        station: &Station,
        team: &Team,
    ) -> Result<Flight, Box<Failure>> {
        let model = Arc::clone(&leader.model);
        pass.clear(leader.embeds());
        let mut added = pass.add(leader.session(), chunk);
        let mut jobs = vec![leader];
        let mut at = 0;
        while !jobs[0].embeds() && at < ready.len() && pass.has_room() {
            let other = &mut ready[at];
            let joins = Arc::ptr_eq(&other.model, &model)
                && other.claim.joins(&jobs[0].claim)
                && other.decodes()
                && pass.add(other.session(), 1).is_ok();
            if joins {
                jobs.push(ready.swap_remove(at));
            } else {
                at += 1;
            }
        }
        if let (Ok(()), [only]) = (&added, &mut jobs[..]) {
            added = pass.draft(only.session_mut(), &station.costs, None);
        }
        let began = Instant::now();
        match added.and_then(|()| pass.begin(&model, team, &mut jobs)) {
            Ok(()) => Ok(Flight { pass, jobs, began, used: began.elapsed(), is_whole: true }),
            Err(error) => {
                ready.extend(jobs.drain(1..));
                Err(Box::new(Failure { leader: jobs.remove(0), error, pass: Some(pass) }))
            }
        }
    }

    pub(super) fn model(&self) -> Arc<Model> {
        Arc::clone(&self.jobs[0].model)
    }

    /// That of its most urgent job.
    pub(super) fn class(&self) -> Class {
        self.jobs.iter().map(|job| job.claim.class).max().unwrap_or_default()
    }

    /// That of its most urgent job.
    pub(super) fn rank(&self, policy: &Policy, now: Duration) -> f64 {
        self.jobs.iter().map(|job| policy.rank(now, &job.claim)).fold(f64::NEG_INFINITY, f64::max)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.jobs.iter().all(|job| job.is_cancelled)
    }

    /// Its jobs wait from `now` on, whatever they have waited before.
    pub(super) fn wait_from(&mut self, now: Duration) {
        self.jobs.iter_mut().for_each(|job| job.claim.waiting_since = now);
    }

    /// Others go before it.
    pub(super) fn put_aside(&mut self, now: Duration) {
        self.is_whole = false;
        self.wait_from(now);
    }

    /// Computes a layer. Returns whether it was the last.
    ///
    /// # Errors
    /// Those of weights that cannot be read.
    pub(super) fn advance(&mut self, model: &Model, team: &Team) -> Result<bool, Error> {
        self.pass.advance(model, team, &mut self.jobs, 1)
    }

    /// Takes note that a layer took so long.
    pub(super) fn note(&mut self, spent: Duration) {
        self.used += spent;
        let share = spent / self.jobs.len() as u32;
        self.jobs.iter_mut().for_each(|job| job.claim.used += share);
    }

    /// Ends the pass and hands its outcome to the jobs. Returns them, what the pass took, and the buffers.
    pub(super) fn land(
        self,
        model: &Arc<Model>,
        team: &Team,
        station: &mut Station,
        budget: &Budget,
    ) -> (Vec<Back>, Duration, Pass) {
        let Flight { mut pass, mut jobs, began, used, is_whole } = self;
        let start = Instant::now();
        if jobs[0].embeds() {
            let vectors = pass.finish_vectors(model, team, &mut jobs);
            let mut job = jobs.remove(0);
            let outcome = match job.take_vectors(vectors, budget) {
                Ok(is_over) => back(job, is_over),
                Err(error) => Back::Failed(job, error),
            };
            return (vec![outcome], used + start.elapsed(), pass);
        }
        let mut outcomes = Vec::new();
        let finished = pass.finish(model, team, &mut jobs);
        let time = used + start.elapsed();
        match finished {
            Ok(steps) => {
                if is_whole {
                    pass.record(&mut station.costs, began);
                }
                for ((mut job, step), given) in jobs.into_iter().zip(steps).zip(pass.given()) {
                    outcomes.push(match step {
                        Ok(step) => {
                            let is_over = job.take_step(step, given, time);
                            back(job, is_over)
                        }
                        Err(error) => Back::Failed(job, error),
                    });
                }
            }
            Err(error) => outcomes = failed(jobs, error),
        }
        (outcomes, time, pass)
    }

    /// Gives the pass up because of `error`. Returns its jobs and buffers.
    pub(super) fn fail(self, error: Error) -> (Vec<Back>, Pass) {
        (failed(self.jobs, error), self.pass)
    }
}

/// What is wrong is told to the leader. The others try again, and hear it themselves if it is still wrong.
fn failed(mut jobs: Vec<Job>, error: Error) -> Vec<Back> {
    let mut outcomes: Vec<Back> = jobs.drain(1..).map(Back::Ready).collect();
    outcomes.extend(jobs.pop().map(|leader| Back::Failed(leader, error)));
    outcomes
}

fn back(job: Job, is_over: bool) -> Back {
    if is_over { Back::Over(job) } else { Back::Ready(job) }
}
