//! Trace context as W3C defines it: whose work this is, in the words of a tracing system.
//!
//! Reading follows <https://www.w3.org/TR/trace-context/>; what it calls invalid is as good as
//! absent. Kept and handed on as it came, unless the hub tells of spans itself (`span`): then an
//! instance without one gets one, and what is handed on names the span that it is handed on by.

use std::fmt;
use std::sync::Arc;

use crate::span::SpanId;

/// Most characters of a `tracestate` that are handed on; longer ones lose entries.
const STATE_CHARS_MAX: usize = 512;
/// Entries longer than this go first.
const ENTRY_CHARS_MAX: usize = 128;
/// Most entries of a `tracestate`; with more it is invalid.
const ENTRIES_MAX: usize = 32;

/// A `traceparent`, and a `tracestate` if there is one. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext(Arc<Headers>);

#[derive(PartialEq, Eq, Hash)]
struct Headers {
    parent: String,
    state: Option<String>,
    creation: Option<Creation>,
}

/// The span of whoever had an instance created, above the span of its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Creation {
    /// Nobody said: the trace begins with the creation.
    Begins,
    /// This span.
    Under(SpanId),
}

impl TraceContext {
    /// Reads the two headers. `None` when the parent is invalid; an invalid state alone is dropped.
    ///
    /// # Example
    /// ```
    /// use dalsegno_core::TraceContext;
    ///
    /// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// let trace = TraceContext::parse(header, None).expect("a valid header");
    /// assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    /// assert!(TraceContext::parse("00-0-0-0", None).is_none());
    /// ```
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        Some(Self(Arc::new(Headers {
            parent: read_parent(parent.trim_matches([' ', '\t']))?,
            state: state.and_then(read_state),
            creation: None,
        })))
    }

    /// A trace that begins with the creation of an instance.
    pub fn begun(trace: u128, creation: SpanId, is_sampled: bool) -> Self {
        Self(Arc::new(Headers {
            parent: format!("00-{trace:032x}-{creation}-{:02x}", u8::from(is_sampled)),
            state: None,
            creation: Some(Creation::Begins),
        }))
    }

    /// The same trace for what a span leads to.
    #[must_use]
    pub fn under(&self, span: SpanId) -> Self {
        self.changed(span, self.flags(), None)
    }

    /// The same trace for an instance that this span creates, which is told of together with it.
    #[must_use]
    pub fn created_by(&self, span: SpanId, is_sampled: bool) -> Self {
        let flags = self.flags() & !1 | u8::from(is_sampled);
        self.changed(span, flags, Some(Creation::Under(self.parent_span())))
    }

    /// The same, where the creation is told of: elsewhere when `None`.
    #[must_use]
    pub fn with_creation(&self, creation: Option<Creation>) -> Self {
        self.changed(self.parent_span(), self.flags(), creation)
    }

    fn changed(&self, span: SpanId, flags: u8, creation: Option<Creation>) -> Self {
        Self(Arc::new(Headers {
            parent: format!("00-{}-{span}-{flags:02x}", self.trace_id()),
            state: self.0.state.clone(),
            creation,
        }))
    }

    /// The creation that the parent names, if the hub is to tell of it.
    pub fn creation(&self) -> Option<Creation> {
        self.0.creation
    }

    /// The header `traceparent`: `version-trace-parent-flags`.
    pub fn trace_parent(&self) -> &str {
        &self.0.parent
    }

    /// The header `tracestate`.
    pub fn trace_state(&self) -> Option<&str> {
        self.0.state.as_deref()
    }

    /// The trace, as 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0.parent[3..35]
    }

    /// The span that caused this work, as 16 hexadecimal digits.
    pub fn parent_id(&self) -> &str {
        &self.0.parent[36..52]
    }

    /// The span that caused this work.
    pub fn parent_span(&self) -> SpanId {
        u64::from_str_radix(self.parent_id(), 16).map_or(SpanId::NONE, SpanId)
    }

    /// Whether the sender records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags() & 1 == 1
    }

    fn flags(&self) -> u8 {
        u8::from_str_radix(&self.0.parent[53..55], 16).unwrap_or(0)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.parent)?;
        match &self.0.state {
            Some(state) => write!(f, " {state}"),
            None => Ok(()),
        }
    }
}

/// Version 00 as it is; a later one as far as 00 knows it.
fn read_parent(text: &str) -> Option<String> {
    let is_hex = |part: &str| part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let fields = text.get(..55)?;
    let mut parts = fields.split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = [version.len(), trace.len(), parent.len(), flags.len()];
    let well_formed = lengths == [2, 32, 16, 2] && [version, trace, parent, flags].into_iter().all(is_hex);
    let is_nothing = |id: &str| id.bytes().all(|c| c == b'0');
    if !well_formed || version == "ff" || is_nothing(trace) || is_nothing(parent) {
        return None;
    }
    match (version, text.as_bytes().get(55)) {
        ("00", None) => Some(fields.to_owned()),
        ("00", Some(_)) => None,
        (_, None | Some(b'-')) => {
            let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
            Some(format!("00-{trace}-{parent}-{sampled:02x}"))
        }
        _ => None,
    }
}

/// The entries, trimmed and without empty ones; `None` when one is invalid or none is left.
fn read_state(text: &str) -> Option<String> {
    let mut entries: Vec<&str> = text
        .split(',')
        .map(|entry| entry.trim_matches([' ', '\t']))
        .filter(|entry| !entry.is_empty())
        .collect();
    let keys: Option<Vec<&str>> = entries.iter().map(|entry| entry_key(entry)).collect();
    let mut keys = keys?;
    keys.sort_unstable();
    keys.dedup();
    if keys.len() != entries.len() || entries.len() > ENTRIES_MAX {
        return None;
    }
    let chars = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>();
    while chars(&entries) > STATE_CHARS_MAX + 1 {
        let long = entries.iter().rposition(|entry| entry.len() > ENTRY_CHARS_MAX);
        entries.remove(long.unwrap_or(entries.len() - 1));
    }
    Some(entries.join(",")).filter(|state| !state.is_empty())
}

/// The key of an entry `key=value`, if both are well-formed.
fn entry_key(entry: &str) -> Option<&str> {
    let (key, value) = entry.split_once('=')?;
    let first = key.bytes().next()?;
    let in_key = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |c: u8| (b' '..=b'~').contains(&c) && c != b'=';
    let is_key = key.len() <= 256 && (first.is_ascii_lowercase() || first.is_ascii_digit());
    let is_value = !value.is_empty() && value.len() <= 256 && value.bytes().all(in_value);
    (is_key && is_value && key.bytes().all(in_key)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parent(text: &str) -> Option<String> {
        TraceContext::parse(text, None).map(|trace| trace.trace_parent().to_owned())
    }

    #[test]
    fn a_parent_is_taken_or_as_good_as_absent() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(parent(&good).as_ref(), Some(&good));
        assert_eq!(parent(&format!(" {good}\t")).as_ref(), Some(&good));
        for (given, taken) in [
            (
                format!("00-{TRACE}-{SPAN}-ff"),
                Some(format!("00-{TRACE}-{SPAN}-ff")),
            ),
            (format!("01-{TRACE}-{SPAN}-03"), Some(good.clone())),
            (
                format!("cc-{TRACE}-{SPAN}-00-what-comes"),
                Some(format!("00-{TRACE}-{SPAN}-00")),
            ),
            (format!("cc-{TRACE}-{SPAN}-00what"), None),
            (format!("{good}-x"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (good.to_uppercase(), None),
            (good.replace('-', "_"), None),
            (format!("0-{TRACE}0-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-é"), None),
            (String::new(), None),
        ] {
            assert_eq!(parent(&given), taken, "{given}");
        }
        let trace = TraceContext::parse(&good, None).expect("valid");
        assert_eq!(
            (trace.trace_id(), trace.parent_id(), trace.is_sampled()),
            (TRACE, SPAN, true)
        );
    }

    #[test]
    fn what_is_handed_on_names_the_span_that_hands_it_on() {
        let given = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-03"), Some("a=1")).expect("valid");
        let under = given.under(SpanId(0xab));
        assert_eq!(under.trace_parent(), format!("00-{TRACE}-00000000000000ab-03"));
        assert_eq!((under.trace_state(), under.creation()), (Some("a=1"), None));
        let created = given.created_by(SpanId(7), false);
        assert_eq!(created.trace_parent(), format!("00-{TRACE}-0000000000000007-02"));
        assert_eq!(created.creation(), Some(Creation::Under(given.parent_span())));
        assert_eq!(created.under(SpanId(8)).creation(), None);
        let begun = TraceContext::begun(5, SpanId(6), true);
        assert_eq!(
            begun.trace_parent(),
            "00-00000000000000000000000000000005-0000000000000006-01"
        );
        assert_eq!(begun.creation(), Some(Creation::Begins));
        assert_eq!(begun.with_creation(None).creation(), None);
    }

    #[test]
    fn a_state_is_taken_or_dropped_alone() {
        let state = |text: &str| {
            let trace = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-01"), Some(text));
            trace
                .expect("the parent is valid")
                .trace_state()
                .map(str::to_owned)
        };
        let many = |count: usize| {
            (0..count)
                .map(|at| format!("k{at}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        for (given, taken) in [
            ("a=1, b=2 ,,", Some("a=1,b=2")),
            ("t1@v/x*=a b", Some("t1@v/x*=a b")),
            ("", None),
            (" , ", None),
            ("a", None),
            ("a=", None),
            ("A=1", None),
            ("a=1=2", None),
            ("a=1,a=2", None),
            ("a=\u{7f}", None),
        ] {
            assert_eq!(state(given).as_deref(), taken, "{given}");
        }
        assert!(state(&many(32)).is_some());
        assert_eq!(state(&many(33)), None);
        let long = format!("a=1,long={},b={}", "x".repeat(200), "y".repeat(120));
        assert_eq!(state(&long).as_ref(), Some(&long));
        let longer = format!("{long},c={},d={}", "z".repeat(120), "w".repeat(120));
        let cut = format!(
            "a=1,b={},c={},d={}",
            "y".repeat(120),
            "z".repeat(120),
            "w".repeat(120)
        );
        assert_eq!(
            state(&longer),
            Some(cut),
            "entries of more than 128 characters go first"
        );
    }
}
