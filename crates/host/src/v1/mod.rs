//! `/runtime/dalsegno/v1`: what the API of Durable Functions cannot say.
//!
//! Tags, scheduled starts, reuse policies, waits, counts, limiters, whole histories. The same
//! shapes (`wire.rs`, `event_wire.rs`) serve the server and the remote client.

mod delivery_wire;
mod entity_wire;
pub(crate) mod event_wire;
mod explain_wire;
pub(crate) mod hubs;
pub(crate) mod instances;
pub(crate) mod jobs;
pub mod json;
mod log_level;
pub(crate) mod operations;
mod others;
mod overview;
pub(crate) mod routes;
mod schedules;
pub(crate) mod stream;
pub(crate) mod wire;

use axum::response::Response;

use crate::http::path::Ours;
use crate::http::problem::Problem;
use crate::http::request::Call;

pub use delivery_wire::DeliveryWire;
pub use entity_wire::{EntityTold, EntityWaiterWire};
pub use explain_wire::{ExplanationWire, ReasonWire, StepWire, StuckWire};
pub use hubs::{HubCreatedWire, HubStatsWire, LeftWire, MovedWire, RepairedWire, StatusCountWire};
pub use log_level::LogLevelWire;
pub use operations::{OperationFilter, OperationState, OperationVerb, OperationWire, RefusalWire};
pub use overview::{BucketWire, RatesWire};
pub use schedules::{RunWire, ScheduleWire};
pub use wire::{HubInfo, OffersWire, RateWire, WorkerWire};

use dalsegno_core::Event;

/// A history as JSON: the array that the API answers with.
pub fn history_json(history: &[Event]) -> String {
    let events: Vec<event_wire::EventWire> = history.iter().map(event_wire::EventWire::from).collect();
    serde_json::to_string_pretty(&events).expect("events have text keys only")
}

/// The history in what [`history_json`] made.
///
/// # Errors
/// What does not fit, in words.
pub fn history_from_json(text: &str) -> Result<Vec<Event>, String> {
    let events: Vec<event_wire::EventWire> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let event = |(number, wire)| {
        Event::try_from(wire).map_err(|unfit: wire::Unfit| format!("event {number}: {}", unfit.0))
    };
    events.into_iter().enumerate().map(event).collect()
}

/// Answers a route.
pub(crate) async fn dispatch(call: Call, route: Ours) -> Result<Response, Problem> {
    match route {
        Ours::Start { name } => instances::start(call, name).await,
        Ours::Get { id } => instances::get(call, id).await,
        Ours::Delete { id } => instances::delete(call, id).await,
        Ours::Wait { id } => instances::wait(call, id).await,
        Ours::History { id } => instances::history(call, id).await,
        Ours::Stream { id } => stream::instance(call, id).await,
        Ours::RaiseEvent { id, event } => instances::raise_event(call, id, event).await,
        Ours::Command { id, command } => instances::command(call, id, command).await,
        Ours::Cancel { id } => instances::cancel(call, id).await,
        Ours::RetryNow { id } => instances::retry_now(call, id).await,
        Ours::Restart { id } => instances::restart(call, id).await,
        Ours::List => instances::list(call).await,
        Ours::Counts => instances::counts(call).await,
        Ours::Purge => instances::purge_many(call).await,
        Ours::Entities => others::entities(call).await,
        Ours::Entity { name, key } => others::entity(call, name, key).await,
        Ours::Signal { name, key } => others::signal(call, name, key).await,
        Ours::DeleteEntity { name, key } => others::delete_entity(call, name, key).await,
        Ours::UnlockEntity { name, key } => others::unlock_entity(call, name, key).await,
        Ours::Limiters => others::limiters(call).await,
        Ours::SetLimiter { name } => others::set_limiter(call, name).await,
        Ours::ChangeLimiter { name } => others::change_limiter(call, name).await,
        Ours::Changes => stream::hub(call).await,
        Ours::Webhooks => others::webhooks(call).await,
        Ours::Explain { id } => instances::explain(call, id).await,
        Ours::Audit => others::audit(&call),
        Ours::Stuck => instances::stuck(call).await,
        Ours::Workers => others::workers(&call),
        Ours::DrainWorker { name } => others::drain_worker(&call, &name),
        Ours::LogLevel => log_level::get(&call),
        Ours::SetLogLevel => log_level::set(call).await,
        Ours::Hub => others::hub(call).await,
        Ours::Hubs => others::hubs(&call),
        Ours::CreateHub { name } => hubs::create(call, name).await,
        Ours::DeleteHub { name } => hubs::delete(call, name).await,
        Ours::HubStats { name } => hubs::stats(call, name).await,
        Ours::Backup { name } => hubs::backup(call, name).await,
        Ours::Repair { name } => hubs::repair(call, name).await,
        Ours::Schedules => schedules::list(&call),
        Ours::RunSchedule { name } => schedules::run(&call, &name),
        Ours::Operations => operations::list(&call),
        Ours::BeginOperation => operations::begin(call).await,
        Ours::Operation { id } => operations::get(&call, &id),
        Ours::CancelOperation { id } => operations::cancel(call, id).await,
        Ours::Overview => overview::answer(call).await,
    }
}

impl From<wire::Unfit> for Problem {
    fn from(unfit: wire::Unfit) -> Self {
        Self::bad_request("invalid_body", unfit.0)
    }
}
