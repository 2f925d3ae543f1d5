//! Pages for people: complete in themselves, no scripts, no network, light or dark as the reader has it.

mod figures;

use std::fmt::{Arguments, Write};

pub use figures::{bytes, count, duration, escaped, percent, significant};

const STYLE: &str = include_str!("style.css");

/// A whole page: `title`, what stands below it, and the content, which are HTML.
pub fn page(title: &str, below: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n\
         <h1>{title}</h1>\n<p class=\"soft\">{below}</p>\n\
         </header>\n<main>\n{content}</main>\n</body>\n</html>\n"
    )
}

/// The figures that most people want, each with its name and what there is to say of it.
pub fn tiles(out: &mut String, tiles: &[(&str, String, String)]) {
    out.push_str("<dl class=\"tiles\">\n");
    for (name, figure, detail) in tiles {
        put(
            out,
            format_args!(
                "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n",
                escaped(name),
                escaped(figure),
                escaped(detail)
            ),
        );
    }
    out.push_str("</dl>\n");
}

/// A part of the page that is wider than a phone: it scrolls by itself, by keys too.
pub fn wide(out: &mut String, label: &str, content: &str) {
    put(
        out,
        format_args!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n{content}</div>\n",
            escaped(label)
        ),
    );
}

/// Rows with a bar each: name, figure, and the bar's length as a share of the longest.
pub fn bars(out: &mut String, rows: &[(String, String, f64)]) {
    out.push_str("<table class=\"bars\">\n<tbody>\n");
    for (name, figure, share) in rows {
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"right\">{}</td><td><span class=\"bar\" \
                 style=\"width:{:.1}%\"></span></td></tr>\n",
                escaped(name),
                escaped(figure),
                share * 100.0
            ),
        );
    }
    out.push_str("</tbody>\n</table>\n");
}

/// Adds to the page.
pub fn put(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}
