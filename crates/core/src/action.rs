//! What an orchestrator asks for in a turn.
//!
//! An action and the event that records it are the same thing seen from two sides:
//! [`Action::to_event`] is the only definition of "the code asked for what history says".
//! Options (retry, timeout, limiter) are not in the event, so tuning them never diverges.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{ChildLink, EventKind, OneOfLock, ParentClosePolicy};
use crate::failure::Failure;
use crate::id::{EntityId, InstanceId, TaskId};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// How an activity is run. Not part of history.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TaskOptions {
    /// Overrides what the activity's definition says.
    pub retry: Option<RetryPolicy>,
    /// One attempt takes no longer than this; overrides the definition.
    pub timeout: Option<Duration>,
    /// It undoes what was done: a request to cancel does not reach it.
    pub undo: bool,
    /// What code that runs elsewhere says beside.
    pub labels: Option<Box<TaskLabels>>,
}

/// The tag of a call that names the limiter it passes.
pub const LIMITER_TAG: &str = "dalsegno.limiter";

/// The tag of a call that names its bucket of that limiter; one without is in the bucket of all such.
pub const LIMITER_KEY_TAG: &str = "dalsegno.limiter.key";

impl TaskOptions {
    /// The limiter that the call names, if it names one.
    pub fn limiter(&self) -> Option<&str> {
        self.tag(LIMITER_TAG)
    }

    /// The key that the call names; empty when it names none.
    pub fn limiter_key(&self) -> &str {
        self.tag(LIMITER_KEY_TAG).unwrap_or_default()
    }

    /// Lets the call pass a limiter, in the bucket of that key.
    pub fn pass(&mut self, limiter: &str, key: &str) {
        let tags = &mut self.labels.get_or_insert_default().tags;
        tags.push((LIMITER_TAG.to_owned(), limiter.to_owned()));
        if !key.is_empty() {
            tags.push((LIMITER_KEY_TAG.to_owned(), key.to_owned()));
        }
        tags.sort();
    }

    fn tag(&self, name: &str) -> Option<&str> {
        let tags = &self.labels.as_deref()?.tags;
        let found = tags.iter().find(|(tag, _)| tag == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// What code that runs elsewhere says of an activity or child beside its name and input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskLabels {
    /// The activity's version.
    pub version: Option<Arc<str>>,
    /// Names and values, sorted.
    pub tags: Vec<(String, String)>,
    /// The trace that it is part of, if not that of its orchestration.
    pub trace: Option<TraceContext>,
}

/// How a child orchestration is started. Not part of history.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ChildOptions {
    /// Tried again when it fails: same instance, next execution.
    pub retry: Option<RetryPolicy>,
    /// What becomes of it when the parent is terminated or cancelled.
    pub parent_close: ParentClosePolicy,
    /// It undoes what was done: a request to cancel does not reach it.
    pub undo: bool,
    /// What code that runs elsewhere says beside; goes into the start.
    pub labels: Option<Box<TaskLabels>>,
}

/// One thing an orchestrator asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Run an activity.
    ScheduleTask {
        task: TaskId,
        name: Arc<str>,
        input: Option<Payload>,
        options: TaskOptions,
    },
    /// Wake me at a time.
    CreateTimer { task: TaskId, fire_at: Timestamp },
    /// Nobody waits for that timer any more. Not recorded.
    CancelTimer { task: TaskId },
    /// Start another orchestration.
    StartOrchestration {
        task: TaskId,
        name: Arc<str>,
        version: Option<Arc<str>>,
        instance: InstanceId,
        input: Option<Payload>,
        link: ChildLink,
        options: ChildOptions,
    },
    /// Send an event to another instance.
    SendEvent {
        task: TaskId,
        instance: InstanceId,
        name: Arc<str>,
        input: Option<Payload>,
    },
    /// Call an entity and get its answer.
    CallEntity {
        task: TaskId,
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// Signal an entity.
    SignalEntity {
        task: TaskId,
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        at: Option<Timestamp>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// Lock entities; ids sorted, without repeats.
    LockEntities {
        task: TaskId,
        entities: Vec<EntityId>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// Release what the lock with this task holds, or one of its entities.
    UnlockEntities {
        lock: TaskId,
        only: Option<Box<OneOfLock>>,
    },
    /// End this execution and begin the next with this input.
    ContinueAsNew {
        version: Option<Arc<str>>,
        input: Option<Payload>,
    },
    /// End with a result.
    Complete { result: Option<Payload> },
    /// End with a failure.
    Fail { failure: Failure },
    /// End because somebody asked for it, with the failure that carried the request through the code.
    EndCancelled { failure: Failure },
    /// End another instance; one that is finished or not there stays as it is. Not recorded.
    Terminate {
        instance: InstanceId,
        /// The output it gets.
        output: Option<Payload>,
        children: ParentClosePolicy,
    },
    /// Show this as custom status. Not recorded; the last one of a turn wins.
    SetCustomStatus { status: Option<Payload> },
}

impl Action {
    /// The value that goes with it.
    pub fn value(&self) -> Option<&Payload> {
        match self {
            Self::ScheduleTask { input: value, .. }
            | Self::StartOrchestration { input: value, .. }
            | Self::SendEvent { input: value, .. }
            | Self::CallEntity { input: value, .. }
            | Self::SignalEntity { input: value, .. }
            | Self::ContinueAsNew { input: value, .. }
            | Self::Complete { result: value }
            | Self::Terminate { output: value, .. }
            | Self::SetCustomStatus { status: value } => value.as_ref(),
            Self::CreateTimer { .. }
            | Self::CancelTimer { .. }
            | Self::LockEntities { .. }
            | Self::UnlockEntities { .. }
            | Self::Fail { .. }
            | Self::EndCancelled { .. } => None,
        }
    }

    /// The event that records the action, or `None` for what is not recorded in history.
    #[expect(clippy::too_many_lines, reason = "one match over all actions")]
    pub fn to_event(&self) -> Option<EventKind> {
        let event = match self.clone() {
            Self::ScheduleTask {
                task,
                name,
                input,
                options,
            } => EventKind::TaskScheduled {
                task,
                name,
                input,
                options: (options != TaskOptions::default()).then(|| Box::new(options)),
            },
            Self::CreateTimer { task, fire_at } => EventKind::TimerCreated { task, fire_at },
            Self::StartOrchestration {
                task,
                name,
                version,
                instance,
                input,
                link,
                options,
            } => EventKind::SubOrchestrationInstanceCreated {
                task,
                name,
                version,
                instance,
                input,
                link,
                parent_close: options.parent_close,
                undo: options.undo,
            },
            Self::SendEvent {
                task,
                instance,
                name,
                input,
            } => EventKind::EventSent {
                task,
                instance,
                name,
                input,
            },
            Self::CallEntity {
                task,
                entity,
                operation,
                input,
                request,
            } => EventKind::EntityOperationCalled {
                task,
                entity,
                operation,
                input,
                request,
            },
            Self::SignalEntity {
                task,
                entity,
                operation,
                input,
                at,
                request,
            } => EventKind::EntityOperationSignaled {
                task,
                entity,
                operation,
                input,
                at,
                request,
            },
            Self::LockEntities {
                task,
                entities,
                request,
            } => EventKind::EntityLockRequested {
                task,
                entities,
                request,
            },
            Self::UnlockEntities { lock, only } => EventKind::EntityUnlockSent { lock, only },
            Self::Complete { result } => EventKind::ExecutionCompleted { result },
            Self::Fail { failure } => EventKind::ExecutionFailed { failure },
            Self::EndCancelled { failure } => EventKind::ExecutionCanceled { failure },
            Self::CancelTimer { .. }
            | Self::ContinueAsNew { .. }
            | Self::Terminate { .. }
            | Self::SetCustomStatus { .. } => return None,
        };
        Some(event)
    }
}
