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
        let cache = cache_folder(env::consts::OS, &variable).ok_or(Error::NoCacheFolder)?;
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

/// The cache folder by each platform's custom.
fn cache_folder(system: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(folder) = variable("POUCH_CACHE") {
        return Some(PathBuf::from(folder));
    }
    let home = || variable("HOME").map(PathBuf::from).or_else(env::home_dir);
    Some(match system {
        "windows" => PathBuf::from(variable("LOCALAPPDATA")?).join("pouch").join("cache"),
        "macos" | "ios" => home()?.join("Library").join("Caches").join("pouch"),
        // A relative XDG path is to be ignored, says the specification.
        _ => match variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
            Some(folder) => folder.join("pouch"),
            None => home()?.join(".cache").join("pouch"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_cache_folder_follows_each_platform() {
        let folder = |system, set| cache_folder(system, &variables(set));
        assert_eq!(folder("linux", &[("HOME", "/h")]), Some("/h/.cache/pouch".into()));
        assert_eq!(folder("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/pouch".into()));
        assert_eq!(
            folder("linux", &[("HOME", "/h"), ("XDG_CACHE_HOME", "rel")]),
            Some("/h/.cache/pouch".into())
        );
        assert_eq!(folder("macos", &[("HOME", "/h")]), Some("/h/Library/Caches/pouch".into()));
        assert_eq!(folder("windows", &[("LOCALAPPDATA", "/l")]), Some("/l/pouch/cache".into()));
        assert_eq!(folder("windows", &[]), None);
        assert_eq!(folder("linux", &[("POUCH_CACHE", "/p"), ("XDG_CACHE_HOME", "/x")]), Some("/p".into()));
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
