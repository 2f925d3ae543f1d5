//! The measurements: rounds of prefill and decode, with the machine's limits taken beside each, since the clock, the
//! memory and the neighbours of a machine change within minutes.

use std::sync::Arc;
use std::time::Instant;

use device::{Demand, Residency};
use engine::Memory;
use kernels::{Team, probe};
use model::{Grant, KvCache, Logits, Model, PAGE, Workspace};

use super::Arguments;
use super::peer::Peer;
use crate::errors::Failure;
use crate::memory::Told;
use crate::printer::{Printer, Unit};
use crate::{memory, models};
use device::machine::{Energy, Memory as Held};

/// Tokens computed together in prefill.
const BATCH: usize = 512;

/// A pass that checks a few tokens is too short to be timed by itself.
const PASSES: usize = 8;

/// What the bandwidth is measured on: far more than a cache holds.
const BANDWIDTH_BYTES: usize = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Prefill,
    Decode,
    /// Tokens that were guessed are checked.
    Verify,
}

/// So many tokens at once, or one after another, from a context on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) phase: Phase,
    pub(super) tokens: usize,
    /// Tokens in the context before.
    pub(super) at_context: usize,
}

/// What the machine could do at most.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes read a second.
    pub(super) bandwidth: f64,
    /// 8-bit multiplications with addition a second.
    pub(super) int8_peak: f64,
}

/// One measurement of a test.
pub(super) struct Round {
    pub(super) limits: Limits,
    pub(super) seconds: f64,
    pub(super) joules: Option<f64>,
    /// The other engine's tokens a second in the same round.
    pub(super) peer_tok_s: Option<f64>,
}

/// What one test asks of the machine.
pub(super) struct Work {
    /// Multiplications with addition in the products with weights.
    pub(super) macs: f64,
    /// Bytes of weights read.
    pub(super) weight_bytes: f64,
    /// Bytes of keys and values read by decoding.
    pub(super) kv_bytes: f64,
}

/// A test and all its rounds.
pub(super) struct Measured {
    pub(super) test: Test,
    pub(super) work: Work,
    pub(super) rounds: Vec<Round>,
}

/// Everything measured of one model with one team.
pub(super) struct ModelMeasured {
    /// The model as it was asked for.
    pub(super) name: String,
    /// Its file's name without the ending.
    pub(super) file: String,
    pub(super) threads: usize,
    /// Read for every token.
    pub(super) weight_bytes: usize,
    /// From opening the prepared model to the logits of a prompt of one token.
    pub(super) first_token_seconds: f64,
    /// The most that was seen after a test, and the positions that the cache then had held.
    pub(super) memory: Option<(Held, usize)>,
    /// How the model was run within the memory there is.
    pub(super) residency: Told,
    pub(super) tests: Vec<Measured>,
}

pub(super) fn measure(
    name: &str,
    team: &Team,
    arguments: &Arguments,
    mut peer: Option<&mut Peer>,
    printer: &Printer,
) -> Result<ModelMeasured, Failure> {
    let tests = arguments.tests();
    // The first opening may prepare the weights, the second finds them prepared.
    let memory = memory::memory(arguments.memory);
    let demand = arguments.demand(&tests, team);
    models::open(name, team, &memory, &demand, printer)?;
    let start = Instant::now();
    let (model, plan) = models::open(name, team, &memory, &demand, printer)?;
    memory::tell(&plan, &demand, &model, &memory, printer);
    let mut bench = Bench::new(Arc::clone(&model), team, &tests, &plan, memory)?;
    bench.compute(1, 1)?;
    let first_token_seconds = start.elapsed().as_secs_f64();

    let energy = Energy::of_this_machine();
    let path = &model.paths()[0];
    if let Some(peer) = &mut peer {
        peer.meet(path, team.threads())?;
    }
    let runs = usize::from(arguments.runs);
    let bar = printer.bar(&format!("measuring {name}"), Some((tests.len() * (runs + 1)) as u64), Unit::Count);
    let mut held: Option<Held> = None;
    let mut measured: Vec<Measured> = tests
        .iter()
        .map(|&test| Measured { test, work: bench.work(test), rounds: Vec::with_capacity(runs) })
        .collect();
    for measured in &measured {
        bench.run(measured.test, &energy)?;
        bar.inc(1);
    }
    for _ in 0..runs {
        // One phase of ours, then the same of theirs.
        for phase in [Phase::Prefill, Phase::Decode, Phase::Verify] {
            let mut of_phase: Vec<&mut Measured> =
                measured.iter_mut().filter(|measured| measured.test.phase == phase).collect();
            if of_phase.is_empty() {
                continue;
            }
            let limits = Limits {
                bandwidth: probe::read_bandwidth(team, bench.bandwidth_bytes()),
                int8_peak: probe::int8_peak(team),
            };
            for measured in &mut of_phase {
                let (seconds, joules) = bench.run(measured.test, &energy)?;
                measured.rounds.push(Round { limits, seconds, joules, peer_tok_s: None });
                held = held.max(Held::now());
                bar.inc(1);
            }
            if let (Some(peer), Phase::Prefill | Phase::Decode) = (&mut peer, phase) {
                let tests: Vec<Test> = of_phase.iter().map(|measured| measured.test).collect();
                let speeds = peer.run(path, team.threads(), &tests)?;
                for (measured, tok_s) in of_phase.iter_mut().zip(speeds) {
                    measured.rounds.last_mut().expect("just measured").peer_tok_s = Some(tok_s);
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(ModelMeasured {
        name: name.to_owned(),
        file: path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        threads: team.threads(),
        weight_bytes: bench.weight_bytes(),
        first_token_seconds,
        memory: held.map(|held| (held, bench.cache.capacity())),
        residency: Told::of(&plan),
        tests: measured,
    })
}

/// The positions of the largest of the tests.
fn capacity(tests: &[Test]) -> usize {
    tests.iter().map(|test| test.at_context + test.tokens).max().unwrap_or(0).max(1)
}

struct Bench<'a> {
    model: Arc<Model>,
    team: &'a Team,
    workspace: Workspace,
    cache: KvCache,
    /// The longest context that a test began with.
    longest: KvCache,
    memory: Memory,
    _grant: Grant,
}

impl Arguments {
    /// What just holds the largest of the tests, and the page that a context of which a part is computed anew has twice.
    fn demand(&self, tests: &[Test], team: &Team) -> Demand {
        let (most, context) = (capacity(tests), capacity(tests) + PAGE);
        let (kv_type, threads) = (Some(self.kv.into()), team.threads());
        Demand { context, least_context: context, kv_type, batch: BATCH.min(most), threads, beside: 0 }
    }
}

impl<'a> Bench<'a> {
    /// As it is planned.
    fn new(
        model: Arc<Model>,
        team: &'a Team,
        tests: &[Test],
        plan: &Residency,
        memory: Memory,
    ) -> Result<Bench<'a>, Failure> {
        let workspace = Workspace::new(&model.config, plan.batch);
        let _grant = memory.budget().take("the buffers of a pass", workspace.bytes())?;
        let cache = KvCache::with_budget(&model.config, capacity(tests), plan.kv_type, memory.budget())?;
        Ok(Bench { model, team, workspace, longest: cache.clone(), cache, memory, _grant })
    }

    /// What the bandwidth may be measured on: no more than is free for the moment.
    fn bandwidth_bytes(&self) -> usize {
        BANDWIDTH_BYTES.min(self.memory.budget().free()).max(1 << 20)
    }

    fn weight_bytes(&self) -> usize {
        self.matrices().map(|matrix| matrix.bytes()).sum::<usize>() + self.head().bytes()
    }

    /// The matrices that a token meets in the layers.
    fn matrices(&self) -> impl Iterator<Item = &model::Stored> {
        let experts = self.model.config.experts.as_ref().map_or(0, |experts| experts.used);
        self.model.weights().layer_matrices(experts)
    }

    /// The matrix of the logits, which only a prompt's last token meets.
    fn head(&self) -> &model::Stored {
        &self.model.weights().output.matrix
    }

    fn work(&self, test: Test) -> Work {
        let layers: usize = self.matrices().map(|matrix| matrix.rows * matrix.columns).sum();
        let head = self.head().rows * self.head().columns;
        let (with_head, readings) = match test.phase {
            Phase::Prefill => (1, test.tokens.div_ceil(self.workspace.max_batch())),
            Phase::Decode => (test.tokens, test.tokens),
            Phase::Verify => (test.tokens, 1),
        };
        let layer_bytes = self.weight_bytes() - self.head().bytes();
        Work {
            macs: layers as f64 * test.tokens as f64 + head as f64 * with_head as f64,
            weight_bytes: layer_bytes as f64 * readings as f64
                + self.head().bytes() as f64 * with_head.min(readings) as f64,
            kv_bytes: match test.phase {
                Phase::Prefill | Phase::Verify => 0.0,
                Phase::Decode => self.kv_bytes(test.at_context, test.tokens),
            },
        }
    }

    /// Keys and values that decoding reads: each token those of all positions before it and its own, as far as the
    /// layer's window reaches.
    fn kv_bytes(&self, at_context: usize, tokens: usize) -> f64 {
        /// A cache of so many positions has no padding that counts.
        const MANY: usize = 1 << 16;
        let config = &self.model.config;
        let all = KvCache::bytes(config, MANY, self.cache.kv_type()) as f64 / MANY as f64;
        let of_a_layer = all / config.layers.len() as f64;
        let positions = config.layers.iter().map(|layer| {
            let window = layer.window.unwrap_or(usize::MAX);
            (at_context + 1..=at_context + tokens).map(|seen| seen.min(window) as f64).sum::<f64>()
        });
        of_a_layer * positions.sum::<f64>()
    }

    /// Some token for each position: which one makes no difference to the speed, but to how much of the embedding table is
    /// touched. As in texts, small numbers are frequent (Zipf's law).
    fn token(&self, position: usize) -> u32 {
        // Evenly spread from 0 to 1 (Knuth's multiplicative hash).
        let draw = f64::from((position as u32).wrapping_mul(2_654_435_761)) / 2_f64.powi(32);
        (self.model.config.vocabulary as f64).powf(draw) as u32 - 1
    }

    /// Seconds that the test takes, and the energy where the machine tells it.
    fn run(&mut self, test: Test, energy: &Energy) -> Result<(f64, Option<f64>), Failure> {
        self.reach(test.at_context)?;
        let (begin, start) = (energy.now(), Instant::now());
        let end = test.at_context + test.tokens;
        let times = match test.phase {
            Phase::Prefill => self.compute(self.workspace.max_batch(), end).map(|()| 1)?,
            Phase::Decode => self.compute(1, end).map(|()| 1)?,
            Phase::Verify => {
                for _ in 0..PASSES {
                    self.cache.truncate(test.at_context);
                    let tokens: Vec<u32> =
                        (test.at_context..end).map(|position| self.token(position)).collect();
                    let (team, workspace) = (self.team, &mut self.workspace);
                    self.model.forward(team, workspace, &mut self.cache, &tokens, Logits::All)?;
                }
                PASSES
            }
        } as f64;
        let joules = energy.since(begin.as_deref()).map(|joules| joules / times);
        Ok((start.elapsed().as_secs_f64() / times, joules))
    }

    /// Makes the context `positions` long. Every position has the same token each time, so what is computed already can
    /// stay.
    fn reach(&mut self, positions: usize) -> Result<(), Failure> {
        self.cache = self.longest.clone();
        self.cache.truncate(positions);
        self.compute(self.workspace.max_batch(), positions)?;
        if self.cache.len() > self.longest.len() {
            self.longest = self.cache.clone();
        }
        Ok(())
    }

    /// Goes on to `end` positions in batches, with the logits of each last token that is decoded or ends a prompt.
    fn compute(&mut self, batch: usize, end: usize) -> Result<(), Failure> {
        while self.cache.len() < end {
            let from = self.cache.len();
            let to = end.min(from + batch);
            let tokens = (from..to).map(|position| self.token(position)).collect::<Vec<u32>>();
            let want = if batch == 1 || to == end { Logits::Last } else { Logits::None };
            self.memory.look();
            self.model.forward(self.team, &mut self.workspace, &mut self.cache, &tokens, want)?;
        }
        Ok(())
    }
}
