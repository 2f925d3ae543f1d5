//! Verdicts: what a plan says of a memory limit, and what happens under it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use device::Profile;
use device::machine::Machine;
use serde_json::Value;

use super::programs::{Programs, Question, profile_path, sum};
use super::speeds::{ANONYMOUS, MAPPED};
use super::{Arguments, Case, append};
use crate::group::Group;

const COLUMNS: &str =
    "date,cpu,model,threads,kv,context,limit_bytes,predicted,measured,predicted_bytes,peak_bytes";

/// Of what cannot be dropped, the limit that nothing survives.
const TOO_LITTLE: f64 = 0.8;

/// Of the weights, what may be read again without it counting as streaming: the end of one pass and the beginning of the next.
const AGAIN: f64 = 0.05;

/// A prompt of about so many tokens, the tokens after it, and the room for both.
const PROMPT: usize = 900;
const DECODE: usize = 8;
const CONTEXT: usize = 960;

pub(super) fn compare(
    arguments: &Arguments,
    programs: &Programs<'_>,
    case: &Case<'_>,
    factors: &[f64],
) -> Result<(), String> {
    let prepared = arguments.prepared.as_deref().ok_or("--verdicts needs --prepared")?;
    let path = profile_path();
    // Verdicts need no speeds: any profile that is not of a phone whose system counts otherwise.
    let device = device::profile::catalogue::find("raspberry-pi-5").map_err(|error| error.to_string())?;
    let cpu = Machine::this().cpu;
    let whole = verdict(programs, case, &device, u64::MAX >> 1, &path)?;
    let anonymous = sum(&whole["memory"], &ANONYMOUS)?;
    let resident = sum(&whole["memory"], &MAPPED)? + anonymous;
    let limits = factors.iter().map(|factor| factor * resident).chain([TOO_LITTLE * anonymous]);
    let mut lines = String::new();
    for limit in limits.map(|limit| limit as u64) {
        let plan = verdict(programs, case, &device, limit, &path)?;
        let predicted = fit(&plan["verdict"]["fit"]);
        forget(Path::new(case.model), prepared)?;
        let group = Group::new(limit)?;
        let output = programs.run(&words(case), Some(&group))?;
        let again = group.read_again_bytes()? as f64 > AGAIN * resident;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let measured = match (output.status.success(), output.status.signal()) {
            (_, Some(9)) => "killed",
            (true, _) if again || answer["residency"]["streams"] == true => "streams",
            (true, _) => "fits",
            // It says so itself instead of being killed: beforehand, or when the budget has no room for the next page.
            _ if ["the model does not fit", "are free of the"].iter().any(|words| told.contains(words)) => {
                "refused"
            }
            _ => return Err(told),
        };
        let peak = group.peak_bytes()?;
        let head = case.cells(&cpu);
        eprintln!(
            "{head} within {limit}: {predicted}, measured {measured}; {resident:.0} bytes, at most {peak}"
        );
        lines += &format!("{head},{CONTEXT},{limit},{predicted},{measured},{resident:.0},{peak}\n");
    }
    append(&arguments.record.join("limits.csv"), COLUMNS, &lines)
}

/// An answer of a few tokens to a long prompt.
fn words(case: &Case<'_>) -> Vec<String> {
    let (threads, context, tokens) = (case.threads.to_string(), CONTEXT.to_string(), DECODE.to_string());
    let prompt = "word ".repeat(PROMPT);
    let words = ["run", "--raw", "--json", "--no-speculation", "--temperature", "0", "-m", case.model];
    let more = ["--threads", &threads, "--kv", case.kv, "--context", &context, "-n", &tokens, &prompt];
    words.into_iter().chain(more).map(str::to_owned).collect()
}

/// The plan for a device that leaves a program so much.
fn verdict(
    programs: &Programs<'_>,
    case: &Case<'_>,
    device: &Profile,
    limit: u64,
    path: &Path,
) -> Result<Value, String> {
    let mut device = device.clone();
    let gb = limit as f64 / 1e9;
    (device.memory.free_gb.value, device.memory.limit_gb.value) = (gb, gb);
    let text = device.to_text().map_err(|error| error.to_string())?;
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    let question =
        Question { profile: path, context: CONTEXT, prompt: PROMPT, at_context: PROMPT, batch: None };
    programs.plan(case, &question)
}

/// `fits`, `streams` or `killed`, as a plan writes it: a word, or an object of that name.
fn fit(value: &Value) -> String {
    let name = value.as_str().map(str::to_owned);
    name.or_else(|| value.as_object()?.keys().next().cloned()).unwrap_or_default()
}

/// Has the system forget what it keeps of a model's files in memory, so that the group is charged with what it reads.
pub(crate) fn forget(model: &Path, prepared: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", prepared.display());
    let mut paths = vec![model.to_owned()];
    for entry in std::fs::read_dir(prepared).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    for path in paths {
        gguf::DirectFile::open(&path).map_err(|error| error.to_string())?.drop_pages();
    }
    Ok(())
}
