//! A task hub: the handle that hosts and clients hold. Cloning is cheap.

mod client;
mod explain;
mod measure;
mod repair;
mod runtime;
mod watch;
mod watchdog;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::limits::Limits;
use dalsegno_core::{Payload, Timestamp};

use crate::executor::Executor;

pub use dalsegno_core::limiter::LimiterRule as LimiterDefinition;
pub use runtime::{HubError, HubErrorKind, HubOptions};

pub use explain::STUCK_MAX;
pub use measure::HubMeasure;
pub use repair::{NotMoved, Repaired};
pub use watch::{Change, Watch, WatchEvent};

use runtime::Runtime;

/// Exit code of a process in which too many threads are stuck in user code, or one of its own panicked:
/// memory is never repaired. 70 is `EX_SOFTWARE` of
/// `sysexits.h`.
const STUCK: i32 = 70;

/// A running task hub. Every answer of every method waits until the state it was made from is durable.
#[derive(Clone)]
pub struct TaskHub {
    runtime: Arc<Runtime>,
}

impl fmt::Debug for TaskHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHub")
            .field("name", &self.runtime.name)
            .finish_non_exhaustive()
    }
}

/// How well the hub moves: for `/healthz`.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Reasons why it is not well; empty when it is.
    pub problems: Vec<String>,
    /// Threads that are stuck in user code; others went on in their place.
    pub stuck_threads: usize,
    /// Whether it goes down.
    pub draining: bool,
}

/// Which id a restart takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewId {
    /// A generated one.
    Generated,
    /// The old one: a new execution of the same instance.
    Same,
    /// The one of an idempotency key, so that a repeat meets what it started before.
    OfKey(String),
}

impl TaskHub {
    /// The hub's name.
    pub fn name(&self) -> &str {
        &self.runtime.name
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.runtime.limits
    }

    /// The user code it runs.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.runtime.executor
    }

    /// The time, as the hub sees it.
    pub fn now(&self) -> Timestamp {
        self.runtime.clock.now()
    }

    /// Bytes the hub's disk has free; `None` where the store cannot tell.
    pub fn free_bytes(&self) -> Option<u64> {
        self.runtime.store.free_bytes()
    }

    /// How many batches of turns were synced to disk since the start.
    pub fn synced_batches(&self) -> u64 {
        self.runtime.synced_batches()
    }

    /// How often its partition threads woke up since the start; an idle hub's do not.
    pub fn rounds(&self) -> u64 {
        self.runtime.rounds()
    }

    /// Does what is runnable move?
    pub fn health(&self) -> Health {
        self.runtime.health()
    }

    /// Stops at once, as a crash does: what is not durable yet is lost, activities that run are told
    /// to end. Returns before the store has let go of its folder, which is soon. Dropping the last
    /// handle does the same.
    pub fn abandon(&self) {
        self.runtime.abandon();
    }

    /// Ends for good, at once: activities that run are told to end, whoever waits is told this reason,
    /// and so is whoever asks later. Returns when the store has let go of its files.
    pub async fn retire(&self, reason: impl Into<Arc<str>>) {
        self.runtime.retired.send_replace(Some(reason.into()));
        self.runtime.shutdown(Duration::ZERO).await;
    }

    /// Why the hub was ended for good, if it was.
    pub fn retired(&self) -> Option<Arc<str>> {
        self.runtime.retired.borrow().clone()
    }

    /// Ready when the hub is ended for good; with the reason.
    pub async fn until_retired(&self) -> Arc<str> {
        let mut retired = self.runtime.retired.subscribe();
        // The sender lives as long as the hub, which is held here.
        let told = retired.wait_for(Option::is_some).await;
        told.ok().and_then(|told| told.clone()).unwrap_or_default()
    }

    /// Takes no more activities, lets those that run finish within `grace`, syncs and stops.
    /// Says how many activities were still running then; they begin again after the next start.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        self.runtime.shutdown(grace).await
    }
}

/// How many bytes a value takes, none for none.
fn size_of(payload: Option<&Payload>) -> usize {
    payload.map_or(0, Payload::len_bytes)
}
