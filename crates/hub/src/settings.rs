//! Where things are: cache folder, hub endpoints, tokens, time limits. Read once from the environment the way each hub's
//! own client reads it; a program or a test can set any field itself.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// Everything a [`crate::Hub`] needs to know about its surroundings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder for everything that can be fetched or computed again. `POUCH_CACHE`, or `pouch` in the user's cache folder.
    pub cache: PathBuf,
    /// Address of the Hugging Face hub or a mirror of it, without a slash at the end. `HF_ENDPOINT`.
    pub hf_endpoint: String,
    /// Access token for it: `HF_TOKEN`, or the file its own login command writes.
    pub hf_token: Option<String>,
    /// Address of the ModelScope hub, without a slash at the end. `MODELSCOPE_DOMAIN`.
    pub ms_endpoint: String,
    /// Access token for it. `MODELSCOPE_API_TOKEN`.
    pub ms_token: Option<String>,
    /// The Python whose pip fetches packages.
    pub pip: PipSource,
    /// A PEM file of certificate authorities to trust instead of the built-in ones. `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`.
    pub certificates: Option<PathBuf>,
    /// How long a host may take to resolve and connect before the next source is tried.
    pub connect_timeout: Duration,
    /// How long a connected host may stay silent, before the first byte and between any two.
    pub silence_timeout: Duration,
}

/// How to call pip.
#[derive(Debug, Clone)]
pub struct PipSource {
    /// The Python interpreter: a name looked up in `PATH`, or a path.
    pub python: PathBuf,
}

impl Settings {
    /// The settings of this process: environment variables first, then each platform's habits.
    pub fn from_environment() -> Result<Settings, Error> {
        let cache = Folder::Cache.path().ok_or(Error::NoCacheFolder)?;
        Ok(Settings::from_variables(cache, &variable))
    }

    /// Settings for a given cache folder, with the public hubs, no tokens and the default time limits.
    pub fn new(cache: impl Into<PathBuf>) -> Settings {
        Settings::from_variables(cache.into(), &|_| None)
    }

    fn from_variables(cache: PathBuf, variable: &dyn Fn(&str) -> Option<String>) -> Settings {
        Settings {
            cache,
            hf_endpoint: endpoint(variable("HF_ENDPOINT"), "https://huggingface.co"),
            hf_token: hugging_face_token(variable),
            ms_endpoint: endpoint(variable("MODELSCOPE_DOMAIN"), "https://www.modelscope.cn"),
            ms_token: variable("MODELSCOPE_API_TOKEN"),
            pip: PipSource { python: PathBuf::from(if cfg!(windows) { "python" } else { "python3" }) },
            certificates: variable("SSL_CERT_FILE")
                .or_else(|| variable("REQUESTS_CA_BUNDLE"))
                .map(PathBuf::from),
            connect_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(20),
        }
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// An endpoint as its users write it: with or without scheme, with or without a slash at the end.
fn endpoint(set: Option<String>, default: &str) -> String {
    let Some(set) = set else { return default.to_owned() };
    let set = set.trim().trim_end_matches('/');
    if set.contains("://") { set.to_owned() } else { format!("https://{set}") }
}

/// `HF_TOKEN`, its older name, or the file that the hub's login command writes.
fn hugging_face_token(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let token_file = || {
        let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
            let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
                let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
                Some(
                    cache.or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")))?.join("huggingface"),
                )
            });
            Some(home?.join("token"))
        });
        std::fs::read_to_string(path?).ok()
    };
    let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(token_file)?;
    // A token with a line break inside could not be sent as a header anyway.
    let token = token.trim();
    (!token.is_empty() && !token.contains(['\r', '\n'])).then(|| token.to_owned())
}

/// What a folder of this program holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// What can be fetched or computed again. `POUCH_CACHE`, or `pouch` in the user's cache folder.
    Cache,
    /// What cannot: conversations, stored answers. `POUCH_DATA`, or `pouch` in the user's data folder.
    Data,
}

impl Folder {
    /// Where it is for this user, by each platform's custom; `None` if nothing says so.
    pub fn path(self) -> Option<PathBuf> {
        self.of(env::consts::OS, &variable)
    }

    fn of(self, system: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let (own, xdg, in_home, on_mac, on_windows) = match self {
            Folder::Cache => ("POUCH_CACHE", "XDG_CACHE_HOME", ".cache", "Caches", "cache"),
            Folder::Data => ("POUCH_DATA", "XDG_DATA_HOME", ".local/share", "Application Support", "data"),
        };
        if let Some(folder) = variable(own) {
            return Some(PathBuf::from(folder));
        }
        let home = || variable("HOME").map(PathBuf::from).or_else(env::home_dir);
        Some(match system {
            "windows" => PathBuf::from(variable("LOCALAPPDATA")?).join("pouch").join(on_windows),
            "macos" | "ios" => home()?.join("Library").join(on_mac).join("pouch"),
            // A relative XDG path is to be ignored, says the specification.
            _ => match variable(xdg).map(PathBuf::from).filter(|path| path.is_absolute()) {
                Some(folder) => folder.join("pouch"),
                None => home()?.join(in_home).join("pouch"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn folders_follow_each_platform() {
        for (system, set, cache, data) in [
            ("linux", &[("HOME", "/h")][..], "/h/.cache/pouch", "/h/.local/share/pouch"),
            (
                "linux",
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("XDG_DATA_HOME", "/y")],
                "/x/pouch",
                "/y/pouch",
            ),
            (
                "linux",
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "rel"), ("XDG_DATA_HOME", "rel")],
                "/h/.cache/pouch",
                "/h/.local/share/pouch",
            ),
            ("macos", &[("HOME", "/h")], "/h/Library/Caches/pouch", "/h/Library/Application Support/pouch"),
            ("windows", &[("LOCALAPPDATA", "/l")], "/l/pouch/cache", "/l/pouch/data"),
            ("linux", &[("POUCH_CACHE", "/p"), ("POUCH_DATA", "/q"), ("HOME", "/h")], "/p", "/q"),
        ] {
            assert_eq!(Folder::Cache.of(system, &variables(set)), Some(cache.into()), "{set:?}");
            assert_eq!(Folder::Data.of(system, &variables(set)), Some(data.into()), "{set:?}");
        }
        assert_eq!(Folder::Data.of("windows", &|_| None), None);
    }

    #[test]
    fn endpoints_and_tokens_are_read_as_the_hubs_clients_do() {
        let settings = Settings::from_variables(
            "/c".into(),
            &variables(&[
                ("HF_ENDPOINT", "https://mirror.example/"),
                ("HF_TOKEN", " secret\n"),
                ("MODELSCOPE_DOMAIN", "hub.example"),
            ]),
        );
        assert_eq!(settings.hf_endpoint, "https://mirror.example");
        assert_eq!(settings.hf_token.as_deref(), Some("secret"));
        assert_eq!(settings.ms_endpoint, "https://hub.example");
        let plain = Settings::new("/c");
        assert_eq!((plain.hf_endpoint.as_str(), plain.hf_token), ("https://huggingface.co", None));
    }

    #[test]
    fn the_token_file_of_the_hubs_login_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let variable = move |name: &str| (name == "HF_HOME").then(|| home.clone());
        assert_eq!(hugging_face_token(&variable).as_deref(), Some("from-file"));
    }
}
