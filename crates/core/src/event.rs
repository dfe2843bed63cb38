//! What happened: the history of one execution, in order, append-only.

use std::sync::Arc;

use crate::action::TaskOptions;
use crate::failure::Failure;
use crate::id::{EntityId, ExecutionId, ExecutionKey, InstanceId, TaskId};
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// The external event by which code in other languages learns that its orchestration was asked to
/// cancel.
pub const CANCEL_EVENT: &str = "dalsegno.cancel";

/// Whether no client and no orchestration may raise an event of this name: code in other languages
/// would take it for a request to cancel, which needs more rights than an event. Names of events
/// match in any case, and SDKs fold case as Unicode says.
pub fn is_reserved_event_name(name: &str) -> bool {
    name.chars().map(folded).eq(CANCEL_EVENT.chars())
}

/// The letter in lower case; also of the two letters beyond ASCII that case folding makes one of
/// ASCII.
fn folded(letter: char) -> char {
    match letter {
        'ſ' => 's',
        '\u{212A}' => 'k',
        _ => letter.to_ascii_lowercase(),
    }
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it was recorded; never earlier than the event before.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What a child orchestration means to the one that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildLink {
    /// The parent gets its outcome.
    Awaited,
    /// Started and forgotten.
    Detached,
}

/// What becomes of a child when its parent is terminated or cancelled. An end of the parent's code
/// leaves children alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ParentClosePolicy {
    /// It goes on.
    #[default]
    Abandon,
    /// It is terminated too.
    Terminate,
    /// It is cancelled too.
    Cancel,
}

/// Who waits for the outcome of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The parent's instance.
    pub instance: InstanceId,
    /// The execution of the parent that asked; an answer to another one is dropped.
    pub execution: ExecutionKey,
    /// The parent's task.
    pub task: TaskId,
}

/// A parent's names, which code that runs elsewhere is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentName {
    /// The parent's orchestrator.
    pub name: Arc<str>,
    /// Its version.
    pub version: Option<Arc<str>>,
    /// The public name of the execution that asked.
    pub execution_id: ExecutionId,
}

/// The first event of an execution's life.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionStarted {
    /// The orchestrator's name.
    pub name: Arc<str>,
    /// The version, pinned for the instance's life.
    pub version: Option<Arc<str>>,
    /// The public name of this execution.
    pub execution_id: ExecutionId,
    /// The input, if any.
    pub input: Option<Payload>,
    /// Who waits for the outcome.
    pub parent: Option<Parent>,
    /// What that is called; nothing in histories of earlier versions.
    pub parent_name: Option<Arc<ParentName>>,
    /// When a delayed start was due.
    pub scheduled_start: Option<Timestamp>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// How often a task was tried, and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// How many attempts there were, the last one included.
    pub count: u32,
    /// What is known of them; nothing in histories of earlier versions.
    pub record: Option<Box<AttemptRecord>>,
}

impl From<u32> for Attempts {
    fn from(count: u32) -> Self {
        Self { count, record: None }
    }
}

/// The last attempt of a task, and the failures before it. For people; code never sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When the last attempt began.
    pub started: Timestamp,
    /// Who ran it.
    pub worker: Arc<str>,
    /// The last failures before it, oldest first.
    pub failures: Vec<AttemptFailure>,
}

/// How an attempt failed that was not the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFailure {
    /// When.
    pub at: Timestamp,
    /// Kind of the failure.
    pub kind: String,
    /// Its message, cut.
    pub message: String,
}

/// A release of one entity of a lock: code that runs elsewhere lets them go one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOfLock {
    /// The number of this release.
    pub task: TaskId,
    /// The entity.
    pub entity: EntityId,
}

/// The kinds of event. Names are those of the Durable Task Framework where it has one.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// Begins every turn; its time is what `now()` gives in that turn.
    OrchestratorStarted,
    /// The execution exists.
    ExecutionStarted(Box<ExecutionStarted>),
    /// An activity was asked for.
    TaskScheduled {
        task: TaskId,
        name: Arc<str>,
        input: Option<Payload>,
        /// What this call says of retries and time, for a rewind; no part of what a replay compares.
        options: Option<Box<TaskOptions>>,
    },
    /// It answered.
    TaskCompleted {
        task: TaskId,
        result: Option<Payload>,
        attempts: Attempts,
    },
    /// Its last attempt failed.
    TaskFailed {
        task: TaskId,
        failure: Failure,
        attempts: Attempts,
    },
    /// A timer was set.
    TimerCreated { task: TaskId, fire_at: Timestamp },
    /// It fired.
    TimerFired { task: TaskId, fire_at: Timestamp },
    /// Another orchestration was started.
    SubOrchestrationInstanceCreated {
        task: TaskId,
        name: Arc<str>,
        version: Option<Arc<str>>,
        instance: InstanceId,
        input: Option<Payload>,
        link: ChildLink,
        /// What a request to cancel means for it; no part of what a replay compares.
        parent_close: ParentClosePolicy,
        /// It undoes what was done; no part of what a replay compares.
        undo: bool,
    },
    /// A child completed.
    SubOrchestrationInstanceCompleted { task: TaskId, result: Option<Payload> },
    /// A child failed, was terminated, or could not be started.
    SubOrchestrationInstanceFailed { task: TaskId, failure: Failure },
    /// An event was sent to another instance.
    EventSent {
        task: TaskId,
        instance: InstanceId,
        name: Arc<str>,
        input: Option<Payload>,
    },
    /// An external event arrived.
    EventRaised {
        name: Arc<str>,
        input: Option<Payload>,
        trace: Option<TraceContext>,
    },
    /// An entity was called and will answer.
    EntityOperationCalled {
        task: TaskId,
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// An entity was signalled, at once or for later.
    EntityOperationSignaled {
        task: TaskId,
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        at: Option<Timestamp>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// A called entity answered.
    EntityOperationCompleted { task: TaskId, result: Option<Payload> },
    /// A called entity's operation failed.
    EntityOperationFailed { task: TaskId, failure: Failure },
    /// Locks were asked for; ids sorted, without repeats.
    EntityLockRequested {
        task: TaskId,
        entities: Vec<EntityId>,
        /// As code that runs elsewhere calls it.
        request: Option<Arc<str>>,
    },
    /// All of them are held.
    EntityLockGranted { task: TaskId },
    /// The guard of the lock asked for by `lock` was dropped; or one of its entities was let go.
    EntityUnlockSent {
        lock: TaskId,
        only: Option<Box<OneOfLock>>,
    },
    /// Somebody suspended the instance.
    ExecutionSuspended { reason: Option<String> },
    /// Somebody resumed it.
    ExecutionResumed { reason: Option<String> },
    /// Somebody asked it to end. The code hears of it at this place; what was open is told.
    CancelRequested { reason: Option<String> },
    /// Somebody rewound it: what failed is tried again.
    ExecutionRewound { reason: Option<String> },
    /// The code returned. Final.
    ExecutionCompleted { result: Option<Payload> },
    /// The code failed. Final.
    ExecutionFailed { failure: Failure },
    /// Somebody ended it. Final.
    ExecutionTerminated { reason: Option<String> },
    /// The code ended because it was asked to. Final.
    ExecutionCanceled { failure: Failure },
    /// Ends every turn.
    OrchestratorCompleted,
}

impl EventKind {
    /// Is it one of the four that end an execution?
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::ExecutionCompleted { .. }
                | Self::ExecutionFailed { .. }
                | Self::ExecutionTerminated { .. }
                | Self::ExecutionCanceled { .. }
        )
    }

    /// Does it record something that the code asked for, other than its own end?
    pub fn is_asked_by_code(&self) -> bool {
        matches!(
            self,
            Self::TaskScheduled { .. }
                | Self::TimerCreated { .. }
                | Self::SubOrchestrationInstanceCreated { .. }
                | Self::EventSent { .. }
                | Self::EntityOperationCalled { .. }
                | Self::EntityOperationSignaled { .. }
                | Self::EntityLockRequested { .. }
                | Self::EntityUnlockSent { .. }
        )
    }

    /// The user's value in it. No event has more than one.
    pub fn value(&self) -> Option<&Payload> {
        match self {
            Self::ExecutionStarted(started) => started.input.as_ref(),
            Self::TaskScheduled { input: value, .. }
            | Self::TaskCompleted { result: value, .. }
            | Self::SubOrchestrationInstanceCreated { input: value, .. }
            | Self::SubOrchestrationInstanceCompleted { result: value, .. }
            | Self::EventSent { input: value, .. }
            | Self::EventRaised { input: value, .. }
            | Self::EntityOperationCalled { input: value, .. }
            | Self::EntityOperationSignaled { input: value, .. }
            | Self::EntityOperationCompleted { result: value, .. }
            | Self::ExecutionCompleted { result: value } => value.as_ref(),
            _ => None,
        }
    }

    /// The place of that value; `None` for events that cannot have one.
    pub fn value_mut(&mut self) -> Option<&mut Option<Payload>> {
        match self {
            Self::ExecutionStarted(started) => Some(&mut started.input),
            Self::TaskScheduled { input: value, .. }
            | Self::TaskCompleted { result: value, .. }
            | Self::SubOrchestrationInstanceCreated { input: value, .. }
            | Self::SubOrchestrationInstanceCompleted { result: value, .. }
            | Self::EventSent { input: value, .. }
            | Self::EventRaised { input: value, .. }
            | Self::EntityOperationCalled { input: value, .. }
            | Self::EntityOperationSignaled { input: value, .. }
            | Self::EntityOperationCompleted { result: value, .. }
            | Self::ExecutionCompleted { result: value } => Some(value),
            _ => None,
        }
    }

    /// The name of the event, as histories show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OrchestratorStarted => "OrchestratorStarted",
            Self::ExecutionStarted(_) => "ExecutionStarted",
            Self::TaskScheduled { .. } => "TaskScheduled",
            Self::TaskCompleted { .. } => "TaskCompleted",
            Self::TaskFailed { .. } => "TaskFailed",
            Self::TimerCreated { .. } => "TimerCreated",
            Self::TimerFired { .. } => "TimerFired",
            Self::SubOrchestrationInstanceCreated { .. } => "SubOrchestrationInstanceCreated",
            Self::SubOrchestrationInstanceCompleted { .. } => "SubOrchestrationInstanceCompleted",
            Self::SubOrchestrationInstanceFailed { .. } => "SubOrchestrationInstanceFailed",
            Self::EventSent { .. } => "EventSent",
            Self::EventRaised { .. } => "EventRaised",
            Self::EntityOperationCalled { .. } => "EntityOperationCalled",
            Self::EntityOperationSignaled { .. } => "EntityOperationSignaled",
            Self::EntityOperationCompleted { .. } => "EntityOperationCompleted",
            Self::EntityOperationFailed { .. } => "EntityOperationFailed",
            Self::EntityLockRequested { .. } => "EntityLockRequested",
            Self::EntityLockGranted { .. } => "EntityLockGranted",
            Self::EntityUnlockSent { .. } => "EntityUnlockSent",
            Self::ExecutionSuspended { .. } => "ExecutionSuspended",
            Self::ExecutionResumed { .. } => "ExecutionResumed",
            Self::CancelRequested { .. } => "CancelRequested",
            Self::ExecutionRewound { .. } => "ExecutionRewound",
            Self::ExecutionCompleted { .. } | Self::ExecutionFailed { .. } => "ExecutionCompleted",
            Self::ExecutionTerminated { .. } => "ExecutionTerminated",
            Self::ExecutionCanceled { .. } => "ExecutionCanceled",
            Self::OrchestratorCompleted => "OrchestratorCompleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserved_name_is_reserved_however_its_case_is_folded() {
        for (name, is_reserved) in [
            ("dalsegno.cancel", true),
            ("Dalsegno.CANCEL", true),
            // `casefold()` of Python makes an s of the long one.
            ("dalſegno.cancel", true),
            ("DAL\u{17F}EGNO.cancel", true),
            ("dalsegno.cancel ", false),
            ("dalsegno.cance", false),
            ("dalsegno.cancels", false),
            ("dal\u{df}egno.cancel", false),
            ("dalssegno.cancel", false),
            ("", false),
        ] {
            assert_eq!(is_reserved_event_name(name), is_reserved, "{name}");
        }
    }

    #[test]
    fn no_other_letters_become_some_of_the_reserved_name() {
        let mut found = String::new();
        for letter in (char::MIN..=char::MAX).filter(|letter| !letter.is_ascii()) {
            let lower: String = letter.to_lowercase().collect();
            let upper: String = letter.to_uppercase().collect();
            let forms = [lower, upper.to_lowercase()];
            if forms.iter().any(|form| CANCEL_EVENT.contains(&**form)) {
                found.push(letter);
                assert!(folded(letter).is_ascii(), "{letter}");
            }
        }
        assert_eq!(found, "ſ");
    }
}
