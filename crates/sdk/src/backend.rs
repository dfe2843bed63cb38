//! Where a client sends its requests. One method per request.

use std::time::Duration;

use dalsegno_core::event::Event;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, LargeValues, Status};
use dalsegno_core::store::EntityRow;
use dalsegno_core::{EntityId, InstanceId, TaskId, Timestamp};
use dalsegno_engine::TaskHub;
use dalsegno_engine::clock::{Clock, SystemClock};
use dalsegno_engine::hub::{self as engine, LimiterDefinition, NewId};
use dalsegno_engine::request::{
    Answer, InstanceStatus, LimiterStatus, PurgeQuery, RaisedEvent, Scope, Signal, StartOptions, Started,
};
use dalsegno_engine::seen::Seen;
use dalsegno_host::v1::{ExplanationWire, StuckWire};
use dalsegno_host::{RemoteHub, RemoteWatch};

/// A hub, wherever it is.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// In this process.
    Hub(TaskHub),
    /// Behind the HTTP API of a host.
    Remote(RemoteHub),
}

macro_rules! requests {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Backend {
            $(
                pub(crate) async fn $name(&self, $($argument: $type),*) -> Answer<$answer> {
                    match self {
                        Self::Hub(hub) => hub.$name($($argument),*).await,
                        Self::Remote(hub) => hub.$name($($argument),*).await,
                    }
                }
            )*
        }
    };
}

requests! {
    start(options: StartOptions) -> Started;
    raise_event(id: &InstanceId, event: RaisedEvent) -> ();
    terminate(id: &InstanceId, reason: Option<String>, scope: Scope) -> ();
    cancel(id: &InstanceId, reason: Option<String>) -> ();
    suspend(id: &InstanceId, reason: Option<String>) -> ();
    resume(id: &InstanceId, reason: Option<String>) -> ();
    rewind(id: &InstanceId, reason: Option<String>) -> ();
    retry_now(id: &InstanceId, task: Option<TaskId>) -> ();
    restart(id: &InstanceId, new_id: NewId) -> Started;
    purge(id: &InstanceId, scope: Scope) -> u64;
    purge_many(query: PurgeQuery) -> u64;
    status(id: &InstanceId) -> Option<InstanceStatus>;
    wait_for_completion(id: &InstanceId, timeout: Option<Duration>) -> InstanceStatus;
    wait_for_start(id: &InstanceId, timeout: Option<Duration>) -> InstanceStatus;
    history(id: &InstanceId) -> Vec<Event>;
    list(query: InstanceQuery) -> InstancePage;
    counts() -> Vec<(Status, u64)>;
    entity(id: &EntityId) -> Option<EntityRow>;
    list_entities(query: EntityQuery) -> EntityPage;
    signal_entity(id: &EntityId, signal: Signal) -> ();
    delete_entity(id: &EntityId) -> bool;
    limiters() -> Vec<LimiterStatus>;
    set_limiter(name: &str, definition: LimiterDefinition) -> ();
}

/// A reader of the changes of one instance, wherever its hub is.
#[derive(Debug)]
pub(crate) enum BackendWatch {
    Hub(engine::Watch),
    Remote(RemoteWatch),
}

impl BackendWatch {
    pub(crate) async fn next(&mut self) -> Answer<Option<engine::Change>> {
        match self {
            Self::Hub(watch) => watch.next().await,
            Self::Remote(watch) => watch.next().await,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        match self {
            Self::Hub(watch) => watch.seen(),
            Self::Remote(watch) => watch.seen(),
        }
    }
}

impl Backend {
    pub(crate) async fn watch(&self, id: &InstanceId, after: Option<Seen>) -> Answer<BackendWatch> {
        let large = LargeValues::Read;
        Ok(match self {
            Self::Hub(hub) => BackendWatch::Hub(hub.watch(id, after, large).await?),
            Self::Remote(hub) => BackendWatch::Remote(hub.watch(id, after, large).await?),
        })
    }

    pub(crate) async fn explain(&self, id: &InstanceId) -> Answer<Option<ExplanationWire>> {
        match self {
            Self::Hub(hub) => {
                let explanation = hub.explain(id).await?;
                Ok(explanation.map(|explanation| ExplanationWire::new(&explanation, &**hub.executor())))
            }
            Self::Remote(hub) => hub.explain(id).await,
        }
    }

    pub(crate) async fn stuck(&self, most: usize) -> Answer<StuckWire> {
        match self {
            Self::Hub(hub) => {
                let (stuck, more) = hub.stuck(most).await?;
                let wire = |explanation| ExplanationWire::new(explanation, &**hub.executor());
                let rows = stuck.iter().map(wire).collect();
                Ok(StuckWire { rows, more })
            }
            Self::Remote(hub) => hub.stuck(most).await,
        }
    }

    /// The time as the hub sees it.
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Hub(hub) => hub.now(),
            Self::Remote(_) => SystemClock::default().now(),
        }
    }
}
