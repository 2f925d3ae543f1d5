//! The divergences of all scored tokens as one curve: how many tokens stay below how much.

use report::{escaped, percent, put, significant};

/// Pixels: the whole, and the area within the axes.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 408.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 214.0;
/// Shares are spread by their log-odds, so that the rare large divergences have room; these end the axis, and the largest
/// divergence of all stands at its end.
const FIRST: f64 = 0.01;
const LAST: f64 = 0.9999;
/// Decades below the largest that are shown.
const DECADES: i32 = 6;

fn log_odds(share: f64) -> f64 {
    let share = share.clamp(FIRST, LAST);
    (share / (1.0 - share)).log10()
}

fn x(share: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (log_odds(share) - log_odds(FIRST)) / (log_odds(LAST) - log_odds(FIRST))
}

/// The plot of `(share, divergence)` pairs; empty where nothing diverges.
pub(super) fn quantiles(points: &[(f64, f64)]) -> String {
    let greatest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    if greatest <= 0.0 || !greatest.is_finite() {
        return String::new();
    }
    let high = greatest.log10().ceil() as i32;
    let least = points.iter().map(|point| point.1).filter(|kl| *kl > 0.0).fold(greatest, f64::min);
    let low = (least.log10().floor() as i32).clamp(high - DECADES, high - 1);
    let y = |kl: f64| {
        let power = if kl > 0.0 { kl.log10() } else { f64::NEG_INFINITY };
        BOTTOM - (BOTTOM - TOP) * (power.max(low.into()) - f64::from(low)) / f64::from(high - low)
    };
    let mut out = format!(
        "<svg class=\"curve-plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>KL divergence that a share of \
         the tokens stays below</title><desc>{}</desc>\n",
        escaped(&points.iter().map(|&(share, kl)| told(share, kl)).collect::<Vec<_>>().join("; "))
    );
    for power in low..=high {
        let y = y(10_f64.powi(power));
        put(
            &mut out,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
                 <text class=\"small\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 6.0,
                y + 4.0,
                significant(10_f64.powi(power), 1)
            ),
        );
    }
    for (share, name) in [
        (0.01, "1 %"),
        (0.1, "10 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (1.0, "all"),
    ] {
        let x = x(share);
        put(
            &mut out,
            format_args!(
                "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
                 <text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
                BOTTOM + 17.0
            ),
        );
    }
    put(
        &mut out,
        format_args!(
            "<text class=\"small\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">share of the scored tokens</text>\n",
            (LEFT + RIGHT) / 2.0,
            HEIGHT - 8.0
        ),
    );
    let line: Vec<String> =
        points.iter().map(|&(share, kl)| format!("{:.1},{:.1}", x(share), y(kl))).collect();
    put(&mut out, format_args!("<polyline class=\"curve\" points=\"{}\"/>\n", line.join(" ")));
    for &(share, kl) in points {
        put(
            &mut out,
            format_args!(
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{}</title></circle>\n",
                x(share),
                y(kl),
                escaped(&told(share, kl))
            ),
        );
    }
    out + "</svg>\n"
}

fn told(share: f64, kl: f64) -> String {
    let share = if share == 0.999 { "99.9 %".to_owned() } else { percent(share).replace(".0 ", " ") };
    format!("{share} of the tokens: at most {} nats", significant(kl, 3))
}
