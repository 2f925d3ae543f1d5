//! A plan as a page for people, complete in itself.

use device::predict::Plan;
use report::{bars, escaped, put, tiles, wide};

use super::{Planned, Report, fit, memory_rows, print};
use crate::units;

pub(super) fn page(report: &Report) -> String {
    let name = report.name.as_deref().unwrap_or(&report.model);
    let below = format!(
        "{} parameters at {:.2} bits, {}. Context of {} tokens, keys and values in {}, a prompt of {} tokens.",
        units::count(report.parameters),
        report.bits_per_weight,
        units::bytes(report.bytes),
        report.context,
        report.kv,
        report.prompt
    );
    let mut out = String::new();
    match &report.plans[..] {
        [planned] => one(&mut out, report, planned),
        plans => ranking(&mut out, plans),
    }
    let title = match &report.plans[..] {
        [planned] => format!("{name} on {}", planned.device),
        _ => format!("{name} on {} devices", report.plans.len()),
    };
    report::page(&escaped(&title), &escaped(&below), &out)
}

fn one(out: &mut String, report: &Report, planned: &Planned) {
    let Plan { prefill, decode, first_token_warm_s, first_token_cold_s, energy, .. } = &planned.plan;
    let mut figures = vec![("Verdict", verdict(planned).to_owned(), fit(planned))];
    if let Some(decode) = decode {
        figures.push(("Decode", format!("{:.1} tok/s", decode.tok_s), format!("{} threads", decode.threads)));
    }
    if let Some(prefill) = prefill {
        figures.push((
            "Prefill",
            format!("{:.0} tok/s", prefill.tok_s),
            format!("{} threads", prefill.threads),
        ));
    }
    if let Some(warm) = first_token_warm_s {
        let cold =
            first_token_cold_s.map_or_else(String::new, |cold| format!("{} cold", print::seconds(cold)));
        figures.push(("First token", print::seconds(*warm), cold));
    }
    if let Some(energy) = energy {
        figures.push(("Energy", format!("{:.2} J", energy.decode_j), "a token of the answer".to_owned()));
    }
    tiles(out, &figures);
    put(
        out,
        format_args!(
            "<p class=\"reference\">{}</p>\n<section>\n<h2>Memory</h2>\n",
            escaped(&planned.plan.verdict.reason)
        ),
    );
    let mut table = String::from("<table><tbody>\n");
    for [what, bytes, about] in memory_rows(planned, report.kv, report.context) {
        put(
            &mut table,
            format_args!(
                "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"right\">{}</td><td>{}</td></tr>\n",
                escaped(&what),
                escaped(&bytes),
                escaped(&about)
            ),
        );
    }
    wide(out, "Memory", &(table + "</tbody></table>\n"));
    put(
        out,
        format_args!(
            "<p>Together {}, of which {} counts {} as the program's own.</p>\n</section>\n",
            units::bytes(planned.plan.memory.resident_bytes()),
            planned.system,
            units::bytes(planned.plan.counted_bytes)
        ),
    );
    for (title, speed) in [("Where a token of the answer goes", decode), ("Where the prompt goes", prefill)] {
        let Some(speed) = speed else { continue };
        put(out, format_args!("<section>\n<h2>{title}</h2>\n"));
        let rows: Vec<(String, String, f64)> = print::shares(speed)
            .into_iter()
            .map(|(name, share)| (name.to_owned(), report::percent(share), share))
            .collect();
        bars(out, &rows);
        out.push_str("</section>\n");
    }
    out.push_str("<section>\n<h2>Best run with</h2>\n<ul>\n");
    for line in print::advice(planned) {
        put(out, format_args!("<li>{}</li>\n", escaped(&line)));
    }
    out.push_str("</ul>\n</section>\n");
    sources(out, planned);
}

fn verdict(planned: &Planned) -> &'static str {
    match planned.plan.verdict.fit {
        device::predict::Fit::Fits => "fits",
        device::predict::Fit::Streams { .. } => "streams",
        device::predict::Fit::Killed => "killed",
    }
}

/// Where the profile's figures are from.
fn sources(out: &mut String, planned: &Planned) {
    let profile = &planned.description;
    let mut rows: Vec<(String, &device::Figure)> = vec![
        ("memory, GB".to_owned(), &profile.memory.total_gb),
        ("free for a program, GB".to_owned(), &profile.memory.free_gb),
        ("limit, GB".to_owned(), &profile.memory.limit_gb),
    ];
    rows.extend(profile.memory.bandwidth_gb_s.iter().map(|figure| ("bandwidth, GB/s".to_owned(), figure)));
    for cores in &profile.cores {
        rows.extend(cores.ghz.iter().map(|figure| (format!("{} {}, GHz", cores.count, cores.name), figure)));
    }
    if let Some(storage) = &profile.storage {
        rows.push((format!("storage ({}), GB/s", storage.kind), &storage.read_gb_s));
    }
    rows.extend(profile.battery_wh.iter().map(|figure| ("battery, Wh".to_owned(), figure)));
    let mut table = String::from("<table><tbody>\n");
    for (what, figure) in rows {
        put(
            &mut table,
            format_args!(
                "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"right\">{}</td><td>{}</td></tr>\n",
                escaped(&what),
                figure.value,
                escaped(&figure.basis.text())
            ),
        );
    }
    out.push_str("<section>\n<h2>The device</h2>\n");
    wide(out, "Figures of the device and their sources", &(table + "</tbody></table>\n"));
    out.push_str("</section>\n");
}

/// Tokens a second that people read at: half as many words.
const READING: f64 = 10.0;

fn ranking(out: &mut String, plans: &[Planned]) {
    let fitting =
        plans.iter().filter(|planned| planned.plan.verdict.fit == device::predict::Fit::Fits).count();
    let tok_s = |planned: &Planned| planned.plan.decode.map_or(0.0, |speed| speed.tok_s);
    let readable = plans.iter().filter(|planned| tok_s(planned) >= READING).count();
    tiles(
        out,
        &[
            ("Fits", format!("{fitting} of {}", plans.len()), "stays in memory as a whole".to_owned()),
            ("Fast", format!("{readable} of {}", plans.len()), format!("answers at {READING} tok/s or more")),
        ],
    );
    let prefill = |planned: &Planned| planned.plan.prefill.map_or(0.0, |speed| speed.tok_s);
    let of_all = |of: &dyn Fn(&Planned) -> f64| plans.iter().map(of).collect::<Vec<f64>>();
    let charts =
        [("Answers, tokens a second", of_all(&tok_s)), ("Prompts, tokens a second", of_all(&prefill))];
    for (title, speeds) in charts {
        let most = speeds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let rows: Vec<(String, String, f64)> = plans
            .iter()
            .zip(speeds)
            .map(|(planned, speed)| (planned.device.clone(), format!("{speed:.1}"), speed / most))
            .collect();
        put(out, format_args!("<section>\n<h2>{title}</h2>\n"));
        bars(out, &rows);
        out.push_str("</section>\n");
    }
    let mut table = String::from(
        "<table><thead><tr><th>device</th><th>decode</th><th>prefill</th><th>first token</th><th>J/token</th>\
         <th>pack to</th><th>verdict</th><th>why</th></tr></thead><tbody>\n",
    );
    for planned in plans {
        let cells: Vec<String> =
            print::row(planned).iter().skip(1).map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        put(
            &mut table,
            format_args!("<tr>{}<td>{}</td></tr>\n", cells.join(""), escaped(&planned.plan.verdict.reason)),
        );
    }
    out.push_str("<section>\n<h2>All devices</h2>\n");
    wide(out, "All devices", &(table + "</tbody></table>\n"));
    out.push_str(
        "<p>Speeds are predicted from public data of each chip, and what a system leaves to a program is an estimate; a device \
         that was measured with <code>pouch probe</code> is predicted far better.</p>\n</section>\n",
    );
}
