//! Who may ask: checks that every request passes before anything else looks at it.
//!
//! A server on the loopback address can still be reached by any web page that the user has open, in two ways. The page may
//! send requests here directly; browsers then say from where in `Origin`. Or its own name is made to resolve to 127.0.0.1 (DNS
//! rebinding), so that the browser takes us for a part of the page; then `Host` has that name. Addresses in digits cannot be
//! rebound, so `Host` must be one, or `localhost`, or a name that the user has allowed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api_error::ApiError;
use crate::app::App;
use crate::error::Error;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// The socket's file says who may connect, and no browser can. A proxy may stand there for others, so the key counts.
    Unix,
    /// The socket in the data folder, see [`socket`](crate::socket): only who can read that folder, with no proxy between.
    Own,
}

/// Who may ask.
pub(crate) struct Access {
    /// Its hash, so that comparing tells nothing of the length.
    key: Option<[u8; 32]>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Access {
    /// Access for those who know `key`, if there is one; `hosts` are names of this machine, `origins` web pages elsewhere that
    /// may ask, such as `https://chat.example`.
    pub(crate) fn new(key: Option<&str>, hosts: &[String], origins: &[String]) -> Result<Access, Error> {
        let is_sound =
            |key: &str| (8..=256).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if key.is_some_and(|key| !is_sound(key)) {
            return Err(Error::BadKey);
        }
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Ok(Access { key: key.map(hash), hosts: lower(hosts), origins: origins.collect() })
    }

    pub(crate) fn needs_key(&self) -> bool {
        self.key.is_some()
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let Some(host) = host else { return Err(ApiError::invalid("the request has no Host header")) };
        let name = without_port(host).to_ascii_lowercase();
        if is_own_name(&name) || self.hosts.contains(&name) {
            return Ok(());
        }
        let message =
            format!("this server does not go by the name {name:?}; start it with --allow-host to let it");
        Err(ApiError::forbidden(StatusCode::FORBIDDEN, "host_not_allowed", message))
    }

    /// Refuses requests that a page of elsewhere has its reader's browser make. Returns the page's origin if it may ask.
    fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
        let Some(value) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        // Behind a proxy that speaks TLS the page's own origin has another scheme than what arrives here.
        let own = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Ok(None);
        }
        if self.origins.contains(&origin) {
            return Ok(Some(value.clone()));
        }
        let message =
            format!("pages of {origin:?} may not ask here; start the server with --allow-origin to let them");
        Err(ApiError::forbidden(StatusCode::FORBIDDEN, "origin_not_allowed", message))
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| {
            let (scheme, key) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
        });
        let given = given.or_else(|| Some(headers.get("x-api-key")?.as_bytes()));
        let (code, message) = match given {
            Some(given) if bool::from(hash_bytes(given).ct_eq(key)) => return Ok(()),
            Some(_) => ("invalid_api_key", "the API key is not this server's"),
            None => ("missing_api_key", "this server needs an API key: send `Authorization: Bearer KEY`"),
        };
        Err(ApiError::forbidden(StatusCode::UNAUTHORIZED, code, message))
    }
}

fn hash(text: &str) -> [u8; 32] {
    hash_bytes(text.as_bytes())
}

fn hash_bytes(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// `name:port` without the port; IPv6 addresses stand in brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Names that no stranger's page can have.
fn is_own_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// What needs no key: the page, which asks for the key itself, and whether the server is there.
fn is_public(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && (path == "/health" || crate::page::asset(path).is_some())
}

/// Checks a request and marks its response: nothing of it is for other pages, and browsers are not to guess its kind.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let transport = request.extensions().get().copied().unwrap_or(Transport::Tcp);
    let headers = request.headers();
    let checked = match transport {
        Transport::Unix | Transport::Own => Ok(None),
        Transport::Tcp => app.access.check_host(headers).and_then(|()| app.access.check_origin(headers)),
    };
    let origin = checked.as_ref().ok().cloned().flatten();
    let mut response = match checked {
        Err(refused) => refused.into_response(),
        // A browser asks beforehand whether the page may ask, and sends no key with that.
        Ok(Some(_)) if request.method() == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Ok(_) if transport == Transport::Own => next.run(request).await,
        Ok(_) if is_public(request.method(), request.uri().path()) => next.run(request).await,
        Ok(_) => match app.access.check_key(headers) {
            Err(refused) => refused.into_response(),
            Ok(()) => next.run(request).await,
        },
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        let methods = HeaderValue::from_static("GET, POST, PUT, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        // The OpenAI client for browsers sends a dozen headers that describe it.
        let any = HeaderValue::from_static("authorization, *");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    } else {
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("same-origin"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn access() -> Access {
        let (hosts, origins) = (["phone.lan".to_owned()], ["https://chat.example/".to_owned()]);
        Access::new(Some("correct-horse"), &hosts, &origins).unwrap()
    }

    #[test]
    fn only_names_that_cannot_be_rebound_are_taken() {
        let access = access();
        let fine = [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:80",
            "192.168.1.7",
            "phone.lan:1",
            "x.localhost",
        ];
        for host in fine {
            assert_eq!(access.check_host(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "",
            "[evil",
            "notlocalhost",
        ] {
            assert!(access.check_host(&headers(&[("host", host)])).is_err(), "{host}");
        }
        assert!(access.check_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn pages_of_elsewhere_are_refused() {
        let access = access();
        let check = |origin| access.check_origin(&headers(&[("host", "127.0.0.1:80"), ("origin", origin)]));
        assert_eq!(check("http://127.0.0.1:80"), Ok(None));
        assert_eq!(check("https://chat.example").unwrap().unwrap(), "https://chat.example");
        for origin in [
            "null",
            "http://evil.example",
            "http://127.0.0.1:81",
            "http://127.0.0.1:80.evil",
            "127.0.0.1:80",
            "",
        ] {
            assert!(check(origin).is_err(), "{origin}");
        }
        assert_eq!(access.check_origin(&headers(&[("host", "127.0.0.1")])), Ok(None));
    }

    #[test]
    fn the_key_opens_and_nothing_else_does() {
        let access = access();
        assert_eq!(access.check_key(&headers(&[("authorization", "Bearer correct-horse")])), Ok(()));
        assert_eq!(access.check_key(&headers(&[("authorization", "bearer correct-horse")])), Ok(()));
        assert_eq!(access.check_key(&headers(&[("x-api-key", "correct-horse")])), Ok(()));
        for wrong in [
            "Bearer correct-hors",
            "Bearer correct-horse2",
            "Basic correct-horse",
            "Bearer ",
            "correct-horse",
        ] {
            assert!(access.check_key(&headers(&[("authorization", wrong)])).is_err(), "{wrong}");
        }
        assert!(access.check_key(&HeaderMap::new()).is_err());
        assert!(Access::new(None, &[], &[]).unwrap().check_key(&HeaderMap::new()).is_ok());
        assert!(Access::new(Some("short"), &[], &[]).is_err());
    }
}
