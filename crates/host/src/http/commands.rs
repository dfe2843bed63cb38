//! Commands to one instance: events, terminate, suspend, resume, rewind, restart.

use axum::http::StatusCode;
use axum::response::Response;
use dalsegno_engine::hub::NewId;
use dalsegno_engine::request::Scope as Family;

use super::body::{self, empty};
use super::path::Command;
use super::problem::Problem;
use super::request::{Call, instance_id};
use super::start::{self, Wait};

pub(super) async fn raise_event(mut call: Call, id: String, event: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    call.check_event_name(&event)?;
    call.query()?;
    let body = call.body().await?;
    if !body.is_empty() && !body::is_json(&call.parts.headers) {
        return Err(Problem::bad_request(
            "content_type",
            "an event's data is JSON: say Content-Type: application/json",
        ));
    }
    let input = body::payload(&body)?;
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
        Command::Terminate => hub.terminate(&id, reason, Family::Instance).await?,
        Command::Suspend => hub.suspend(&id, reason).await?,
        Command::Resume => hub.resume(&id, reason).await?,
        Command::Rewind => hub.rewind(&id, reason).await?,
    }
    Ok(empty(StatusCode::ACCEPTED))
}

pub(super) async fn restart(call: Call, id: String) -> Result<Response, Problem> {
    let id = instance_id(&id)?;
    let query = call.query()?;
    let new_id = if query.boolean("restartWithNewInstanceId", true)? {
        NewId::Generated
    } else {
        NewId::Same
    };
    let wait = Wait::read(&call, &query)?;
    let started = call.hub().restart(&id, new_id).await?;
    start::answer(&call, &started.id, wait).await
}
