//! Hubs as things: made, deleted, measured, copied, repaired.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dalsegno_core::Timestamp;
use dalsegno_core::store::{BackupPieces, Moved, ReadError};
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::{NotMoved, Repaired};
use futures::stream;
use serde::{Deserialize, Serialize};

use crate::http::body::{empty, json};
use crate::http::problem::Problem;
use crate::http::query::invalid;
use crate::http::request::Call;
use crate::http::wire::to_json;
use crate::hubs::{Created, HubRefusal, unknown_hub};
use crate::openapi::schemas;

const DAY_MICROS: i64 = 24 * 3_600_000_000;

/// `PUT hubs/{hub}`: what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubCreatedWire {
    /// The hub's name.
    pub name: String,
    /// Whether it was made; else it was there and is as it was.
    pub created: bool,
}

/// `GET hubs/{hub}/stats`: what a hub takes, and how much is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubStatsWire {
    /// The hub's name.
    pub name: String,
    /// Whether it is the host's own.
    pub own: bool,
    /// Bytes of its files together; nothing where it is kept in memory.
    pub disk_bytes: u64,
    /// Of these, the log.
    pub log_bytes: u64,
    /// Of these, the tables.
    pub database_bytes: u64,
    /// Of the tables, large values that are kept apart.
    pub payload_bytes: u64,
    /// How many values are kept apart.
    pub payloads: u64,
    /// Bytes that the disk has free, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Instances by status.
    pub instances: Vec<StatusCountWire>,
    /// History events of all of them.
    pub history_events: u64,
    /// Instances that were created within the last day and are still here.
    pub created_last_day: u64,
    /// Bytes that they take of the tables, if each takes as much as any other.
    pub growth_bytes_per_day: u64,
}

/// How many instances are in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StatusCountWire {
    /// The status.
    #[schemars(extend("enum" = schemas::statuses()))]
    pub status: String,
    /// How many.
    pub count: u64,
}

/// `POST hubs/{hub}/repair`: what became of rows that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RepairedWire {
    /// Rows that were moved to the table `quarantine`.
    pub moved: Vec<MovedWire>,
    /// Rows that cannot be read and were left in place.
    pub left: Vec<LeftWire>,
}

/// A row that was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MovedWire {
    /// Its number in the table `quarantine`.
    pub number: u64,
    /// The table it was in.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it was moved.
    pub reason: String,
}

/// A row that was left in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LeftWire {
    /// The table it is in.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it was left, and what to do.
    pub reason: String,
}

impl From<Moved> for MovedWire {
    fn from(moved: Moved) -> Self {
        let Moved {
            number,
            table,
            row,
            reason,
        } = moved;
        Self {
            number,
            table,
            row,
            reason,
        }
    }
}

impl From<Repaired> for RepairedWire {
    fn from(repaired: Repaired) -> Self {
        let left = |NotMoved { table, row, reason }| LeftWire { table, row, reason };
        Self {
            moved: repaired.moved.into_iter().map(MovedWire::from).collect(),
            left: repaired.left.into_iter().map(left).collect(),
        }
    }
}

pub(super) async fn create(call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let keeper = call.state.keeper.as_ref().ok_or_else(no_keeper)?;
    let created = keeper
        .create(&name)
        .await
        .map_err(|refusal| refused(&call, refusal, &name))?;
    let status = match created {
        Created::New => StatusCode::CREATED,
        Created::Known => StatusCode::OK,
    };
    let wire = HubCreatedWire {
        name,
        created: created == Created::New,
    };
    Ok(json(status, to_json(&wire)))
}

pub(super) async fn delete(call: Call, name: String) -> Result<Response, Problem> {
    let query = call.query()?;
    match query.text("confirm") {
        Some(confirmed) if confirmed == name => {}
        Some(other) => {
            return Err(invalid(
                "confirm",
                other,
                "the name of the hub, as it is in the path",
            ));
        }
        None => {
            return Err(Problem::bad_request(
                "missing_parameter",
                "a deleted hub does not come back: confirm it with ?confirm= and its name",
            )
            .param("confirm")
            .expected("the name of the hub, as it is in the path".to_owned()));
        }
    }
    let keeper = call.state.keeper.as_ref().ok_or_else(no_keeper)?;
    keeper
        .delete(&name)
        .await
        .map_err(|refusal| refused(&call, refusal, &name))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn stats(call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let hub = named(&call, &name)?;
    let day_ago = Timestamp::from_micros(hub.now().as_micros() - DAY_MICROS);
    let size = hub.size(day_ago).await?.unwrap_or_default();
    let counts = hub.counts().await?;
    let share = u128::from(size.database_bytes) * u128::from(size.created_since);
    let growth = share / u128::from(size.instances.max(1));
    let wire = HubStatsWire {
        name: hub.name().to_owned(),
        own: hub.name() == call.state.hubs.main().name(),
        disk_bytes: size.log_bytes + size.database_bytes,
        log_bytes: size.log_bytes,
        database_bytes: size.database_bytes,
        payload_bytes: size.payload_bytes,
        payloads: size.payloads,
        free_bytes: hub.free_bytes(),
        instances: counts
            .into_iter()
            .map(|(status, count)| StatusCountWire {
                status: status.as_str().to_owned(),
                count,
            })
            .collect(),
        history_events: size.events,
        created_last_day: size.created_since,
        growth_bytes_per_day: u64::try_from(growth).unwrap_or(u64::MAX),
    };
    Ok(json(StatusCode::OK, to_json(&wire)))
}

pub(super) async fn backup(call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let hub = named(&call, &name)?;
    let pieces = hub.backup().await?.ok_or_else(|| {
        let text = format!(
            "the task hub {} is kept in memory: there is nothing to copy",
            hub.name()
        );
        Problem::new(StatusCode::CONFLICT, "not_on_disk", text)
    })?;
    tracing::info!(hub = hub.name(), "a backup is made");
    let mut response = Response::new(Body::from_stream(stream::unfold(Some(pieces), next_piece)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(super) async fn repair(call: Call, name: String) -> Result<Response, Problem> {
    call.query()?;
    let hub = named(&call, &name)?;
    let repaired = hub.repair().await?;
    call.note.count(repaired.moved.len() as u64);
    Ok(json(StatusCode::OK, to_json(&RepairedWire::from(repaired))))
}

/// The next piece of a body, read where it holds up nobody. An error cuts the connection, so that
/// nobody takes what came for the whole.
async fn next_piece(
    pieces: Option<BackupPieces>,
) -> Option<(Result<Bytes, ReadError>, Option<BackupPieces>)> {
    let mut pieces = pieces?;
    let read = tokio::task::spawn_blocking(move || {
        let piece = pieces.next();
        (piece, pieces)
    });
    match read.await {
        Ok((None, _)) => None,
        Ok((Some(Ok(piece)), pieces)) => Some((Ok(Bytes::from(piece)), Some(pieces))),
        Ok((Some(Err(error)), _)) => {
            tracing::error!(%error, "a backup could not be finished");
            Some((Err(error), None))
        }
        Err(error) => Some((Err(ReadError::transient(error)), None)),
    }
}

fn named(call: &Call, name: &str) -> Result<TaskHub, Problem> {
    call.state.hubs.find(name).ok_or_else(|| unknown(call, name))
}

/// 404 for a hub in the path: the same whether it is not there or the caller may not enter it.
pub(crate) fn unknown(call: &Call, name: &str) -> Problem {
    let names = call.state.visible_hubs(&call.principal);
    Problem::new(StatusCode::NOT_FOUND, "unknown_hub", unknown_hub(name, &names))
        .param("hub")
        .got(name)
}

fn no_keeper() -> Problem {
    let text =
        "this host serves its own task hub alone: start it with grpc.workers = \"any-hub\" to have others";
    Problem::new(StatusCode::CONFLICT, "hub_is_fixed", text)
}

fn refused(call: &Call, refusal: HubRefusal, name: &str) -> Problem {
    let text = refusal.text().to_owned();
    match refusal {
        HubRefusal::InvalidName(_) => Problem::bad_request("invalid_hub_name", text).got(name),
        HubRefusal::Unknown(_) => unknown(call, name),
        HubRefusal::Fixed(_) => Problem::new(StatusCode::CONFLICT, "hub_is_fixed", text),
        HubRefusal::TooMany(_) => Problem::new(StatusCode::CONFLICT, "too_many_hubs", text),
        HubRefusal::Failed(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
    }
}
