//! The app's timer triggers: when they run, how the last run ended, and a run now.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::http::body::{empty, json};
use crate::http::problem::Problem;
use crate::http::request::Call;
use crate::http::time;
use crate::http::wire::to_json;
use crate::nearest::nearest;
use crate::openapi::schemas;
use crate::schedule::{Run, RunNow, Scheduled};

/// So many of the next times are told.
const NEXT_TIMES: usize = 5;

/// A timer trigger.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleWire {
    /// Its name.
    pub name: String,
    /// When it runs, as it is written in the app.
    pub schedule: String,
    /// The time zone that is meant in.
    pub time_zone: String,
    /// It runs when the host starts too.
    pub run_on_startup: bool,
    /// The next times.
    #[schemars(extend("items" = schemas::time()))]
    pub next: Vec<String>,
    /// The last run since this host started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RunWire>,
}

/// A run of a timer trigger.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunWire {
    /// When it was due.
    #[schemars(extend("format" = "date-time"))]
    pub scheduled: String,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub ended: Option<String>,
    /// Somebody asked for it.
    pub by_hand: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl From<Run> for RunWire {
    fn from(run: Run) -> Self {
        Self {
            scheduled: time::exact(run.scheduled),
            started: time::exact(run.started),
            ended: run.ended.map(time::exact),
            by_hand: run.is_by_hand,
            failure: run.failure,
        }
    }
}

impl ScheduleWire {
    fn of(scheduled: &Scheduled, now: Timestamp) -> Self {
        let schedule = &scheduled.trigger.schedule;
        let next = std::iter::successors(schedule.after(now), |last| schedule.after(*last));
        Self {
            name: scheduled.trigger.name.clone(),
            schedule: schedule.text(),
            time_zone: schedule.zone_name(),
            run_on_startup: scheduled.trigger.run_on_startup,
            next: next.take(NEXT_TIMES).map(time::exact).collect(),
            last: scheduled.last().map(RunWire::from),
        }
    }
}

pub(super) fn list(call: &Call) -> Result<Response, Problem> {
    call.query()?;
    let now = call.hub().now();
    let all = call.state.schedules.all();
    let wires: Vec<ScheduleWire> = all.iter().map(|one| ScheduleWire::of(one, now)).collect();
    Ok(json(StatusCode::OK, to_json(&wires)))
}

pub(super) fn run(call: &Call, name: &str) -> Result<Response, Problem> {
    call.query()?;
    match call.state.schedules.run_now(name, call.hub()) {
        RunNow::Begun => Ok(empty(StatusCode::ACCEPTED)),
        RunNow::Busy => Err(Problem::new(
            StatusCode::CONFLICT,
            "wrong_state",
            format!("the timer trigger {name} runs already: wait until it has ended"),
        )),
        RunNow::Unknown => {
            let all = call.state.schedules.all();
            let hint = match nearest(name, all.iter().map(|one| one.trigger.name.as_str())) {
                Some(near) => format!("did you mean {near}?"),
                None => "GET schedules lists them".into(),
            };
            Err(Problem::not_found().saying(format!("there is no timer trigger {name}: {hint}")))
        }
    }
}
