//! Reading the record: rows of rounds become one summary a test.

use std::collections::BTreeMap;

/// One row: a cell for each column.
type Row<'a> = BTreeMap<&'a str, String>;

/// The rounds of one run of a test.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: String,
    pub(crate) isa: String,
    pub(crate) threads: String,
    pub(crate) kv: String,
    pub(crate) model: String,
    /// `prefill` or `decode`.
    pub(crate) phase: String,
    pub(crate) tokens: String,
    pub(crate) at_context: String,
    pub(crate) pouch: String,
    /// Name and version; empty where nothing was measured beside.
    pub(crate) peer: String,
    pub(crate) peer_flags: String,
    pub(crate) rounds: usize,
    /// Medians over the rounds.
    pub(crate) tok_s: f64,
    pub(crate) peer_tok_s: Option<f64>,
    /// Ours by theirs in each round: the least, the median, the greatest.
    pub(crate) ratio: Option<[f64; 3]>,
    /// The figure that the machine limits, and its percentage of the limit: GMAC/s of prefill, GB/s of decode.
    pub(crate) limited: Option<(f64, f64)>,
    /// The least and the greatest limit seen.
    pub(crate) limit: [f64; 2],
}

impl Summary {
    /// Each test's latest run, those of the latest day first, else in the order of the file.
    pub(crate) fn latest(csv: &str) -> Result<Vec<Summary>, String> {
        let mut lines = csv.lines();
        let columns = cells(lines.next().ok_or("the record is empty")?);
        let mut groups: Vec<(Vec<String>, Vec<Row<'_>>)> = Vec::new();
        for (number, line) in lines.enumerate() {
            let values = cells(line);
            if values.len() != columns.len() {
                let (got, expected) = (values.len(), columns.len());
                return Err(format!("line {} of the record has {got} cells, not {expected}", number + 2));
            }
            let row: Row<'_> = columns.iter().map(String::as_str).zip(values).collect();
            let mut key =
                KEY.iter().map(|column| cell(&row, column)).collect::<Result<Vec<String>, String>>()?;
            key.push(name_of(&cell(&row, "peer")?).to_owned());
            match groups.iter_mut().find(|(known, _)| *known == key) {
                // Measured once more.
                Some((_, rows)) if cell(&row, "round")? == "1" => *rows = vec![row],
                Some((_, rows)) => rows.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        let mut summaries =
            groups.iter().map(|(_, rows)| Summary::of(rows)).collect::<Result<Vec<Summary>, String>>()?;
        summaries.sort_by(|a, b| b.date.cmp(&a.date).then(b.rounds.cmp(&a.rounds)));
        Ok(summaries)
    }

    fn of(rows: &[Row<'_>]) -> Result<Summary, String> {
        let text = |column: &str| cell(&rows[0], column);
        let (mut limited, mut limits, mut theirs, mut ratios, mut speeds) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let prefill = cell(row, "phase")? == "prefill";
            let (figure, limit) = if prefill {
                ("gmac_s", "int8_peak_gmac_s")
            } else {
                ("weights_gb_s", "read_bandwidth_gb_s")
            };
            let tok_s = number(row, "tok_s")?.ok_or("a round without tok_s")?;
            let limit = number(row, limit)?.ok_or("a round without limits")?;
            speeds.push(tok_s);
            limits.push(limit);
            limited.extend(number(row, figure)?.map(|figure| (figure, 100.0 * figure / limit)));
            if let Some(peer) = number(row, "peer_tok_s")? {
                theirs.push(peer);
                ratios.push(tok_s / peer);
            }
        }
        let all = |values: &[f64]| values.len() == rows.len();
        let (figures, percent): (Vec<f64>, Vec<f64>) = limited.into_iter().unzip();
        Ok(Summary {
            date: text("date")?,
            cpu: text("cpu")?,
            cores: text("cores")?,
            isa: text("isa")?,
            threads: text("threads")?,
            kv: text("kv")?,
            model: text("model")?,
            phase: text("phase")?,
            tokens: text("tokens")?,
            at_context: text("at_context")?,
            pouch: text("pouch")?,
            peer: text("peer")?,
            peer_flags: text("peer_flags")?,
            rounds: rows.len(),
            tok_s: median(&speeds),
            peer_tok_s: all(&theirs).then(|| median(&theirs)),
            ratio: all(&ratios).then(|| {
                let [least, greatest] = extremes(&ratios);
                [least, median(&ratios), greatest]
            }),
            limited: all(&figures).then(|| (median(&figures), median(&percent))),
            limit: extremes(&limits),
        })
    }

    /// `prefill 512`, `decode 128 at 4096`.
    pub(crate) fn test(&self) -> String {
        let at = if self.at_context == "0" { String::new() } else { format!(" at {}", self.at_context) };
        let kv = if self.kv == "f16" { String::new() } else { format!(", KV {}", self.kv) };
        format!("{} {}{at}{kv}", self.phase, self.tokens)
    }

    /// The other engine's name without its version.
    pub(crate) fn peer_name(&self) -> &str {
        name_of(&self.peer)
    }
}

/// A program's name without its version.
fn name_of(program: &str) -> &str {
    program.split(' ').next().unwrap_or_default()
}

/// What makes a test the same on another day, with the other engine's name.
const KEY: &[&str] = &["cpu", "isa", "threads", "kv", "model", "phase", "tokens", "at_context"];

fn cell(row: &Row<'_>, column: &str) -> Result<String, String> {
    row.get(column).cloned().ok_or_else(|| format!("the record has no column '{column}'"))
}

/// `None` where nothing was measured.
fn number(row: &Row<'_>, column: &str) -> Result<Option<f64>, String> {
    let text = cell(row, column)?;
    match text.is_empty() {
        true => Ok(None),
        false => text.parse().map(Some).map_err(|_| format!("'{text}' in column '{column}' is no number")),
    }
}

/// The cells of a line, quoted as RFC 4180 has it.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut quoted, mut rest) = (false, line.chars().peekable());
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                cells.last_mut().expect("never empty").push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().expect("never empty").push(c),
        }
    }
    cells
}

/// The middle one, or the mean of the two in the middle, as `pouch bench` takes it.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let count = values.len();
    (values[(count - 1) / 2] + values[count / 2]) / 2.0
}

fn extremes(values: &[f64]) -> [f64; 2] {
    let over = |start: f64, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
    [over(f64::INFINITY, f64::min), over(f64::NEG_INFINITY, f64::max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "date,cpu,cores,isa,threads,kv,model,phase,tokens,at_context,round,read_bandwidth_gb_s,\
                        int8_peak_gmac_s,pouch,tok_s,weights_gb_s,gmac_s,peer,peer_flags,peer_tok_s";

    fn latest(rows: &str) -> Vec<Summary> {
        Summary::latest(&format!("{HEAD}\n{rows}")).unwrap()
    }

    #[test]
    fn rounds_become_medians_and_ratios_are_taken_within_a_round() {
        let row = |round, bandwidth, ours, weights, theirs| {
            format!(
                "2026-01-02,\"A, B\",2,avx2,2,f16,m,decode,128,4096,{round},{bandwidth},100,0.1.0,{ours},{weights},,\
                 peer 1 (a),-fa 1,{theirs}\n"
            )
        };
        let rows = row(1, 40, 10, 20, 5) + &row(2, 20, 30, 10, 10) + &row(3, 10, 20, 4, 20);
        let [summary] = &latest(&rows)[..] else { panic!("one test") };
        assert_eq!((summary.cpu.as_str(), summary.test().as_str()), ("A, B", "decode 128 at 4096"));
        assert_eq!((summary.tok_s, summary.peer_tok_s, summary.rounds), (20.0, Some(10.0), 3));
        assert_eq!(summary.ratio, Some([1.0, 2.0, 3.0]));
        assert_eq!((summary.limited, summary.limit), (Some((10.0, 50.0)), [10.0, 40.0]));
        assert_eq!(summary.peer_name(), "peer");
    }

    #[test]
    fn only_a_tests_latest_run_counts() {
        let row =
            |date, cpu, phase| format!("{date},{cpu},2,avx2,2,f16,m,{phase},512,0,1,40,100,0.1.0,9,,,,,\n");
        let rows = row("2026-01-02", "A", "prefill")
            + &row("2026-01-03", "B", "prefill")
            + &row("2026-01-04", "A", "decode")
            + &row("2026-01-09", "A", "prefill");
        let tests: Vec<[String; 3]> =
            latest(&rows).into_iter().map(|summary| [summary.date, summary.cpu, summary.phase]).collect();
        let expected =
            [["2026-01-09", "A", "prefill"], ["2026-01-04", "A", "decode"], ["2026-01-03", "B", "prefill"]];
        assert_eq!(tests, expected.map(|test| test.map(String::from)));
        let again = row("2026-01-09", "A", "prefill").replace(",9,,", ",4,,");
        assert_eq!(latest(&(rows.clone() + &again))[0].tok_s, 4.0);
        let alone = &latest(&rows)[0];
        assert_eq!((alone.peer_tok_s, alone.ratio, alone.limited), (None, None, None));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for record in ["", "date,cpu\n2026-01-01\n", "date\n2026-01-01\n"] {
            assert!(Summary::latest(record).is_err(), "{record}");
        }
    }
}
