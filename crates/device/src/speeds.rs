//! How fast a device computes with so many threads: as measured on it, or as its cores let expect.

use kernels::Format;
use kernels::ops::attention::KvType;

use crate::MatrixShape;
use crate::profile::{CoreType, Cores, Isa, Measured, Profile, Team, core_type};

/// The share of the memory chips' bandwidth that the cores of a phone's chip get together. From decoding published for a
/// OnePlus 12: Llama 3.2 1B and 3B in BF16 read 47 and 49 of its 77 GB/s (Meta, "quantized Llama models", 2024), and for
/// a Raspberry Pi 5, which reads 11 of 17 GB/s in Llama 3.2 3B; a plain loop reads more by [`MAPPED`].
const CORES_SHARE: f64 = 0.71;

/// Instructions of all kinds that a core starts a cycle in products, for each 128-bit vector instruction that it can start:
/// loads and scalar instructions besides, but neither the clock nor the pipelines are used in full by all cores at once.
const INSTRUCTIONS_PER_VECTOR: f64 = 0.9;

/// The same on a phone: cores of different clusters tell each other in about a microsecond, twice, and memory needs as long.
const PHASE_SECONDS: f64 = 4e-6;

/// A model's mapped weights are read by so much slower than the probe's, in large pages throughout and matrices of one size.
const MAPPED: f64 = 0.85;

/// The rows that products are probed with; of shorter ones there are more.
pub(crate) const PROBED_COLUMNS: usize = 2048;

/// Products with weights of one format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProductSpeed {
    /// One token: bytes of weights a second.
    pub one_token: f64,
    /// Many tokens: seconds that a weight takes once for all of them.
    pub weight: f64,
    /// Many tokens: seconds of a multiplication with addition beyond that.
    pub mac: f64,
}

/// What a number of threads does.
#[derive(Clone, Debug)]
pub struct Speeds {
    /// Threads.
    pub threads: usize,
    /// Bytes a second, read from memory.
    pub read: f64,
    /// 8-bit multiplications with addition a second.
    pub int8: f64,
    /// The same of floats.
    pub float: f64,
    /// The same of floats by the thread that does what is not shared.
    pub float_of_one: f64,
    /// Seconds that a product takes beyond reading its weights.
    pub phase: f64,
    /// Seconds that a row takes beyond its weights.
    pub row: f64,
    /// Bytes of the cache that all cores share; 0 where nobody knows.
    pub cache: f64,
    /// Watts of the cores in use; `None` where nothing is known.
    pub watts: Option<f64>,
    products: Products,
}

/// How fast attention is.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRate {
    /// One token: numbers of keys and values a second, if all threads have work.
    pub one_token: f64,
    /// Many tokens: multiplications with addition a second.
    pub many: f64,
}

/// A key's or value's number that one token reads, turned into a float and multiplied with the queries that share it: as long
/// as so many multiplications at the float peak, however many queries there are. Halves, then packed numbers; measured on Zen 4.
const MACS_A_CACHED: [f64; 2] = [12.1, 7.5];

/// Of the float peak, what attention of many tokens reaches; measured on Zen 4.
const ATTENTION_MANY: f64 = 0.55;

#[derive(Clone, Debug)]
enum Products {
    Measured(Team),
    Estimated {
        /// Instructions a second.
        instructions: f64,
        /// Multiplications an instruction, of many tokens.
        rate: fn(&Cost) -> f64,
        /// Bytes a second from memory.
        read: f64,
    },
}

/// What products cost in instructions on Arm, counted by running them (`.ci/arm-instructions.csv`); formats that are not in
/// that table are estimated by their neighbours.
struct Cost {
    format: &'static str,
    /// One token: instructions a weight.
    one_token: f64,
    /// Many: multiplications an instruction with `smmla`, with `sdot`.
    i8mm: f64,
    dotprod: f64,
}

const fn cost(format: &'static str, one_token: f64, i8mm: f64, dotprod: f64) -> Cost {
    Cost { format, one_token, i8mm, dotprod }
}

const COSTS: &[Cost] = &[
    cost("Q4_0", 0.231, 9.067, 6.320),
    cost("Q4_1", 0.27, 8.8, 6.2),
    cost("Q5_0", 0.35, 8.4, 6.0),
    cost("Q5_1", 0.38, 8.3, 6.0),
    cost("Q8_0", 0.197, 9.261, 6.424),
    cost("Q2_K", 0.45, 6.5, 5.2),
    cost("Q3_K", 0.55, 6.0, 5.0),
    cost("Q4_K", 0.356, 7.7, 5.914),
    cost("Q5_K", 0.45, 7.2, 5.6),
    cost("Q6_K", 0.558, 5.855, 4.937),
    cost("IQ4_NL", 0.28, 8.8, 6.2),
    cost("IQ4_XS", 0.36, 7.7, 5.9),
    cost("MXFP4", 0.28, 8.8, 6.2),
    // Floats: load and widen, multiply and add, four values an instruction.
    cost("F32", 0.5, 2.5, 2.5),
    cost("F16", 0.65, 2.5, 2.5),
    cost("BF16", 0.6, 2.5, 2.5),
];

/// What unpacks by scalar code.
const SCALAR: Cost = cost("", 4.0, 5.0, 4.0);

impl Speeds {
    /// Of the `threads` fastest cores; `None` for more threads than the profile knows of.
    pub fn of(profile: &Profile, threads: usize) -> Option<Speeds> {
        match &profile.measured {
            Some(measured) => Speeds::measured(profile, measured, threads),
            None => Speeds::estimated(profile, threads),
        }
    }

    /// The numbers of threads to choose from.
    pub fn choices(profile: &Profile) -> Vec<usize> {
        match &profile.measured {
            Some(measured) => measured.teams.iter().map(|team| team.threads).collect(),
            None => (1..=profile.core_count()).collect(),
        }
    }

    fn measured(profile: &Profile, measured: &Measured, threads: usize) -> Option<Speeds> {
        let team = measured.teams.iter().find(|team| team.threads == threads)?;
        Some(Speeds {
            threads,
            read: team.read_gb_s * 1e9,
            int8: team.int8_gmac_s * 1e9,
            float: team.float_gmac_s * 1e9,
            float_of_one: measured.teams[0].float_gmac_s * 1e9 / measured.teams[0].threads as f64,
            phase: team.phase_us * 1e-6,
            row: team.row_ns * 1e-9,
            cache: cache(profile),
            watts: watts(profile, threads),
            products: Products::Measured(team.clone()),
        })
    }

    fn estimated(profile: &Profile, threads: usize) -> Option<Speeds> {
        let cores = fastest(profile, threads)?;
        let sum = |of: &dyn Fn(&Core) -> f64| cores.iter().map(of).sum::<f64>();
        let vectors = |core: &Core| core.ghz * 1e9 * core.kind.vectors.value;
        let whole = profile.memory.bandwidth_gb_s.as_ref()?.value * 1e9 * CORES_SHARE;
        let read = sum(&|core| core.kind.read_gb_s.value * 1e9).min(whole);
        // The plainest core decides which instructions all can run.
        let isa = cores.iter().map(|core| core.kind.isa).min_by_key(|isa| *isa as usize)?;
        Some(Speeds {
            threads,
            read,
            int8: sum(&|core| vectors(core) * isa.macs()),
            float: sum(&|core| vectors(core) * 4.0),
            float_of_one: vectors(&cores[0]) * 4.0,
            phase: PHASE_SECONDS,
            row: 0.0,
            cache: cache(profile),
            watts: watts(profile, threads),
            products: Products::Estimated {
                instructions: sum(&|core| vectors(core) * INSTRUCTIONS_PER_VECTOR),
                rate: match isa {
                    Isa::I8mm => |cost| cost.i8mm,
                    Isa::Dotprod => |cost| cost.dotprod,
                    // Two instructions for 8 multiplications where `sdot` has one for 16.
                    Isa::Neon => |cost| 0.3 * cost.dotprod,
                },
                read,
            },
        })
    }

    /// Seconds that a product of one token takes, if `all` bytes of weights are read in turn.
    pub fn seconds(&self, matrix: &MatrixShape, all: u64) -> f64 {
        // The rows of the probe are counted in the rate.
        let rows = (matrix.used * matrix.rows) as f64 * (1.0 - matrix.columns as f64 / PROBED_COLUMNS as f64);
        let reading = matrix.bytes_read() / (MAPPED * self.one_token(matrix.format, all));
        (reading + rows * self.row).max(0.5 * reading)
    }

    /// Bytes of weights of this format that are multiplied with one token a second, if `all` bytes of weights are read in turn:
    /// from memory, or unpacked and multiplied as fast as for many tokens if they stay in the cache. Half of it counts,
    /// since what is read in turn throws out itself before it is read again.
    fn one_token(&self, format: &Format, all: u64) -> f64 {
        let speed = self.product(format);
        let bytes = format.bytes as f64 / format.values as f64;
        match all as f64 <= self.cache / 2.0 {
            true => speed.one_token.max(bytes / (speed.weight + speed.mac)),
            false => speed.one_token,
        }
    }

    /// How fast attention over keys and values of this type is, of which a number takes so many bytes.
    pub fn attention(&self, kv_type: KvType, bytes: f64) -> AttentionRate {
        let measured = match &self.products {
            Products::Measured(team) => team.attention.iter().find(|speed| speed.kv == kv_type.name()),
            Products::Estimated { .. } => None,
        };
        match measured {
            Some(speed) => {
                AttentionRate { one_token: speed.one_token_gnumber_s * 1e9, many: speed.many_gmac_s * 1e9 }
            }
            None => AttentionRate {
                one_token: (self.read / bytes)
                    .min(self.float / MACS_A_CACHED[usize::from(kv_type != KvType::F16)]),
                many: self.float * ATTENTION_MANY,
            },
        }
    }

    /// How fast weights of this format are multiplied.
    pub fn product(&self, format: &Format) -> ProductSpeed {
        match &self.products {
            Products::Measured(team) => measured_product(team, format),
            Products::Estimated { instructions, rate, read } => {
                let cost = COSTS.iter().find(|cost| cost.format == format.name).unwrap_or(&SCALAR);
                let bytes = format.bytes as f64 / format.values as f64;
                let unpacked = instructions / cost.one_token * bytes;
                ProductSpeed {
                    one_token: both(*read, unpacked),
                    // Panels: what one token costs, and once more to write it.
                    weight: 2.0 * cost.one_token / instructions,
                    mac: 1.0 / (instructions * rate(cost)),
                }
            }
        }
    }
}

/// Two limits that hold at once and are not hidden behind each other altogether.
fn both(a: f64, b: f64) -> f64 {
    (a.powi(-4) + b.powi(-4)).powf(-0.25)
}

/// That of the format, or else of the one that has about as many bits.
fn measured_product(team: &Team, format: &Format) -> ProductSpeed {
    let bits = |name: &str| {
        let known = kernels::FORMATS.iter().find(|format| format.name == name);
        known.map_or(f64::INFINITY, |known| known.bytes as f64 / known.values as f64)
    };
    let own = bits(format.name);
    let distance = |name: &str| if name == format.name { -1.0 } else { (bits(name) - own).abs() };
    let nearest = team.products.iter().min_by(|a, b| distance(&a.format).total_cmp(&distance(&b.format)));
    match nearest {
        Some(product) => ProductSpeed {
            one_token: product.one_token_gb_s * 1e9,
            weight: product.weight_ps * 1e-12,
            mac: 1e-9 / product.many_gmac_s,
        },
        None => ProductSpeed { one_token: team.read_gb_s * 1e9, weight: 0.0, mac: 1e-9 / team.int8_gmac_s },
    }
}

/// A core of a kind that is known.
struct Core {
    kind: &'static CoreType,
    ghz: f64,
}

/// The `threads` fastest cores, if there are so many and all are of known kinds.
fn fastest(profile: &Profile, threads: usize) -> Option<Vec<Core>> {
    let of_kind = |cores: &Cores| {
        let kind = core_type(&cores.name)?;
        let ghz = cores.ghz.as_ref()?.value;
        Some((0..cores.count).map(move |_| Core { kind, ghz }))
    };
    let mut all: Vec<Core> =
        profile.cores.iter().map(of_kind).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    let speed = |core: &Core| core.ghz * core.kind.vectors.value;
    all.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    all.truncate(threads);
    (all.len() == threads && threads > 0).then_some(all)
}

fn cache(profile: &Profile) -> f64 {
    profile.cache_mb.as_ref().map_or(0.0, |cache| cache.value * 1e6)
}

fn watts(profile: &Profile, threads: usize) -> Option<f64> {
    let cores = fastest(profile, threads)?;
    Some(cores.iter().map(|core| core.kind.watts_at_1_ghz.value * core.ghz.powi(3)).sum())
}
