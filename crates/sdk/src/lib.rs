//! Durable functions in Rust.
//!
//! An attribute turns a function into a function that returns its definition: `#[orchestrator]`,
//! `#[activity]`, `#[entity]`, `#[http_trigger]`, `#[timer_trigger]`. The definition is the handle:
//! `ctx.call(charge, order)` takes the function itself.
//!
//! ```
//! use dalsegno::{OrchestrationContext, Result, activity, orchestrator};
//!
//! #[activity]
//! async fn greet(city: String) -> String {
//!     format!("Hello {city}!")
//! }
//!
//! #[orchestrator]
//! async fn hello_sequence(ctx: &OrchestrationContext) -> Result<Vec<String>> {
//!     let mut greetings = Vec::new();
//!     for city in ["Tokyo", "Seattle", "London"] {
//!         greetings.push(ctx.call(greet, city.into()).await?);
//!     }
//!     Ok(greetings)
//! }
//!
//! assert_eq!(hello_sequence().name(), "hello_sequence");
//! ```
//!
//! An orchestrator's code runs again from its history after a restart or an eviction from memory. So
//! everything it learns must come from its context: time, ids, results, events. Locals are dropped and
//! made again meanwhile; a `Drop` of yours runs again, too.
//!
//! What an orchestrator logs through `tracing` is logged once: events and spans of a replay are
//! dropped. A panic of an orchestrator does not reach the panic hook; it parks the instance, whose
//! status tells the text and the source line. Tests of all this need no host: see [`testing`].

#![warn(missing_docs)]

mod activity;
mod app;
mod backend;
mod cancel;
mod client;
mod codec;
mod compare;
mod compensation;
mod connect;
mod context;
mod data;
mod entity;
mod error;
mod event;
mod execution;
mod exit;
mod guard;
mod hubs;
mod instance;
mod limiter;
mod log_spans;
mod orchestrator;
mod panics;
mod registry;
mod secret;
mod state;
mod task;
pub mod testing;
mod time;
mod trigger;
mod version;
mod watch;

pub use activity::{Activity, ActivityContext};
pub use app::{App, Host, HostSettings, until_ended};
pub use cancel::{CancelRequested, Cancellation};
pub use client::{Client, ClientOperation, Start};
pub use compensation::{Compensations, Undo};
pub use connect::{ConnectedApp, Connection};
pub use context::{Callable, OrchestrationContext, OrchestrationEntities};
pub use entity::{Entity, EntityCaller, EntityContext, EntityDefinition, EntityProxy, EntitySignal};
pub use error::{Cancelled, Elapsed, Error, Result, TaskError};
pub use event::{EventTask, ExternalEvent};
pub use guard::{LockGuard, LockTask};
pub use hubs::RemoteWorkers;
pub use instance::{Instance, Raise};
pub use limiter::{KeyedLimiter, Limiter};
pub use orchestrator::Orchestrator;
pub use registry::{Definition, Registry};
pub use secret::Secret;
pub use task::{ActivityTask, ContinueAsNew, DetachedStart, EntityTask, OrchestrationTask, Timeout, Timer};
pub use time::{DAY, HOUR, MINUTE, SECOND};
pub use trigger::{AuthLevel, HttpTrigger, TimerInfo, TimerTrigger};
pub use version::Version;
pub use watch::{Change, Seen, Watch, WatchEvent};

pub use dalsegno_core::event::{Event, EventKind};
pub use dalsegno_core::query::{EntityQuery, InstanceQuery, Status};
pub use dalsegno_core::retry::RetryPolicy;
pub use dalsegno_core::{
    Divergence, EntityId, Failure, Fault, FaultKind, InstanceId, Timestamp, TraceContext,
};
pub use dalsegno_engine::executor::CancelReason;
pub use dalsegno_engine::hub::NewId;
pub use dalsegno_engine::request::{InstanceStatus, LimiterStatus, PurgeQuery};
pub use dalsegno_engine::webhooks::WebhookSubscription;
pub use dalsegno_grpc::worker::WorkerCounts;
pub use dalsegno_grpc::workers::{EntityItems, WorkerLimits};
pub use dalsegno_host::tls::Tls;
pub use dalsegno_host::traces::{Sampler, TraceProtocol, TraceSettings};
pub use dalsegno_host::v1::{
    ExplanationWire as Explanation, ReasonWire as Reason, StepWire as Step, StuckWire as Stuck,
};
pub use dalsegno_host::webhooks::{Webhook, WebhookSecret, WebhookSettings};
pub use dalsegno_host::{CheckStatus, ManagementPayload};
pub use dalsegno_macros::{activity, entity, http_trigger, orchestrator, timer_trigger};

pub use futures::future::{join_all, try_join_all};
/// Waits for the first of several tasks; when several are ready, the one written first.
///
/// Like `futures::select_biased!`. The unbiased `futures::select!` and `tokio::select!` choose by
/// chance, which a replay would not repeat.
pub use futures::select_biased as select;

/// For the attributes.
#[doc(hidden)]
pub mod __private {
    pub use dalsegno_core::EntityId;
    pub use std::boxed::Box;
    pub use std::ops::Deref;
}

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
