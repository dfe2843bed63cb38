//! A task hub: the handle that hosts and clients hold. Cloning is cheap.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::Event;
use dalsegno_core::limits::Limits;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, Status};
use dalsegno_core::store::EntityRow;
use dalsegno_core::{EntityId, InstanceId, Payload, Timestamp};

use crate::executor::Executor;
use crate::request::{Answer, InstanceStatus, LimiterStatus, PurgeQuery, Scope, StartOptions, Started};

/// A running task hub. Every answer of every method waits until the state it was made from is durable.
#[derive(Clone, Debug)]
pub struct TaskHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    limits: Limits,
    executor: Arc<dyn Executor>,
}

/// How well the hub moves: for `/healthz`.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Reasons why it is not well; empty when it is.
    pub problems: Vec<String>,
    /// Whether it goes down.
    pub draining: bool,
}

#[expect(
    clippy::unimplemented,
    reason = "signatures first; the engine behind them is the next commit"
)]
#[expect(clippy::unused_async, unused_variables, reason = "as above")]
impl TaskHub {
    /// The hub's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }
    /// The user code it runs.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.inner.executor
    }
    /// The time, as the hub sees it.
    pub fn now(&self) -> Timestamp {
        unimplemented!()
    }

    /// Starts an orchestration.
    pub async fn start(&self, options: StartOptions) -> Answer<Started> {
        unimplemented!()
    }
    /// Raises an external event. The instance must not be finished.
    pub async fn raise_event(&self, id: &InstanceId, name: &str, input: Option<Payload>) -> Answer<()> {
        unimplemented!()
    }
    /// Ends an instance.
    pub async fn terminate(&self, id: &InstanceId, reason: Option<String>, scope: Scope) -> Answer<()> {
        unimplemented!()
    }
    /// Stops an instance from taking messages.
    pub async fn suspend(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        unimplemented!()
    }
    /// Lets it take messages again.
    pub async fn resume(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        unimplemented!()
    }
    /// Sets a failed or parked instance going again.
    pub async fn rewind(&self, id: &InstanceId, reason: Option<String>) -> Answer<()> {
        unimplemented!()
    }
    /// Starts a finished orchestration again: same name, input, version, tags; under `id` or a new one.
    pub async fn restart(&self, id: &InstanceId, new_id: NewId) -> Answer<Started> {
        unimplemented!()
    }
    /// Deletes a finished instance; says how many went (children count in).
    pub async fn purge(&self, id: &InstanceId, scope: Scope) -> Answer<u64> {
        unimplemented!()
    }
    /// Deletes finished instances by filter, in batches; says how many went.
    pub async fn purge_many(&self, query: PurgeQuery) -> Answer<u64> {
        unimplemented!()
    }

    /// The status of an instance.
    pub async fn status(&self, id: &InstanceId) -> Answer<Option<InstanceStatus>> {
        unimplemented!()
    }
    /// Waits until it is final, by notification, at most `timeout`; `Err(TimedOut)` then.
    pub async fn wait_for_completion(
        &self,
        id: &InstanceId,
        timeout: Option<Duration>,
    ) -> Answer<InstanceStatus> {
        unimplemented!()
    }
    /// Waits until it has left Pending.
    pub async fn wait_for_start(&self, id: &InstanceId, timeout: Option<Duration>) -> Answer<InstanceStatus> {
        unimplemented!()
    }
    /// The current execution's history.
    pub async fn history(&self, id: &InstanceId) -> Answer<Vec<Event>> {
        unimplemented!()
    }
    /// A page of instances, newest first.
    pub async fn list(&self, query: InstanceQuery) -> Answer<InstancePage> {
        unimplemented!()
    }
    /// How many instances are in each status.
    pub async fn counts(&self) -> Answer<Vec<(Status, u64)>> {
        unimplemented!()
    }

    /// An entity's row, if it has state, a queue or a lock.
    pub async fn entity(&self, id: &EntityId) -> Answer<Option<EntityRow>> {
        unimplemented!()
    }
    /// A page of entities.
    pub async fn list_entities(&self, query: EntityQuery) -> Answer<EntityPage> {
        unimplemented!()
    }
    /// Signals an entity.
    pub async fn signal_entity(
        &self,
        id: &EntityId,
        operation: &str,
        input: Option<Payload>,
        at: Option<Timestamp>,
    ) -> Answer<()> {
        unimplemented!()
    }
    /// Deletes an entity with its state; refused while locked.
    pub async fn delete_entity(&self, id: &EntityId) -> Answer<bool> {
        unimplemented!()
    }

    /// All limiter buckets.
    pub async fn limiters(&self) -> Answer<Vec<LimiterStatus>> {
        unimplemented!()
    }
    /// Changes a limiter's definition; what an operator sets stays.
    pub async fn set_limiter(&self, name: &str, definition: LimiterDefinition) -> Answer<()> {
        unimplemented!()
    }

    /// A small record kept by name (timer triggers use it).
    pub async fn meta(&self, name: &str) -> Answer<Option<Vec<u8>>> {
        unimplemented!()
    }
    /// Stores or removes it; durable when answered.
    pub async fn set_meta(&self, name: &str, data: Option<Vec<u8>>) -> Answer<()> {
        unimplemented!()
    }

    /// Does what is runnable move?
    pub fn health(&self) -> Health {
        unimplemented!()
    }
    /// Takes no more work, lets what runs finish within `grace`, syncs and stops.
    pub async fn shutdown(&self, grace: Duration) {
        unimplemented!()
    }
}

/// Which id a restart takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewId {
    /// A generated one.
    Generated,
    /// The old one: a new execution of the same instance.
    Same,
}

/// What a limiter allows. Both parts may be given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LimiterDefinition {
    /// So many per period.
    pub rate: Option<(u32, Duration)>,
    /// Tokens that may be saved up; at least 1. Default: the smaller of the rate and 1 second's worth, at least 1.
    pub burst: Option<u32>,
    /// So many at once.
    pub concurrency: Option<u32>,
}
