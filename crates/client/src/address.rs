//! Where a server is, as people write it.

use std::net::IpAddr;
use std::path::PathBuf;

use ureq::http::Uri;

use crate::Error;

/// A server's address, understood.
#[derive(Debug)]
pub(crate) struct Address {
    /// For people.
    pub(crate) shown: String,
    /// What paths are appended to.
    pub(crate) base: String,
    /// The Unix socket, if it is one.
    pub(crate) socket: Option<PathBuf>,
    /// On this machine: no proxy stands between.
    pub(crate) is_here: bool,
}

impl Address {
    /// `http://host:port`, `https://host/path`, with or without `/v1` at the end, or `unix:/path`.
    pub(crate) fn parse(text: &str) -> Result<Address, Error> {
        let wrong = |reason| Error::Address { address: text.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                _ if cfg!(not(unix)) => Err(wrong("this system's programs have no Unix sockets")),
                "" => Err(wrong("the socket's path is missing")),
                path => Ok(Address {
                    shown: format!("unix:{path}"),
                    base: "http://localhost".to_owned(),
                    socket: Some(PathBuf::from(path)),
                    is_here: true,
                }),
            };
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(wrong("it begins with http://, https:// or unix:"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("the host is missing"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("a key does not stand in the address"));
        }
        if text.contains(['?', '#']) {
            return Err(wrong("it ends with its path"));
        }
        let base = text.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
        Ok(Address { shown: text.to_owned(), base: base.to_owned(), socket: None, is_here: is_here(host) })
    }
}

/// Whether a host is this machine for certain.
fn is_here(host: &str) -> bool {
    let digits = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || digits.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, base, is_here) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("http://localhost:8080/", "http://localhost:8080", true),
            ("http://[::1]:80/v1", "http://[::1]:80", true),
            ("https://api.example/v1/", "https://api.example", false),
            ("https://api.example/models/v1", "https://api.example/models", false),
            ("http://192.168.1.7:8080", "http://192.168.1.7:8080", false),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.base.as_str(), address.is_here), (base, is_here), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost:8080",
            "ftp://host",
            "http://",
            "https://:80",
            "http://user:secret@host",
            "http://host/?x",
            "http://host/#x",
            "http://a b",
            "unix:",
        ] {
            assert!(matches!(Address::parse(text), Err(Error::Address { .. })), "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn sockets_are_paths() {
        for text in ["unix:/run/pouch.sock", "unix:///run/pouch.sock"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.socket, Some("/run/pouch.sock".into()));
            assert_eq!(address.shown, "unix:/run/pouch.sock");
        }
        assert_eq!(Address::parse("unix:pouch.sock").unwrap().socket, Some("pouch.sock".into()));
    }
}
