//! What reaches a partition.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::event::{Event, ParentClosePolicy};
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::message::{Caller, Target};
use dalsegno_core::query::Status;
use dalsegno_core::store::{EntityRow, InstanceRow, ReadError};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, Message, Payload, TaskId, Timestamp, TraceContext};

use crate::executor::{AttemptOutcome, OperationsEnded, Receipt, TurnAddress, TurnAnswer};
use crate::explain::Reason;
use crate::limiters::BucketName;
use crate::partition::Counters;
use crate::request::{EntityQueue, InstanceStatus, LimiterStatus, StartOptions, Started};
use crate::seen::Seen;
use crate::task::{EventMark, TaskRecord};
use crate::turn::{Delivery, Reply};
use crate::webhooks::DeliveryStatus;

/// One thing for a partition to take in.
#[derive(Debug)]
pub enum Input {
    /// A client asks.
    Command(Command),
    /// A stored message arrived.
    Deliver(Delivery),
    /// An attempt of an activity ended.
    /// A task that was told to end was not running and will not run.
    TaskWithdrawn {
        instance: InstanceId,
        key: ExecutionKey,
        task: TaskId,
    },
    AttemptEnded {
        record: Arc<TaskRecord>,
        outcome: AttemptOutcome,
        heartbeat: Option<Payload>,
        run: AttemptRun,
    },
    /// Code that runs elsewhere has answered a turn; `false` when nobody waits for it any more.
    TurnEnded {
        turn: TurnAddress,
        answer: TurnAnswer,
        reply: Reply<bool>,
    },
    /// Entity operations that do I/O, or run elsewhere, ended.
    OperationsEnded {
        entity: EntityId,
        ended: OperationsEnded,
    },
    /// What was asked of the store is here.
    Loaded(Box<Loaded>),
    /// An activity asks a limiter bucket of this partition to be let go.
    Acquire(LimiterAsk),
    /// One that was let go has ended.
    GiveBack(BucketName),
    /// An upstream said 429: shuts the bucket; the task asks again.
    Shut { ask: LimiterAsk, retry_after: Duration },
    /// A limiter's rule changed.
    RuleChanged { limiter: Arc<str>, rule: LimiterRule },
    /// Something became durable, or time went on.
    Nudge,
}

/// How an attempt was run.
#[derive(Clone, Debug)]
pub struct AttemptRun {
    /// Who ran it: host and process.
    pub worker: Arc<str>,
    /// From its begin to its end.
    pub took: Duration,
    /// Given when the outcome is durable.
    pub receipt: Receipt,
}

/// An activity that waits for a limiter.
#[derive(Clone, Debug)]
pub struct LimiterAsk {
    /// In which bucket.
    pub bucket: BucketName,
    /// The rule, if this bucket does not exist yet.
    pub rule: LimiterRule,
    /// Who waits.
    pub record: Arc<TaskRecord>,
}

/// What is asked of the store off the partition's thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// An instance with the history of its execution, unless it is final.
    Instance(InstanceId),
    /// The same with its history in any case: to rewind it.
    History(InstanceId),
    /// The instance of an execution: a timer is due and memory holds only its key.
    Execution(ExecutionKey),
    /// An entity.
    Entity(EntityId),
}

/// What the store said.
#[expect(clippy::large_enum_variant, reason = "most loads are instances")]
#[derive(Debug)]
pub enum Loaded {
    /// An instance, if there is one.
    Instance {
        id: InstanceId,
        found: Result<Option<StoredInstance>, Unread>,
    },
    /// The id of an execution's instance, if it is still the current one.
    Execution {
        key: ExecutionKey,
        found: Result<Option<InstanceId>, Unread>,
    },
    /// An entity, if there is one.
    Entity {
        id: EntityId,
        found: Result<Option<EntityRow>, Unread>,
    },
}

/// An instance as read back.
#[derive(Debug)]
pub struct StoredInstance {
    /// Its row.
    pub row: InstanceRow,
    /// Its history, or why it cannot be read. Empty for a final instance unless asked for.
    pub history: Result<Vec<Event>, String>,
}

/// What a waiting client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The instance left Pending.
    Start,
    /// It is final.
    Completion,
    /// It is final, or there is more of it than was seen.
    Change(Seen),
}

/// What clients ask. Each is answered once, after the state it was answered from is durable.
#[derive(Debug)]
pub enum Command {
    /// Start an instance.
    Start {
        id: InstanceId,
        is_new_id: IdOrigin,
        options: Box<StartOptions>,
        reply: Reply<Started>,
    },
    /// Raise an event.
    Raise {
        id: InstanceId,
        message: Message,
        mark: Option<EventMark>,
        reply: Reply<()>,
    },
    /// End it.
    Terminate {
        id: InstanceId,
        reason: Option<String>,
        output: Option<Payload>,
        children: ParentClosePolicy,
        reply: Reply<()>,
    },
    /// Ask it to end by its own code.
    Cancel {
        id: InstanceId,
        reason: Option<String>,
        reply: Reply<()>,
    },
    /// Let it take no messages.
    Suspend {
        id: InstanceId,
        reason: Option<String>,
        reply: Reply<()>,
    },
    /// Let it take messages again.
    Resume {
        id: InstanceId,
        reason: Option<String>,
        reply: Reply<()>,
    },
    /// Set a failed or parked one going again.
    Rewind {
        id: InstanceId,
        reason: Option<String>,
        reply: Reply<()>,
    },
    /// Begin the next attempt now, of one activity or of all that wait for theirs.
    RetryNow {
        id: InstanceId,
        task: Option<TaskId>,
        reply: Reply<()>,
    },
    /// Delete a finished one; with a key, only if that is still its execution.
    Purge {
        id: InstanceId,
        key: Option<ExecutionKey>,
        reply: Reply<()>,
    },
    /// Does this partition have that execution in memory?
    Holds { key: ExecutionKey, reply: Reply<bool> },
    /// The row of an execution was removed from the store. One partition hears of it.
    NoteRemoved {
        key: ExecutionKey,
        /// The instance, if its id could be read.
        id: Option<InstanceId>,
        /// The status under which it was counted, if it was.
        status: Option<Status>,
        reply: Reply<()>,
    },
    /// That execution is no more: end its tasks, and free what it has locked.
    Forget { key: ExecutionKey, reply: Reply<()> },
    /// Is that entity in memory?
    HoldsEntity { entity: EntityId, reply: Reply<bool> },
    /// Read again what was found damaged.
    ReadDamagedAgain { reply: Reply<()> },
    /// Its status, if it is in memory.
    Status { id: InstanceId, reply: Reply<InMemory> },
    /// Why it does not move; it comes into memory for it.
    Explain {
        id: InstanceId,
        reply: Reply<Option<Explained>>,
    },
    /// Its status once it is so far; `None` when there is no such instance.
    Wait {
        id: InstanceId,
        until: WaitFor,
        ticket: u64,
        reply: Reply<Option<InstanceStatus>>,
    },
    /// The client of that ticket hung up.
    StopWaiting { id: InstanceId, ticket: u64 },
    /// Signal an entity.
    Signal {
        entity: EntityId,
        operation: Arc<str>,
        input: Option<Payload>,
        at: Option<Timestamp>,
        trace: Option<TraceContext>,
        reply: Reply<()>,
    },
    /// An entity's row, if it is in memory.
    EntityRow {
        entity: EntityId,
        reply: Reply<EntityInMemory>,
    },
    /// What stands before an entity.
    EntityQueue {
        entity: EntityId,
        reply: Reply<EntityQueue>,
    },
    /// Delete an entity that is not locked.
    DeleteEntity { entity: EntityId, reply: Reply<bool> },
    /// Take an entity back from who has its lock, if that still is this one.
    UnlockEntity {
        entity: EntityId,
        holder: Box<Caller>,
        reply: Reply<()>,
    },
    /// The limiter buckets of this partition.
    Limiters { reply: Reply<Vec<LimiterStatus>> },
    /// What there is in this partition, in numbers.
    Measure { reply: Reply<Measure> },
    /// Where the tasks of an instance stand in the lines of this partition's buckets.
    Places {
        instance: InstanceId,
        reply: Reply<Vec<LimiterPlace>>,
    },
    /// Instances that something holds which should not, so many at most.
    Stuck {
        most: usize,
        reply: Reply<Vec<InstanceId>>,
    },
    /// Instances of this partition that are between two attempts of an activity.
    Retrying {
        activity: Arc<str>,
        reply: Reply<Vec<InstanceId>>,
    },
    /// The deliveries to webhooks of this partition.
    Deliveries { reply: Reply<Vec<DeliveryStatus>> },
    /// Store a small record by name.
    SetMeta {
        name: Arc<str>,
        data: Option<Vec<u8>>,
        reply: Reply<()>,
    },
    /// Answered when all before it is durable.
    Barrier { reply: Reply<()> },
}

/// Who made an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdOrigin {
    /// We did, at random: nobody else has it, so the store need not be asked.
    Generated,
    /// The caller did.
    Given,
}

/// An instance's status, if memory knows it.
#[derive(Clone, Debug)]
pub enum InMemory {
    /// It is resident.
    Resident(Box<InstanceStatus>),
    /// Ask the store.
    Elsewhere,
}

/// What a partition knows of why an instance does not move.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its row.
    pub row: InstanceRow,
    /// What holds it.
    pub reasons: Vec<Reason>,
    /// Its code is in memory and has said what it waits for.
    pub has_code: bool,
}

/// What there is in a partition, in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measure {
    /// What happened since it was loaded.
    pub counters: Counters,
    /// Instances in memory.
    pub resident: u64,
    /// Of them, with their code alive.
    pub live: u64,
    /// What that code holds, in bytes, roughly.
    pub live_bytes: u64,
    /// Instances that are parked.
    pub parked: u64,
    /// Turns that are at workers.
    pub away: u64,
    /// Messages and commands that wait for their turn.
    pub queued: u64,
    /// Messages that wait for a resume, a start or other code.
    pub held: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Tasks between two attempts.
    pub retries: u64,
    /// Activities before limiters.
    pub limited: u64,
    /// Entities in memory.
    pub entities: u64,
}

impl Measure {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            counters: self.counters.plus(&other.counters),
            resident: self.resident + other.resident,
            live: self.live + other.live,
            live_bytes: self.live_bytes + other.live_bytes,
            parked: self.parked + other.parked,
            away: self.away + other.away,
            queued: self.queued + other.queued,
            held: self.held + other.held,
            timers: self.timers + other.timers,
            retries: self.retries + other.retries,
            limited: self.limited + other.limited,
            entities: self.entities + other.entities,
        }
    }
}

/// A task that waits for a limiter.
#[derive(Clone, Debug)]
pub struct LimiterPlace {
    /// Of which execution.
    pub execution: ExecutionKey,
    /// Which task.
    pub task: TaskId,
    /// The limiter.
    pub limiter: Arc<str>,
    /// Its bucket.
    pub key: Arc<str>,
    /// How many are before it.
    pub before: usize,
    /// When the first of the line may go, if that is known.
    pub next_grant: Option<Timestamp>,
}

/// An entity's row, if memory knows it.
#[derive(Clone, Debug)]
pub enum EntityInMemory {
    /// It is resident; `None` when it has no state, queue or lock.
    Resident(Option<Box<EntityRow>>),
    /// Ask the store.
    Elsewhere,
}

impl Input {
    /// Whose partition it belongs to; `None` for what is sent to a partition by number.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Deliver(delivery) => Some(delivery.target.clone()),
            Self::TaskWithdrawn { instance, .. } => Some(Target::Orchestration(instance.clone())),
            Self::AttemptEnded { record, .. } => Some(Target::Orchestration(record.instance.clone())),
            Self::OperationsEnded { entity, .. } => Some(Target::Entity(entity.clone())),
            _ => None,
        }
    }
}

/// Why something was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// It is no use to try again.
    pub is_damage: bool,
    /// For people.
    pub text: String,
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        Self {
            is_damage: error.is_damage(),
            text: error.to_string(),
        }
    }
}
