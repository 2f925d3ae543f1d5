//! Kinds of cores: what a core does in a cycle, which no phone's data sheet says but its designer's does.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::Figure;

/// The table, kept as a data file for its sources.
const TABLE: &str = include_str!("../../profiles/cores.toml");

/// The vector instructions that products can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// No dot product of bytes.
    Neon,
    /// `sdot`: 16 multiplications of bytes.
    Dotprod,
    /// `smmla`: 32.
    I8mm,
}

impl Isa {
    /// 8-bit multiplications with addition of one vector instruction.
    pub fn macs(self) -> f64 {
        match self {
            // Two instructions, a widening multiplication and a pairwise addition, for 8.
            Isa::Neon => 4.0,
            Isa::Dotprod => 16.0,
            Isa::I8mm => 32.0,
        }
    }
}

/// A kind of core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CoreType {
    /// The designer's name.
    pub name: String,
    /// What products can use.
    pub isa: Isa,
    /// Vector instructions of 128 bits that start in a cycle.
    pub vectors: Figure,
    /// Bytes that one core reads from memory, 10^9 a second.
    pub read_gb_s: Figure,
    /// Watts at full load and 1 GHz; they grow with the cube of the clock, for the voltage rises with it.
    pub watts_at_1_ghz: Figure,
}

#[derive(Deserialize)]
struct Table {
    core: Vec<CoreType>,
}

/// Every kind that is known.
fn core_types() -> &'static [CoreType] {
    static TYPES: OnceLock<Vec<CoreType>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let table: Table = toml::from_str(TABLE).expect("the table of cores is part of the program");
        table.core
    })
}

/// The kind of this name.
pub fn core_type(name: &str) -> Option<&'static CoreType> {
    core_types().iter().find(|core| core.name == name)
}
