//! Instances: start, look, wait, command, delete.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::query::{InstanceCursor, InstanceQuery, LargeValues};
use dalsegno_core::{InstanceId, TaskId};
use dalsegno_engine::hub::{NewId, STUCK_MAX};
use dalsegno_engine::request::{Outline, Scope as Family, StartOptions};

use super::event_wire::EventWire;
use super::explain_wire::{ExplanationWire, StuckWire};
use super::wire::{
    CancelBody, CountWire, DeletedWire, InstanceWire, PageWire, PurgeBody, StartBody, StartedWire, instant,
};
use crate::http::body::{self, empty, json};
use crate::http::list::{PAGE_ROWS, id_prefix, statuses};
use crate::http::path::Command;
use crate::http::problem::{Place, Problem};
use crate::http::purge::{filter_text, finished_statuses, purge};
use crate::http::query::{Query, check_span, invalid};
use crate::http::request::{Call, instance_id};
use crate::http::time;
use crate::http::wire::to_json;

/// Longest wait of one request, in seconds; clients repeat it.
pub(crate) const WAIT_SECONDS_MAX: f64 = 230.0;
/// How long it waits when not told.
const WAIT_SECONDS: f64 = 60.0;
/// Stuck instances told of when nothing else is said.
pub(super) const STUCK_ROWS: usize = 100;

pub(super) async fn start(mut call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let bytes = call.body().await?;
    let body: StartBody = if bytes.is_empty() {
        StartBody::default()
    } else {
        body::ours(&bytes)?
    };
    call.permit_member("reuse", body.reuse().as_str())?;
    let id = body.id().map(instance_id).transpose()?;
    let options = body.into_options(name, id)?;
    let options = StartOptions {
        trace: call.trace(),
        idempotency_key: one_key(call.idempotency_key()?, options.idempotency_key)?,
        ..options
    };
    let started = call.hub().start(options).await?;
    call.note.subject(started.id.as_str());
    Ok(json(StatusCode::ACCEPTED, to_json(&StartedWire::from(&started))))
}

/// The key of the header or of the body; 400 when they say different things.
fn one_key(header: Option<String>, body: Option<String>) -> Result<Option<String>, Problem> {
    match (header, body) {
        (Some(header), Some(body)) if header != body => Err(invalid(
            "idempotencyKey",
            &body,
            "the key of the header Idempotency-Key, or one of the two alone",
        )
        .at(Place::Body)),
        (header, body) => Ok(header.or(body)),
    }
}

pub(super) async fn get(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    call.query()?;
    let status = call.hub().status(&id).await?.ok_or_else(|| unknown(&id))?;
    Ok(json(StatusCode::OK, to_json(&InstanceWire::from(&status))))
}

/// Why it does not move.
pub(super) async fn explain(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    call.query()?;
    let hub = call.hub();
    let explanation = hub.explain(&id).await?.ok_or_else(|| unknown(&id))?;
    let wire = ExplanationWire::new(&explanation, &**hub.executor());
    Ok(json(StatusCode::OK, to_json(&wire)))
}

/// Those that something holds which should not.
pub(super) async fn stuck(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let most = query.integer("top", STUCK_ROWS, STUCK_MAX)?;
    let hub = call.hub();
    let (stuck, more) = hub.stuck(most).await?;
    let wire = |explanation| ExplanationWire::new(explanation, &**hub.executor());
    let rows = stuck.iter().map(wire).collect();
    Ok(json(StatusCode::OK, to_json(&StuckWire { rows, more })))
}

fn unknown(id: &InstanceId) -> Problem {
    Problem::not_found()
        .about(id)
        .saying(format!("there is no instance {id}"))
}

pub(super) async fn wait(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let timeout = Duration::from_secs_f64(
        query
            .seconds("timeout", WAIT_SECONDS_MAX)?
            .unwrap_or(WAIT_SECONDS),
    );
    let _slot = call.wait_slot()?;
    let status = match query.text("for").unwrap_or("completion") {
        "completion" => call.hub().wait_for_completion(&id, Some(timeout)).await?,
        "start" => call.hub().wait_for_start(&id, Some(timeout)).await?,
        other => return Err(invalid("for", other, "completion or start")),
    };
    Ok(json(StatusCode::OK, to_json(&InstanceWire::from(&status))))
}

pub(super) async fn history(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let large = large_values(&call.query()?)?;
    let history = match large {
        LargeValues::LeaveOut => call.hub().history_outline(&id).await?,
        large => Outline {
            events: call.hub().history_with(&id, large).await?,
            left_out: Vec::new(),
        },
    };
    let mut events: Vec<EventWire> = history.events.iter().map(EventWire::from).collect();
    for (place, digest) in &history.left_out {
        events[*place].leave_out(digest);
    }
    Ok(json(StatusCode::OK, to_json(&events)))
}

pub(super) async fn raise_event(mut call: Call, id: String, event: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    call.check_event_name(&event)?;
    call.query()?;
    let input = call.payload().await?;
    let event = call.raised(event, input)?;
    call.hub().raise_event(&id, event).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn command(call: Call, id: String, command: Command) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let reason = call.reason(&query)?;
    let hub = call.hub();
    match command {
        Command::Terminate => hub.terminate(&id, reason, family(&query)?).await?,
        Command::Suspend => hub.suspend(&id, reason).await?,
        Command::Resume => hub.resume(&id, reason).await?,
        Command::Rewind => hub.rewind(&id, reason).await?,
    }
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn cancel(mut call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let in_query = call.reason(&call.query()?)?;
    let body = call.body().await?;
    let reason = match body.trim_ascii().is_empty() {
        true => in_query,
        false => {
            let CancelBody { reason } = body::ours(&body)?;
            if in_query.is_some() && reason.is_some() {
                return Err(Problem::bad_request(
                    "invalid_body",
                    "the reason is in the query and in the body: leave one",
                )
                .param("reason"));
            }
            call.check_reason(reason.as_deref())?;
            in_query.or(reason.filter(|reason| !reason.is_empty()))
        }
    };
    call.hub().cancel(&id, reason).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn retry_now(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let task = match query.text("task") {
        None => None,
        Some(text) => Some(TaskId(text.parse().map_err(|_| {
            Problem::bad_request("invalid_parameter", "task is the number of a task, from 0")
                .param("task")
                .got(text)
        })?)),
    };
    call.hub().retry_now(&id, task).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

fn family(query: &Query) -> Result<Family, Problem> {
    Ok(if query.boolean("recursive", false)? {
        Family::Recursive
    } else {
        Family::Instance
    })
}

pub(super) async fn restart(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let new_id = if call.query()?.boolean("newId", true)? {
        NewId::Generated
    } else {
        NewId::Same
    };
    let started = call.hub().restart(&id, new_id).await?;
    Ok(json(StatusCode::ACCEPTED, to_json(&StartedWire::from(&started))))
}

pub(super) async fn delete(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let deleted = purge(call.hub(), &id, family(&query)?, query.boolean("force", false)?).await?;
    Ok(json(StatusCode::OK, to_json(&DeletedWire { deleted })))
}

pub(super) async fn purge_many(mut call: Call) -> Result<Response, Problem> {
    call.query()?;
    let body: PurgeBody = body::ours(&call.body().await?)?;
    if body.created_from.is_none() {
        return Err(Problem::bad_request(
            "missing_parameter",
            "createdFrom is missing: a purge needs a lower bound, so that nobody deletes everything by omission",
        )
        .param("createdFrom")
        .at(Place::Body));
    }
    let query: dalsegno_engine::request::PurgeQuery = body.try_into()?;
    check_span(
        ("createdFrom", query.created_from),
        ("createdTo", query.created_to),
    )
    .map_err(|problem| problem.at(Place::Body))?;
    finished_statuses("statuses", Some(query.statuses.clone())).map_err(|problem| problem.at(Place::Body))?;
    call.note.filter(&filter_text(&query));
    let deleted = call.hub().purge_many(query).await?;
    call.note.count(deleted);
    Ok(json(StatusCode::OK, to_json(&DeletedWire { deleted })))
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let statuses = statuses(&query, "status")?;
    let (created_from, created_to) = query.span("createdFrom", "createdTo")?;
    let filter = InstanceQuery {
        statuses: statuses.clone().unwrap_or_default(),
        created_from,
        created_to,
        id_prefix: id_prefix(&query, "prefix")?,
        name: query.text("name").map(str::to_owned),
        tags: tags(&query)?,
        parent: parent(&query)?,
        waiting_for: query.text("waitingFor").map(str::to_owned),
        failed_activity: query.text("failedActivity").map(str::to_owned),
        limit: query.integer("top", PAGE_ROWS, call.state.settings.page_max)?,
        after: query.text("after").map(cursor).transpose()?,
        large: large_values(&query)?,
    };
    let page = if statuses.is_some_and(|statuses| statuses.is_empty()) {
        Default::default()
    } else {
        call.hub().list(filter).await?
    };
    let rows = page.rows.iter().map(InstanceWire::from).collect();
    let next = page.next.as_ref().map(cursor_text);
    Ok(json(StatusCode::OK, to_json(&PageWire { rows, next })))
}

/// `largeValues=false`: without those that are stored apart, which then are not read either.
pub(super) fn large_values(query: &Query) -> Result<LargeValues, Problem> {
    Ok(match query.boolean("largeValues", true)? {
        true => LargeValues::Read,
        false => LargeValues::LeaveOut,
    })
}

pub(super) fn parent(query: &Query) -> Result<Option<InstanceId>, Problem> {
    let id = query.text("parent").map(instance_id).transpose();
    id.map_err(|problem| problem.param("parent"))
}

pub(super) fn tags(query: &Query) -> Result<Vec<(String, String)>, Problem> {
    let split = |text: &str| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(invalid("tag", text, "name=value")),
    };
    query.texts("tag").map(split).collect()
}

/// Where a page ended: `<creation time>/<id>`; no id holds a `/`.
pub(crate) fn cursor_text(cursor: &InstanceCursor) -> String {
    format!("{}/{}", time::exact(cursor.created), cursor.id)
}

/// Reads it back.
pub(crate) fn cursor(text: &str) -> Result<InstanceCursor, Problem> {
    let parts = text
        .split_once('/')
        .and_then(|(created, id)| Some((instant(created).ok()?, id)));
    match parts {
        Some((created, id)) => Ok(InstanceCursor {
            created,
            id: InstanceId::trusted(id),
        }),
        None => Err(
            Problem::bad_request("invalid_token", "after is not the next of a page")
                .param("after")
                .got(text),
        ),
    }
}

pub(super) async fn counts(call: Call) -> Result<Response, Problem> {
    call.query()?;
    let counts = call.hub().counts().await?;
    let counts = counts.iter().map(|(status, count)| CountWire {
        status: status.as_str().to_owned(),
        count: *count,
    });
    Ok(json(StatusCode::OK, to_json(&counts.collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use dalsegno_core::Timestamp;

    use super::*;

    #[test]
    fn cursors_and_tags() {
        let at = InstanceCursor {
            created: Timestamp::from_micros(1_234_567),
            id: InstanceId::trusted("a b"),
        };
        assert_eq!(cursor(&cursor_text(&at)), Ok(at));
        for text in ["", "x/y", "2026-03-01T00:00:00Z"] {
            assert_eq!(cursor(text).unwrap_err().code, "invalid_token");
        }
        let tags = |raw| tags(&Query::parse(Some(raw), &["tag"]).unwrap());
        assert_eq!(
            tags("tag=a%3D1&tag=b%3Dx%3Dy"),
            Ok(vec![("a".into(), "1".into()), ("b".into(), "x=y".into())])
        );
        assert!(tags("tag=a").is_err());
    }
}
