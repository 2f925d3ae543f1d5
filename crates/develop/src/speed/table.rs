//! The table in Markdown.

use std::fmt::Write;

use super::record::Summary;

/// What was measured where, and one line a test.
pub(crate) fn table(summaries: &[Summary]) -> String {
    let mut out = String::new();
    let mut machine = String::new();
    for summary in summaries {
        let this = heading(summaries, summary);
        if this != machine {
            write!(out, "\n{this}\n{COLUMNS}").expect("a string takes everything");
            machine = this;
        }
        out += &line(summary);
    }
    out + "\n"
}

const COLUMNS: &str = "
| file | test | Pouch, tok/s | peer, tok/s | ratio (spread) | of what the machine can |
|---|---|---|---|---|---|
";

/// The machine of a test, and who was measured there how.
fn heading(summaries: &[Summary], of: &Summary) -> String {
    let here = || {
        summaries
            .iter()
            .filter(|other| (&other.cpu, &other.threads, &other.isa) == (&of.cpu, &of.threads, &of.isa))
            .filter(|other| (&other.date, other.rounds) == (&of.date, of.rounds))
    };
    let limits = |phase: &str| {
        let limits = here().filter(|other| other.phase == phase).map(|other| other.limit);
        limits.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
    };
    let mut peers: Vec<String> = here()
        .filter(|other| !other.peer.is_empty())
        .map(|other| format!("{} with `{}`", other.peer, other.peer_flags))
        .collect();
    peers.sort_unstable();
    peers.dedup();
    let beside = match peers.is_empty() {
        true => String::new(),
        false => format!(" beside {}, alternating", peers.join(" and ")),
    };
    let limit = |phase, what: &str, unit: &str| {
        limits(phase).map_or_else(String::new, |[least, most]| {
            format!(" {what} {least:.0} to {most:.0} {unit} in the same rounds.")
        })
    };
    format!(
        "{}: {}, {} of its {} cores, {}; Pouch {}{beside}; medians of {} rounds.{}{}",
        of.date,
        of.cpu,
        of.threads,
        of.cores,
        of.isa,
        of.pouch,
        of.rounds,
        limit("prefill", "The machine multiplied", "GMAC/s in 8 bits"),
        limit("decode", "A plain loop read", "GB/s"),
    )
}

fn line(summary: &Summary) -> String {
    let theirs = match summary.peer_tok_s {
        Some(tok_s) => format!("{} {}", summary.peer_name(), speed(tok_s)),
        None => String::new(),
    };
    let ratio = match summary.ratio {
        Some([least, median, most]) => format!("**{median:.2}x** ({least:.2} to {most:.2})"),
        None => String::new(),
    };
    let limited = match (summary.limited, summary.phase.as_str()) {
        (Some((gmac_s, percent)), "prefill") => format!("{gmac_s:.0} GMAC/s, {percent:.0} %"),
        (Some((gb_s, percent)), _) => format!("{gb_s:.0} GB/s, {percent:.0} %"),
        (None, _) => String::new(),
    };
    let (file, test, ours) = (&summary.model, summary.test(), speed(summary.tok_s));
    format!("| {file} | {test} | {ours} | {theirs} | {ratio} | {limited} |\n")
}

/// Three digits at least.
fn speed(tok_s: f64) -> String {
    if tok_s < 100.0 { format!("{tok_s:.1}") } else { format!("{tok_s:.0}") }
}
