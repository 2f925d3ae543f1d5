//! A plan as lines.

use device::predict::Speed;

use super::{Planned, Report, fit, memory_rows};
use crate::errors::Failure;
use crate::printer::Printer;
use crate::units;

pub(super) fn print(report: &Report, printer: &Printer) -> Result<(), Failure> {
    printer.line(&format!(
        "{}: {} parameters, {:.2} bits each, {}",
        report.name.as_deref().unwrap_or(&report.model),
        units::count(report.parameters),
        report.bits_per_weight,
        units::bytes(report.bytes)
    ))?;
    match &report.plans[..] {
        [planned] => one(report, planned, printer),
        plans => ranking(report, plans, printer),
    }
}

fn one(report: &Report, planned: &Planned, printer: &Printer) -> Result<(), Failure> {
    let plan = &planned.plan;
    printer.line(&format!("{} ({}, {})", planned.device, planned.chip, planned.system))?;
    printer.heading(&format!("{}: {}", fit(planned), plan.verdict.reason))?;
    printer.line("")?;
    printer.heading(&format!("Memory at a context of {} tokens", report.context))?;
    let mut rows: Vec<Vec<String>> = memory_rows(planned, report.kv, report.context)
        .into_iter()
        .map(|[what, bytes, about]| vec![format!("  {what}"), bytes, about])
        .collect();
    rows.push(vec![
        "  all".to_owned(),
        units::bytes(plan.memory.resident_bytes()),
        format!("{} counts {} as the program's own", planned.system, units::bytes(plan.counted_bytes)),
    ]);
    units::table(&rows, &[1]).iter().try_for_each(|line| printer.line(line))?;
    printer.line("")?;
    printer.heading("Speed")?;
    if let Some(prefill) = &plan.prefill {
        printer.line(&phase(&format!("prefill of {}", report.prompt), prefill))?;
    }
    if let Some(decode) = &plan.decode {
        printer.line(&phase(&format!("decode at {}", report.at_context), decode))?;
    }
    if let Some(warm) = plan.first_token_warm_s {
        let cold =
            plan.first_token_cold_s.map_or_else(String::new, |cold| format!(", {} cold", seconds(cold)));
        printer.line(&format!("  first token after {} warm{cold}", seconds(warm)))?;
    }
    if let Some(energy) = plan.energy {
        let charge = energy.tokens_a_charge.map_or_else(String::new, |tokens| {
            format!("; a charge lasts for {} tokens", units::count(tokens as u64))
        });
        printer.line(&format!("  {:.2} J a token of the answer{charge}", energy.decode_j))?;
    }
    if plan.prefill.is_none() {
        printer.line("  none: it does not run")?;
    }
    printer.line("")?;
    printer.heading("Best run with")?;
    advice(planned).iter().try_for_each(|line| printer.line(&format!("  {line}")))?;
    let basis = match (planned.measured, planned.estimated_figures) {
        (true, _) => "speeds follow from measurements on this device".to_owned(),
        (false, count) => {
            format!(
                "speeds follow from public data of the chip; {count} figures of the profile are estimates"
            )
        }
    };
    printer.note(&basis);
    Ok(())
}

/// What to do, in lines.
pub(super) fn advice(planned: &Planned) -> Vec<String> {
    let recommendation = &planned.plan.recommendation;
    let mut lines = recommendation.advice.clone();
    if let (Some(prefill), Some(decode)) = (recommendation.prefill_threads, recommendation.decode_threads) {
        lines.push(match prefill == decode {
            true => format!("{decode} threads ({})", recommendation.cores),
            false => {
                format!("{prefill} threads for prompts, {decode} for answers ({})", recommendation.cores)
            }
        });
        lines.push(format!("keys and values in {}", recommendation.kv));
        lines.push(format!("prompts {} tokens at a time", recommendation.batch));
        lines.push(super::stays(recommendation));
    }
    lines
}

/// `  decode at 512    25.3 tok/s, 4 threads: 91 % weights, 5 % attention, ...`
fn phase(what: &str, speed: &Speed) -> String {
    let shares: Vec<String> =
        shares(speed).into_iter().map(|(name, share)| format!("{:.0} % {name}", share * 100.0)).collect();
    let threads = if speed.threads == 1 { "thread" } else { "threads" };
    format!("  {what:<16} {:8.1} tok/s, {} {threads}: {}", speed.tok_s, speed.threads, shares.join(", "))
}

/// Where the time goes, parts that count.
pub(super) fn shares(speed: &Speed) -> Vec<(&'static str, f64)> {
    let parts = &speed.parts;
    let total = parts.total_s();
    let all = [
        ("weights", parts.weights_s),
        ("attention", parts.attention_s),
        ("other values", parts.values_s),
        ("starting phases", parts.phases_s),
        ("waiting for storage", parts.storage_s),
    ];
    all.into_iter()
        .map(|(name, seconds)| (name, seconds / total))
        .filter(|(_, share)| *share >= 0.005)
        .collect()
}

/// `350 ms`, `2.1 s`.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

fn ranking(report: &Report, plans: &[Planned], printer: &Printer) -> Result<(), Failure> {
    printer.line(&format!(
        "context of {} tokens, keys and values in {}, a prompt of {}",
        report.context, report.kv, report.prompt
    ))?;
    printer.line("")?;
    let mut rows = vec![
        ["profile", "device", "decode", "prefill", "first token", "J/token", "pack to", "verdict"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(plans.iter().map(row));
    units::table(&rows, &[2, 3, 4, 5, 6]).iter().try_for_each(|line| printer.line(line))?;
    printer.note("decode and prefill in tokens a second, first token warm; estimates from public data");
    Ok(())
}

/// A device's cells of the ranking.
pub(super) fn row(planned: &Planned) -> Vec<String> {
    let plan = &planned.plan;
    let speed = |speed: &Option<Speed>| {
        speed.map_or_else(
            || "-".to_owned(),
            |speed| format!("{:.*}", usize::from(speed.tok_s < 10.0), speed.tok_s),
        )
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        planned.profile.clone(),
        planned.device.clone(),
        speed(&plan.decode),
        speed(&plan.prefill),
        or_none(plan.first_token_warm_s.map(seconds)),
        or_none(plan.energy.map(|energy| format!("{:.2}", energy.decode_j))),
        plan.recommendation.pack_to_bits.map_or_else(String::new, |bits| format!("{bits} bits")),
        fit(planned),
    ]
}
