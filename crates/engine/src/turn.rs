//! What leaves a partition: turns, each one commit with the effects that wait for it.

use std::fmt;
use std::sync::Arc;

use dalsegno_core::message::Target;
use dalsegno_core::query::Status;
use dalsegno_core::store::Op;
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, Message, TaskId};
use futures::future::BoxFuture;

use crate::executor::{OperationsEnded, TurnAddress, TurnSender};
use crate::limiters::Admitted;
use crate::request::Answer;
use crate::task::TaskRecord;

/// One turn of one partition. Its commit and its effects stand and fall together.
#[derive(Debug, Default)]
pub struct Turn {
    /// Counts the turns of the partition since it was loaded, from 1.
    pub number: u64,
    /// What it changes; may be empty, then only the order matters.
    pub ops: Vec<Op>,
    /// Messages for instances, stored by this commit; delivered in memory as soon as the commit is
    /// in the queue, since queue order is log order.
    pub deliveries: Vec<Delivery>,
    /// What happens outside, once the commit is durable.
    pub effects: Vec<Effect>,
    /// How the counts of statuses change.
    pub moves: Vec<(Option<Status>, Option<Status>)>,
    /// How many of them webhooks were told of.
    pub moves_told: usize,
}

impl Turn {
    /// Memory it holds while it waits for the disk, roughly.
    pub fn size_bytes(&self) -> usize {
        let ops: usize = self.ops.iter().map(op_bytes).sum();
        64 + ops + 128 * (self.deliveries.len() + self.effects.len())
    }
}

/// Bytes that a change takes, roughly.
pub(crate) fn op_bytes(op: &Op) -> usize {
    48 + match op {
        Op::AppendHistory { data, .. } | Op::PutMessage { data, .. } | Op::PutTask { data, .. } => data.len(),
        Op::PutPayload { value, .. } => value.len_bytes(),
        Op::PutInstance(row) => 256 + row.input.as_ref().map_or(0, dalsegno_core::Payload::len_bytes),
        Op::PutEntity(row) => 128 + row.state.as_ref().map_or(0, dalsegno_core::Payload::len_bytes),
        _ => 0,
    }
}

/// A stored message on its way to its receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// For whom.
    pub target: Target,
    /// Its number in the table of messages.
    pub sequence: u64,
    /// What it says.
    pub message: Message,
}

/// Something that leaves the partition once its commit is durable.
pub enum Effect {
    /// Run an activity, limits permitting.
    Dispatch(Arc<TaskRecord>),
    /// A limiter let it go: run it, host limits permitting.
    Run(Admitted),
    /// Send a turn to where its code runs.
    SendTurn(TurnSender),
    /// That turn is not wanted any more.
    WithdrawTurn(TurnAddress),
    /// Tell a running activity that it should end.
    Cancel { key: ExecutionKey, task: TaskId },
    /// Tell an activity that its orchestration was asked to end: it answers as always.
    Tell {
        instance: InstanceId,
        key: ExecutionKey,
        task: TaskId,
    },
    /// Run an entity operation that does I/O.
    RunOperation {
        entity: EntityId,
        future: BoxFuture<'static, OperationsEnded>,
    },
    /// Give an answer.
    Answer(Box<dyn FnOnce() + Send>),
    /// Let the partition look again: something waits for its own commit.
    Nudge,
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dispatch(record) => write!(f, "Dispatch({})", record.name),
            Self::Run(admitted) => write!(f, "Run({})", admitted.record.name),
            Self::SendTurn(_) => f.write_str("SendTurn"),
            Self::WithdrawTurn(turn) => write!(f, "WithdrawTurn({}, {})", turn.instance, turn.number),
            Self::Cancel { key, task } => write!(f, "Cancel({key:?}, {task})"),
            Self::Tell { key, task, .. } => write!(f, "Tell({key:?}, {task})"),
            Self::RunOperation { entity, .. } => write!(f, "RunOperation({entity})"),
            Self::Answer(_) => f.write_str("Answer"),
            Self::Nudge => f.write_str("Nudge"),
        }
    }
}

/// Where an answer goes.
pub struct Reply<T>(Box<dyn FnOnce(Answer<T>) + Send>);

impl<T: Send + 'static> Reply<T> {
    /// Calls this with the answer, once it may be seen.
    pub fn new(give: impl FnOnce(Answer<T>) + Send + 'static) -> Self {
        Self(Box::new(give))
    }

    /// The effect that gives this answer.
    pub fn with(self, answer: Answer<T>) -> Effect {
        Effect::Answer(Box::new(move || (self.0)(answer)))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
