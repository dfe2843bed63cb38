//! What a listener asks of its callers, before it looks at the route.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use dalsegno_core::Timestamp;

use super::principal::{Principal, forbidden};
use crate::authority::{default_port, split};
use crate::http::problem::{Place, Problem};
use crate::key_file::Keys;
use crate::keys::LinkSigner;

/// The header of a key.
pub(crate) const KEY_HEADER: &str = "x-functions-key";

/// Who may call a listener: whoever has a key; or, without keys, any program on this machine.
///
/// Without keys the `Host` of a request must be a name of this machine, and a page in a browser
/// must come from this listener, or any web page could command the hub. A request that a proxy
/// forwarded is refused: its sender is not on this machine.
#[derive(Clone, Debug)]
pub struct Access {
    keys: Option<Keys>,
    hosts: Arc<[String]>,
    keys_in_query: KeysInQuery,
}

/// Whether `?code=` may hold a key. It may hold the key of a link in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeysInQuery {
    /// A key in `?code=` is not looked at: addresses end up in the logs of proxies.
    #[default]
    Ignored,
    /// A key in `?code=` is as good as one in the header.
    Accepted,
}

impl Access {
    /// Without keys: for listeners on loopback.
    pub fn loopback() -> Self {
        Self {
            keys: None,
            hosts: Arc::default(),
            keys_in_query: KeysInQuery::Ignored,
        }
    }

    /// Callers need a key.
    pub fn with_keys(keys: impl Into<Keys>) -> Self {
        Self {
            keys: Some(keys.into()),
            ..Self::loopback()
        }
    }

    /// Names of this host beside those of loopback: `orders.example` with any port, or
    /// `orders.example:8443`.
    #[must_use]
    pub fn hosts(self, hosts: &[String]) -> Self {
        Self {
            hosts: hosts.into(),
            ..self
        }
    }

    /// Whether `?code=` may hold a key.
    #[must_use]
    pub fn keys_in_query(self, keys_in_query: KeysInQuery) -> Self {
        Self {
            keys_in_query,
            ..self
        }
    }

    /// Whether callers need a key.
    pub fn needs_keys(&self) -> bool {
        self.keys.is_some()
    }

    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// The caller. A key in the header wins over one in `?code=`.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, code: Option<&str>, now: Timestamp) -> Principal {
        let Some(keys) = &self.keys else {
            return Principal::Loopback;
        };
        let (secret, is_in_query) = match headers.get(KEY_HEADER) {
            Some(value) => (value.to_str().unwrap_or_default(), false),
            None => (code.unwrap_or_default(), true),
        };
        if secret.is_empty() {
            return Principal::Anonymous;
        }
        if LinkSigner::is_link_key(secret) {
            return Principal::LinkClaim(secret.into());
        }
        if is_in_query && self.keys_in_query == KeysInQuery::Ignored {
            return Principal::Anonymous;
        }
        match keys.ring(now).find(secret, now) {
            Some(key) => Principal::Key(key.clone()),
            None => Principal::InvalidKey,
        }
    }

    /// Refuses a request with two `Host` headers; without keys also one for a name that is not ours
    /// (421), and one that a proxy forwarded (403).
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let mut named = headers.get_all(header::HOST).iter();
        let first = named.next();
        if named.next().is_some() {
            return Err(Problem::bad_request(
                "invalid_parameter",
                "a request has one Host header; this one has more",
            )
            .param("Host")
            .at(Place::Header));
        }
        if self.keys.is_some() {
            return Ok(());
        }
        let host = uri.host().or_else(|| Some(split(first?.to_str().ok()?)?.0));
        if !host.is_some_and(|host| is_loopback_name(host) || self.lists(host, None)) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                "this listener has no keys and answers to names of loopback and of http.hosts only",
            )
            .got(host.unwrap_or_default()));
        }
        match headers.keys().find(|name| is_forwarding(name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forwarded_without_keys",
                format!(
                    "a proxy forwarded this request (it has the header {name}) and this host has no keys: \
                     create keys with `dalsegno key create` and set auth.keys_file"
                ),
            )),
        }
    }

    /// Without keys: 403 for a page in a browser that another site served. A browser may follow a link to
    /// here, which has no `Origin` and reads nothing back.
    pub(crate) fn check_origin(
        &self,
        scheme: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        if self.keys.is_some() {
            return Ok(());
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let site = headers.get("sec-fetch-site");
        let cross_site = !is_read && site.is_some_and(|site| site == "cross-site");
        let own = uri.authority().map(Authority::as_str);
        let own = own.or_else(|| headers.get(header::HOST)?.to_str().ok());
        let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
            let origin = origin.to_str().ok().and_then(Origin::parse);
            !origin.is_some_and(|origin| {
                own.is_some_and(|own| origin.is(scheme, own)) || self.lists(origin.host, Some(origin.port))
            })
        });
        match cross_site || foreign {
            true => Err(forbidden()),
            false => Ok(()),
        }
    }

    /// Whether links may name this host: one of `http.hosts`; else, without keys, a name of loopback,
    /// and with keys the very address of the connection.
    pub(crate) fn is_own_authority(&self, authority: &str, listening: std::net::SocketAddr) -> bool {
        let Some((host, port)) = split(authority) else {
            return false;
        };
        if self.lists(host, port) {
            return true;
        }
        if self.keys.is_none() {
            return is_loopback_name(host);
        }
        let is_address = ip_of(host).is_some_and(|ip| ip == listening.ip().to_canonical());
        let is_name = listening.ip().is_loopback() && is_loopback_name(host);
        port == Some(listening.port()) && (is_address || is_name)
    }

    /// Whether `http.hosts` has the name: for any port, or for this one.
    fn lists(&self, host: &str, port: Option<u16>) -> bool {
        self.hosts
            .iter()
            .filter_map(|own| split(own))
            .any(|(own, own_port)| {
                own.eq_ignore_ascii_case(host)
                    && own_port.is_none_or(|own| port.is_none_or(|port| own == port))
            })
    }
}

/// A header by which a proxy says that it forwarded a request.
fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name == "via" || name.starts_with("x-forwarded-")
}

/// An origin of a browser, taken apart: `http://127.0.0.1:8080`.
#[derive(Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    /// Nothing but a scheme, a host and a port in digits.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split(authority)?;
        let port = port.or_else(|| default_port(scheme))?;
        Some(Self { scheme, host, port })
    }

    fn is(&self, scheme: &str, authority: &str) -> bool {
        split(authority).is_some_and(|(host, port)| {
            self.scheme == scheme
                && self.host.eq_ignore_ascii_case(host)
                && Some(self.port) == port.or_else(|| default_port(scheme))
        })
    }
}

fn ip_of(host: &str) -> Option<IpAddr> {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.ok().map(|address| address.to_canonical())
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip_of(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyHubs, KeyRing, Scope};

    const NOW: Timestamp = Timestamp::from_micros(1_772_357_400_000_000);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn without_a_key_401_with_the_wrong_scope_403() {
        let mut ring = KeyRing::new().unwrap();
        let secret = ring.create("reader", &[Scope::Read], KeyHubs::All, None).unwrap();
        let access = Access::with_keys(ring);
        let lenient = access.clone().keys_in_query(KeysInQuery::Accepted);
        let none = HeaderMap::new();
        let good = headers(&[(KEY_HEADER, &secret)]);
        let bad = headers(&[(KEY_HEADER, "dsk_x")]);
        let status = |access: &Access, headers: &HeaderMap, code: Option<&str>, scope| {
            let principal = access.authenticate(headers, code, NOW);
            principal
                .permit(&[scope])
                .map_err(|problem| problem.status.as_u16())
        };
        for (headers, code, scope, strict_status, lenient_status) in [
            (&none, None, Scope::Read, Err(401), Err(401)),
            (&none, Some(""), Scope::Read, Err(401), Err(401)),
            (&none, Some("dsk_x"), Scope::Read, Err(401), Err(401)),
            // Addresses are logged by proxies: a key there counts only where the operator says so.
            (&none, Some(secret.as_str()), Scope::Read, Err(401), Ok(())),
            (&good, None, Scope::Read, Ok(()), Ok(())),
            (&good, Some("dsk_x"), Scope::Read, Ok(()), Ok(())),
            (&bad, Some(secret.as_str()), Scope::Read, Err(401), Err(401)),
            (&good, None, Scope::Purge, Err(403), Err(403)),
            // What has the form of a link has no scope, verified or not.
            (&none, Some("dsl1_0_0"), Scope::Read, Err(403), Err(403)),
            (&none, Some("dsl2_0_0_0"), Scope::Read, Err(403), Err(403)),
        ] {
            assert_eq!(status(&access, headers, code, scope), strict_status, "{code:?}");
            assert_eq!(status(&lenient, headers, code, scope), lenient_status, "{code:?}");
        }
        let link = headers(&[(KEY_HEADER, "dsl1_x")]);
        let claim = access.authenticate(&link, None, NOW);
        assert!(claim.scopes().is_empty() && !claim.is_known());
    }

    #[test]
    fn without_keys_a_listener_answers_to_its_own_names() {
        let access = Access::loopback().hosts(&["hub.test".into()]);
        let check = |host: &str| {
            access
                .check_host(&Uri::from_static("/"), &headers(&[("host", host)]))
                .is_ok()
        };
        for (host, wanted) in [
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("hub.test:80", true),
            ("evil.example", false),
            ("localhost.evil.example:8080", false),
            ("10.0.0.1", false),
            ("localhost:80@evil.example", false),
            ("localhost:+80", false),
            ("", false),
        ] {
            assert_eq!(check(host), wanted, "{host}");
        }
        let refused = |uri: &'static str, pairs| {
            let refused = access.check_host(&Uri::from_static(uri), &headers(pairs));
            refused.map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(refused("/", &[]), Err(421));
        assert_eq!(
            refused("http://evil.example/", &[("host", "localhost")]),
            Err(421)
        );
    }

    #[test]
    fn a_request_has_one_host_with_keys_and_without() {
        let twice = headers(&[("host", "localhost"), ("host", "localhost")]);
        for access in [Access::loopback(), Access::with_keys(KeyRing::new().unwrap())] {
            let refused = access.check_host(&Uri::from_static("/"), &twice).unwrap_err();
            assert_eq!(refused.status, 400);
        }
    }

    #[test]
    fn without_keys_a_forwarded_request_is_refused() {
        // nginx sets Host to its upstream, so that a request of the internet looked like one of this
        // machine.
        let open = Access::loopback();
        let keyed = Access::with_keys(KeyRing::new().unwrap());
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "via"] {
            let forwarded = headers(&[("host", "127.0.0.1:8080"), (name, "203.0.113.9")]);
            let check = |access: &Access| access.check_host(&Uri::from_static("/"), &forwarded);
            let refused = check(&open).unwrap_err();
            assert_eq!(
                (refused.status.as_u16(), refused.code),
                (403, "forwarded_without_keys")
            );
            assert!(check(&keyed).is_ok());
        }
    }

    #[test]
    fn a_page_of_another_origin_cannot_command() {
        let access = Access::loopback().hosts(&["ui.test".into(), "hub.test:9".into()]);
        let own = ("host", "127.0.0.1:8080");
        let check = |method: Method, name: &'static str, value: &str| {
            let headers = headers(&[own, (name, value)]);
            access
                .check_origin("http", &method, &Uri::from_static("/"), &headers)
                .is_ok()
        };
        assert!(check(Method::POST, "accept", "*/*"));
        for (origin, wanted) in [
            ("http://127.0.0.1:8080", true),
            ("http://ui.test", true),
            ("https://ui.test:5173", true),
            ("http://hub.test:9", true),
            ("http://hub.test:10", false),
            ("https://127.0.0.1:8080", false),
            ("http://127.0.0.1:80", false),
            ("http://127.0.0.1", false),
            ("http://localhost:3000", false),
            // Only the part before the last colon was compared.
            ("http://127.0.0.1:8080.evil.example", false),
            ("http://127.0.0.1:8080@evil.example", false),
            ("http://127.0.0.1:8080/evil", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            assert_eq!(check(Method::POST, "origin", origin), wanted, "POST {origin}");
            assert_eq!(check(Method::GET, "origin", origin), wanted, "GET {origin}");
        }
        assert!(!check(Method::DELETE, "sec-fetch-site", "cross-site"));
        assert!(check(Method::GET, "sec-fetch-site", "cross-site"));
    }

    #[test]
    fn links_name_allowed_hosts_only() {
        let listening = "10.0.0.5:8080".parse().unwrap();
        let loopback = "127.0.0.1:8080".parse().unwrap();
        let hosts = ["hub.test".to_owned(), "other.test:9".to_owned()];
        let keyed = Access::with_keys(KeyRing::new().unwrap()).hosts(&hosts);
        for (authority, at, wanted) in [
            ("10.0.0.5:8080", listening, true),
            ("hub.test", listening, true),
            ("HUB.test:444", listening, true),
            ("other.test:9", listening, true),
            ("other.test:10", listening, false),
            ("evil.example", listening, false),
            ("evil.example:8080", listening, false),
            ("10.0.0.5:9999", listening, false),
            ("localhost:8080", listening, false),
            ("localhost:8080", loopback, true),
            ("127.0.0.1:9999", loopback, false),
        ] {
            assert_eq!(keyed.is_own_authority(authority, at), wanted, "{authority}");
        }
        // Without keys links carry nothing, and ports may be mapped.
        assert!(Access::loopback().is_own_authority("127.0.0.1:9999", loopback));
        assert!(!Access::loopback().is_own_authority("evil.example", loopback));
    }
}
