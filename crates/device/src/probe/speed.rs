//! What a number of threads does: the machine's limits, and products with weights of each format.

use std::time::{Duration, Instant};

use kernels::{Format, Input, Keep, Matrix, Product, Team, multiply, probe};
use memmap2::MmapMut;

use super::attention;
use crate::profile;
use crate::speeds::PROBED_COLUMNS;

/// The formats that models come in.
pub const PROBED_FORMATS: [&str; 10] =
    ["F16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"];

/// Far more than a cache holds.
const BANDWIDTH_BYTES: usize = 128 << 20;

/// The weights of a product of one token, in matrices of this size, multiplied in turn.
const WEIGHT_BYTES: usize = 96 << 20;
const LARGE: (usize, usize) = (2048, PROBED_COLUMNS);

/// A matrix so small that starting and ending its phase shows, and one with as many weights as the large one in shorter rows.
const SMALL: (usize, usize) = (512, 512);
const TALL: (usize, usize) = (LARGE.0 * LARGE.1 / 256, 256);

/// Batches from whose times the cost of a weight and that of a multiplication follow.
const FEW: usize = 32;
const MANY: usize = 256;

/// How long each product is repeated, how often at least, and how often all that comes again: the machine's other work comes and
/// goes within seconds.
const LONG_ENOUGH: Duration = Duration::from_millis(60);
const OFTEN_ENOUGH: usize = 3;
const SWEEPS: usize = 3;

/// Measures `threads` threads; `step` is called after each format and once more.
pub fn team(threads: usize, formats: &[&'static Format], step: &mut dyn FnMut()) -> profile::Team {
    let team = Team::new(threads);
    let read = probe::read_bandwidth(&team, BANDWIDTH_BYTES);
    let int8 = probe::int8_peak(&team);
    let float = probe::float_peak(&team);
    step();
    let mut sweeps: Vec<Vec<Times>> = vec![Vec::new(); formats.len()];
    for sweep in 0..SWEEPS {
        for (format, times) in formats.iter().zip(&mut sweeps) {
            times.push(Work::new(format, LARGE).times(&team));
            if sweep == 0 {
                step();
            }
        }
    }
    let beyond = beyond(&team);
    let attention = attention::speeds(&team);
    let products =
        formats.iter().zip(&sweeps).map(|(format, times)| Times::of(times).product(format)).collect();
    profile::Team {
        threads,
        read_gb_s: read / 1e9,
        int8_gmac_s: int8 / 1e9,
        float_gmac_s: float / 1e9,
        phase_us: beyond.phase * 1e6,
        row_ns: beyond.row * 1e9,
        products,
        attention,
    }
}

/// Seconds that a product takes beyond reading its weights: once, and for each row.
struct Beyond {
    phase: f64,
    row: f64,
}

/// Waking the others, sharing out, waiting for the last, and the time until memory streams; and what ends each row. Three
/// equations: seconds = phase + rows * row + weights * reading.
fn beyond(team: &Team) -> Beyond {
    let format = kernels::FORMATS.iter().find(|format| format.name == "Q8_0").expect("a format of the table");
    let mut works = [SMALL, LARGE, TALL].map(|shape| (Work::new(format, shape), Vec::new()));
    for _ in 0..SWEEPS {
        for (work, seconds) in &mut works {
            seconds.push(work.seconds(team, 1));
        }
    }
    let [small, large, tall] = works.map(|(_, seconds)| middle(seconds));
    let row = ((tall - large) / (TALL.0 - LARGE.0) as f64).max(0.0);
    let share = (SMALL.0 * SMALL.1) as f64 / (LARGE.0 * LARGE.1) as f64;
    let reading = large - small - (LARGE.0 - SMALL.0) as f64 * row;
    let phase = small - SMALL.0 as f64 * row - reading * share / (1.0 - share);
    Beyond { phase: phase.max(0.0), row }
}

/// Seconds of products of one, of few and of many tokens.
#[derive(Clone, Copy)]
struct Times {
    one: f64,
    few: f64,
    many: f64,
}

impl Times {
    /// Of what computes the best, as of all limits that are probed: a plan is of a device that is left to itself. Of what reads
    /// memory, which is never read evenly, the middle.
    fn of(sweeps: &[Times]) -> Times {
        let best = |time: fn(&Times) -> f64| sweeps.iter().map(time).fold(f64::INFINITY, f64::min);
        let one = middle(sweeps.iter().map(|times| times.one).collect());
        Times { one, few: best(|times| times.few), many: best(|times| times.many) }
    }

    /// Two equations: seconds = weights * (once + tokens * multiplication).
    fn product(self, format: &Format) -> profile::Product {
        let weights = (LARGE.0 * LARGE.1) as f64;
        let mac = ((self.many - self.few) / (MANY - FEW) as f64 / weights).max(1e-15);
        let weight = (self.few / weights - FEW as f64 * mac).max(0.0);
        profile::Product {
            format: format.name.to_owned(),
            one_token_gb_s: format.interleaved_bytes(LARGE.0, LARGE.1) as f64 / self.one / 1e9,
            weight_ps: weight * 1e12,
            many_gmac_s: 1e-9 / mac,
        }
    }
}

/// The median.
fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Products with weights whose values do not matter: all bytes 0x11, a finite number in every format.
struct Work {
    format: &'static Format,
    rows: usize,
    columns: usize,
    /// Copies of the matrix.
    data: MmapMut,
    input: Input,
    x: Vec<f32>,
    out: Vec<f32>,
    /// Which copy comes next.
    turn: usize,
}

impl Work {
    fn new(format: &'static Format, (rows, columns): (usize, usize)) -> Work {
        let bytes = format.interleaved_bytes(rows, columns);
        let mut data = MmapMut::map_anon(WEIGHT_BYTES.div_ceil(bytes) * bytes)
            .expect("a probe of a device that has not this much memory makes no sense");
        // As a model's weights are mapped.
        #[cfg(target_os = "linux")]
        let _ = data.advise(memmap2::Advice::HugePage);
        data.fill(0x11);
        Work {
            format,
            rows,
            columns,
            data,
            input: Input::new(MANY, columns),
            x: (0..MANY * columns).map(|at| (at * 7919 % 2003) as f32 / 1000.0 - 1.0).collect(),
            out: vec![0.0; MANY * rows],
            turn: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.format.interleaved_bytes(self.rows, self.columns)
    }

    fn times(&mut self, team: &Team) -> Times {
        Times { one: self.seconds(team, 1), few: self.seconds(team, FEW), many: self.seconds(team, MANY) }
    }

    /// Seconds of a product of `tokens` tokens.
    fn seconds(&mut self, team: &Team, tokens: usize) -> f64 {
        let keep = if self.format.is_float() { Keep::Float } else { Keep::Int8 };
        self.input.set(team, &self.x[..tokens * self.columns], tokens, self.columns, keep);
        self.multiply(team);
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < LONG_ENOUGH || times.len() < OFTEN_ENOUGH {
            let begin = Instant::now();
            self.multiply(team);
            times.push(begin.elapsed().as_secs_f64());
        }
        middle(times)
    }

    fn multiply(&mut self, team: &Team) {
        let Work { format, rows, columns, .. } = *self;
        let bytes = self.bytes();
        let from = self.turn % (self.data.len() / bytes) * bytes;
        self.turn += 1;
        let matrix = Matrix { format, rows, columns, data: &self.data[from..][..bytes] };
        multiply(team, &mut [Product { matrix, input: &self.input, out: &mut self.out, stride: rows }]);
    }
}
