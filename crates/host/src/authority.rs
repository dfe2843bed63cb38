//! Hosts with ports, as `Host` headers, origins and lists in the configuration write them.

/// `localhost:8080` → `localhost` and 8080, `[::1]` → `[::1]`. `None` for anything else behind the host.
pub(crate) fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            let port = &authority[colon + 1..];
            // Rust's numbers may begin with a plus.
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = is_number.then(|| port.parse().ok())??;
            Some((&authority[..colon], Some(port)))
        }
        _ => Some((authority, None)),
    }
}

/// Whether the text is a host, with or without a port, and nothing else.
pub(crate) fn is_host(text: &str) -> bool {
    split(text).is_some_and(|(host, _)| {
        let is_bare = |host: &str| !host.is_empty() && !host.contains(['/', ':', ' ', '*', '@', '[', ']']);
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_bare(host),
        }
    })
}

/// The port of a scheme where an authority has none.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port_and_nothing_else() {
        for (text, parts) in [
            ("localhost", Some(("localhost", None))),
            ("localhost:80", Some(("localhost", Some(80)))),
            ("[::1]:8080", Some(("[::1]", Some(8080)))),
            ("[::1]", Some(("[::1]", None))),
            ("localhost:", None),
            ("localhost:+80", None),
            ("localhost:65536", None),
            ("localhost:80@evil.example", None),
        ] {
            assert_eq!(split(text), parts, "{text}");
            assert_eq!(is_host(text), parts.is_some(), "{text}");
        }
        for text in ["", ":80", "a b", "a/b", "*.example", "a@b", "::1", "[x]:1"] {
            assert!(!is_host(text), "{text}");
        }
    }
}
