//! What instances, entities, clients and the engine send to an instance.

use std::sync::Arc;

use crate::event::{Attempts, Parent, ParentClosePolicy, ParentName};
use crate::failure::Failure;
use crate::id::{EntityId, ExecutionKey, InstanceId, TaskId};
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// How a task ended.
pub type Outcome = Result<Option<Payload>, Failure>;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An orchestration.
    Orchestration(InstanceId),
    /// An entity.
    Entity(EntityId),
}

/// A start asked for by another orchestration.
#[derive(Clone, Debug, PartialEq)]
pub struct StartRequest {
    /// The orchestrator's name.
    pub name: Arc<str>,
    /// The version; `None` takes the highest registered.
    pub version: Option<Arc<str>>,
    /// The input.
    pub input: Option<Payload>,
    /// Who waits for the outcome.
    pub parent: Option<Parent>,
    /// What that is called.
    pub parent_name: Option<Arc<ParentName>>,
    /// How many parents it has, one above the other; the engine counts.
    pub depth: u32,
    /// A retried child replaces its finished self.
    pub reuse: ReusePolicy,
    /// Names and values to find it by, sorted.
    pub tags: Vec<(String, String)>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
}

/// What a start does when its id is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReusePolicy {
    /// Refuse while it lives, replace when finished. The default, as in Durable Functions.
    #[default]
    RejectRunning,
    /// Refuse, also when finished.
    Reject,
    /// Answer with the existing one, whatever its state.
    ReturnExisting,
    /// Replace a finished one; refuse while it lives. Same as the default, said aloud.
    Replace,
    /// Terminate a living one and start anew, in one commit.
    TerminateAndStart,
}

/// Who sent an entity a request, and where the answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The calling orchestration.
    pub instance: InstanceId,
    /// Its execution.
    pub execution: ExecutionKey,
    /// Its task.
    pub task: TaskId,
}

/// A message. Completions, firings, answers and grants name the execution and task they are for
/// and are dropped on a mismatch (a grant is answered with a release); the rest address the
/// instance and are never dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An activity ended.
    TaskDone {
        execution: ExecutionKey,
        task: TaskId,
        outcome: Outcome,
        attempts: Attempts,
    },
    /// A timer is due.
    TimerFired {
        execution: ExecutionKey,
        task: TaskId,
        fire_at: Timestamp,
    },
    /// A child ended.
    ChildDone {
        execution: ExecutionKey,
        task: TaskId,
        outcome: Outcome,
    },
    /// An entity answered a call.
    EntityAnswered {
        execution: ExecutionKey,
        task: TaskId,
        outcome: Outcome,
    },
    /// These entities are locked for us, all of them.
    LockGranted {
        execution: ExecutionKey,
        task: TaskId,
        entities: Vec<EntityId>,
    },
    /// An external event.
    EventRaised {
        name: Arc<str>,
        input: Option<Payload>,
        trace: Option<TraceContext>,
    },
    /// Start this instance.
    Start(Box<StartRequest>),
    /// End now.
    Terminate {
        reason: Option<String>,
        /// The output it gets; without one the reason is it.
        output: Option<Payload>,
        children: ParentClosePolicy,
        /// Who sends it to its child; `None` where any instance of the id is meant.
        parent: Option<Parent>,
    },
    /// End by your own code: undo what has to be undone, then return.
    Cancel {
        reason: Option<String>,
        /// As of [`Message::Terminate`].
        parent: Option<Parent>,
    },
    /// Stop taking messages.
    Suspend { reason: Option<String> },
    /// Take messages again.
    Resume { reason: Option<String> },
    /// Go back to before the failure. `parent` is given when the parent itself was rewound.
    Rewind {
        reason: Option<String>,
        parent: Option<Parent>,
    },
    /// To an entity: do an operation.
    Operation {
        operation: Arc<str>,
        input: Option<Payload>,
        caller: Option<Caller>,
        at: Option<Timestamp>,
        trace: Option<TraceContext>,
    },
    /// To an entity: lock it for the caller when it is its turn, then pass the request on to the
    /// next of `entities` behind `position`, or grant when it was the last.
    Lock {
        caller: Caller,
        entities: Vec<EntityId>,
        position: u32,
    },
    /// To an entity: release the lock of this execution, or withdraw its request.
    Unlock { execution: ExecutionKey, task: TaskId },
}

impl Message {
    /// Is it for an instance with this parent? An id may be in use by an instance that the sender did
    /// not start: what a parent sends to its child is not for that one.
    pub fn is_for(&self, parent: Option<&Parent>) -> bool {
        match self {
            Self::Terminate { parent: sender, .. } | Self::Cancel { parent: sender, .. } => {
                sender.is_none() || sender.as_ref() == parent
            }
            _ => true,
        }
    }
}
