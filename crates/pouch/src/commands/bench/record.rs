//! The record of speeds: one row a round of a test.

use std::time::SystemTime;

use device::machine::Machine;
use model::KvType;

use super::measure::{Measured, ModelMeasured, Phase, Round};
use super::peer::Peer;

/// The first line. Speeds are tokens a second, bytes 10^9 a second; what was not measured is empty.
pub(super) const COLUMNS: &str = "date,cpu,cores,isa,threads,kv,model,phase,tokens,at_context,round,read_bandwidth_gb_s,int8_peak_gmac_s,\
pouch,tok_s,weights_gb_s,gmac_s,joules_per_token,anonymous_bytes,resident_bytes,peer,peer_flags,peer_tok_s";

/// All rounds of a model.
pub(super) fn rows(
    machine: &Machine,
    model: &ModelMeasured,
    kv: KvType,
    peer: Option<&Peer>,
) -> Vec<Vec<String>> {
    let date = text::format_time(SystemTime::now(), "%F");
    let (title, flags) = peer.map_or_else(Default::default, |peer| (peer.title(), peer.flags_line()));
    let mut rows = Vec::new();
    for measured in &model.tests {
        for (index, round) in measured.rounds.iter().enumerate() {
            let mut cells = vec![
                date.clone(),
                machine.cpu.clone(),
                machine.cores.to_string(),
                kernels::cpu::tier().name().to_owned(),
                model.threads.to_string(),
                kv.name().to_owned(),
                model.file.clone(),
            ];
            cells.extend(of_round(measured, round, index + 1));
            let bytes = |bytes: fn(&device::machine::Memory) -> u64| {
                model.memory.as_ref().map_or_else(String::new, |(memory, _)| bytes(memory).to_string())
            };
            cells.extend([bytes(|memory| memory.anonymous_bytes), bytes(|memory| memory.resident_bytes)]);
            let theirs = round.peer_tok_s.map_or_else(String::new, |tok_s| format!("{tok_s:.1}"));
            cells.extend([title.clone(), flags.clone(), theirs]);
            rows.push(cells);
        }
    }
    rows
}

/// From `phase` to `joules_per_token`.
fn of_round(measured: &Measured, round: &Round, number: usize) -> [String; 11] {
    let phase = match measured.test.phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
        Phase::Verify => "verify",
    };
    [
        phase.to_owned(),
        measured.test.tokens.to_string(),
        measured.test.at_context.to_string(),
        number.to_string(),
        format!("{:.1}", round.limits.bandwidth / 1e9),
        format!("{:.0}", round.limits.int8_peak / 1e9),
        env!("CARGO_PKG_VERSION").to_owned(),
        format!("{:.1}", measured.tok_s(round)),
        format!("{:.1}", measured.weights_gb_s(round)),
        format!("{:.1}", measured.gmac_s(round)),
        measured.joules_per_token(round).map_or_else(String::new, |joules| format!("{joules:.4}")),
    ]
}
