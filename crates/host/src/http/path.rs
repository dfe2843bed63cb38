//! Which route a path is.
//!
//! The raw path is split at `/` first, then each segment is percent-decoded exactly once.
//! Literals match in any case, a trailing `/` changes nothing.

use axum::http::Method;

use super::query::percent_decode;

/// Where the management API lives.
const MANAGEMENT: [&str; 3] = ["runtime", "webhooks", "durabletask"];
/// Where our own lives.
const OURS: [&str; 3] = ["runtime", "dalsegno", "v1"];
/// First segments that no app route can take.
const RESERVED: [&str; 7] = [
    "runtime",
    "admin",
    "durabletask",
    "healthz",
    "metrics",
    "openapi.json",
    "dashboard",
];

/// A command that answers with an empty body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Terminate,
    Suspend,
    Resume,
    Rewind,
}

impl Command {
    fn parse(segment: &str) -> Option<Self> {
        [
            ("terminate", Self::Terminate),
            ("suspend", Self::Suspend),
            ("resume", Self::Resume),
            ("rewind", Self::Rewind),
        ]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(segment))
        .map(|(_, command)| command)
    }
}

/// A route of the management API, with what its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Management {
    Start { name: String, id: Option<String> },
    Status { id: String },
    List,
    Purge { id: String },
    PurgeMany,
    RaiseEvent { id: String, event: String },
    Command { id: String, command: Command },
    Restart { id: String },
    Entities { name: Option<String> },
    Entity { name: String, key: String },
    Signal { name: String, key: String },
    DeleteEntity { name: String, key: String },
    MakePrimary,
}

/// A route of ours, with what its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    Start { name: String },
    Get { id: String },
    Delete { id: String },
    Wait { id: String },
    History { id: String },
    Stream { id: String },
    RaiseEvent { id: String, event: String },
    Command { id: String, command: Command },
    Cancel { id: String },
    RetryNow { id: String },
    Restart { id: String },
    List,
    Counts,
    Purge,
    Entities,
    Entity { name: String, key: String },
    Signal { name: String, key: String },
    DeleteEntity { name: String, key: String },
    Limiters,
    SetLimiter { name: String },
    Webhooks,
    Workers,
    LogLevel,
    SetLogLevel,
    Explain { id: String },
    Stuck,
    Audit,
    Changes,
    Hub,
    Hubs,
    Schedules,
    RunSchedule { name: String },
    Operations,
    BeginOperation,
    Operation { id: String },
    CancelOperation { id: String },
    Overview,
}

/// Whom a path belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// The management API: segments behind its prefix, decoded.
    Management(Vec<String>),
    /// Ours: likewise.
    Ours(Vec<String>),
    /// `/healthz`, exactly so.
    Health,
    /// `/metrics`, exactly so.
    Metrics,
    /// A first segment that is ours, and nothing there.
    Reserved,
    /// An escape in it is broken.
    Unreadable,
    /// The app's own.
    App,
}

/// Whom a raw path belongs to.
pub(crate) fn face(raw: &str) -> Face {
    if raw == "/healthz" {
        return Face::Health;
    }
    if raw == "/metrics" {
        return Face::Metrics;
    }
    let mut segments: Vec<&str> = raw.strip_prefix('/').unwrap_or(raw).split('/').collect();
    if segments.len() > 1 && segments.last() == Some(&"") {
        segments.pop();
    }
    let Some(decoded) = segments
        .iter()
        .map(|segment| percent_decode(segment))
        .collect::<Option<Vec<_>>>()
    else {
        return Face::Unreadable;
    };
    let reserved = RESERVED.iter().any(|name| name.eq_ignore_ascii_case(&decoded[0]));
    match behind(&decoded, MANAGEMENT)
        .map(Face::Management)
        .or_else(|| behind(&decoded, OURS).map(Face::Ours))
    {
        Some(face) => face,
        None if reserved => Face::Reserved,
        None => Face::App,
    }
}

fn behind(segments: &[String], prefix: [&str; 3]) -> Option<Vec<String>> {
    let (head, rest) = segments.split_at_checked(prefix.len())?;
    let fits = head
        .iter()
        .zip(prefix)
        .all(|(segment, literal)| segment.eq_ignore_ascii_case(literal));
    fits.then(|| rest.to_vec())
}

/// Lower-cases a segment for matching with literals.
fn literals(segments: &[String]) -> Vec<String> {
    segments
        .iter()
        .map(|segment| segment.to_ascii_lowercase())
        .collect()
}

/// The route behind the prefix, if there is one with that method.
pub(crate) fn management(method: &Method, segments: &[String]) -> Option<Management> {
    let lower = literals(segments);
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let text = |at: usize| segments[at].clone();
    let route = match (method.as_str(), lower.as_slice()) {
        (_, ["makeprimary"]) => Management::MakePrimary,
        ("POST", ["orchestrators", _]) => Management::Start {
            name: text(1),
            id: None,
        },
        ("POST", ["orchestrators", _, _]) => Management::Start {
            name: text(1),
            id: Some(text(2)),
        },
        ("GET", ["instances"]) => Management::List,
        ("DELETE", ["instances"]) => Management::PurgeMany,
        ("GET", ["instances", _]) => Management::Status { id: text(1) },
        ("DELETE", ["instances", _]) => Management::Purge { id: text(1) },
        ("POST", ["instances", _, "raiseevent", _]) => Management::RaiseEvent {
            id: text(1),
            event: text(3),
        },
        ("POST", ["instances", _, "restart"]) => Management::Restart { id: text(1) },
        ("POST", ["instances", _, verb]) => Management::Command {
            id: text(1),
            command: Command::parse(verb)?,
        },
        ("GET", ["entities"]) => Management::Entities { name: None },
        ("GET", ["entities", _]) => Management::Entities { name: Some(text(1)) },
        ("GET", ["entities", _, _]) => Management::Entity {
            name: text(1),
            key: key(&segments[2]),
        },
        ("POST", ["entities", _]) => Management::Signal {
            name: text(1),
            key: String::new(),
        },
        ("POST", ["entities", _, _]) => Management::Signal {
            name: text(1),
            key: key(&segments[2]),
        },
        ("DELETE", ["entities", _]) => Management::DeleteEntity {
            name: text(1),
            key: String::new(),
        },
        ("DELETE", ["entities", _, _]) => Management::DeleteEntity {
            name: text(1),
            key: key(&segments[2]),
        },
        _ => return None,
    };
    Some(route)
}

/// The route behind our own prefix, if there is one with that method.
pub(crate) fn ours(method: &Method, segments: &[String]) -> Option<Ours> {
    let lower = literals(segments);
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let text = |at: usize| segments[at].clone();
    let route = match (method.as_str(), lower.as_slice()) {
        ("GET", ["hub"]) => Ours::Hub,
        ("GET", ["hubs"]) => Ours::Hubs,
        ("POST", ["orchestrators", _]) => Ours::Start { name: text(1) },
        ("GET", ["instances"]) => Ours::List,
        ("GET", ["instances", _]) => Ours::Get { id: text(1) },
        ("DELETE", ["instances", _]) => Ours::Delete { id: text(1) },
        ("GET", ["instances", _, "wait"]) => Ours::Wait { id: text(1) },
        ("GET", ["instances", _, "history"]) => Ours::History { id: text(1) },
        ("GET", ["instances", _, "explain"]) => Ours::Explain { id: text(1) },
        ("GET", ["instances", _, "stream"]) => Ours::Stream { id: text(1) },
        ("POST", ["instances", _, "events", _]) => Ours::RaiseEvent {
            id: text(1),
            event: text(3),
        },
        ("POST", ["instances", _, "restart"]) => Ours::Restart { id: text(1) },
        ("POST", ["instances", _, "retry-now"]) => Ours::RetryNow { id: text(1) },
        ("POST", ["instances", _, "cancel"]) => Ours::Cancel { id: text(1) },
        ("POST", ["instances", _, verb]) => Ours::Command {
            id: text(1),
            command: Command::parse(verb)?,
        },
        ("GET", ["counts"]) => Ours::Counts,
        ("POST", ["purge"]) => Ours::Purge,
        ("GET", ["entities"]) => Ours::Entities,
        ("GET", ["entities", _, _]) => Ours::Entity {
            name: text(1),
            key: key(&segments[2]),
        },
        ("POST", ["entities", _, _, "signal"]) => Ours::Signal {
            name: text(1),
            key: key(&segments[2]),
        },
        ("DELETE", ["entities", _, _]) => Ours::DeleteEntity {
            name: text(1),
            key: key(&segments[2]),
        },
        ("GET", ["stream"]) => Ours::Changes,
        ("GET", ["overview"]) => Ours::Overview,
        ("GET", ["schedules"]) => Ours::Schedules,
        ("POST", ["schedules", _, "run"]) => Ours::RunSchedule { name: text(1) },
        ("GET", ["operations"]) => Ours::Operations,
        ("POST", ["operations"]) => Ours::BeginOperation,
        ("GET", ["operations", _]) => Ours::Operation { id: text(1) },
        ("DELETE", ["operations", _]) => Ours::CancelOperation { id: text(1) },
        ("GET", ["webhooks"]) => Ours::Webhooks,
        ("GET", ["workers"]) => Ours::Workers,
        ("GET", ["log-level"]) => Ours::LogLevel,
        ("PUT", ["log-level"]) => Ours::SetLogLevel,
        ("GET", ["audit"]) => Ours::Audit,
        ("GET", ["stuck"]) => Ours::Stuck,
        ("GET", ["limiters"]) => Ours::Limiters,
        ("PUT", ["limiters", _]) => Ours::SetLimiter { name: text(1) },
        _ => return None,
    };
    Some(route)
}

/// `$` stands for the empty key, which a path cannot say otherwise.
fn key(segment: &str) -> String {
    if segment == "$" {
        String::new()
    } else {
        segment.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, wanted: &str) {
        let got = match face(path) {
            Face::Management(segments) => format!("{:?}", management(method, &segments)),
            Face::Ours(segments) => format!("v1 {:?}", ours(method, &segments)),
            face => format!("{face:?}"),
        };
        assert_eq!(got, wanted, "{method} {path}");
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn literals_match_in_any_case_and_segments_are_decoded_once() {
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        const P: &str = "/runtime/webhooks/durabletask";
        for (method, path, wanted) in [
            (
                &post,
                format!("{P}/orchestrators/Hello"),
                r#"Some(Start { name: "Hello", id: None })"#,
            ),
            (
                &post,
                format!("{P}/Orchestrators/Hello/i-1/"),
                r#"Some(Start { name: "Hello", id: Some("i-1") })"#,
            ),
            (
                &get,
                format!("{P}/INSTANCES/Order%201"),
                r#"Some(Status { id: "Order 1" })"#,
            ),
            (
                &get,
                format!("{P}/instances/a%252Fb"),
                r#"Some(Status { id: "a%2Fb" })"#,
            ),
            (
                &get,
                format!("{P}/instances/a%2Fb"),
                r#"Some(Status { id: "a/b" })"#,
            ),
            (
                &get,
                "/RUNTIME/WebHooks/DurableTask/instances/".into(),
                "Some(List)",
            ),
            (&delete, format!("{P}/instances"), "Some(PurgeMany)"),
            (
                &post,
                format!("{P}/instances/x/raiseevent/Approval"),
                r#"Some(RaiseEvent { id: "x", event: "Approval" })"#,
            ),
            (
                &post,
                format!("{P}/instances/x/Terminate"),
                r#"Some(Command { id: "x", command: Terminate })"#,
            ),
            (
                &post,
                format!("{P}/instances/x/restart"),
                r#"Some(Restart { id: "x" })"#,
            ),
            (&post, format!("{P}/instances/x/explode"), "None"),
            (&get, format!("{P}/instances/x/terminate"), "None"),
            (&Method::PUT, format!("{P}/instances/x"), "None"),
            (
                &get,
                format!("{P}/entities/Counter/$"),
                r#"Some(Entity { name: "Counter", key: "" })"#,
            ),
            (
                &post,
                format!("{P}/entities/Counter"),
                r#"Some(Signal { name: "Counter", key: "" })"#,
            ),
            (&Method::PATCH, format!("{P}/makePrimary"), "Some(MakePrimary)"),
            (&get, format!("{P}//instances/x"), "None"),
            (&get, format!("{P}/"), "None"),
            (&get, "/healthz".into(), "Health"),
            (&get, "//healthz".into(), "App"),
            (&get, "/x/../healthz".into(), "App"),
            (&get, "/HEALTHZ".into(), "Reserved"),
            (&get, "/%68ealthz".into(), "Reserved"),
            (&get, "/metrics".into(), "Metrics"),
            (&get, "/runtime/webhooks".into(), "Reserved"),
            (&get, "/api/orders".into(), "App"),
            (&get, "/".into(), "App"),
            (&get, "/runtime/%zz".into(), "Unreadable"),
            (
                &get,
                "/runtime/dalsegno/v1/instances/x/wait".into(),
                r#"v1 Some(Wait { id: "x" })"#,
            ),
            (
                &Method::PUT,
                "/runtime/dalsegno/v1/limiters/github".into(),
                r#"v1 Some(SetLimiter { name: "github" })"#,
            ),
        ] {
            check(method, &path, wanted);
        }
    }
}
