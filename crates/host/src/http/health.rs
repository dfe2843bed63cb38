//! `/healthz`: progress, not life.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_engine::hub::Health;
use serde::Serialize;

use super::body::json;
use super::problem::{Bodies, Problem};
use super::query::{Query, invalid};
use super::wire::to_json;

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct HealthWire<'a> {
    #[schemars(extend("enum" = ["healthy", "unhealthy", "draining", "live", "ready"]))]
    status: &'static str,
    problems: &'a [String],
    #[serde(rename = "stuckThreads", skip_serializing_if = "is_zero")]
    stuck_threads: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Answers a probe of what the hub says about itself.
pub(crate) fn answer(raw_query: Option<&str>, health: impl Fn() -> Health) -> Response {
    let probe = match Query::parse(raw_query, &["probe"]) {
        Ok(query) => query.text("probe").map(str::to_owned),
        Err(problem) => return problem.into_response(Bodies::Full),
    };
    match probe.as_deref() {
        Some("live") => told(StatusCode::OK, "live"),
        Some("ready") if health().draining => told(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Some("ready") => told(StatusCode::OK, "ready"),
        None => progress(&health()),
        Some(other) => unknown(other).into_response(Bodies::Full),
    }
}

fn progress(health: &Health) -> Response {
    let (code, status) = if health.draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if health.problems.is_empty() {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
    };
    let wire = HealthWire {
        status,
        problems: &health.problems,
        stuck_threads: health.stuck_threads,
    };
    json(code, to_json(&wire))
}

fn told(code: StatusCode, status: &'static str) -> Response {
    let wire = HealthWire {
        status,
        problems: &[],
        stuck_threads: 0,
    };
    json(code, to_json(&wire))
}

fn unknown(probe: &str) -> Problem {
    invalid("probe", probe, "live or ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes() {
        let healthy = Health {
            problems: vec![],
            stuck_threads: 0,
            draining: false,
        };
        let stuck = Health {
            problems: vec!["a-1 has not moved for 61 s".into()],
            stuck_threads: 0,
            draining: false,
        };
        let draining = Health {
            problems: vec![],
            stuck_threads: 0,
            draining: true,
        };
        for (query, health, wanted) in [
            (None, &healthy, 200),
            (None, &stuck, 503),
            (None, &draining, 503),
            (Some("probe=ready"), &stuck, 200),
            (Some("probe=ready"), &draining, 503),
            (Some("probe=live"), &draining, 200),
            (Some("probe=alive"), &healthy, 400),
            (Some("prob=live"), &healthy, 400),
        ] {
            assert_eq!(
                answer(query, || health.clone()).status().as_u16(),
                wanted,
                "{query:?} {health:?}"
            );
        }
    }
}
