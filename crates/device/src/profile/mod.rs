//! What a device has, as a data file in which every figure names its source.

pub mod catalogue;
mod core_types;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
pub use core_types::{CoreType, Isa, core_type};

/// A number with where it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The number, in the unit that the field's name says.
    pub value: f64,
    /// Where it is from.
    #[serde(flatten)]
    pub basis: Basis,
}

/// What a figure rests on: in a profile one of the keys `source`, `estimated` and `measured`, with a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Published: the maker's data sheet, or another public description.
    Source(String),
    /// Nobody states it: how it was reckoned.
    Estimated(String),
    /// Measured on the device itself: by what.
    Measured(String),
}

impl Basis {
    /// The text, with what it is.
    pub fn text(&self) -> String {
        match self {
            Basis::Source(text) => text.clone(),
            Basis::Estimated(text) => format!("estimated: {text}"),
            Basis::Measured(text) => format!("measured: {text}"),
        }
    }
}

impl Figure {
    /// A figure that this program measured.
    pub fn measured(value: f64, by: &str) -> Figure {
        Figure { value, basis: Basis::Measured(by.to_owned()) }
    }

    /// Whether nobody states the figure.
    pub fn is_estimated(&self) -> bool {
        matches!(self.basis, Basis::Estimated(_))
    }
}

/// How the operating system counts a program's memory and ends programs that take too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum System {
    /// The low-memory killer ends programs by pressure; mapped files count but can be dropped.
    Android,
    /// HarmonyOS, which manages memory as Android does.
    HarmonyOS,
    /// A limit for each app on what is not a clean mapped file ("footprint").
    #[serde(rename = "iOS")]
    Ios,
    /// The out-of-memory killer, for the whole machine or for a control group.
    Linux,
}

impl System {
    /// As the maker writes it.
    pub fn name(self) -> &'static str {
        match self {
            System::Android => "Android",
            System::HarmonyOS => "HarmonyOS",
            System::Ios => "iOS",
            System::Linux => "Linux",
        }
    }

    /// Whether mapped weights count towards the memory at which a program is ended.
    pub fn counts_mapped(self) -> bool {
        self != System::Ios
    }
}

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The best phone of its maker and year.
    Flagship,
    /// The middle of the market.
    Middle,
    /// The cheapest phones.
    Low,
    /// A board computer.
    Board,
    /// Anything larger.
    Computer,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// As it is sold.
    pub name: String,
    /// The system on a chip, or the processor.
    pub chip: String,
    /// What counts memory.
    pub system: System,
    /// Where it stands in the market.
    pub class: Class,
    /// The year it was first sold in.
    pub year: Option<u16>,
    /// Memory.
    pub memory: Memory,
    /// Cores by kind, fastest first.
    pub cores: Vec<Cores>,
    /// Bytes of the last cache that all cores share.
    pub cache_mb: Option<Figure>,
    /// Where models lie.
    pub storage: Option<Storage>,
    /// The battery, in watt hours.
    pub battery_wh: Option<Figure>,
    /// What was measured on the device, in place of what its cores let expect.
    pub measured: Option<Measured>,
}

/// Memory and what the system leaves of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// In all.
    pub total_gb: Figure,
    /// What a program may hold, mapped files included, before the system has to drop pages of it.
    pub free_gb: Figure,
    /// What a program may hold that cannot be dropped, before the system ends it.
    pub limit_gb: Figure,
    /// What the memory chips give all of the chip at most, 10^9 bytes a second.
    pub bandwidth_gb_s: Option<Figure>,
}

/// Cores of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// A name that [`core_type`] knows, or that the system gives.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// Highest clock.
    pub ghz: Option<Figure>,
    /// The system's own rank of the core, 1024 for the fastest.
    pub capacity: Option<u32>,
}

/// Where model files lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// UFS 4.0, NVMe, ...
    pub kind: String,
    /// Read in a row in large blocks, 10^9 bytes a second.
    pub read_gb_s: Figure,
    /// By block size, where it was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockRate>,
}

/// Reading in blocks of one size, past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockRate {
    /// Size of a block in KiB.
    pub kib: usize,
    /// Blocks one after another, 10^9 bytes a second.
    pub in_a_row_gb_s: f64,
    /// Blocks from anywhere in the file.
    pub scattered_gb_s: f64,
}

/// What [`crate::probe`] measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// By what program.
    pub by: String,
    /// The vector instructions in use.
    pub isa: String,
    /// Clock of a core under load, 10^9 a second.
    pub clock_ghz: Option<f64>,
    /// For each number of threads, ascending.
    pub teams: Vec<Team>,
}

/// What so many threads do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Team {
    /// Threads.
    pub threads: usize,
    /// Read from memory, 10^9 bytes a second.
    pub read_gb_s: f64,
    /// 8-bit multiplications with addition, 10^9 a second.
    pub int8_gmac_s: f64,
    /// The same of 32-bit floats.
    pub float_gmac_s: f64,
    /// What a small product takes beyond reading its weights, 10^-6 seconds: to start and end the phase, until memory streams.
    pub phase_us: f64,
    /// What a row of a product takes beyond its weights, 10^-9 seconds.
    #[serde(default)]
    pub row_ns: f64,
    /// Products by number format.
    pub products: Vec<Product>,
    /// Attention by how keys and values are kept; where it is missing it is reckoned from the float peak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<AttentionSpeed>,
}

/// Products with weights of one number format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Its name as in the model file's description.
    pub format: String,
    /// One token: weights read from memory, 10^9 bytes a second.
    pub one_token_gb_s: f64,
    /// Many tokens: 10^-12 seconds that a weight takes once for all tokens of a batch.
    pub weight_ps: f64,
    /// Many tokens: multiplications with addition, 10^9 a second, beyond that.
    pub many_gmac_s: f64,
}

/// Attention over keys and values that are kept in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpeed {
    /// How: the name of its format.
    pub kv: String,
    /// One token: numbers of keys and values that are read and multiplied with all queries that share them, 10^9 a second.
    pub one_token_gnumber_s: f64,
    /// Many tokens: multiplications with addition, 10^9 a second.
    pub many_gmac_s: f64,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::BadProfile`] with `name` and the place.
    pub fn parse(name: &str, text: &str) -> Result<Profile, Error> {
        let bad = |reason: String| Error::BadProfile { name: name.to_owned(), reason };
        let profile: Profile = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        profile.check().map_err(bad)?;
        Ok(profile)
    }

    /// Reads a profile's file.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Profile::parse`].
    pub fn open(path: &Path) -> Result<Profile, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Profile::parse(&path.display().to_string(), &text)
    }

    /// The profile as a file holds it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn to_text(&self) -> Result<String, Error> {
        Ok(toml::to_string(self)?)
    }

    /// All cores.
    pub fn core_count(&self) -> usize {
        self.cores.iter().map(|cores| cores.count).sum()
    }

    /// Speeds follow from what was measured, or else from cores whose type is known.
    fn check(&self) -> Result<(), String> {
        let Memory { total_gb, free_gb, limit_gb, .. } = &self.memory;
        for (name, figure) in [("total_gb", total_gb), ("free_gb", free_gb), ("limit_gb", limit_gb)] {
            if !(figure.value.is_finite() && figure.value > 0.0) {
                return Err(format!("memory.{name} is {}", figure.value));
            }
        }
        if self.core_count() == 0 {
            return Err("it has no cores".to_owned());
        }
        if let Some(measured) = &self.measured {
            let ascending = measured.teams.windows(2).all(|pair| pair[0].threads < pair[1].threads);
            return match measured.teams.first() {
                Some(team) if team.threads > 0 && ascending => Ok(()),
                _ => Err("measured.teams must have one entry or more, by ascending threads".to_owned()),
            };
        }
        if self.memory.bandwidth_gb_s.is_none() {
            return Err("it has neither memory.bandwidth_gb_s nor anything measured".to_owned());
        }
        for cores in &self.cores {
            core_type(&cores.name).ok_or_else(|| format!("cores of type `{}` are not known", cores.name))?;
            cores.ghz.as_ref().ok_or_else(|| format!("cores of type `{}` have no ghz", cores.name))?;
        }
        Ok(())
    }
}
