//! What proxies say of a request: the client's address, and the name and scheme that it used.
//!
//! Only proxies in `http.trusted_proxies` are believed. `X-Forwarded-For` wins over `Forwarded`: the
//! usual proxies set the former and pass on whatever the client wrote into the latter.

use std::net::{IpAddr, SocketAddr};

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};

use super::auth::Access;
use super::request::HttpSettings;

/// The address of the client: of the connection, or, behind trusted proxies, the last one in the
/// chain that is not one of them.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpAddr]) -> IpAddr {
    let mut address = peer.to_canonical();
    let hops = match headers.contains_key("x-forwarded-for") {
        true => elements(headers, "x-forwarded-for"),
        false => elements(headers, "forwarded")
            .into_iter()
            .map(|element| parameter(&element, "for").unwrap_or_default().to_owned())
            .collect(),
    };
    for hop in hops.into_iter().rev() {
        if !trusted.contains(&address) {
            break;
        }
        match address_of(&hop) {
            Some(hop) => address = hop,
            // Whoever is behind it is unknown, and the proxy answers for it.
            None => break,
        }
    }
    address
}

/// The origin of links: configured; or what the client called this host by, if `http.hosts` or the
/// listener has that name; else the address of the listener.
pub(crate) fn origin(
    settings: &HttpSettings,
    access: &Access,
    parts: &Parts,
    peer: SocketAddr,
    listening: SocketAddr,
) -> String {
    if let Some(url) = &settings.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let is_trusted =
        settings.use_forwarded_host && settings.trusted_proxies.contains(&peer.ip().to_canonical());
    let (scheme, host) = match is_trusted {
        true => forwarded(&parts.headers),
        false => (None, None),
    };
    let scheme = scheme.unwrap_or_else(|| settings.scheme().to_owned());
    let asked = || match parts.uri.authority() {
        Some(authority) => Some(authority.to_string()),
        None => authority(parts.headers.get(header::HOST)?.to_str().ok()?),
    };
    let host = host
        .or_else(asked)
        .filter(|host| access.is_own_authority(host, listening))
        .unwrap_or_else(|| listening.to_string());
    format!("{scheme}://{host}")
}

/// Scheme and host that the client used, as the first proxy says.
fn forwarded(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let first = |name: &str| elements(headers, name).into_iter().next();
    let (scheme, host) = match (first("x-forwarded-proto"), first("x-forwarded-host")) {
        (None, None) => {
            let element = first("forwarded").unwrap_or_default();
            let part = |name: &str| parameter(&element, name).map(str::to_owned);
            (part("proto"), part("host"))
        }
        pair => pair,
    };
    let scheme = scheme.map(|scheme| scheme.to_ascii_lowercase());
    (
        scheme.filter(|scheme| scheme == "http" || scheme == "https"),
        host.and_then(|host| authority(&host)),
    )
}

fn authority(text: &str) -> Option<String> {
    Some(text.parse::<Authority>().ok()?.to_string())
}

/// The elements of a list header, over all its lines. What is not text in one of them leaves the others
/// as they are.
fn elements(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|element| String::from_utf8_lossy(element).trim().to_owned())
        .collect()
}

/// A parameter of an element of `Forwarded`: `for=192.0.2.1;proto=https`.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address_of(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    let address = address.or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRing;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = axum::http::Request::builder().uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        for (peer, headers, wanted) in [
            (
                "203.0.113.9",
                &[("x-forwarded-for", "198.51.100.1")][..],
                "203.0.113.9",
            ),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
            (
                "::ffff:10.0.0.1",
                &[("x-forwarded-for", "198.51.100.1:4711")],
                "198.51.100.1",
            ),
            // What the client wrote itself stands before what the proxies added.
            (
                "10.0.0.1",
                &[("x-forwarded-for", "1.1.1.1, 198.51.100.1, 10.0.0.2")],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &[
                    ("x-forwarded-for", "1.1.1.1"),
                    ("x-forwarded-for", "198.51.100.1"),
                ],
                "198.51.100.1",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "unknown")], "10.0.0.1"),
            // It hid the client behind the proxy.
            (
                "10.0.0.1",
                &[("x-forwarded-for", "\u{fc}, 198.51.100.1")],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &[("forwarded", "for=\"[2001:db8::1]:80\";proto=https")],
                "2001:db8::1",
            ),
            // nginx passes Forwarded on as the client wrote it.
            (
                "10.0.0.1",
                &[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "198.51.100.1")],
                "198.51.100.1",
            ),
        ] {
            let found = client_address(&parts(headers).headers, peer.parse().unwrap(), &trusted);
            assert_eq!(found.to_string(), wanted, "{peer} {headers:?}");
        }
    }

    fn check(settings: &HttpSettings, headers: &[(&str, &str)], wanted: &str) {
        let hosts = ["hub".into(), "a.example".into(), "c.example:444".into()];
        let access = Access::with_keys(KeyRing::new().unwrap()).hosts(&hosts);
        let (peer, listening) = ("10.0.0.1:999".parse().unwrap(), "10.0.0.9:8080".parse().unwrap());
        let found = origin(settings, &access, &parts(headers), peer, listening);
        assert_eq!(found, wanted, "{headers:?}");
    }

    #[test]
    fn the_origin_of_links_is_configured_or_an_allowed_host() {
        let plain = HttpSettings::default();
        check(&plain, &[("host", "hub:8080")], "http://hub:8080");
        check(&plain, &[("host", "10.0.0.9:8080")], "http://10.0.0.9:8080");
        check(
            &plain,
            &[("host", "hub"), ("x-forwarded-host", "a.example")],
            "http://hub",
        );
        // Links, with their keys, led to wherever the Host header said.
        check(&plain, &[("host", "evil.example")], "http://10.0.0.9:8080");
        check(&plain, &[("host", "hub:80@evil.example")], "http://10.0.0.9:8080");
        check(&plain, &[], "http://10.0.0.9:8080");

        let public = HttpSettings {
            public_url: Some("https://hub.example/".into()),
            ..plain.clone()
        };
        check(&public, &[("host", "evil.example")], "https://hub.example");

        let proxied = HttpSettings {
            use_forwarded_host: true,
            trusted_proxies: vec!["10.0.0.1".parse().unwrap()],
            ..plain
        };
        let https = ("x-forwarded-proto", "https,http");
        for (headers, wanted) in [
            (
                &[("x-forwarded-host", "a.example, b"), https][..],
                "https://a.example",
            ),
            (
                &[("x-forwarded-host", "evil.example"), https],
                "https://10.0.0.9:8080",
            ),
            (
                &[(
                    "forwarded",
                    "for=1.2.3.4;proto=https;host=\"c.example:444\", host=d",
                )],
                "https://c.example:444",
            ),
            (
                &[
                    ("host", "hub"),
                    ("x-forwarded-proto", "javascript"),
                    ("x-forwarded-host", "a b"),
                ],
                "http://hub",
            ),
        ] {
            check(&proxied, headers, wanted);
        }
        let untrusted = HttpSettings {
            trusted_proxies: vec!["10.0.0.2".parse().unwrap()],
            ..proxied
        };
        check(
            &untrusted,
            &[("host", "hub"), ("x-forwarded-host", "a.example")],
            "http://hub",
        );
    }
}
