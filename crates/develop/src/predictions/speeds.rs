//! Speeds and memory: as many cells of a case as there are prompts and contexts.
//!
//! Both sides are the best of several rounds: a plan is of a device that is left to itself, and on a machine that others use too
//! one round in two may be slower by a third. What the middle round was is in the record as well.

use std::collections::BTreeMap;

use device::Profile;
use device::machine::ProcessorTime;
use device::profile::{AttentionSpeed, Product, Team};
use serde_json::Value;

use super::programs::{Programs, Question, number, profile_path, sum};
use super::{Arguments, Case, append};
use crate::group::Group;

const COLUMNS: &str = "date,cpu,model,threads,kv,limit,what,tokens,at_context,predicted,measured,error_percent,spread_percent,others_percent";

/// Tokens that bench computes together in prefill.
const BATCH: usize = 512;

/// What a model takes of memory, as a plan names it.
pub(super) const MAPPED: [&str; 3] = ["weights_bytes", "file_bytes", "program_bytes"];
pub(super) const ANONYMOUS: [&str; 4] =
    ["kv_cache_bytes", "buffers_bytes", "vocabulary_bytes", "other_bytes"];

/// What is measured and foretold of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    what: &'static str,
    tokens: usize,
    at_context: usize,
}

/// What the rounds measured of a case.
#[derive(Default)]
struct Rounds {
    values: BTreeMap<Cell, Vec<f64>>,
    /// Shares of the machine's time that other programs took, in percent.
    others: Vec<f64>,
}

/// Compares all cases, in rounds of all of them.
pub(super) fn compare(
    arguments: &Arguments,
    programs: &Programs<'_>,
    cases: &[Case<'_>],
) -> Result<(), String> {
    let mut teams = arguments.threads.clone();
    teams.push(1);
    teams.sort_unstable();
    teams.dedup();
    let mut best: Option<Profile> = None;
    let mut measured: Vec<Rounds> = cases.iter().map(|_| Rounds::default()).collect();
    let mut cpu = String::new();
    for round in 1..=arguments.rounds {
        let mut model = None;
        for (case, rounds) in cases.iter().zip(&mut measured) {
            if model.replace(case.model) != Some(case.model) {
                let probed = probe(programs, &list(&teams))?;
                match &mut best {
                    Some(best) => better(best, &probed),
                    None => best = Some(probed),
                }
            }
            cpu = bench(arguments, programs, case, rounds)?;
            eprintln!("round {round}: {}", case.cells(&cpu));
        }
    }
    let path = profile_path();
    let text = best.ok_or("no round")?.to_text().map_err(|error| error.to_string())?;
    std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    for (case, rounds) in cases.iter().zip(&measured) {
        let lines = rounds.lines(arguments, programs, case, &cpu)?;
        append(&arguments.record.join("predictions.csv"), COLUMNS, &lines)?;
    }
    Ok(())
}

/// This machine as it is now.
fn probe(programs: &Programs<'_>, teams: &str) -> Result<Profile, String> {
    let path = profile_path();
    programs.probe(teams, &path)?;
    Profile::open(&path).map_err(|error| error.to_string())
}

/// Makes `best` the better of both in every speed.
fn better(best: &mut Profile, other: &Profile) {
    let (Some(best), Some(other)) = (&mut best.measured, &other.measured) else { return };
    for (best, other) in best.teams.iter_mut().zip(&other.teams) {
        let Team { threads: _, read_gb_s, int8_gmac_s, float_gmac_s, phase_us, row_ns, products, attention } =
            best;
        for (best, other) in [
            (read_gb_s, other.read_gb_s),
            (int8_gmac_s, other.int8_gmac_s),
            (float_gmac_s, other.float_gmac_s),
        ] {
            *best = best.max(other);
        }
        // Times that are differences of others: a probe that was disturbed may find them too short as well as too long.
        *phase_us = (*phase_us + other.phase_us) / 2.0;
        *row_ns = (*row_ns + other.row_ns) / 2.0;
        for (best, other) in products.iter_mut().zip(&other.products) {
            let Product { format: _, one_token_gb_s, weight_ps, many_gmac_s } = best;
            *one_token_gb_s = one_token_gb_s.max(other.one_token_gb_s);
            if other.many_gmac_s > *many_gmac_s {
                (*weight_ps, *many_gmac_s) = (other.weight_ps, other.many_gmac_s);
            }
        }
        for (best, other) in attention.iter_mut().zip(&other.attention) {
            let AttentionSpeed { kv: _, one_token_gnumber_s, many_gmac_s } = best;
            *one_token_gnumber_s = one_token_gnumber_s.max(other.one_token_gnumber_s);
            *many_gmac_s = many_gmac_s.max(other.many_gmac_s);
        }
    }
}

/// One round of a case. Returns the processor's name.
fn bench(
    arguments: &Arguments,
    programs: &Programs<'_>,
    case: &Case<'_>,
    rounds: &mut Rounds,
) -> Result<String, String> {
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
    let limit = match arguments.limit > 0.0 {
        true => {
            let whole = plan(arguments, programs, case, &Moment::whole(arguments))?;
            let bytes = sum(&whole["memory"], &MAPPED)? + sum(&whole["memory"], &ANONYMOUS)?;
            Some(Group::new((bytes * arguments.limit) as u64)?)
        }
        false => None,
    };
    let now = || ProcessorTime::now().ok_or("the system does not tell processor time");
    let before = now()?;
    let bench = programs.ask(&words, limit.as_ref())?;
    rounds.others.push(now()?.others_since(&before) * 100.0);
    let measured = &bench["models"][0];
    let mut add = |what, tokens, at_context, value: &Value| -> Result<(), String> {
        rounds.values.entry(Cell { what, tokens, at_context }).or_default().push(number(value)?);
        Ok(())
    };
    for test in measured["prefill"].as_array().into_iter().flatten() {
        add("prefill_tok_s", number(&test["tokens"])? as usize, 0, &test["prefill_tok_s"])?;
    }
    for test in measured["decode"].as_array().into_iter().flatten() {
        let (tokens, at_context) = (number(&test["tokens"])? as usize, number(&test["at_context"])? as usize);
        add("decode_tok_s", tokens, at_context, &test["decode_tok_s"])?;
    }
    for what in ["anonymous_bytes", "resident_bytes"] {
        add(what, 0, context(arguments), &measured["memory"][what])?;
    }
    Ok(bench["machine"]["cpu"].as_str().unwrap_or_default().to_owned())
}

/// Tokens that bench has room for.
fn context(arguments: &Arguments) -> usize {
    longest(&arguments.prefill).max(longest(&arguments.at_context) + arguments.decode)
}

fn longest(numbers: &[usize]) -> usize {
    numbers.iter().copied().max().unwrap_or(0)
}

/// What a plan is asked for.
struct Moment {
    prompt: usize,
    at_context: usize,
    context: usize,
}

impl Moment {
    /// All that bench takes. Beside the longest context it holds that of the test at hand, whose pages are its own where it was
    /// computed anew.
    fn whole(arguments: &Arguments) -> Moment {
        Moment { prompt: 1, at_context: 0, context: context(arguments) + longest(&arguments.prefill) }
    }
}

fn plan(
    arguments: &Arguments,
    programs: &Programs<'_>,
    case: &Case<'_>,
    &Moment { prompt, at_context, context }: &Moment,
) -> Result<Value, String> {
    let (batch, profile) = (Some(BATCH.min(self::context(arguments))), &profile_path());
    programs.plan(case, &Question { profile, context, prompt, at_context, batch })
}

impl Rounds {
    /// The record's lines, told on the way.
    fn lines(
        &self,
        arguments: &Arguments,
        programs: &Programs<'_>,
        case: &Case<'_>,
        cpu: &str,
    ) -> Result<String, String> {
        let head = case.cells(cpu);
        let whole = plan(arguments, programs, case, &Moment::whole(arguments))?;
        let context = context(arguments);
        let anonymous = sum(&whole["memory"], &ANONYMOUS)?;
        let others = self.others.iter().sum::<f64>() / self.others.len().max(1) as f64;
        let mut lines = String::new();
        for (&Cell { what, tokens, at_context }, values) in &self.values {
            let speed =
                |moment: Moment, of: &str| number(&plan(arguments, programs, case, &moment)?[of]["tok_s"]);
            let predicted = match what {
                "prefill_tok_s" => speed(Moment { prompt: tokens, at_context, context }, "prefill")?,
                // The middle of what was decoded.
                "decode_tok_s" => {
                    speed(Moment { prompt: 1, at_context: at_context + tokens / 2, context }, "decode")?
                }
                "anonymous_bytes" => anonymous,
                _ => sum(&whole["memory"], &MAPPED)? + anonymous,
            };
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            let (best, middle) = (values[values.len() - 1], values[values.len() / 2]);
            let (error, spread) = ((predicted / best - 1.0) * 100.0, (1.0 - middle / best) * 100.0);
            let (digits, limit) = (usize::from(!what.ends_with("bytes")), arguments.limit);
            eprintln!(
                "{head} {what} {tokens} at {at_context}: {predicted:.digits$}, measured {best:.digits$}, {error:+.1} % (middle round {spread:.0} % less, others {others:.0} %)"
            );
            lines += &format!(
                "{head},{limit},{what},{tokens},{at_context},{predicted:.digits$},{best:.digits$},{error:.1},{spread:.0},{others:.0}\n"
            );
        }
        Ok(lines)
    }
}

fn list<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
