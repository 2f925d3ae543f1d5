//! The certificate as a page for people: complete in itself, no scripts, no network, light or dark as the reader has it.

mod figures;
mod heat_map;
mod quantiles;
mod tables;

use figures::{error_of, with_error};
use heat_map::{Cell, STEPS, heat_map, legend, matrices};
use report::{bars, bytes, count, duration, escaped, percent, put, significant, wide};

use crate::certificate::{Certificate, Tensor};

/// How many tensors the list of the most sensitive names.
const MOST_SENSITIVE: usize = 12;

/// The whole page.
pub(crate) fn page(certificate: &Certificate) -> String {
    let below = format!(
        "{} packed {} ({}, {} parameters) to {}, effort {}.",
        escaped(&certificate.program),
        escaped(&certificate.source.file),
        escaped(&certificate.source.architecture),
        count(certificate.source.parameters),
        escaped(&certificate.settings.target),
        escaped(&certificate.settings.effort),
    );
    let mut out = String::new();
    headline(&mut out, certificate);
    divergence(&mut out, certificate);
    bits(&mut out, certificate);
    sensitivity(&mut out, certificate);
    cache(&mut out, certificate);
    tables::all(&mut out, certificate);
    report::page(&format!("Certificate of {}", escaped(&certificate.output.file)), &below, &out)
}

/// The figures that most people want, each with what it means.
fn headline(out: &mut String, certificate: &Certificate) {
    let Certificate { source, output, quality, .. } = certificate;
    let mut tiles = vec![
        (
            "Size",
            bytes(output.bytes),
            format!("from {}, {:.2} times as small", bytes(source.bytes), ratio(source.bytes, output.bytes)),
        ),
        (
            "Bits per weight",
            format!("{:.2}", output.bits_per_weight),
            format!("scales included; {:.2} in the source", source.bits_per_weight),
        ),
        (
            "Mean KL divergence",
            significant(quality.kl_mean.value, 3),
            format!("nats, {}", error_of(quality.kl_mean)),
        ),
        (
            "Same top token",
            percent(quality.top1_agreement.value),
            format!("± {:.1} %", quality.top1_agreement.stderr * 100.0),
        ),
        (
            "Perplexity",
            significant(quality.perplexity_after.value, 4),
            format!(
                "{}; before {}",
                error_of(quality.perplexity_after),
                with_error(quality.perplexity_before)
            ),
        ),
    ];
    if let Some(won) = &certificate.won_back {
        let detail = format!("KL {} by plain rounding", significant(won.kl_plain.value, 3));
        tiles.push(("Loss won back", percent(won.share), detail));
    }
    report::tiles(out, &tiles);
    put(
        out,
        format_args!(
            "<p class=\"reference\"><strong>Compared with:</strong> {}{}</p>\n",
            escaped(&source.reference),
            escaped(&on_grid(&certificate.tensors))
        ),
    );
    out.push_str(MEANING);
}

const MEANING: &str = "\
<p><strong>Bits per weight</strong> counts all bits of tensor data, the scales of quantized blocks included, over the number of \
weights.</p>\n\
<p><strong>KL divergence</strong> is how far the packed model's probabilities for the next token lie from those of the model it is \
compared with, in nats: 0 if they are equal. It is taken at every scored token of a text that packing did not look at. The mean says \
how much is lost as a rule, the curve below how bad the worst places are.</p>\n\
<p><strong>Same top token</strong> is the share of places at which both models find the same next token likeliest.</p>\n\
<p><strong>Perplexity</strong> is how surprised a model is by the text, as the number of equally likely tokens that would surprise as \
much; lower is better. A difference within the standard errors (after ±) may be chance, although both models saw the same text, so that \
most of the chance is common to both.</p>\n\
<p><strong>Loss won back</strong>, where it is given, is the share of the KL divergence of plain rounding to the same types that better \
methods avoided.</p>\n";

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// A tensor that was not rounded at all is no test, so it is told.
fn on_grid(tensors: &[Tensor]) -> String {
    let kept = matrices(tensors).filter(|tensor| tensor.on_grid).count();
    match kept {
        0 => String::new(),
        1 => " One matrix lay on the grid of its output type already and lost nothing.".to_owned(),
        _ => format!(
            " {kept} of {} matrices lay on the grid of their output type already and lost nothing.",
            matrices(tensors).count()
        ),
    }
}

fn divergence(out: &mut String, certificate: &Certificate) {
    let quality = &certificate.quality;
    put(
        out,
        format_args!(
            "<section>\n<h2>Divergence, token by token</h2>\n{}<p>Half of the tokens stay below {} nats, 99 % below {}; \
             the largest is {}. Both axes are stretched, so that rare large divergences can be seen. Measured on {} tokens of \
             {} in windows of {}.</p>\n</section>\n",
            quantiles::quantiles(&quality.kl_quantiles),
            significant(quality.kl_median, 3),
            significant(quality.kl_p99, 3),
            significant(quality.kl_max, 3),
            quality.scored,
            escaped(&certificate.settings.held_out.name),
            quality.context,
        ),
    );
}

/// Upper ends of the steps of bits, and what they are called.
const BIT_STEPS: [(f64, &str); STEPS] =
    [(2.7, "2"), (3.6, "3"), (4.8, "4"), (5.8, "5"), (6.8, "6"), (9.0, "8"), (f64::INFINITY, "16, 32")];

fn bits(out: &mut String, certificate: &Certificate) {
    let cell = |tensor: &Tensor| Cell {
        step: BIT_STEPS.iter().position(|(end, _)| tensor.bits_per_weight < *end),
        label: match tensor.bits_per_weight {
            bits if bits < 9.95 => format!("{bits:.1}"),
            bits => format!("{bits:.0}"),
        },
        title: format!(
            "{}: {}, {:.2} bits per weight",
            tensor.name, tensor.type_name, tensor.bits_per_weight
        ),
    };
    let map = heat_map(
        &certificate.tensors,
        "Bits per weight of each matrix",
        "A row for each kind of tensor, a column for each layer; the table of all tensors has the figures.",
        &cell,
    );
    out.push_str("<section>\n<h2>Bits per weight</h2>\n");
    wide(out, "Bits per weight by layer and kind of tensor", &map);
    out.push_str(&legend(&BIT_STEPS.map(|(_, name)| name.to_owned()), "Colours: bits"));
    out.push_str(
        "<p>Where bits went: layers from left to right, kinds of matrices from top to bottom, numbers are bits per weight. \
         Matrices that the answers depend on most get more of them. Norms and biases are kept exact and not shown.</p>\n\
         </section>\n",
    );
}

fn sensitivity(out: &mut String, certificate: &Certificate) {
    let mut known: Vec<(&Tensor, f64)> = matrices(&certificate.tensors)
        .filter_map(|tensor| Some((tensor, tensor.sensitivity?)))
        .filter(|(_, sensitivity)| *sensitivity > 0.0)
        .collect();
    known.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (Some(&(_, greatest)), Some(&(_, least))) = (known.first(), known.last()) else { return };
    // All alike: everything is the highest step.
    let decades = (greatest / least).log10();
    let step = |sensitivity: f64| match decades > 0.0 {
        true => (((sensitivity / least).log10() / decades * STEPS as f64) as usize).min(STEPS - 1),
        false => STEPS - 1,
    };
    let cell = |tensor: &Tensor| Cell {
        step: tensor.sensitivity.map(|sensitivity| if sensitivity > 0.0 { step(sensitivity) } else { 0 }),
        label: String::new(),
        title: match tensor.sensitivity {
            Some(sensitivity) => format!("{}: {} nats", tensor.name, significant(sensitivity, 3)),
            None => format!("{}: kept exact", tensor.name),
        },
    };
    let map = heat_map(
        &certificate.tensors,
        "Sensitivity of each matrix",
        "A row for each kind of tensor, a column for each layer; the most sensitive are listed below, all in the table of \
         tensors.",
        &cell,
    );
    let names: [String; STEPS] = std::array::from_fn(|step| {
        significant(least * 10_f64.powf(decades * (step as f64 + 0.5) / STEPS as f64), 1)
    });
    out.push_str("<section>\n<h2>Sensitivity</h2>\n");
    wide(out, "Sensitivity by layer and kind of tensor", &map);
    out.push_str(&legend(&names, "Colours: predicted KL divergence in nats"));
    out.push_str(
        "<p>The KL divergence, in nats, that is predicted if this matrix alone were rounded to its type: how much the answers \
         depend on it, at the bits it got. A bit plan evens these out per byte spent; what stands out is where a further bit \
         would help most.</p>\n<h3>The most sensitive</h3>\n",
    );
    let rows: Vec<(String, String, f64)> = known
        .iter()
        .take(MOST_SENSITIVE)
        .map(|(tensor, sensitivity)| {
            let name = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
            (name.to_owned(), significant(*sensitivity, 2), sensitivity / greatest)
        })
        .collect();
    bars(out, &rows);
    out.push_str("</section>\n");
}

fn cache(out: &mut String, certificate: &Certificate) {
    let Some(cache) = &certificate.kv_cache else { return };
    let mut table = String::from(
        "<table>\n<thead><tr><th scope=\"col\">type</th>\
         <th scope=\"col\" class=\"right\">mean KL</th><th scope=\"col\" class=\"right\">bytes a token</th></tr></thead>\n<tbody>\n",
    );
    for measured in &cache.measured {
        let chosen = if measured.type_name == cache.recommended { " (recommended)" } else { "" };
        put(
            &mut table,
            format_args!(
                "<tr><th scope=\"row\" class=\"name\">{}{chosen}</th><td class=\"right\">{}</td><td class=\"right\">{}</td></tr>\n",
                escaped(&measured.type_name),
                with_error(measured.kl_mean),
                measured.bytes_per_token
            ),
        );
    }
    table.push_str("</tbody>\n</table>\n");
    out.push_str("<section>\n<h2>Keys and values</h2>\n");
    wide(out, "Number formats for keys and values", &table);
    out.push_str(
        "<p>What a conversation takes in memory grows with its length. This is what keeping keys and values \
         in fewer bits costs with these weights: the mean KL divergence in nats, measured in the same way as above.</p>\n</section>\n",
    );
}

/// What the work took, in a sentence.
fn cost(certificate: &Certificate) -> String {
    let cost = &certificate.cost;
    let stages: Vec<String> =
        cost.stages.iter().map(|stage| format!("{} {}", stage.name, duration(stage.seconds))).collect();
    let detail = if stages.is_empty() { String::new() } else { format!(" ({})", stages.join(", ")) };
    let threads = if cost.threads == 1 { "thread" } else { "threads" };
    format!(
        "{}{detail} on {} {threads}; at most {} of memory",
        duration(cost.seconds),
        cost.threads,
        bytes(cost.peak_memory_bytes)
    )
}
