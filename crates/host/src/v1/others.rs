//! Entities, limiters, and the hub itself.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_core::EntityId;
use dalsegno_core::query::EntityQuery;
use dalsegno_engine::request::{LivingHolder, Signal};

use super::DeliveryWire;
use super::entity_wire::EntityWire;
use super::wire::{
    DeletedWire, EntityRowWire, HubInfo, LimiterBody, LimiterPatch, LimiterWire, PageWire, SignalBody,
    UnlockBody, WorkerWire, instant_if, payload,
};
use crate::audit::RECORDS_MAX;
use crate::http::body::{self, empty, json};
use crate::http::list::PAGE_ROWS;
use crate::http::problem::{Place, Problem};
use crate::http::request::{Call, entity_id, instance_id};
use crate::http::wire::to_json;
use crate::nearest::nearest;

pub(super) async fn entity(call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    let row = call.hub().entity(&id).await?;
    let queue = call.hub().entity_queue(&id).await?;
    let row = match row {
        Some(row) => row,
        // It has nothing yet, but operations wait for its code.
        None if queue.count > 0 => call.hub().vacant_entity(&id),
        None => return Err(unknown(&id)),
    };
    Ok(json(StatusCode::OK, to_json(&EntityWire::new(&row, &queue))))
}

fn unknown(id: &EntityId) -> Problem {
    Problem::not_found()
        .about(id)
        .saying(format!("there is no entity {id}"))
}

pub(super) async fn entities(call: Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let (from, to) = query.span("lastOperationFrom", "lastOperationTo")?;
    let after = query.text("after").map(|text| {
        EntityId::parse(text).map_err(|_| {
            Problem::bad_request("invalid_token", "after is not the next of a page")
                .param("after")
                .got(text)
        })
    });
    let filter = EntityQuery {
        name: query.text("name").map(str::to_lowercase),
        from,
        to,
        limit: query.integer("top", PAGE_ROWS, call.state.settings.page_max)?,
        after: after.transpose()?,
        large: super::instances::large_values(&query)?,
    };
    let page = call.hub().list_entities(filter).await?;
    let rows = page.rows.iter().map(EntityRowWire::from).collect();
    let next = page.next.as_ref().map(ToString::to_string);
    Ok(json(StatusCode::OK, to_json(&PageWire { rows, next })))
}

pub(super) async fn signal(mut call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    let body: SignalBody = body::ours(&call.body().await?)?;
    let at = instant_if(body.at.as_ref())?;
    let signal = Signal {
        operation: body.operation,
        input: payload(body.input),
        at,
        trace: call.trace(),
    };
    call.hub().signal_entity(&id, signal).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn delete_entity(call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    let deleted = u64::from(call.hub().delete_entity(&id).await?);
    Ok(json(StatusCode::OK, to_json(&DeletedWire { deleted })))
}

pub(super) async fn unlock_entity(mut call: Call, name: String, key: String) -> Result<Response, Problem> {
    let id = entity_id(&name, &key)?;
    call.query()?;
    let body: UnlockBody = body::ours(&call.body().await?)?;
    let holder = instance_id(&body.holder).map_err(|problem| problem.param("holder").at(Place::Body))?;
    let living = match body.force {
        true => LivingHolder::Loses,
        false => LivingHolder::Keeps,
    };
    call.hub().unlock_entity(&id, &holder, living).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// Deliveries that wait or were given up.
pub(super) async fn webhooks(call: Call) -> Result<Response, Problem> {
    call.query()?;
    let deliveries = call.hub().deliveries().await?;
    let wires: Vec<DeliveryWire> = deliveries.iter().map(DeliveryWire::from).collect();
    Ok(json(StatusCode::OK, to_json(&wires)))
}

pub(super) fn workers(call: &Call) -> Result<Response, Problem> {
    call.query()?;
    let workers = call.hub().executor().workers();
    let wires: Vec<WorkerWire> = workers.into_iter().map(WorkerWire::from).collect();
    Ok(json(StatusCode::OK, to_json(&wires)))
}

/// It stays connected, since a worker whose stream ends comes again.
pub(super) fn drain_worker(call: &Call, name: &str) -> Result<Response, Problem> {
    call.query()?;
    let executor = call.hub().executor();
    if executor.drain_worker(name) > 0 {
        return Ok(empty(StatusCode::ACCEPTED));
    }
    let workers = executor.workers();
    let near = nearest(name, workers.iter().map(|worker| worker.name.as_str()));
    let hint = match near {
        Some(near) => format!(": did you mean {near}?"),
        None if workers.is_empty() => ": none is connected".to_owned(),
        None => String::new(),
    };
    Err(Problem::not_found()
        .about(name)
        .saying(format!("there is no worker {name} connected{hint}")))
}

/// Who changed what, newest first.
pub(super) fn audit(call: &Call) -> Result<Response, Problem> {
    let query = call.query()?;
    let most = query.integer("top", PAGE_ROWS, RECORDS_MAX)?;
    let records = call
        .state
        .observer
        .audit
        .last(call.hub().name(), query.text("subject"), most);
    Ok(json(StatusCode::OK, to_json(&records)))
}

pub(super) async fn limiters(call: Call) -> Result<Response, Problem> {
    call.query()?;
    let limiters: Vec<LimiterWire> = call
        .hub()
        .limiters()
        .await?
        .iter()
        .map(LimiterWire::from)
        .collect();
    Ok(json(StatusCode::OK, to_json(&limiters)))
}

pub(super) async fn set_limiter(mut call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let body: LimiterBody = body::ours(&call.body().await?)?;
    call.hub().set_limiter(&name, body.into()).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// Some of it; the rest stays.
pub(super) async fn change_limiter(mut call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let body: LimiterPatch = body::ours(&call.body().await?)?;
    call.hub().change_limiter(&name, body.into()).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn hub(call: Call) -> Result<Response, Problem> {
    call.query()?;
    let executor = call.hub().executor();
    let names = |names: Vec<std::sync::Arc<str>>| names.iter().map(|name| name.to_string()).collect();
    let info = HubInfo {
        name: call.hub().name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        orchestrators: names(executor.orchestrators()),
        activities: names(executor.activities()),
        entities: names(executor.entities()),
        read_only: call.state.settings.is_read_only,
        scopes: call.principal.scopes().to_vec(),
    };
    Ok(json(StatusCode::OK, to_json(&info)))
}

/// Names of the hubs that the caller may enter, the default hub first.
pub(super) fn hubs(call: &Call) -> Result<Response, Problem> {
    call.query()?;
    let names = call.state.visible_hubs(&call.principal);
    Ok(json(StatusCode::OK, to_json(&names)))
}
