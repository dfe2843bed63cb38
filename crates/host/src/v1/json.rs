//! Answers of [`RemoteHub`](crate::RemoteHub) as the JSON they came as: what `dalsegno --json` prints.

use dalsegno_core::event::Event;
use dalsegno_core::query::Status;
use dalsegno_core::store::{EntityRow, InstanceRow};
use dalsegno_engine::request::{InstanceStatus, LimiterStatus, Started};

use super::event_wire::EventWire;
use super::wire::{CountWire, DeletedWire, EntityRowWire, InstanceWire, LimiterWire, StartedWire};
use super::{DeliveryWire, ExplanationWire, OperationWire, ScheduleWire, WorkerWire};
use crate::http::time;
use crate::http::wire::to_json;

/// An instance and what it waits for.
pub fn status(status: &InstanceStatus) -> String {
    to_json(&InstanceWire::from(status))
}

/// An instance of a list.
pub fn row(row: &InstanceRow) -> String {
    to_json(&InstanceWire::from(row))
}

/// A history event.
pub fn event(event: &Event) -> String {
    to_json(&EventWire::from(event))
}

/// What a start gave.
pub fn started(started: &Started) -> String {
    to_json(&StartedWire::from(started))
}

/// How many were deleted.
pub fn deleted(deleted: u64) -> String {
    to_json(&DeletedWire { deleted })
}

/// How many instances are in a status.
pub fn count(status: Status, count: u64) -> String {
    to_json(&CountWire {
        status: status.as_str().to_owned(),
        count,
    })
}

/// An entity.
pub fn entity(row: &EntityRow) -> String {
    to_json(&EntityRowWire::from(row))
}

/// A delivery to a webhook.
pub fn delivery(delivery: &DeliveryWire) -> String {
    to_json(delivery)
}

/// Why an instance does not move.
pub fn explanation(explanation: &ExplanationWire) -> String {
    to_json(explanation)
}

/// A job.
pub fn operation(operation: &OperationWire) -> String {
    to_json(operation)
}

/// A timer trigger.
pub fn schedule(schedule: &ScheduleWire) -> String {
    to_json(schedule)
}

/// A worker elsewhere.
pub fn worker(worker: &WorkerWire) -> String {
    to_json(worker)
}

/// A limiter's bucket.
pub fn limiter(status: &LimiterStatus) -> String {
    to_json(&LimiterWire::from(status))
}

/// A time, as all of them are written.
pub fn time(at: dalsegno_core::Timestamp) -> String {
    time::exact(at)
}

/// Reads a time; one without a zone is UTC, a date alone its midnight.
pub fn parse_time(text: &str) -> Option<dalsegno_core::Timestamp> {
    time::parse(text, time::ZoneRule::Utc).ok()
}
