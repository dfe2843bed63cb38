//! Deleting finished instances: one, or many by filter.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::query::Status;
use dalsegno_core::{EntityId, InstanceId, Timestamp};
use dalsegno_engine::TaskHub;
use dalsegno_engine::request::{Answer, PurgeQuery, RequestErrorKind, Scope as Family};

use super::body::json;
use super::list::statuses;
use super::problem::Problem;
use super::query::invalid;
use super::request::{Call, instance_id};
use super::time;
use super::wire::{PurgedWire, to_json};

/// How long a forced purge waits for the end it ordered.
const FORCED_END_MAX: Duration = Duration::from_secs(30);

pub(super) async fn one(call: Call, id: String) -> Result<Response, Problem> {
    let force = call.query()?.boolean("force", false)?;
    if id.starts_with('@') {
        let entity = EntityId::parse(&id)
            .map_err(|invalid| Problem::bad_request("invalid_entity_id", invalid.reason).got(&id))?;
        let deleted = call.hub().delete_entity(&entity).await?;
        return answer(u64::from(deleted));
    }
    let id = instance_id(&id)?;
    answer(purge(call.hub(), &id, Family::Instance, force).await?)
}

/// Deletes an instance; a living one is ended first when forced.
pub(crate) async fn purge(hub: &TaskHub, id: &InstanceId, family: Family, force: bool) -> Answer<u64> {
    match hub.purge(id, family).await {
        Err(error) if force && error.kind == RequestErrorKind::InstanceRunning => {
            hub.terminate(id, Some("purged".into()), family).await?;
            hub.wait_for_completion(id, Some(FORCED_END_MAX)).await?;
            hub.purge(id, family).await
        }
        // One whose row cannot be read; anything else that is wrong stays as it is.
        Err(error) if force && error.kind == RequestErrorKind::Internal => {
            match hub.purge_damaged(id).await {
                Ok(()) => Ok(1),
                Err(_) => Err(error),
            }
        }
        answer => answer,
    }
}

pub(super) async fn many(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let (created_from, created_to) = query.span("createdTimeFrom", "createdTimeTo")?;
    if created_from.is_none() {
        return Err(Problem::bad_request(
            "missing_parameter",
            "createdTimeFrom is missing: a purge needs a lower bound, so that nobody deletes everything by omission",
        )
        .param("createdTimeFrom"));
    }
    let statuses = finished_statuses("runtimeStatus", statuses(&query, "runtimeStatus")?)?;
    if statuses.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::not_found());
    }
    let query = PurgeQuery {
        created_from,
        created_to,
        statuses: statuses.unwrap_or_default(),
    };
    call.note.filter(&filter_text(&query));
    let deleted = call.hub().purge_many(query).await?;
    call.note.count(deleted);
    answer(deleted)
}

/// A filter, as an audit record shows it.
pub(crate) fn filter_text(query: &PurgeQuery) -> String {
    let time = |name: &str, at: Option<Timestamp>| at.map(|at| format!("{name}={}", time::exact(at)));
    let statuses: Vec<&str> = query.statuses.iter().map(|status| status.as_str()).collect();
    let parts = [
        time("createdFrom", query.created_from),
        time("createdTo", query.created_to),
        Some(format!("statuses={}", statuses.join(","))).filter(|_| !statuses.is_empty()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("&")
}

/// 400 for the name of an unfinished one: it would never be purged.
pub(crate) fn finished_statuses(
    name: &str,
    statuses: Option<Vec<Status>>,
) -> Result<Option<Vec<Status>>, Problem> {
    match statuses.iter().flatten().find(|status| !status.is_final()) {
        Some(status) => Err(invalid(
            name,
            status.as_str(),
            "Completed, Failed, Terminated, Canceled",
        )),
        None => Ok(statuses),
    }
}

fn answer(instances_deleted: u64) -> Result<Response, Problem> {
    if instances_deleted == 0 {
        return Err(Problem::not_found());
    }
    Ok(json(StatusCode::OK, to_json(&PurgedWire { instances_deleted })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_ones_can_be_asked_for() {
        assert_eq!(finished_statuses("s", None), Ok(None));
        assert_eq!(
            finished_statuses("s", Some(vec![Status::Failed])),
            Ok(Some(vec![Status::Failed]))
        );
        assert!(finished_statuses("s", Some(vec![Status::Failed, Status::Running])).is_err());
    }

    #[test]
    fn none_deleted_is_not_found() {
        assert_eq!(answer(0).unwrap_err().status, 404);
        assert_eq!(answer(3).unwrap().status(), 200);
        assert_eq!(
            to_json(&PurgedWire { instances_deleted: 3 }),
            r#"{"instancesDeleted":3}"#
        );
    }
}
