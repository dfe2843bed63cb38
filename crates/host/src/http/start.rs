//! Starting orchestrations: the check-status response, and waiting for completion instead.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dalsegno_core::InstanceId;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_engine::request::{RequestErrorKind, StartOptions};

use super::body::json;
use super::problem::Problem;
use super::query::Query;
use super::request::{Call, instance_id};
use super::status::{Failed, final_status};
use super::waits::WaitSlot;
use super::wire;
use crate::keys::Scope;

/// Longest wait of a start, in seconds: load balancers cut at four minutes.
pub(super) const WAIT_SECONDS_MAX: f64 = 230.0;

/// Whether and how a start waits.
#[derive(Debug)]
pub(super) struct Wait {
    timeout: Option<Duration>,
    failed: Failed,
    _slot: Option<WaitSlot>,
}

impl Wait {
    /// `timeout` waits; `pollingInterval` is checked and otherwise unused.
    pub(super) fn read(call: &Call, query: &Query) -> Result<Self, Problem> {
        let timeout = timeout(query)?;
        Ok(Self {
            timeout,
            failed: Failed::read(query)?,
            // Taken before anything is started, so that whoever is refused has started nothing.
            _slot: timeout.map(|_| call.wait_slot()).transpose()?,
        })
    }
}

fn timeout(query: &Query) -> Result<Option<Duration>, Problem> {
    let timeout = query.seconds("timeout", WAIT_SECONDS_MAX)?;
    query.seconds("pollingInterval", timeout.unwrap_or(WAIT_SECONDS_MAX))?;
    Ok(timeout.map(Duration::from_secs_f64))
}

pub(super) async fn start(mut call: Call, name: String, id: Option<String>) -> Result<Response, Problem> {
    let id = id.map(|id| instance_id(&id)).transpose()?;
    let query = call.query()?;
    let wait = Wait::read(&call, &query)?;
    let input = call.payload().await?;
    let options = StartOptions {
        name,
        version: query.text("version").map(str::to_owned),
        id,
        input,
        reuse: reuse(&call),
        idempotency_key: call.idempotency_key()?,
        trace: call.trace(),
        ..StartOptions::default()
    };
    let started = call.hub().start(options).await?;
    call.note.subject(started.id.as_str());
    let answer = answer(&call, &started.id, wait).await?;
    Ok(answer)
}

/// The operator may have said that a start replaces an unfinished instance. To end one needs the scope
/// `control`: for a caller without it the id is in use.
fn reuse(call: &Call) -> ReusePolicy {
    let may_end = || call.principal.permit(&[Scope::Control]).is_ok();
    match call.state.settings.start_replaces_unfinished && may_end() {
        true => ReusePolicy::TerminateAndStart,
        false => ReusePolicy::RejectRunning,
    }
}

/// The links, or what came of it within the time.
pub(super) async fn answer(call: &Call, id: &InstanceId, wait: Wait) -> Result<Response, Problem> {
    let check = call.links.check_status(id);
    let check = match wait.failed {
        Failed::InternalServerError => check.return_internal_server_error_on_failure(),
        Failed::Ok => check,
    };
    let Some(timeout) = wait.timeout else {
        return Ok(check.into_response());
    };
    match call.hub().wait_for_completion(id, Some(timeout)).await {
        Ok(status) if status.row.status == Status::Completed => Ok(json(
            StatusCode::OK,
            wire::raw(status.row.output.as_ref()).get().to_owned(),
        )),
        Ok(status) => Ok(final_status(&status.row, wait.failed)),
        // Started it is, whatever becomes of the wait.
        Err(error) if matches!(error.kind, RequestErrorKind::TimedOut | RequestErrorKind::Busy) => {
            Ok(check.into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_alone_waits_and_the_interval_alone_does_not() {
        let names = ["timeout", "pollingInterval", "returnInternalServerErrorOnFailure"];
        for (raw, wanted) in [
            ("", Ok(None)),
            ("timeout=10", Ok(Some(10_000))),
            ("timeout=0.5&pollingInterval=0.5", Ok(Some(500))),
            ("timeout=0", Ok(Some(0))),
            ("pollingInterval=5", Ok(None)),
            ("timeout=1&pollingInterval=2", Err("out_of_range")),
            ("timeout=231", Err("out_of_range")),
            ("timeout=5s", Err("out_of_range")),
            ("pollingInterval=-1", Err("out_of_range")),
        ] {
            let timeout = Query::parse(Some(raw), &names).and_then(|query| timeout(&query));
            let got = timeout
                .map(|timeout| timeout.map(|timeout| timeout.as_millis()))
                .map_err(|problem| problem.code);
            assert_eq!(got, wanted, "{raw}");
        }
    }
}
