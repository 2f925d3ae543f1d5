//! The plot: our speed by the other engine's, a bar a test, as an SVG that follows the reader's light or dark theme.

use std::fmt::Write;

use super::record::Summary;

/// Widths and heights in pixels: of the labels, of the bars' area, of what stands right of it; of a line, a bar, the axis.
const LABELS: f64 = 380.0;
const AREA: f64 = 300.0;
const FIGURES: f64 = 240.0;
const LINE: f64 = 26.0;
const BAR: f64 = 14.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 28.0;

/// Text in the reader's own font; two colours that are told apart in print and by the colour-blind too.
const STYLE: &str = "\
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.prefill { fill: #0969da } .decode { fill: #bc4c00 }
.axis { stroke: #d1d9e0 } .one { stroke: #59636e } .spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .small { fill: #9198a1 }
.prefill { fill: #4493f8 } .decode { fill: #f0883e }
.axis { stroke: #3d444d } .one { stroke: #9198a1 } .spread { stroke: #f0f6fc }
}
</style>
";

/// All tests that another engine was measured beside, under a line for each machine and number of threads.
pub(crate) fn plot(summaries: &[Summary]) -> String {
    let beside: Vec<&Summary> = summaries.iter().filter(|summary| summary.ratio.is_some()).collect();
    let groups: Vec<&[&Summary]> = beside.chunk_by(|a, b| machine(a) == machine(b)).collect();
    let greatest = beside.iter().filter_map(|summary| Some(summary.ratio?[2]));
    let most = greatest.fold(1.0, f64::max).ceil();
    let (width, end) = (LABELS + AREA + FIGURES, TOP + LINE * (beside.len() + groups.len()) as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>Speed of Pouch by that of other engines</title>\n{STYLE}\
         <text x=\"{LABELS}\" y=\"16\">Times the other engine's speed; the thin line is the spread of the rounds</text>\n",
        height = end + BOTTOM
    );
    axis(&mut out, most, end);
    let mut top = TOP;
    for group in groups {
        let (base, machine) = (top + BAR - 2.5, escaped(&machine(group[0])));
        put(&mut out, format_args!("<text class=\"small\" x=\"8\" y=\"{base}\">{machine}</text>\n"));
        top += LINE;
        for summary in group {
            bar(&mut out, summary, top, most);
            top += LINE;
        }
    }
    out + "</svg>\n"
}

fn machine(summary: &Summary) -> String {
    let Summary { date, cpu, threads, isa, .. } = summary;
    let threads = if threads == "1" { "1 thread".to_owned() } else { format!("{threads} threads") };
    format!("{date}, {cpu}, {threads}, {isa}")
}

fn x(ratio: f64, most: f64) -> f64 {
    LABELS + AREA * ratio / most
}

/// Lines at whole ratios, from under the title to `end`.
fn axis(out: &mut String, most: f64, end: f64) {
    for ratio in 0..=most as usize {
        let (class, x) = (if ratio == 1 { "one" } else { "axis" }, x(ratio as f64, most));
        put(
            out,
            format_args!(
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{y1}\" x2=\"{x:.1}\" y2=\"{end}\"/>\n\
                 <text class=\"small\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{ratio}x</text>\n",
                y1 = TOP - 12.0,
                y = end + 16.0
            ),
        );
    }
}

fn bar(out: &mut String, summary: &Summary, top: f64, most: f64) {
    let Some([least, median, greatest]) = summary.ratio else { return };
    let (middle, base) = (top + BAR / 2.0, top + BAR - 2.5);
    put(
        out,
        format_args!(
            "<text x=\"{label}\" y=\"{base}\" text-anchor=\"end\">{model}, {test}</text>\n\
             <rect class=\"{phase}\" x=\"{LABELS}\" y=\"{top}\" width=\"{bar:.1}\" height=\"{BAR}\"/>\n\
             <line class=\"spread\" x1=\"{x1:.1}\" y1=\"{middle}\" x2=\"{x2:.1}\" y2=\"{middle}\"/>\n\
             <text x=\"{figures}\" y=\"{base}\">{median:.2}x</text>\n\
             <text class=\"small\" x=\"{speeds}\" y=\"{base}\">{ours:.0} : {theirs:.0} tok/s, {peer}</text>\n",
            label = LABELS - 8.0,
            model = escaped(&summary.model),
            test = escaped(&summary.test()),
            phase = escaped(&summary.phase),
            bar = x(median, most) - LABELS,
            x1 = x(least, most),
            x2 = x(greatest, most),
            figures = LABELS + AREA + 10.0,
            speeds = LABELS + AREA + 58.0,
            ours = summary.tok_s,
            theirs = summary.peer_tok_s.unwrap_or_default(),
            peer = escaped(summary.peer_name()),
        ),
    );
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
