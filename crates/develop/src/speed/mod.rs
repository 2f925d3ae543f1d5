//! `speed`: the table of speeds in README.md and the plot beside it, made from the record and nothing else.

mod plot;
mod record;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use record::Summary;

/// What stands around the table in README.md.
const BEGIN: &str = "<!-- made by `develop speed` from benches/record/speed.csv -->\n";
const END: &str = "<!-- end of what was made -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files and what they should hold.
fn pages() -> Result<[(PathBuf, String); 2], String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let (readme, plot) = (root().join("README.md"), root().join("docs/speed.svg"));
    let summaries = Summary::latest(&read(&root().join("benches/record/speed.csv"))?)?;
    let page = with_table(&read(&readme)?, &table::table(&summaries))?;
    Ok([(readme, page), (plot, plot::plot(&summaries))])
}

/// The page with the table in the place of the one that it has.
fn with_table(page: &str, table: &str) -> Result<String, String> {
    let missing = || format!("README.md has no place for the table: {BEGIN}...\n{END}");
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
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

    #[test]
    fn only_the_place_of_the_table_changes() {
        let page = format!("# Title\n\n{BEGIN}old\n{END}\nmore\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("# Title\n\n{BEGIN}new\n{END}\nmore\n"));
        assert!(with_table("# Title\n", "new\n").is_err());
    }
}
