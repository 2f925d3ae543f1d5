//! The service in virtual time: the real runner and a tiny model, with a clock that only its layers move and mail that comes
//! when the clock says so. What takes a phone minutes takes milliseconds here, and the same in every run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kernels::Team;
use model::Model;
use proptest::prelude::*;
use testkit::TinyOptions;

use super::jobs::{Job, Task};
use super::runner::{Mail, Runner};
use super::world::World;
use super::{RequestId, ServiceFigures, ServiceOptions, Update};
use crate::scheduler::{Claim, Class, PolicyOptions, Sharing};
use crate::session::{Limits, SessionOptions, SessionState};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What a layer takes: reading its weights, and each token's arithmetic. The model has two of them, slow ones.
const LAYER: Duration = Duration::from_millis(4);
const TOKEN: Duration = Duration::from_micros(400);

struct Simulated {
    /// Nanoseconds; shared with the sinks.
    clock: Arc<AtomicU64>,
    /// By time, the first in front.
    mail: VecDeque<(Duration, Mail)>,
}

impl World for Simulated {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    fn spent(&mut self, began: Duration, tokens: usize) -> Duration {
        let spent = LAYER + TOKEN * tokens as u32;
        self.clock.store((began + spent).as_nanos() as u64, Ordering::Relaxed);
        spent
    }

    fn mail(&mut self) -> Option<Mail> {
        let now = self.now();
        self.mail.pop_front_if(|(at, _)| *at <= now).map(|(_, mail)| mail)
    }

    fn wait(&mut self, _longest: Option<Duration>) -> Option<Mail> {
        let Some((at, mail)) = self.mail.pop_front() else { return Some(Mail::Stop) };
        self.clock.fetch_max(at.as_nanos() as u64, Ordering::Relaxed);
        Some(mail)
    }
}

/// A request of a simulation.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Duration,
    class: Class,
    deadline: Option<Duration>,
    prompt: usize,
    answer: usize,
    /// When it is cancelled.
    cancel: Option<Duration>,
}

fn asked(at: u32, class: Class, prompt: usize, answer: usize) -> Asked {
    Asked { at: MILLISECOND * at, class, deadline: None, prompt, answer, cancel: None }
}

/// What came of one.
#[derive(Clone, Debug, Default)]
struct Told {
    /// When something of it was computed: chunks of the prompt, tokens.
    progress: Vec<Duration>,
    first: Option<Duration>,
    tokens: usize,
    /// When it was over, and whether it was cancelled.
    end: Option<(Duration, bool)>,
}

fn model() -> Arc<Model> {
    deep_model(2)
}

fn deep_model(layers: u64) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let options = TinyOptions { context: 4096, layers, ..TinyOptions::new("llama") };
    testkit::tiny_model(&options).write(&path);
    Arc::new(Model::open(&path, &model::Options::default()).unwrap())
}

fn simulate(model: &Arc<Model>, policy: PolicyOptions, requests: &[Asked]) -> (Vec<Told>, ServiceFigures) {
    let clock = Arc::new(AtomicU64::new(0));
    let told = Arc::new(Mutex::new(vec![Told::default(); requests.len()]));
    let mut mail = Vec::new();
    for (index, asked) in requests.iter().enumerate() {
        let limits = Limits { max_tokens: Some(asked.answer), ignore_end: true, ..Limits::default() };
        let context = Some(asked.prompt + asked.answer);
        let options = SessionOptions { context, limits, ..SessionOptions::default() };
        let prompt = (0..asked.prompt).map(|at| 3 + (at * 7 + index) as u32 % 200).collect();
        let state = Box::new(SessionState::of_prompt(model, prompt, options));
        let task = Task::Answer { state, constraint: None, logprobs: None };
        let (theirs, clock) = (Arc::clone(&told), Arc::clone(&clock));
        let sink = Box::new(move |update| {
            let now = Duration::from_nanos(clock.load(Ordering::Relaxed));
            let told = &mut theirs.lock().unwrap()[index];
            assert!(told.end.is_none(), "nothing comes after the end");
            told.progress.push(now);
            match update {
                Update::Tokens { tokens, .. } => {
                    told.first.get_or_insert(now);
                    told.tokens += tokens.len();
                }
                Update::End { end, .. } => told.end = Some((now, end.is_none())),
                Update::Failed(error) => panic!("{error}"),
                Update::Prefilled { .. } | Update::Embedding(_) => {}
            }
        });
        let id = RequestId(index as u64);
        let claim = Claim::new(asked.class, asked.deadline, asked.at);
        let job = Job::new(id, Arc::clone(model), task, None, claim, sink);
        mail.push((asked.at, Mail::Job(Box::new(job))));
        mail.extend(asked.cancel.map(|at| (at.max(asked.at), Mail::Cancel(id))));
    }
    mail.sort_by_key(|(at, _)| *at);
    let waiting = Arc::new(AtomicUsize::new(requests.len()));
    let figures = Arc::new(Mutex::new(ServiceFigures::default()));
    let options = ServiceOptions { policy, batch: 64, most_sessions: 64, ..ServiceOptions::default() };
    let world = Simulated { clock, mail: mail.into() };
    Runner::new(world, options, Team::new(1), Arc::clone(&waiting), Arc::clone(&figures)).run();
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
    let told = told.lock().unwrap().clone();
    let figures = figures.lock().unwrap().clone();
    (told, figures)
}

/// Time to the first token of a question asked at second 2, with and without work before it.
fn question(policy: PolicyOptions, work: &[Asked]) -> Duration {
    let model = model();
    let mut requests = work.to_vec();
    requests.push(asked(2000, Class::Interactive, 128, 20));
    let told = simulate(&model, policy, &requests).0;
    told.last().unwrap().first.unwrap() - Duration::from_secs(2)
}

#[test]
fn a_question_is_answered_as_if_the_machine_were_idle() {
    let mut work = vec![asked(0, Class::Background, 3000, 100)];
    work.extend((0..4).map(|index| asked(index, Class::Background, 20, 2000)));
    let idle = question(PolicyOptions::default(), &[]);
    let busy = question(PolicyOptions::default(), &work);
    let fair = question(PolicyOptions { sharing: Sharing::Fair, ..PolicyOptions::default() }, &work);
    // One layer of the work, and a slice for it while the question is computed.
    assert!(busy <= idle + PolicyOptions::default().longest_wait * 2, "{busy:?} busy, {idle:?} idle");
    assert!(fair > busy, "fair shares: {fair:?}, by urgency: {busy:?}");
}

#[test]
fn the_nearer_deadline_goes_first() {
    let model = model();
    let mut requests: Vec<Asked> = (0..6).map(|_| asked(0, Class::Normal, 400, 5)).collect();
    for (request, deadline) in requests.iter_mut().zip([1900, 300, 1100, 700, 1500, 100]) {
        request.deadline = Some(MILLISECOND * deadline);
    }
    // No wait counts as much as the deadlines differ.
    let policy = PolicyOptions { ageing: Duration::from_secs(100), ..PolicyOptions::default() };
    let told = simulate(&model, policy, &requests).0;
    let mut order: Vec<usize> = (0..6).collect();
    order.sort_by_key(|&index| told[index].first);
    assert_eq!(order, [5, 1, 3, 2, 4, 0]);
}

#[test]
fn peers_take_turns() {
    let model = model();
    let requests: Vec<Asked> = (0..5).map(|_| asked(0, Class::Normal, 10, 300)).collect();
    let told = simulate(&model, PolicyOptions::default(), &requests).0;
    let ends: Vec<Duration> = told.iter().map(|told| told.end.unwrap().0).collect();
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*last - *first < *last / 20, "{ends:?}");
}

/// A pass of a deep model takes longer than a turn, so each is put aside several times.
#[test]
fn passes_of_many_peers_come_to_their_ends() {
    let model = deep_model(24);
    let requests: Vec<Asked> = (0..10).map(|index| asked(index, Class::Normal, 500, 2)).collect();
    let (told, figures) = simulate(&model, PolicyOptions::default(), &requests);
    let pass = (LAYER + TOKEN * 64) * 24;
    let alone = pass * (10 * 500_u32.div_ceil(64) + 2 * 10);
    let last = told.iter().map(|told| told.end.unwrap().0).max().unwrap();
    assert_eq!(figures.prefilled_tokens, 10 * 500);
    assert!(last <= alone * 2, "{last:?} where the passes take {alone:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever comes when: every request is answered whole or cancelled, none waits for ever, and the same happens again.
    #[test]
    fn nobody_is_lost_and_nobody_starves(
        requests in prop::collection::vec(
            (0u32..3000, 0usize..3, prop::option::of(0u32..4000), 1usize..300, 0usize..40, prop::option::weighted(0.2, 0u32..5000)),
            1..40,
        ),
        fair in any::<bool>(),
    ) {
        let requests: Vec<Asked> = requests.into_iter().map(|(at, class, deadline, prompt, answer, cancel)| Asked {
            deadline: deadline.map(|deadline| MILLISECOND * deadline),
            cancel: cancel.map(|at| MILLISECOND * at),
            ..asked(at, Class::ALL[class], prompt, answer)
        }).collect();
        let sharing = if fair { Sharing::Fair } else { Sharing::Urgency };
        let policy = PolicyOptions { sharing, ..PolicyOptions::default() };
        let model = model();
        let (told, figures) = simulate(&model, policy, &requests);
        let cancelled = told.iter().filter(|told| told.end.unwrap().1).count();
        prop_assert_eq!(figures.ended + figures.cancelled, requests.len() as u64);
        prop_assert_eq!(figures.cancelled, cancelled as u64);
        // Whoever waits gains a class each two seconds, and everybody before it gets a slice at most, which a pass may
        // take several of to come to its end.
        let pass = (LAYER + TOKEN * 64) * model.config.layers.len() as u32;
        let bound = policy.ageing * 4 + (pass + policy.longest_wait) * 2 * requests.len() as u32;
        for (asked, told) in requests.iter().zip(&told) {
            let (end, is_cancelled) = told.end.unwrap();
            if is_cancelled {
                prop_assert!(asked.cancel.is_some());
                let at = asked.cancel.unwrap().max(asked.at);
                prop_assert!(end <= at + pass + policy.longest_wait, "cancelled {:?} after it was asked", end - at);
            } else {
                prop_assert_eq!(told.tokens, asked.answer);
            }
            let moments = std::iter::once(&asked.at).chain(&told.progress);
            let gaps = moments.clone().zip(moments.skip(1)).map(|(from, to)| to.saturating_sub(*from));
            if sharing == Sharing::Urgency {
                prop_assert!(gaps.max().unwrap_or_default() <= bound, "{bound:?}");
            }
        }
        let again = simulate(&model, policy, &requests).0;
        let firsts = |told: &[Told]| told.iter().map(|told| (told.first, told.end)).collect::<Vec<_>>();
        prop_assert_eq!(firsts(&told), firsts(&again));
    }
}
