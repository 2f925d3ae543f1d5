//! HTTP as the hubs need it: GET with the user's proxy and certificates, redirects followed here rather than in the client
//! because a hub states the file's checksum on the answer that redirects, and because a token must not leave its host.

use std::time::Duration;

use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::{Error, Settings};

/// Redirects followed before giving up, as browsers and curl do within a factor.
const MOST_REDIRECTS: usize = 10;

/// An answer with a body to read: status 200, 206 or 416.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// SHA-256 of the whole file where the first host announced it.
    pub(crate) sha256: Option<String>,
    /// Bytes of this body.
    pub(crate) length: Option<u64>,
    /// First byte and size of the whole, of a partial answer.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// Strong validator to continue with later.
    pub(crate) validator: Option<String>,
    /// Host that gave the file.
    pub(crate) host: String,
    pub(crate) body: ureq::Body,
}

/// A client with these time limits and certificates; proxies come from the usual environment variables.
pub(crate) fn agent(settings: &Settings) -> Result<Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &settings.certificates {
        let pem =
            std::fs::read(path).map_err(|source| Error::io("read the certificates in", path, source))?;
        let certificates = parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        tls = tls.root_certs(RootCerts::from(certificates.collect::<Vec<_>>()));
    }
    let silence: Duration = settings.silence_timeout;
    Ok(Agent::config_builder()
        .tls_config(tls.build())
        .user_agent(concat!("pouch/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(settings.connect_timeout))
        .timeout_connect(Some(settings.connect_timeout))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .build()
        .into())
}

/// Asks for `url`, follows redirects, and turns every answer that is no file into its error.
pub(crate) fn get(
    agent: &Agent,
    url: &str,
    token: Option<&str>,
    headers: &[(&str, String)],
) -> Result<Answer, Error> {
    let first_host = origin(url).to_owned();
    let mut url = url.to_owned();
    let mut sha256 = None;
    for _ in 0..=MOST_REDIRECTS {
        let host = host(&url);
        let mut request = agent.get(&url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let token = token.filter(|_| origin(&url) == first_host);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| unreachable_host(&host, &error))?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let head = |name| header(&parts.headers, name);

        let announced = head("x-linked-etag").or_else(|| head("etag").filter(|_| origin(&url) == first_host));
        sha256 = sha256.or_else(|| announced.and_then(|tag| sha256_of_tag(&tag)));

        match status {
            200 | 206 | 416 => {
                let strong = head("etag").filter(|tag| tag.starts_with('"'));
                return Ok(Answer {
                    status,
                    sha256,
                    length: head("content-length").and_then(|length| length.parse().ok()),
                    range: head("content-range").and_then(|range| content_range(&range)),
                    validator: strong.or_else(|| head("last-modified")),
                    host,
                    body,
                });
            }
            301 | 302 | 303 | 307 | 308 => {
                let bad = |reason: &str| Error::Redirect { url: url.clone(), reason: reason.to_owned() };
                let next = head("location").ok_or_else(|| bad("without saying where to"))?;
                let next = join(&url, &next).ok_or_else(|| bad("to what is no http address"))?;
                if url.starts_with("https:") && !next.starts_with("https:") {
                    return Err(bad("from https to plain http, which is not followed"));
                }
                url = next;
            }
            401 | 403 => return Err(Error::Gated { host, url, status, token_sent: token.is_some() }),
            404 | 410 => return Err(Error::NotFound { host, url }),
            _ => return Err(Error::Status { host, url, status }),
        }
    }
    Err(Error::Redirect { url, reason: format!("more than {MOST_REDIRECTS} times") })
}

/// Bytes outside the unreserved set as `%XX`; slashes stay where they separate.
pub(crate) fn percent_encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A SHA-256 in an entity tag: 64 hex digits, quoted or not. Other tags (a git blob's SHA-1, a part count) give `None`.
pub(crate) fn sha256_of_tag(tag: &str) -> Option<String> {
    let digits = tag.trim().trim_start_matches("W/").trim_matches('"');
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| digits.to_lowercase())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// `bytes 100-199/200`, `bytes 100-199/*`, `bytes */200`: first byte (0 in the last form) and size of the whole.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let first = match range.split_once('-') {
        Some((first, _)) => first.trim().parse().ok()?,
        None => 0,
    };
    Some((first, size.trim().parse().ok()))
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// Host and port, without user name and password.
fn host(url: &str) -> String {
    let origin = origin(url);
    let place = origin.split_once("://").map_or(origin, |(_, place)| place);
    place.rsplit_once('@').map_or(place, |(_, place)| place).to_owned()
}

/// Where a `Location` leads, seen from `base`.
fn join(base: &str, location: &str) -> Option<String> {
    let location = location.trim();
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", base.split_once("://")?.0));
    }
    let scheme_end = location.find(':').unwrap_or(usize::MAX);
    if scheme_end < location.find(['/', '?', '#']).unwrap_or(location.len()) {
        return None;
    }
    if location.starts_with('/') {
        return Some(format!("{}{location}", origin(base)));
    }
    let path = &base[..base.find(['?', '#']).unwrap_or(base.len())];
    let folder = path.rfind('/').filter(|at| *at >= origin(base).len()).unwrap_or(path.len());
    Some(format!("{}/{location}", &path[..folder]))
}

/// A transport error in words that name the host and, where it helps, the likely cause.
pub(crate) fn unreachable_host(host: &str, error: &ureq::Error) -> Error {
    let reason = match error {
        ureq::Error::HostNotFound => {
            "its name does not resolve (offline, or a proxy is needed: set HTTPS_PROXY)".to_owned()
        }
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Error::Unreachable { host: host.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_against_their_base() {
        let base = "https://hub.example/a/b?x=1";
        for (location, expected) in [
            ("https://cdn.example/f", "https://cdn.example/f"),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("/f?y=2", "https://hub.example/f?y=2"),
            ("f", "https://hub.example/a/f"),
        ] {
            assert_eq!(join(base, location).as_deref(), Some(expected));
        }
        assert_eq!(join("https://hub.example", "f").as_deref(), Some("https://hub.example/f"));
        assert_eq!(join(base, "file:///etc/passwd"), None);
    }

    #[test]
    fn ranges_and_tags_are_read() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */200"), Some((0, Some(200))));
        assert_eq!(content_range("lines 1-2/3"), None);
        let sha256 = "AB".repeat(32);
        assert_eq!(sha256_of_tag(&format!("\"{sha256}\"")), Some(sha256.to_lowercase()));
        assert_eq!(sha256_of_tag("\"d41d8cd98f00b204e9800998ecf8427e-3\""), None);
    }

    #[test]
    fn hosts_are_named_without_credentials() {
        assert_eq!(host("https://user:secret@hub.example:8443/x"), "hub.example:8443");
        assert_eq!(origin("https://hub.example?x"), "https://hub.example");
    }
}
