//! The web page, out of the program itself: nothing of it is fetched from elsewhere, and its policy forbids that it could be.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api_error::ApiError;

/// A file of the page.
pub(crate) struct Asset {
    /// Where it lies below the server's address, without the first slash.
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// Its hash, by which browsers know whether they have it already.
    tag: &'static str,
}

// `ASSETS`: every file in `page/`.
include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Scripts, styles, images and requests to this server, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The file at `path` of the server's address.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    let path = match path.strip_prefix('/')? {
        "" => "index.html",
        path => path,
    };
    ASSETS.iter().find(|asset| asset.path == path)
}

/// Gives a file of the page, or says that there is nothing at this address.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let Some(asset) = asset(uri.path()) else {
        let message = format!("there is nothing at {}", uri.path());
        return ApiError::not_found("unknown_url", message).into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == asset.tag.as_bytes());
    let (status, body) = match known {
        true => (StatusCode::NOT_MODIFIED, Body::empty()),
        false => (StatusCode::OK, Body::from(asset.bytes)),
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::ETAG, asset.tag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_there_and_what_is_no_part_of_it_is_not() {
        assert_eq!(asset("/").unwrap().kind, "text/html; charset=utf-8");
        assert!(std::ptr::eq(asset("/").unwrap(), asset("/index.html").unwrap()));
        for path in ["", "index.html", "//", "/../Cargo.toml", "/index.html/", "/src/lib.rs"] {
            assert!(asset(path).is_none(), "{path}");
        }
    }

    #[test]
    fn nothing_of_the_page_is_inline_which_its_policy_forbids() {
        let page = std::str::from_utf8(asset("/").unwrap().bytes).unwrap();
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("javascript:"));
        for script in page.split("<script").skip(1) {
            assert!(script.split('>').next().unwrap().contains("src="), "{script}");
        }
    }
}
