//! Where the program keeps what cannot be fetched or computed again: the conversations that a server holds.

use std::env;
use std::path::PathBuf;

/// The user's data folder: `POUCH_DATA`, or `pouch` where each platform keeps programs' data. `None` if nothing says where that is.
pub(crate) fn folder() -> Option<PathBuf> {
    of(env::consts::OS, &|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn of(system: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(folder) = variable("POUCH_DATA") {
        return Some(PathBuf::from(folder));
    }
    let home = || variable("HOME").map(PathBuf::from).or_else(env::home_dir);
    Some(match system {
        "windows" => PathBuf::from(variable("LOCALAPPDATA")?).join("pouch").join("data"),
        "macos" | "ios" => home()?.join("Library").join("Application Support").join("pouch"),
        // A relative XDG path is to be ignored, says the specification.
        _ => match variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
            Some(folder) => folder.join("pouch"),
            None => home()?.join(".local").join("share").join("pouch"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_each_platform() {
        let folder = |system, set: &'static [(&'static str, &'static str)]| {
            of(system, &|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(folder("linux", &[("HOME", "/h")]), Some("/h/.local/share/pouch".into()));
        assert_eq!(folder("linux", &[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]), Some("/x/pouch".into()));
        assert_eq!(folder("macos", &[("HOME", "/h")]), Some("/h/Library/Application Support/pouch".into()));
        assert_eq!(folder("windows", &[("LOCALAPPDATA", "/l")]), Some("/l/pouch/data".into()));
        assert_eq!(folder("windows", &[]), None);
        assert_eq!(folder("linux", &[("POUCH_DATA", "/p"), ("HOME", "/h")]), Some("/p".into()));
    }
}
