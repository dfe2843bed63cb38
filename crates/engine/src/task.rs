//! Pending activities and children as stored beside history.

use std::sync::Arc;

use dalsegno_core::action::{ChildOptions, TaskOptions};
use dalsegno_core::event::{AttemptFailure, ParentName};
use dalsegno_core::message::StartRequest;
use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::{ExecutionId, ExecutionKey, InstanceId, Payload, TaskId, Timestamp, TraceContext};

use crate::webhooks::WebhookSubscription;

/// How many of the last failures a task keeps.
pub const FAILURES_KEPT: usize = 5;

/// Bytes that are kept of the message of such a failure, and of its kind.
pub const FAILURE_TEXT_BYTES_MAX: usize = 512;

/// An activity that was asked for and has not ended. One logical task: attempts are counted inside.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// Who asked.
    pub instance: InstanceId,
    /// In which execution.
    pub key: ExecutionKey,
    /// Its public name.
    pub execution_id: ExecutionId,
    /// As which task.
    pub task: TaskId,
    /// Activity name.
    pub name: Arc<str>,
    /// Input.
    pub input: Option<Payload>,
    /// How it is run.
    pub options: TaskOptions,
    /// When it was asked for.
    pub scheduled: Timestamp,
    /// Attempts that ended in failure.
    pub failed_attempts: u32,
    /// When the next attempt may begin, after a failure.
    pub due: Option<Timestamp>,
    /// What the last attempt reported last.
    pub last_heartbeat: Option<Payload>,
    /// The last failures, oldest first.
    pub failures: Vec<AttemptFailure>,
    /// How often the process died while it ran, since an attempt last came back.
    pub kills: u32,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// A child with options that its start does not carry.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildRecord {
    /// Its instance.
    pub instance: InstanceId,
    /// Who asked.
    pub parent_instance: InstanceId,
    /// The start, repeated by a retry.
    pub request: StartRequest,
    /// Retry and parent-close policy.
    pub options: ChildOptions,
    /// When it was first asked for.
    pub scheduled: Timestamp,
    /// Attempts that failed.
    pub failed_attempts: u32,
    /// When the next attempt begins, after a failure.
    pub due: Option<Timestamp>,
}

/// What the table of tasks holds.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredTask {
    /// An activity.
    Activity(TaskRecord),
    /// A child.
    Child(ChildRecord),
    /// An activity of this instance that was told to end: after a crash nobody runs it again.
    Told(InstanceId),
}

/// What the engine keeps in a status row beside the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowExtra {
    /// The idempotency key it was started with.
    pub idempotency_key: Option<String>,
    /// A hash over what it was started with, to tell a repeat from other data.
    pub start_fingerprint: u64,
    /// How many parents it has, one above the other.
    pub depth: u32,
    /// How often the process died while a turn ran, since one last came back.
    pub kills: u32,
    /// Events that came with a key, oldest first; `event_keys_max` at most.
    pub events: Vec<EventMark>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
    /// What its parent is called.
    pub parent_name: Option<Arc<ParentName>>,
    /// Who is told of its statuses, beside those who are told of all.
    pub webhook: Option<WebhookSubscription>,
    /// The span that its code tells of itself, elsewhere.
    pub span: Option<SpanElsewhere>,
    /// External events that its code waits for, in lower case; `AWAITED_EVENTS_MAX` at most.
    pub awaited_events: Vec<Arc<str>>,
    /// The activity of this execution that failed last, after all its attempts.
    pub failed_activity: Option<Arc<str>>,
    /// Accepted external events that its code was not given before the end.
    pub unconsumed: UnconsumedEvents,
}

/// External events that were accepted and came too late for the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnconsumedEvents {
    /// How many.
    pub count: u64,
    /// The names of the first, in order of arrival; [`UNCONSUMED_NAMES_MAX`] at most.
    pub names: Vec<Arc<str>>,
}

/// Names of unconsumed events that a status shows; history has all of them.
pub const UNCONSUMED_NAMES_MAX: usize = 20;

impl UnconsumedEvents {
    /// Adds one.
    pub(crate) fn add(&mut self, name: &Arc<str>) {
        self.count += 1;
        if self.names.len() < UNCONSUMED_NAMES_MAX {
            self.names.push(name.clone());
        }
    }
}

/// An event that came with an idempotency key, as an instance remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// A hash over the key.
    pub key: u128,
    /// A hash over the event's name, in lower case, and its data.
    pub fingerprint: u64,
}
