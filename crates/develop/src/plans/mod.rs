//! `plans`: the tables of docs/plan.md, made from the profiles and the records and nothing else.

mod phones;
mod published;
mod record;
mod shapes;

use std::fs;
use std::path::{Path, PathBuf};

use crate::page::replace;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The page and what it should hold.
fn page() -> Result<(PathBuf, String), String> {
    let path = root().join("docs/plan.md");
    let mut page = read(&path)?;
    let of = |name: &str| read(&root().join("benches/record").join(name));
    let tables = [
        ("phones", phones::table()?),
        ("predictions", record::table(&of("predictions.csv")?)?),
        ("verdicts", record::verdicts(&of("limits.csv")?)?),
        ("published", published::table(&of("published.csv")?)?),
    ];
    for (name, table) in tables {
        page = replace(&page, &format!("<!-- {name}: made by `develop plans` -->\n"), &table)?;
    }
    Ok((path, page))
}

pub(crate) fn run() -> Result<(), String> {
    let (path, content) = page()?;
    fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_profiles_and_records_say() {
        let (path, content) = page().unwrap();
        let is = fs::read_to_string(&path).unwrap();
        assert!(is == content, "{} is not up to date: `cargo run -p develop -- plans`", path.display());
    }
}
