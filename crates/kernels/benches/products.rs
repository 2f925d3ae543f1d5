//! Speed of every format's products, beside the limits of the machine measured in the same run.
//!
//! One token is bound by reading weights: GB/s, and the part of the read bandwidth. A few should cost little more: their
//! time as a multiple of one token's. Many are bound by multiplying: GMAC/s, and the part of the 8-bit peak. `cargo bench -p kernels -- [--json] [--threads N] [--format NAME]`.
//!
//! `--resident` keeps the weights in the cache, so that only the code counts: bytes a cycle for one token, products a
//! cycle for a few and for many, both for each thread. `--repeat N --tokens T --format NAME` computes one product N
//! times on one thread and prints how many multiplications one has: what an instruction counter is to be run on.

#![expect(clippy::print_stdout, reason = "the report is the purpose")]

use std::time::{Duration, Instant};

use kernels::{FORMATS, Format, Input, Keep, Matrix, Product, Team, cpu, multiply, probe};

/// Rows and columns: a small model's feed-forward, and a large one's attention.
const SHAPES: [(usize, usize); 2] = [(896, 4864), (4096, 4096)];

/// Tokens of a batch, as in prefill.
const BATCH: usize = 512;

/// Tokens that are computed at once where guesses are verified: the last one and four or eight guesses.
const FEW: [usize; 2] = [5, 9];

/// Together larger than any last cache, so that every token reads memory.
const WEIGHTS: usize = 512 << 20;

/// With `--resident`, weights that fit the second cache of any core with room for the activations, in rows of
/// this length.
const RESIDENT: usize = 256 << 10;
const RESIDENT_COLUMNS: usize = 1024;

/// With `--resident`, the batches: one token, those that verify guesses, prefill.
const FEW_AND_MANY: [usize; 6] = [1, 2, 5, 9, 16, BATCH];

/// How long each measurement goes on, and how often at least.
const LONG_ENOUGH: Duration = Duration::from_millis(400);
const OFTEN_ENOUGH: usize = 3;

struct Options {
    json: bool,
    threads: usize,
    format: Option<String>,
    resident: bool,
    repeat: Option<usize>,
    tokens: usize,
}

impl Options {
    fn formats(&self) -> impl Iterator<Item = &'static Format> {
        let chosen = |format: &&Format| self.format.as_deref().is_none_or(|name| name == format.name);
        FORMATS.iter().filter(chosen)
    }
}

fn main() {
    let options = options();
    match options.repeat {
        Some(times) => repeat(&options, times),
        None if options.resident => resident(&options),
        None => from_memory(&options),
    }
}

fn options() -> Options {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut options =
        Options { json: false, threads: cores, format: None, resident: false, repeat: None, tokens: BATCH };
    let mut words = std::env::args().skip(1);
    let number = |word: Option<String>| word.and_then(|word| word.parse().ok());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--threads" => options.threads = number(words.next()).unwrap_or(cores),
            "--format" => options.format = words.next(),
            "--resident" => options.resident = true,
            "--repeat" => options.repeat = number(words.next()),
            "--tokens" => options.tokens = number(words.next()).unwrap_or(BATCH),
            // What `cargo bench` itself adds.
            _ => {}
        }
    }
    options
}

/// A product with weights whose values do not matter: all bytes 0x11, a finite number in every format.
struct Work {
    format: &'static Format,
    rows: usize,
    columns: usize,
    /// Copies of the matrix, multiplied in turn.
    data: Vec<u8>,
    input: Input,
    x: Vec<f32>,
    out: Vec<f32>,
}

impl Work {
    /// As many copies of the matrix as make up `bytes`, at least one.
    fn new(format: &'static Format, rows: usize, columns: usize, bytes: usize) -> Work {
        let copies = (bytes / format.interleaved_bytes(rows, columns)).max(1);
        Work {
            format,
            rows,
            columns,
            data: vec![0x11; copies * format.interleaved_bytes(rows, columns)],
            input: Input::new(BATCH, columns),
            x: (0..BATCH * columns).map(|at| (at * 7919 % 2003) as f32 / 1000.0 - 1.0).collect(),
            out: vec![0.0; BATCH * rows],
        }
    }

    /// One matrix that stays in the cache.
    fn resident(format: &'static Format) -> Work {
        let rows = RESIDENT / format.row_bytes(RESIDENT_COLUMNS) / 16 * 16;
        Work::new(format, rows, RESIDENT_COLUMNS, 0)
    }

    /// Bytes of the matrix.
    fn bytes(&self) -> usize {
        self.format.interleaved_bytes(self.rows, self.columns)
    }

    /// Multiplications with addition for so many tokens.
    fn products(&self, tokens: usize) -> usize {
        self.rows * self.columns * tokens
    }

    fn set(&mut self, team: &Team, tokens: usize) {
        let keep = if self.format.is_float() { Keep::Float } else { Keep::Int8 };
        self.input.set(team, &self.x[..tokens * self.columns], tokens, self.columns, keep);
    }

    /// The `turn`-th product.
    fn multiply(&mut self, team: &Team, turn: usize) {
        let bytes = self.bytes();
        let data = &self.data[turn % (self.data.len() / bytes) * bytes..][..bytes];
        let Work { format, rows, columns, ref input, .. } = *self;
        let matrix = Matrix { format, rows, columns, data };
        multiply(team, &mut [Product { matrix, input, out: &mut self.out, stride: rows }]);
    }

    /// Seconds of the median product: the weights differ from call to call, so the fastest may be luck with caches.
    fn seconds(&mut self, team: &Team, tokens: usize) -> f64 {
        self.set(team, tokens);
        let (start, mut seconds) = (Instant::now(), Vec::new());
        self.multiply(team, 0);
        while start.elapsed() < LONG_ENOUGH || seconds.len() < OFTEN_ENOUGH {
            let begin = Instant::now();
            self.multiply(team, seconds.len() + 1);
            seconds.push(begin.elapsed().as_secs_f64());
        }
        seconds.sort_unstable_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// The same product again and again, and nothing else: twice as many cost twice as many instructions more.
fn repeat(options: &Options, times: usize) {
    let team = Team::new(1);
    for format in options.formats() {
        let mut work = Work::resident(format);
        work.set(&team, options.tokens);
        (0..times).for_each(|turn| work.multiply(&team, turn));
        println!("{}", work.products(options.tokens));
    }
}

fn resident(options: &Options) {
    let team = Team::new(options.threads);
    println!("tier {}, {} threads, weights of {} KiB", cpu::tier().name(), options.threads, RESIDENT >> 10);
    println!("one token: bytes a cycle; more: products a cycle; both for each thread\n");
    let batches = FEW_AND_MANY.map(|tokens| format!("{:>8}", format!("T={tokens}")));
    println!("{:8} {:>6} {:>8} {:>8} {}", "format", "GHz", "peak", "bytes", batches.join(" "));
    for format in options.formats() {
        // Beside each format, for the clock of a busy machine changes.
        let Some(clock) = probe::clock() else {
            return println!("no count of cycles on this processor");
        };
        let cycles = clock * options.threads as f64;
        let peak = probe::int8_peak(&team) / cycles;
        let mut work = Work::resident(format);
        let seconds = FEW_AND_MANY.map(|tokens| work.seconds(&team, tokens));
        let products = FEW_AND_MANY.iter().zip(seconds);
        let products = products.map(|(&tokens, seconds)| work.products(tokens) as f64 / seconds / cycles);
        let products: Vec<String> = products.map(|products| format!("{products:8.1}")).collect();
        let bytes = work.bytes() as f64 / seconds[0] / cycles;
        println!("{:8} {:6.2} {peak:8.1} {bytes:8.1} {}", format.name, clock / 1e9, products.join(" "));
    }
}

struct Measured {
    format: &'static Format,
    rows: usize,
    columns: usize,
    /// Bytes per second of weights with one token.
    one: f64,
    /// The time of [`FEW`] tokens as a multiple of one token's.
    few: [f64; FEW.len()],
    /// Multiplications with addition per second with many.
    many: f64,
}

fn from_memory(options: &Options) {
    let team = Team::new(options.threads);
    let bandwidths: Vec<(usize, f64)> = (1..=options.threads)
        .map(|threads| (threads, probe::read_bandwidth(&Team::new(threads), WEIGHTS)))
        .collect();
    let peak = probe::int8_peak(&team);
    let measured: Vec<Measured> = options
        .formats()
        .flat_map(|format| SHAPES.map(|(rows, columns)| measure(&team, format, rows, columns)))
        .collect();
    let bandwidth = bandwidths.last().map_or(f64::NAN, |last| last.1);
    if options.json {
        json(&team, &bandwidths, peak, &measured)
    } else {
        table(&team, &bandwidths, peak, &measured, bandwidth)
    }
}

fn measure(team: &Team, format: &'static Format, rows: usize, columns: usize) -> Measured {
    let mut work = Work::new(format, rows, columns, WEIGHTS);
    let seconds = work.seconds(team, 1);
    let one = work.bytes() as f64 / seconds;
    let few = FEW.map(|tokens| work.seconds(team, tokens) / seconds);
    let many = work.products(BATCH) as f64 / work.seconds(team, BATCH);
    Measured { format, rows, columns, one, few, many }
}

fn table(team: &Team, bandwidths: &[(usize, f64)], peak: f64, measured: &[Measured], bandwidth: f64) {
    println!("tier {}, {} threads, {} tokens in a batch", cpu::tier().name(), team.threads(), BATCH);
    for (threads, bytes) in bandwidths {
        println!("read bandwidth, {threads} threads: {:.1} GB/s", bytes / 1e9);
    }
    println!("8-bit peak: {:.0} GMAC/s\n", peak / 1e9);
    let few = FEW.map(|tokens| format!("{:>5}", format!("x{tokens}"))).join(" ");
    println!("{:8} {:>11} {:>10} {:>6} {few} {:>10} {:>6}", "format", "shape", "GB/s", "%", "GMAC/s", "%");
    for Measured { format, rows, columns, one, few, many } in measured {
        println!(
            "{:8} {:>11} {:>10.1} {:>6.0} {} {:>10.1} {:>6.0}",
            format.name,
            format!("{rows}x{columns}"),
            one / 1e9,
            100.0 * one / bandwidth,
            few.map(|times| format!("{times:5.2}")).join(" "),
            many / 1e9,
            100.0 * many / peak
        );
    }
}

fn json(team: &Team, bandwidths: &[(usize, f64)], peak: f64, measured: &[Measured]) {
    let list = |items: Vec<String>| items.join(", ");
    let bandwidths = bandwidths
        .iter()
        .map(|(threads, bytes)| format!("{{\"threads\": {threads}, \"bytes_per_second\": {bytes:.0}}}"));
    let products = measured.iter().map(|Measured { format, rows, columns, one, few, many }| {
        let few = FEW.iter().zip(few).map(|(tokens, times)| format!("\"{tokens}\": {times:.2}"));
        format!(
            "{{\"format\": \"{}\", \"rows\": {rows}, \"columns\": {columns}, \
             \"one_token_bytes_per_second\": {one:.0}, \"few_tokens_times\": {{{}}}, \
             \"batch_products_per_second\": {many:.0}}}",
            format.name,
            list(few.collect())
        )
    });
    println!(
        "{{\"tier\": \"{}\", \"threads\": {}, \"batch\": {BATCH}, \"read_bandwidth\": [{}], \
         \"int8_products_per_second\": {peak:.0}, \"products\": [{}]}}",
        cpu::tier().name(),
        team.threads(),
        list(bandwidths.collect()),
        list(products.collect())
    );
}
