//! The dashboard: files of the folder `dashboard`, inside the binary, and nothing but files.
//!
//! They are the same for everybody and hold no data, so they need no key; what they show comes
//! from `/runtime/dalsegno/v1` with the key of whoever looks. A debug build reads them from disk.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{Embed, EmbeddedFile};

/// Where it is.
const PATH: &str = "/dashboard";
/// The page behind every address that names no file.
const PAGE: &str = "index.html";
/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// Smaller files are not worth packing.
const PACKED_BYTES_MIN: usize = 512;

#[derive(Embed)]
#[folder = "dashboard/"]
struct Files;

/// The answer to a request below `/dashboard`; `None` for all others.
pub(crate) fn answer(parts: &Parts) -> Option<Response<Body>> {
    let rest = parts.uri.path().strip_prefix(PATH)?;
    let Some(name) = rest.strip_prefix('/') else {
        return rest.is_empty().then(lead_there);
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Some(plain(StatusCode::METHOD_NOT_ALLOWED));
    }
    let name = if name.is_empty() { PAGE } else { name };
    Some(match Files::get(name) {
        Some(file) => send(name, file, &parts.headers),
        None => plain(StatusCode::NOT_FOUND),
    })
}

/// A visitor of `/` is sent on when the app answers with one of these: it has nothing there, or, to a
/// browser, which has no key before the page has asked for one, that a key is needed.
pub(crate) fn led_away(parts: &Parts) -> Option<&'static [StatusCode]> {
    let is_visit = parts.method == Method::GET && parts.uri.path() == "/";
    let accepts = parts.headers.get(header::ACCEPT);
    let is_browser = accepts
        .and_then(|accepts| accepts.to_str().ok())
        .is_some_and(|accepts| accepts.contains("text/html"));
    match is_browser {
        _ if !is_visit => None,
        true => Some(&[StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED]),
        false => Some(&[StatusCode::NOT_FOUND]),
    }
}

/// Sends a browser to the dashboard.
pub(crate) fn lead_there() -> Response<Body> {
    let mut response = plain(StatusCode::FOUND);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/dashboard/"));
    response
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn send(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response<Body> {
    let hash = file.metadata.sha256_hash();
    let tag = format!("\"{}\"", hex(&hash));
    let is_known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag);
    let packed = match is_known || !takes_gzip(asked) || file.data.len() < PACKED_BYTES_MIN {
        true => None,
        false => packed(hash, &file.data),
    };
    let mut response = plain(match is_known {
        true => StatusCode::NOT_MODIFIED,
        false => StatusCode::OK,
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    // Kept, and asked for each time: a new version of the host is seen at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if packed.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    *response.body_mut() = match (is_known, packed) {
        (true, _) => Body::empty(),
        (false, Some(bytes)) => Body::from(bytes),
        (false, None) => match file.data {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        },
    };
    response
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .any(|coding| match coding.split_once(';') {
            None => coding == "gzip",
            Some((name, weight)) => name.trim() == "gzip" && !matches!(weight.trim(), "q=0" | "q=0.0"),
        })
}

/// Packed once per content: the files are few and do not change while a release runs.
fn packed(hash: [u8; 32], bytes: &[u8]) -> Option<Vec<u8>> {
    static PACKED: OnceLock<Mutex<HashMap<[u8; 32], Vec<u8>>>> = OnceLock::new();
    let all = PACKED.get_or_init(Mutex::default);
    let known = all
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&hash)
        .cloned();
    if known.is_some() {
        return known;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    all.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(hash, packed.clone());
    Some(packed)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_given_to_who_takes_it() {
        let takes = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
            takes_gzip(&headers)
        };
        assert!(takes("gzip, deflate, br"));
        assert!(takes("br;q=1.0, GZIP;q=0.5"));
        assert!(!takes("gzip;q=0, br"));
        assert!(!takes("deflate"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn every_file_has_a_kind_that_a_browser_runs_or_shows() {
        let all: Vec<_> = Files::iter().collect();
        assert!(all.iter().any(|name| name == PAGE), "{all:?}");
        for name in all {
            let is_text = matches!(kind(&name), "text/plain; charset=utf-8");
            assert_eq!(is_text, name.ends_with(".md") || name.ends_with(".txt"), "{name}");
        }
    }
}
