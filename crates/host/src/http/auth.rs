//! Who asks, and may he?
//!
//! On loopback listeners nobody needs a key; instead the `Host` must be ours and a browser's
//! `Origin` too, or any web page could command the hub. Elsewhere every route but `/healthz` and
//! anonymous app routes needs a key.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use dalsegno_core::{InstanceId, Timestamp};

use super::problem::Problem;
use crate::key_file::Keys;
use crate::keys::{LinkOperation, LinkSigner, Scope};

/// The header of a key.
pub(super) const KEY_HEADER: &str = "x-functions-key";
/// Unknown keys that one address may show within a minute.
const BAD_KEYS_PER_MINUTE_MAX: u32 = 20;
/// Addresses remembered for it: some 64 bytes each, far below 10 MB.
const ADDRESSES_MAX: usize = 65_536;
const SECOND_MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;

/// What a listener asks of its callers.
#[derive(Clone, Debug)]
pub enum Access {
    /// Loopback: no key, but our own names only. Further names are taken from configuration.
    Loopback {
        /// Host names (without port) beside those of loopback.
        hosts: Vec<String>,
    },
    /// A key.
    Keys(Keys),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Somebody on this machine.
    Local,
    /// The holder of a key.
    Holder {
        /// The key's name.
        id: Arc<str>,
        /// What it allows.
        scopes: Vec<Scope>,
    },
    /// The holder of a link; what it is good for is seen at the route.
    Link(String),
    /// No key was shown.
    Nobody,
    /// A key was shown that we do not know.
    Stranger,
}

impl Identity {
    /// As an audit record names the caller.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Local => "local".to_owned(),
            Self::Holder { id, .. } => id.to_string(),
            Self::Link(_) => "link".to_owned(),
            Self::Nobody => "nobody".to_owned(),
            Self::Stranger => "unknown key".to_owned(),
        }
    }

    /// 401 for who has no key we know.
    pub(crate) fn require(&self) -> Result<(), Problem> {
        match self {
            Self::Nobody | Self::Stranger => Err(unauthorized()),
            Self::Local | Self::Holder { .. } | Self::Link(_) => Ok(()),
        }
    }

    /// What the caller may do.
    pub(crate) fn scopes(&self) -> &[Scope] {
        match self {
            Self::Local => &Scope::ALL,
            Self::Holder { scopes, .. } => scopes,
            Self::Link(_) | Self::Nobody | Self::Stranger => &[],
        }
    }

    /// 401 or 403 unless the caller has the scope.
    pub(crate) fn permit(&self, scope: Scope) -> Result<(), Problem> {
        self.require()?;
        match self {
            Self::Local => Ok(()),
            Self::Holder { scopes, .. } if scopes.contains(&scope) => Ok(()),
            _ => Err(forbidden()),
        }
    }
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a key is needed here")
}

fn forbidden() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "the key is not good for this")
}

impl Access {
    /// Who asks. The header wins over `?code=`.
    pub(crate) fn identify(&self, headers: &HeaderMap, code: Option<&str>, now: Timestamp) -> Identity {
        let Self::Keys(keys) = self else {
            return Identity::Local;
        };
        let secret = match headers.get(KEY_HEADER) {
            Some(value) => Some(value.to_str().unwrap_or_default()),
            None => code,
        };
        match secret {
            None | Some("") => Identity::Nobody,
            Some(link) if LinkSigner::is_link_key(link) => Identity::Link(link.to_owned()),
            Some(secret) => match keys.ring(now).find(secret, now) {
                Some(key) => Identity::Holder {
                    id: key.id.as_str().into(),
                    scopes: key.scopes.clone(),
                },
                None => Identity::Stranger,
            },
        }
    }

    /// May he use a route on an instance, by scope or by a link made for exactly that?
    pub(crate) fn permit_link(
        &self,
        identity: &Identity,
        scope: Scope,
        hub: &str,
        link: (LinkOperation, &InstanceId),
        now: Timestamp,
    ) -> Result<(), Problem> {
        let (Self::Keys(keys), Identity::Link(code)) = (self, identity) else {
            return identity.permit(scope);
        };
        if keys
            .ring(now)
            .link_signer()
            .verify(code, hub, link.0, link.1, now)
        {
            Ok(())
        } else {
            Err(forbidden())
        }
    }

    /// 421 for a name that is not ours.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Self::Loopback { hosts } = self else {
            return Ok(());
        };
        let host = uri.host().or_else(|| {
            headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(without_port)
        });
        match host {
            Some(host) if is_ours(host, hosts) => Ok(()),
            other => Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                "this listener answers to loopback names and http.hosts only",
            )
            .got(other.unwrap_or_default())),
        }
    }

    /// 403 for a browser that was sent here by somebody else's page. It may follow a link, which has no
    /// `Origin` and reads nothing back.
    pub(crate) fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let Self::Loopback { hosts } = self else {
            return Ok(());
        };
        let is_look = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let site = headers.get("sec-fetch-site");
        let cross_site = !is_look && site.is_some_and(|site| site == "cross-site");
        let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
            let host = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.split_once("://"))
                .map(|(_, host)| without_port(host));
            !host.is_some_and(|host| is_ours(host, hosts))
        });
        if cross_site || foreign {
            Err(forbidden())
        } else {
            Ok(())
        }
    }
}

/// `localhost:8080` → `localhost`, `[::1]:80` → `[::1]`.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

fn is_ours(host: &str, hosts: &[String]) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// How many unknown keys came from where, within a minute each.
#[derive(Debug, Default)]
pub(crate) struct BadKeys(HashMap<IpAddr, (i64, u32)>);

impl BadKeys {
    /// For how many seconds more an address is shut out that has shown too many; 0 for others.
    pub(crate) fn shut_seconds(&self, address: IpAddr, now: Timestamp) -> u32 {
        let known = self.0.get(&network(address));
        let Some((since, _)) = known.filter(|(_, count)| *count >= BAD_KEYS_PER_MINUTE_MAX) else {
            return 0;
        };
        let left = (since + MINUTE_MICROS - now.as_micros()).clamp(0, MINUTE_MICROS);
        u32::try_from((left + SECOND_MICROS - 1) / SECOND_MICROS).unwrap_or(1)
    }

    /// Notes one. A full table forgets whose minute is over, then whatever it must.
    pub(crate) fn note(&mut self, address: IpAddr, now: Timestamp) {
        let now = now.as_micros();
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, (since, _)| now - *since < MINUTE_MICROS);
        }
        if self.0.len() >= ADDRESSES_MAX {
            self.0.clear();
        }
        let (since, count) = self.0.entry(network(address)).or_insert((now, 0));
        if now - *since >= MINUTE_MICROS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

/// One customer has a /64 of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRing;

    const NOW: Timestamp = Timestamp::from_micros(1_772_357_400_000_000);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn without_a_key_401_with_the_wrong_scope_403() {
        let mut ring = KeyRing::new().unwrap();
        let secret = ring.create("reader", &[Scope::Read], None).unwrap();
        let access = Access::Keys(ring.into());
        let status = |headers: &HeaderMap, code: Option<&str>, scope| {
            let identity = access.identify(headers, code, NOW);
            identity.permit(scope).map_err(|problem| problem.status.as_u16())
        };
        let none = HeaderMap::new();
        let good = headers(&[(KEY_HEADER, &secret)]);
        let bad = headers(&[(KEY_HEADER, "dsk_x")]);
        for (headers, code, scope, wanted) in [
            (&none, None, Scope::Read, Err(401)),
            (&none, Some(""), Scope::Read, Err(401)),
            (&none, Some("dsk_x"), Scope::Read, Err(401)),
            (&none, Some(secret.as_str()), Scope::Read, Ok(())),
            (&good, None, Scope::Read, Ok(())),
            (&good, Some("dsk_x"), Scope::Read, Ok(())),
            (&bad, Some(secret.as_str()), Scope::Read, Err(401)),
            (&good, None, Scope::Purge, Err(403)),
            (&none, Some("dsl1_0_0"), Scope::Read, Err(403)),
        ] {
            assert_eq!(status(headers, code, scope), wanted);
        }
    }

    #[test]
    fn a_link_opens_its_own_route_only() {
        let ring = KeyRing::new().unwrap();
        let id = InstanceId::trusted("i");
        let code = ring
            .link_signer()
            .sign("default", LinkOperation::RaiseEvent, &id, Timestamp::MAX);
        let access = Access::Keys(ring.into());
        let identity = access.identify(&HeaderMap::new(), Some(&code), NOW);
        let permit = |operation, id: &str| {
            let id = InstanceId::trusted(id);
            access
                .permit_link(&identity, Scope::Signal, "default", (operation, &id), NOW)
                .map_err(|p| p.status.as_u16())
        };
        assert_eq!(permit(LinkOperation::RaiseEvent, "i"), Ok(()));
        assert_eq!(permit(LinkOperation::RaiseEvent, "j"), Err(403));
        assert_eq!(permit(LinkOperation::Terminate, "i"), Err(403));
        assert_eq!(identity.permit(Scope::Read).unwrap_err().status, 403);
    }

    #[test]
    fn loopback_answers_to_its_own_names() {
        let access = Access::Loopback {
            hosts: vec!["hub.test".into()],
        };
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
            ("", false),
        ] {
            assert_eq!(check(host), wanted, "{host}");
        }
        assert!(
            access
                .check_host(&Uri::from_static("/"), &HeaderMap::new())
                .is_err()
        );
        assert!(
            access
                .check_host(
                    &Uri::from_static("http://evil.example/"),
                    &headers(&[("host", "localhost")])
                )
                .is_err()
        );
    }

    #[test]
    fn a_foreign_page_cannot_command() {
        let access = Access::Loopback { hosts: vec![] };
        let check = |method: Method, pairs: &[(&'static str, &str)]| {
            access.check_origin(&method, &headers(pairs)).is_ok()
        };
        assert!(check(Method::POST, &[]));
        assert!(check(Method::POST, &[("origin", "http://localhost:3000")]));
        assert!(!check(Method::POST, &[("origin", "https://evil.example")]));
        assert!(!check(Method::POST, &[("origin", "null")]));
        assert!(!check(Method::DELETE, &[("sec-fetch-site", "cross-site")]));
        // Docs said that it is refused; it was answered.
        assert!(!check(Method::GET, &[("origin", "https://evil.example")]));
        assert!(!check(Method::GET, &[("origin", "null")]));
        assert!(check(Method::GET, &[("origin", "http://127.0.0.1:5173")]));
        assert!(check(Method::GET, &[("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn twenty_bad_keys_a_minute_and_no_more() {
        let mut table = BadKeys::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        for _ in 0..BAD_KEYS_PER_MINUTE_MAX {
            assert_eq!(table.shut_seconds(address, NOW), 0);
            table.note(address, NOW);
        }
        assert_eq!(table.shut_seconds(neighbour, NOW), 60, "same /64");
        let soon = Timestamp::from_micros(NOW.as_micros() + 1_500_000);
        assert_eq!(table.shut_seconds(neighbour, soon), 59);
        assert_eq!(table.shut_seconds("2001:db8:0:1::1".parse().unwrap(), NOW), 0);
        let later = Timestamp::from_micros(NOW.as_micros() + MINUTE_MICROS);
        assert_eq!(table.shut_seconds(address, later), 0);
        table.note(address, later);
        assert_eq!(table.shut_seconds(address, later), 0);
        for index in 0..ADDRESSES_MAX as u32 + 10 {
            table.note(IpAddr::V4(index.into()), NOW);
        }
        assert!(table.0.len() <= ADDRESSES_MAX);
    }
}
