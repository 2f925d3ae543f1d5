//! What was used and made, and every tensor, as tables.

use report::{bytes, escaped, put, significant, wide};

use super::cost;
use crate::certificate::{Certificate, TextRecord, TypeShare, bits_per_weight};

pub(super) fn all(out: &mut String, certificate: &Certificate) {
    types(out, certificate);
    tensors(out, certificate);
    facts(out, certificate);
}

fn types(out: &mut String, certificate: &Certificate) {
    out.push_str("<section>\n<h2>Number formats</h2>\n");
    for (name, shares) in [("Before", &certificate.source.types), ("After", &certificate.output.types)] {
        let mut table = String::new();
        put(
            &mut table,
            format_args!(
                "<table>\n<thead><tr><th scope=\"col\">type</th><th scope=\"col\" class=\"right\">tensors</th>\
                 <th scope=\"col\" class=\"right\">weights</th><th scope=\"col\" class=\"right\">size</th>\
                 <th scope=\"col\" class=\"right\">bits each</th></tr></thead>\n<tbody>\n"
            ),
        );
        for TypeShare { type_name, tensors, parameters, bytes: size } in shares {
            put(
                &mut table,
                format_args!(
                    "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"right\">{tensors}</td>\
                     <td class=\"right\">{parameters}</td><td class=\"right\">{}</td><td class=\"right\">{:.2}</td></tr>\n",
                    escaped(type_name),
                    bytes(*size),
                    bits_per_weight(*size, *parameters)
                ),
            );
        }
        table.push_str("</tbody>\n</table>\n");
        put(out, format_args!("<h3>{name}</h3>\n"));
        wide(out, &format!("Number formats, {}", name.to_lowercase()), &table);
    }
    out.push_str("</section>\n");
}

fn tensors(out: &mut String, certificate: &Certificate) {
    let mut table = String::from(
        "<table>\n<thead><tr><th scope=\"col\">tensor</th><th scope=\"col\">shape</th><th scope=\"col\">before</th>\
         <th scope=\"col\">after</th><th scope=\"col\" class=\"right\">bits</th><th scope=\"col\" class=\"right\">bytes</th>\
         <th scope=\"col\" class=\"right\">sensitivity</th><th scope=\"col\" class=\"right\">error, plain</th>\
         <th scope=\"col\" class=\"right\">error</th><th scope=\"col\">method</th></tr></thead>\n<tbody>\n",
    );
    let figure = |value: Option<f64>| value.map_or("–".to_owned(), |value| significant(value, 3));
    for tensor in &certificate.tensors {
        let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        put(
            &mut table,
            format_args!(
                "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"name\">{shape}</td><td>{}</td><td>{}</td>\
                 <td class=\"right\">{:.2}</td><td class=\"right\">{}</td><td class=\"right\">{}</td><td class=\"right\">{}</td>\
                 <td class=\"right\">{}</td><td class=\"name\">{}{}{}</td></tr>\n",
                escaped(&tensor.name),
                escaped(&tensor.source_type),
                escaped(&tensor.type_name),
                tensor.bits_per_weight,
                tensor.bytes,
                figure(tensor.sensitivity),
                figure(tensor.plain_error),
                figure(tensor.error),
                escaped(&tensor.method),
                if tensor.on_grid { ", on the grid before" } else { "" },
                tensor.folded.iter().map(|folded| format!(", {}", escaped(folded))).collect::<String>(),
            ),
        );
    }
    table.push_str("</tbody>\n</table>\n");
    put(
        out,
        format_args!(
            "<section>\n<h2>Tensors</h2>\n<p><strong>Error</strong> is the squared difference between stored and original \
             weights, each column weighted by the mean square of the activations that meet it, as a share of the weighted squares \
             of the original: <em>plain</em> for rounding to the nearest value, then for what was stored. A method that \
             compensates errors may trade a larger error of weights for a smaller one of answers; the KL divergence decides. \
             <strong>Method</strong>: how the weights were chosen; <em>kept</em> means unchanged.</p>\n\
             <details>\n<summary>All {} tensors</summary>\n",
            certificate.tensors.len()
        ),
    );
    wide(out, "All tensors", &table);
    out.push_str("</details>\n</section>\n");
}

fn facts(out: &mut String, certificate: &Certificate) {
    let Certificate { source, output, settings, .. } = certificate;
    let code = |text: &str| format!("<code>{}</code>", escaped(text));
    let text = |text: &TextRecord| {
        format!(
            "{}: {}, {} tokens, SHA-256 {}",
            escaped(&text.name),
            bytes(text.bytes),
            text.tokens,
            code(&text.sha256)
        )
    };
    let calibration = match &settings.importance_file {
        Some(file) => format!("importance file {}", escaped(file)),
        None => text(&settings.calibration),
    };
    let rows = [
        (
            "Input",
            format!("{}, {}, SHA-256 {}", escaped(&source.file), bytes(source.bytes), code(&source.sha256)),
        ),
        (
            "Output",
            format!("{}, {}, SHA-256 {}", escaped(&output.file), bytes(output.bytes), code(&output.sha256)),
        ),
        ("Calibration", calibration),
        ("Measured on", text(&settings.held_out)),
        ("Asked for", format!("{}, effort {}", escaped(&settings.target), escaped(&settings.effort))),
        ("Seed", settings.seed.to_string()),
        ("Work", escaped(&cost(certificate))),
        ("Program", escaped(&certificate.program)),
    ];
    out.push_str("<section>\n<h2>Input, settings, work</h2>\n<table class=\"facts\">\n<tbody>\n");
    for (name, fact) in rows {
        put(out, format_args!("<tr><th scope=\"row\">{name}</th><td>{fact}</td></tr>\n"));
    }
    out.push_str(
        "</tbody>\n</table>\n<p><code>pouch certify FILE</code> compares a file with the certificate beside it; with the \
         original it measures again. The same input, texts, settings and seed give the same file, on any number of threads.</p>\n\
         </section>\n",
    );
}
