//! How much memory a command may take, and what it says where that leaves a model less than usual.

use std::path::Path;

use device::{Demand, Residency};
use engine::{DEFAULT_BATCH, Memory};
use model::{KvType, Model, Resident};
use serde::Serialize;

use crate::printer::Printer;
use crate::units;

/// What `--memory` says in every command.
pub(crate) const MEMORY_HELP: &str = "Memory that the program may take, such as 1.5GB: weights, keys and values, and all else \
    [default: what limits on this process and the machine leave]";

/// What a model must have at least, whatever else is to be found out before it can be planned.
const SMALLEST: usize = 64;

/// What there is here, and at most `cap` bytes.
pub(crate) fn memory(cap: Option<u64>) -> Memory {
    Memory::of_system(Path::new("/"), cap)
}

/// What is asked for a text of so many tokens.
pub(crate) fn for_text(tokens: usize, kv_type: Option<KvType>, threads: usize) -> Demand {
    Demand { context: tokens, least_context: tokens, kv_type, batch: DEFAULT_BATCH, threads, beside: 0 }
}

/// What is asked before more is known.
pub(crate) fn for_a_look(kv_type: Option<KvType>, threads: usize) -> Demand {
    for_text(SMALLEST, kv_type, threads)
}

/// How a model is run, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// Whether weights are read from storage for every token.
    streams: bool,
    /// Layers or experts that stay in memory then.
    resident: Option<usize>,
    kv: &'static str,
    batch: usize,
}

impl Told {
    pub(crate) fn of(plan: &Residency) -> Told {
        let resident = match plan.resident {
            Resident::All => None,
            Resident::Layers(count) | Resident::Experts(count) => Some(count),
        };
        Told { streams: plan.streams(), resident, kv: plan.kv_type.name(), batch: plan.batch }
    }
}

/// Tells in a line what the memory there is leaves of what was asked for, if that is less; a smaller batch alone is not worth it.
pub(crate) fn tell(plan: &Residency, demand: &Demand, model: &Model, memory: &Memory, printer: &Printer) {
    let mut parts = Vec::new();
    let layers = model.config.layers.len();
    let streamed = match plan.resident {
        Resident::All => None,
        Resident::Layers(count) => Some(format!("{count} of {layers} layers stay")),
        Resident::Experts(count) => {
            let experts = model.config.experts.as_ref().map_or(0, |experts| experts.count);
            Some(format!("{count} of {} experts stay", experts * layers))
        }
    };
    parts.extend(
        streamed.map(|what| format!("{what} there, the others are read from storage when it is their turn")),
    );
    if model.streaming().is_some_and(|streaming| !streaming.is_direct) {
        parts.push("their file system has no direct reads, which slows this down".to_owned());
    }
    if demand.kv_type.is_none() && plan.kv_type != KvType::F16 {
        parts.push("keys and values are kept in 8 bits".to_owned());
    }
    if plan.context < demand.context.min(model.config.context) {
        parts.push(format!("{} tokens fit", plan.context));
    }
    if !parts.is_empty() {
        let room = memory.room();
        printer.warning(&format!(
            "{} leaves {} of memory: {}",
            room.by,
            units::bytes(room.bytes),
            parts.join("; ")
        ));
    }
}
