//! Figures of a certificate that its other figures contradict.

use gguf::types::by_name;

use crate::certificate::{Certificate, Figure, TypeShare, bits_per_weight};

/// Rounding of a quotient that was printed in decimal and read again stays far below this.
const TOLERANCE: f64 = 1e-9;

/// Each contradiction in plain words.
pub(crate) fn contradictions(certificate: &Certificate) -> Vec<String> {
    let mut found = Vec::new();
    tensors(certificate, &mut found);
    totals(certificate, &mut found);
    quality(certificate, &mut found);
    cache(certificate, &mut found);
    found
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

/// A tensor's bytes follow from its shape and type, its bits from its bytes.
fn tensors(certificate: &Certificate, found: &mut Vec<String>) {
    for tensor in &certificate.tensors {
        let name = &tensor.name;
        let Some(info) = by_name(&tensor.type_name) else {
            found
                .push(format!("tensor {name} is said to be {}, which is no number format", tensor.type_name));
            continue;
        };
        let rows = tensor.shape.iter().skip(1).try_fold(1_u64, |rows, &size| rows.checked_mul(size));
        let columns = tensor.shape.first().copied().unwrap_or_default();
        let bytes = rows.zip(info.row_bytes(columns)).and_then(|(rows, bytes)| rows.checked_mul(bytes));
        if bytes != Some(tensor.bytes) {
            let follows = bytes.map_or("no whole number of".to_owned(), |bytes| bytes.to_string());
            found.push(format!(
                "tensor {name} is said to take {} bytes; its shape and type give {follows} bytes",
                tensor.bytes
            ));
        } else if !same(tensor.bits_per_weight, bits_per_weight(tensor.bytes, tensor.parameters())) {
            found.push(format!(
                "tensor {name} is said to take {} bits per weight; its bytes give {}",
                tensor.bits_per_weight,
                bits_per_weight(tensor.bytes, tensor.parameters())
            ));
        }
    }
}

/// Sums over tensors are what is told of the whole.
fn totals(certificate: &Certificate, found: &mut Vec<String>) {
    let output = &certificate.output;
    let sum = |of: fn(&TypeShare) -> u64, types: &[TypeShare]| {
        types.iter().map(of).fold(0_u64, |sum, value| sum.saturating_add(value))
    };
    let parameters = certificate.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.parameters()));
    let bytes = certificate.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.bytes));
    let listed = |t: &super::Tensor| (t.type_name.clone(), t.parameters(), t.bytes);
    if TypeShare::sum(certificate.tensors.iter().map(listed)) != output.types {
        found.push("the output's types are not those of its tensors".to_owned());
    }
    let mut differ = |what: &str, stated: f64, follows: f64| {
        if !same(stated, follows) {
            found.push(format!("{what} is said to be {stated}, but follows to be {follows}"));
        }
    };
    differ("the output's number of parameters", output.parameters as f64, parameters as f64);
    differ("the output's bits per weight", output.bits_per_weight, bits_per_weight(bytes, parameters));
    let source = &certificate.source;
    let (bytes_in, parameters_in) = (sum(|t| t.bytes, &source.types), sum(|t| t.parameters, &source.types));
    differ("the source's number of parameters", source.parameters as f64, parameters_in as f64);
    differ("the source's bits per weight", source.bits_per_weight, bits_per_weight(bytes_in, parameters_in));
    if bytes > output.bytes {
        found.push(format!("the tensors take {bytes} bytes, more than the file's {}", output.bytes));
    }
    if bytes_in > source.bytes {
        found.push(format!("the source's tensors take {bytes_in} bytes, more than its {}", source.bytes));
    }
}

/// What no measurement can give.
fn quality(certificate: &Certificate, found: &mut Vec<String>) {
    let quality = &certificate.quality;
    let mut must = |holds: bool, otherwise: &str| {
        if !holds {
            found.push(otherwise.to_owned());
        }
    };
    let perplexities = [quality.perplexity_before, quality.perplexity_after];
    must(perplexities.iter().all(|p| p.value >= 1.0), "a perplexity is below 1");
    let mut errors = perplexities.to_vec();
    errors.extend([quality.kl_mean, quality.top1_agreement]);
    must(errors.iter().all(|figure| figure.stderr >= 0.0), "a standard error is negative");
    let rising = |values: &[f64]| values.is_sorted();
    must(
        rising(&[quality.kl_median, quality.kl_p99, quality.kl_max])
            && quality.kl_mean.value <= quality.kl_max,
        "the median, 99th percentile, mean and largest KL divergence are out of order",
    );
    let (shares, divergences): (Vec<f64>, Vec<f64>) = quality.kl_quantiles.iter().copied().unzip();
    must(rising(&shares) && rising(&divergences), "the quantiles of the KL divergence do not rise");
    for (share, stated, name) in [
        (0.5, quality.kl_median, "median"),
        (0.99, quality.kl_p99, "99th percentile"),
        (1.0, quality.kl_max, "largest value"),
    ] {
        let listed = quality.kl_quantiles.iter().find(|quantile| quantile.0 == share);
        must(
            listed.is_none_or(|quantile| same(quantile.1, stated)),
            &format!("the {name} of the KL divergence is not the one among its quantiles"),
        );
    }
    must((0.0..=1.0).contains(&quality.top1_agreement.value), "the top-1 agreement is no share");
    must(
        quality.scored <= quality.windows.saturating_mul(quality.context),
        "more tokens were scored than the windows have",
    );
    must(
        quality.windows.saturating_mul(quality.context) <= certificate.settings.held_out.tokens,
        "the windows hold more tokens than the held-out text has",
    );
    if let Some(won) = &certificate.won_back {
        let follows = super::WonBack::of("", won.kl_plain, won.kl).share;
        must(same(won.share, follows), "the share won back does not follow from its two divergences");
        must(
            same_figure(won.kl, quality.kl_mean),
            "the share won back was reckoned with another KL divergence",
        );
    }
}

fn same_figure(a: Figure, b: Figure) -> bool {
    same(a.value, b.value) && same(a.stderr, b.stderr)
}

fn cache(certificate: &Certificate, found: &mut Vec<String>) {
    if let Some(cache) = &certificate.kv_cache
        && !cache.measured.iter().any(|measured| measured.type_name == cache.recommended)
    {
        found.push(format!("the recommended KV cache type {} was not measured", cache.recommended));
    }
}
