//! `speed`: the table of speeds in README.md and the plot beside it, made from the record and nothing else.

mod plot;
mod record;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use record::Summary;

use crate::page::replace;

/// What stands around the table in README.md.
const BEGIN: &str = "<!-- made by `develop speed` from benches/record/speed.csv -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files and what they should hold.
fn pages() -> Result<[(PathBuf, String); 2], String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let (readme, plot) = (root().join("README.md"), root().join("docs/speed.svg"));
    let summaries = Summary::latest(&read(&root().join("benches/record/speed.csv"))?)?;
    let page = replace(&read(&readme)?, BEGIN, &table::table(&summaries))?;
    Ok([(readme, page), (plot, plot::plot(&summaries))])
}

pub(crate) fn run() -> Result<(), String> {
    for (path, content) in pages()? {
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_and_plot_show_what_the_record_says() {
        for (path, content) in pages().unwrap() {
            let is = fs::read_to_string(&path).unwrap();
            assert!(is == content, "{} is not up to date: `cargo run -p develop -- speed`", path.display());
        }
    }
}
