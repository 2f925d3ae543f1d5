//! A dated record: a CSV file (RFC 4180) that only grows, each row complete in itself.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::errors::Failure;

/// A record being written.
pub(crate) struct Record {
    path: PathBuf,
    file: File,
}

impl Record {
    /// Opens the file, which must begin with the line `columns`, or makes it.
    pub(crate) fn open(path: &Path, columns: &'static str) -> Result<Record, Failure> {
        let failed = |source| Failure::io("write", path, source);
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let mut first = String::new();
        BufReader::new(&file).read_line(&mut first).map_err(failed)?;
        if first.is_empty() {
            writeln!(file, "{columns}").map_err(failed)?;
        } else if first.trim_end() != columns {
            return Err(Failure::Record { path: path.to_owned() });
        }
        Ok(Record { path: path.to_owned(), file })
    }

    /// Adds rows, all or, should the disk be full, what of them fits.
    pub(crate) fn append(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), Failure> {
        let row =
            |cells: Vec<String>| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\n";
        let rows: String = rows.into_iter().map(row).collect();
        self.file.write_all(rows.as_bytes()).map_err(|source| Failure::io("write", &self.path, source))
    }
}

/// A cell as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        assert_eq!(quoted("AMD EPYC"), "AMD EPYC");
        assert_eq!(quoted("AMD \"EPYC\", 2"), "\"AMD \"\"EPYC\"\", 2\"");
    }

    #[test]
    fn a_record_grows_and_a_file_of_another_kind_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.csv");
        for day in ["1", "2"] {
            Record::open(&path, "day,speed")
                .unwrap()
                .append([vec![day.to_owned(), "a,b".to_owned()]])
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "day,speed\n1,\"a,b\"\n2,\"a,b\"\n");
        assert!(matches!(Record::open(&path, "day"), Err(Failure::Record { .. })));
    }
}
