//! What this process logs.

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::http::body::{self, empty, json};
use crate::http::problem::Problem;
use crate::http::request::Call;
use crate::http::wire::to_json;
use crate::telemetry::{self, LogLevel};

/// A level, or a filter of levels by targets.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogLevelWire {
    /// It, as it was written.
    pub level: String,
}

pub(super) fn get(call: &Call) -> Result<Response, Problem> {
    call.query()?;
    let level = known()?.text();
    Ok(json(StatusCode::OK, to_json(&LogLevelWire { level })))
}

pub(super) async fn set(mut call: Call) -> Result<Response, Problem> {
    call.query()?;
    let wanted: LogLevelWire = body::ours(&call.body().await?)?;
    let refused = |text: String| Problem::bad_request("invalid_body", text);
    let before = known()?.set(&wanted.level).map_err(refused)?;
    tracing::info!(before, level = wanted.level, "the level of logs was changed");
    Ok(empty(StatusCode::ACCEPTED))
}

fn known() -> Result<&'static LogLevel, Problem> {
    let own = "this app logs in its own way: change the level there";
    telemetry::log_level().ok_or_else(|| Problem::new(StatusCode::CONFLICT, "wrong_state", own.to_owned()))
}
