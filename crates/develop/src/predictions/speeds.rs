//! Speeds and memory: as many cells of a case as there are prompts and contexts.

use std::path::{Path, PathBuf};

use device::machine::ProcessorTime;
use serde_json::Value;

use super::programs::{Programs, Question, number, sum};
use super::{Arguments, Case, append};
use crate::group::Group;

const COLUMNS: &str = "date,cpu,model,threads,kv,limit,what,tokens,at_context,predicted,measured,error_percent,drift_percent,others_percent";

/// Tokens that bench computes together in prefill.
const BATCH: usize = 512;

/// A machine whose limits moved more than this between probe and bench, or of whose time others took more than that meanwhile, was
/// another one than was predicted for.
pub(crate) const DRIFT_PERCENT: f64 = 10.0;
pub(crate) const OTHERS_PERCENT: f64 = 5.0;

/// What a model takes of memory, as a plan names it.
pub(super) const MAPPED: [&str; 3] = ["weights_bytes", "file_bytes", "program_bytes"];
pub(super) const ANONYMOUS: [&str; 4] =
    ["kv_cache_bytes", "buffers_bytes", "vocabulary_bytes", "other_bytes"];

/// One attempt at a case.
struct Attempt {
    cpu: String,
    rows: Vec<Row>,
    /// How far the machine's limits moved between probe and bench, in percent.
    drift: f64,
    /// Share of the machine's time that other programs took, in percent.
    others: f64,
}

/// A prediction and what it is of.
struct Row {
    what: &'static str,
    tokens: usize,
    at_context: usize,
    predicted: f64,
    measured: f64,
}

/// Compares until the machine was undisturbed, or else takes the attempt at which it was disturbed least.
pub(super) fn compare(arguments: &Arguments, programs: &Programs<'_>, case: &Case<'_>) -> Result<(), String> {
    let mut best: Option<Attempt> = None;
    for _ in 0..arguments.attempts {
        let attempt = attempt(arguments, programs, case)?;
        let disturbance = attempt.disturbance();
        if best.as_ref().is_none_or(|best| disturbance < best.disturbance()) {
            best = Some(attempt);
        }
        if disturbance <= 1.0 {
            break;
        }
    }
    let best = best.ok_or("no attempt")?;
    append(&arguments.record.join("predictions.csv"), COLUMNS, &best.lines(case, arguments.limit))
}

fn attempt(arguments: &Arguments, programs: &Programs<'_>, case: &Case<'_>) -> Result<Attempt, String> {
    let profile = profile_path();
    let teams = if case.threads == 1 { "1".to_owned() } else { format!("1,{}", case.threads) };
    let probed = programs.probe(&teams, &profile)?;
    let plan = |prompt: usize, at_context: usize, context: usize| {
        let batch = Some(BATCH.min(context));
        programs.plan(case, &Question { profile: &profile, context, prompt, at_context, batch })
    };
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut words = vec!["bench".to_owned()];
    words.extend(case.words());
    for (name, value) in [
        ("--prefill", list(&arguments.prefill)),
        ("--at-context", list(&arguments.at_context)),
        ("--decode", arguments.decode.to_string()),
        ("--runs", arguments.runs.to_string()),
    ] {
        words.extend([name.to_owned(), value]);
    }
    words.push("--json".to_owned());
    // Beside the longest context bench holds that of the test at hand, whose pages are its own where it was computed anew.
    let longest = |numbers: &[usize]| numbers.iter().copied().max().unwrap_or(0);
    let prompts = longest(&arguments.prefill);
    let context = prompts.max(longest(&arguments.at_context) + arguments.decode);
    let whole = plan(1, 0, context + prompts)?;
    let anonymous = sum(&whole["memory"], &ANONYMOUS)?;
    let resident = sum(&whole["memory"], &MAPPED)? + anonymous;
    let limit =
        (arguments.limit > 0.0).then(|| Group::new((resident * arguments.limit) as u64)).transpose()?;
    let before = ProcessorTime::now().ok_or("the system does not tell processor time")?;
    let bench = programs.ask(&words, limit.as_ref())?;
    let after = ProcessorTime::now().ok_or("the system does not tell processor time")?;
    let measured = &bench["models"][0];
    let mut rows = Vec::new();
    for test in measured["prefill"].as_array().into_iter().flatten() {
        let tokens = number(&test["tokens"])? as usize;
        let predicted = number(&plan(tokens, 0, context)?["prefill"]["tok_s"])?;
        let measured = number(&test["prefill_tok_s"])?;
        rows.push(Row { what: "prefill_tok_s", tokens, at_context: 0, predicted, measured });
    }
    for test in measured["decode"].as_array().into_iter().flatten() {
        let (tokens, at_context) = (number(&test["tokens"])? as usize, number(&test["at_context"])? as usize);
        // The middle of what was decoded.
        let predicted = number(&plan(1, at_context + tokens / 2, context)?["decode"]["tok_s"])?;
        let measured = number(&test["decode_tok_s"])?;
        rows.push(Row { what: "decode_tok_s", tokens, at_context, predicted, measured });
    }
    for (what, predicted) in [("anonymous_bytes", anonymous), ("resident_bytes", resident)] {
        let measured = number(&measured["memory"][what])?;
        rows.push(Row { what, tokens: 0, at_context: context, predicted, measured });
    }
    let drift = drift(&probed, measured)?;
    let _ = std::fs::remove_file(&profile);
    let cpu = bench["machine"]["cpu"].as_str().unwrap_or_default().to_owned();
    Ok(Attempt { cpu, rows, drift, others: after.others_since(&before) * 100.0 })
}

/// How far the limits that bench measured are from those that the probe did, in percent.
fn drift(probed: &Value, measured: &Value) -> Result<f64, String> {
    let team = probed["profile"]["measured"]["teams"].as_array().and_then(|teams| teams.last());
    let team = team.ok_or("a probe without teams")?;
    let moved = |before: &Value, after: &Value| -> Result<f64, String> {
        Ok((number(after)? / number(before)? - 1.0).abs() * 100.0)
    };
    let read = moved(&team["read_gb_s"], &measured["read_bandwidth_gb_s"])?;
    Ok(read.max(moved(&team["int8_gmac_s"], &measured["int8_peak_gmac_s"])?))
}

/// Where profiles lie between probe and plan.
pub(super) fn profile_path() -> PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("predictions-{}.toml", std::process::id()))
}

impl Attempt {
    /// Above 1 it was another machine.
    fn disturbance(&self) -> f64 {
        (self.drift / DRIFT_PERCENT).max(self.others / OTHERS_PERCENT)
    }

    /// The record's lines, told on the way.
    fn lines(&self, case: &Case<'_>, limit: f64) -> String {
        let head = case.cells(&self.cpu);
        let Attempt { drift, others, .. } = self;
        let line = |row: &Row| {
            let Row { what, tokens, at_context, predicted, measured } = row;
            let error = (predicted / measured - 1.0) * 100.0;
            let digits = usize::from(!what.ends_with("bytes"));
            eprintln!(
                "{head} {what} {tokens} at {at_context}: {predicted:.digits$}, measured {measured:.digits$}, {error:+.1} % (drift {drift:.0} %, others {others:.0} %)"
            );
            format!(
                "{head},{limit},{what},{tokens},{at_context},{predicted:.digits$},{measured:.digits$},{error:.1},{drift:.0},{others:.0}\n"
            )
        };
        self.rows.iter().map(line).collect()
    }
}
