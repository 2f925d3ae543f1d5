//! The dated record: a CSV file that only grows, one row a round of a test, complete in itself.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::KvType;

use super::machine::Machine;
use super::measure::{Measured, ModelMeasured, Phase, Round};
use super::peer::Peer;
use crate::errors::Failure;

/// The first line. Speeds are tokens a second, bytes 10^9 a second; what was not measured is empty.
const COLUMNS: &str = "date,cpu,cores,isa,threads,kv,model,phase,tokens,at_context,round,read_bandwidth_gb_s,int8_peak_gmac_s,\
pouch,tok_s,weights_gb_s,gmac_s,joules_per_token,anonymous_bytes,resident_bytes,peer,peer_flags,peer_tok_s";

/// A record being written.
pub(super) struct Record {
    path: PathBuf,
    file: File,
    date: String,
}

impl Record {
    /// Opens the file, or makes it with the line of columns.
    pub(super) fn open(path: &Path) -> Result<Record, Failure> {
        let failed = |source| Failure::io("write", path, source);
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let mut first = String::new();
        BufReader::new(&file).read_line(&mut first).map_err(failed)?;
        if first.is_empty() {
            writeln!(file, "{COLUMNS}").map_err(failed)?;
        } else if first.trim_end() != COLUMNS {
            return Err(Failure::Record { path: path.to_owned() });
        }
        let date = text::format_time(SystemTime::now(), "%F");
        Ok(Record { path: path.to_owned(), file, date })
    }

    /// Adds all rounds of a model.
    pub(super) fn append(
        &mut self,
        machine: &Machine,
        model: &ModelMeasured,
        kv: KvType,
        peer: Option<&Peer>,
    ) -> Result<(), Failure> {
        let (title, flags) = peer.map_or_else(Default::default, |peer| (peer.title(), peer.flags_line()));
        let mut rows = String::new();
        for measured in &model.tests {
            for (index, round) in measured.rounds.iter().enumerate() {
                let mut cells = vec![
                    self.date.clone(),
                    machine.cpu.clone(),
                    machine.cores.to_string(),
                    kernels::cpu::tier().name().to_owned(),
                    model.threads.to_string(),
                    kv.name().to_owned(),
                    model.file.clone(),
                ];
                cells.extend(of_round(measured, round, index + 1));
                let bytes = |bytes: fn(&super::machine::Memory) -> u64| {
                    model.memory.as_ref().map_or_else(String::new, |(memory, _)| bytes(memory).to_string())
                };
                cells.extend([bytes(|memory| memory.anonymous_bytes), bytes(|memory| memory.resident_bytes)]);
                let theirs = round.peer_tok_s.map_or_else(String::new, |tok_s| format!("{tok_s:.1}"));
                cells.extend([title.clone(), flags.clone(), theirs]);
                let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
                rows += &(cells.join(",") + "\n");
            }
        }
        self.file.write_all(rows.as_bytes()).map_err(|source| Failure::io("write", &self.path, source))
    }
}

/// From `phase` to `joules_per_token`.
fn of_round(measured: &Measured, round: &Round, number: usize) -> [String; 11] {
    let phase = match measured.test.phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
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

/// A cell as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("AMD EPYC"), "AMD EPYC");
        assert_eq!(quoted("AMD \"EPYC\", 2"), "\"AMD \"\"EPYC\"\", 2\"");
    }
}
