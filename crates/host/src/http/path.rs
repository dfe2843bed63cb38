//! Which route a path is.
//!
//! The raw path is split at `/` first, then each segment is percent-decoded exactly once.
//! Literals match in any case, a trailing `/` changes nothing.

use schemars::SchemaGenerator as Schemas;

use super::health::HealthWire;
use super::query::percent_decode;
use super::route::{Answer, Parameter, Route, Shape, Verb};

/// Where the management API lives.
pub(crate) const MANAGEMENT: [&str; 3] = ["runtime", "webhooks", "durabletask"];
/// Where our own lives.
pub(crate) const OURS: [&str; 3] = ["runtime", "dalsegno", "v1"];
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
    UnlockEntity { name: String, key: String },
    Limiters,
    SetLimiter { name: String },
    ChangeLimiter { name: String },
    Webhooks,
    Workers,
    DrainWorker { name: String },
    LogLevel,
    SetLogLevel,
    Explain { id: String },
    Stuck,
    Audit,
    Changes,
    Hub,
    Hubs,
    CreateHub { name: String },
    DeleteHub { name: String },
    HubStats { name: String },
    Backup { name: String },
    Repair { name: String },
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
    /// `/openapi.json`, exactly so.
    OpenApi,
    /// A first segment that is ours, and nothing there.
    Reserved,
    /// An escape in it is broken.
    Unreadable,
    /// The app's own.
    App,
}

/// Paths that stand alone, matched exactly.
pub(crate) static PAGES: &[Route<Face>] = &[
    Route::new(Verb::Get, "healthz", |_| Face::Health)
        .told(
            "health",
            "Whether the hub makes progress; with `probe`, less than that.",
        )
        .open()
        .query(&[Parameter::new(
            "probe",
            Shape::Words(&["live", "ready"]),
            "`live`: the process answers. `ready`: it takes work.",
        )])
        .answers(&[
            Answer::json(200, "It does.", Schemas::subschema_for::<HealthWire<'static>>),
            Answer::json(
                503,
                "It does not, or it drains.",
                Schemas::subschema_for::<HealthWire<'static>>,
            ),
        ]),
    Route::new(Verb::Get, "metrics", |_| Face::Metrics)
        .told("metrics", "What the host and a hub measure, for Prometheus.")
        .answers(&[Answer::text(
            200,
            "The text form of OpenMetrics.",
            "application/openmetrics-text",
        )]),
    Route::new(Verb::Get, "openapi.json", |_| Face::OpenApi)
        .told("openapi", "This document.")
        .answers(&[Answer::json(
            200,
            "The document.",
            Schemas::subschema_for::<serde_json::Map<String, serde_json::Value>>,
        )]),
];

/// Whom a raw path belongs to.
pub(crate) fn face(raw: &str) -> Face {
    let page = raw
        .strip_prefix('/')
        .and_then(|path| PAGES.iter().find(|page| page.path == path));
    if let Some(page) = page {
        return page.face();
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

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;
    use crate::http::route::find;
    use crate::http::routes;

    fn check(method: &Method, path: &str, wanted: &str) {
        let got = match face(path) {
            Face::Management(segments) => {
                let found = find(routes::ROUTES, method, &segments);
                format!("{:?}", found.map(|(_, asked)| asked))
            }
            Face::Ours(segments) => {
                let found = find(crate::v1::routes::ROUTES, method, &segments);
                format!("v1 {:?}", found.map(|(_, asked)| asked))
            }
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
            (&get, "/openapi.json".into(), "OpenApi"),
            (&get, "/openapi.json/".into(), "Reserved"),
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
