//! Speed of every format's products, beside the limits of the machine measured in the same run.
//!
//! One token is bound by reading weights: GB/s, and the part of the read bandwidth. Many tokens are bound by
//! multiplying: GMAC/s, and the part of the 8-bit peak. `cargo bench -p kernels -- [--json] [--threads N] [--format NAME]`.

#![expect(clippy::print_stdout, reason = "the report is the purpose")]

use std::time::{Duration, Instant};

use kernels::{FORMATS, Format, Input, Keep, Matrix, Product, Team, cpu, multiply, probe};

/// Rows and columns: a small model's feed-forward, and a large one's attention.
const SHAPES: [(usize, usize); 2] = [(896, 4864), (4096, 4096)];

/// Tokens of a batch, as in prefill.
const BATCH: usize = 512;

/// Together larger than any last cache, so that every token reads memory.
const WEIGHTS: usize = 512 << 20;

/// How long each measurement goes on, and how often at least.
const LONG_ENOUGH: Duration = Duration::from_millis(400);
const OFTEN_ENOUGH: usize = 3;

struct Options {
    json: bool,
    threads: usize,
    format: Option<String>,
}

struct Measured {
    format: &'static Format,
    rows: usize,
    columns: usize,
    /// Bytes per second of weights with one token.
    one: f64,
    /// Multiplications with addition per second with many.
    many: f64,
}

fn main() {
    let options = options();
    let team = Team::new(options.threads);
    let bandwidths: Vec<(usize, f64)> = (1..=options.threads)
        .map(|threads| (threads, probe::read_bandwidth(&Team::new(threads), WEIGHTS)))
        .collect();
    let peak = probe::int8_peak(&team);
    let measured: Vec<Measured> = FORMATS
        .iter()
        .filter(|format| options.format.as_deref().is_none_or(|name| name == format.name))
        .flat_map(|format| SHAPES.map(|(rows, columns)| measure(&team, format, rows, columns)))
        .collect();
    let bandwidth = bandwidths.last().map_or(f64::NAN, |last| last.1);
    if options.json {
        json(&team, &bandwidths, peak, &measured)
    } else {
        table(&team, &bandwidths, peak, &measured, bandwidth)
    }
}

fn options() -> Options {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut options = Options { json: false, threads: cores, format: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--threads" => options.threads = words.next().and_then(|word| word.parse().ok()).unwrap_or(cores),
            "--format" => options.format = words.next(),
            // What `cargo bench` itself adds.
            _ => {}
        }
    }
    options
}

/// Weights whose values do not matter: all bytes 0x11, a finite number in every format.
fn measure(team: &Team, format: &'static Format, rows: usize, columns: usize) -> Measured {
    let bytes = format.interleaved_bytes(rows, columns);
    let copies = (WEIGHTS / bytes).max(1);
    let data = vec![0x11u8; copies * bytes];
    let keep = if format.is_float() { Keep::Float } else { Keep::Int8 };
    let x: Vec<f32> = (0..BATCH * columns).map(|at| (at * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
    let mut input = Input::new(BATCH, columns);
    let mut out = vec![0.0; BATCH * rows];
    let mut run = |tokens: usize| {
        input.set(team, &x[..tokens * columns], tokens, columns, keep);
        let mut copy = 0;
        median(|| {
            let data = &data[copy % copies * bytes..][..bytes];
            copy += 1;
            let matrix = Matrix { format, rows, columns, data };
            multiply(team, &mut [Product { matrix, input: &input, out: &mut out, stride: rows }]);
        })
    };
    let one = bytes as f64 / run(1);
    let many = (rows * columns * BATCH) as f64 / run(BATCH);
    Measured { format, rows, columns, one, many }
}

/// Seconds of the median call: the weights differ from call to call, so the fastest may be luck with caches.
fn median(mut call: impl FnMut()) -> f64 {
    let (start, mut seconds) = (Instant::now(), Vec::new());
    call();
    while start.elapsed() < LONG_ENOUGH || seconds.len() < OFTEN_ENOUGH {
        let begin = Instant::now();
        call();
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn table(team: &Team, bandwidths: &[(usize, f64)], peak: f64, measured: &[Measured], bandwidth: f64) {
    println!("tier {}, {} threads, {} tokens in a batch", cpu::tier().name(), team.threads(), BATCH);
    for (threads, bytes) in bandwidths {
        println!("read bandwidth, {threads} threads: {:.1} GB/s", bytes / 1e9);
    }
    println!("8-bit peak: {:.0} GMAC/s\n", peak / 1e9);
    println!("{:8} {:>11} {:>10} {:>6} {:>10} {:>6}", "format", "shape", "GB/s", "%", "GMAC/s", "%");
    for Measured { format, rows, columns, one, many } in measured {
        println!(
            "{:8} {:>11} {:>10.1} {:>6.0} {:>10.1} {:>6.0}",
            format.name,
            format!("{rows}x{columns}"),
            one / 1e9,
            100.0 * one / bandwidth,
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
    let products = measured.iter().map(|Measured { format, rows, columns, one, many }| {
        format!(
            "{{\"format\": \"{}\", \"rows\": {rows}, \"columns\": {columns}, \
             \"one_token_bytes_per_second\": {one:.0}, \"batch_products_per_second\": {many:.0}}}",
            format.name
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
