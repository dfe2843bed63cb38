//! What the engine asks of a store: an ordered log of commits, and tables that a background
//! checkpoint folds it into.
//!
//! A store keeps bytes and never looks inside an event, a message or a task. What it can read are
//! the columns of [`InstanceRow`], because people filter by them.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::event::Parent;
use crate::failure::{Failure, Fault};
use crate::id::{EntityId, Epoch, ExecutionId, ExecutionKey, InstanceId, PartitionId, TaskId};
use crate::payload::Payload;
use crate::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, Status};
use crate::time::Timestamp;

/// A position in the log of commits. Dense: every batch takes the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

/// All that one turn changes. Applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// The partition whose turn it was.
    pub partition: PartitionId,
    /// The epoch in which that partition is owned by the writer.
    pub epoch: Epoch,
    /// The changes, in order.
    pub ops: Vec<Op>,
}

/// One change to one table. Putting replaces, deleting what is not there is no error.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The status row of an instance's current execution. A row of the same id with another key is replaced.
    PutInstance(Box<InstanceRow>),
    /// The instance moved, but nothing of its row changed but these.
    TouchInstance {
        key: ExecutionKey,
        updated: Timestamp,
        events: u64,
    },
    /// Removes an execution: its history, and its row if the row still has that key.
    DeleteExecution { key: ExecutionKey, id: InstanceId },
    /// Events at the end of an execution's history: `count` records from number `first` (from 0), encoded.
    AppendHistory {
        key: ExecutionKey,
        first: u64,
        count: u32,
        data: Vec<u8>,
    },
    /// A message that waits for its receiver, who belongs to `partition`.
    PutMessage {
        partition: PartitionId,
        seq: u64,
        data: Vec<u8>,
    },
    /// It was taken.
    DeleteMessage { partition: PartitionId, seq: u64 },
    /// A pending activity, or a child that may be retried. Belongs to the commit's partition.
    PutTask {
        key: ExecutionKey,
        task: TaskId,
        data: Vec<u8>,
    },
    /// It is done.
    DeleteTask { key: ExecutionKey, task: TaskId },
    /// An open timer. Belongs to the commit's partition.
    PutTimer {
        due: Timestamp,
        key: ExecutionKey,
        task: TaskId,
    },
    /// It fired, or nobody waits any more.
    DeleteTimer {
        due: Timestamp,
        key: ExecutionKey,
        task: TaskId,
    },
    /// An entity: state, queue and lock.
    PutEntity(Box<EntityRow>),
    /// The entity is gone.
    DeleteEntity { id: EntityId },
    /// A bucket of a limiter.
    PutLimiter {
        name: Arc<str>,
        key: Arc<str>,
        data: Vec<u8>,
    },
    /// A value that is kept apart from the rows that would hold it. Goes with its owner.
    PutPayload { owner: Owner, n: u64, value: Payload },
    /// Another value took its place, or none.
    DeletePayload { owner: Owner, n: u64 },
    /// The bucket is back in its first state.
    DeleteLimiter { name: Arc<str>, key: Arc<str> },
    /// Anything small that a hub keeps by name: limiter definitions, last occurrences of schedules.
    PutMeta { name: Arc<str>, data: Vec<u8> },
    /// Removes it.
    DeleteMeta { name: Arc<str> },
}

/// Whose a value in the table of payloads is. Deleting the owner deletes its values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// An execution's: of its row and of its history.
    Execution(ExecutionKey),
    /// An entity's: its state.
    Entity(EntityId),
}

/// Length and hash of a value that is kept apart: enough to compare it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadDigest {
    /// Length of the text.
    pub bytes: u64,
    /// SHA-256 of the text.
    pub sha256: [u8; 32],
}

/// A value of a row that may be large. Its code is its number in the table of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The input of an instance.
    Input,
    /// Its custom status.
    CustomStatus,
    /// Its output.
    Output,
    /// The state of an entity.
    State,
}

impl Field {
    /// Those of an instance.
    pub const OF_INSTANCE: [Self; 3] = [Self::Input, Self::CustomStatus, Self::Output];

    /// The number of its value among its owner's payloads. Part of the storage format.
    pub fn number(self) -> u64 {
        match self {
            Self::Input | Self::State => 0,
            Self::CustomStatus => 1,
            Self::Output => 2,
        }
    }
}

/// Which values of a row are in the table of payloads. A stored row does not hold these itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart(u8);

impl Apart {
    /// Is this one there?
    pub fn has(self, field: Field) -> bool {
        self.0 & (1 << field.number()) != 0
    }

    /// Notes whether it is.
    pub fn set(&mut self, field: Field, is_apart: bool) {
        let bit = 1 << field.number();
        self.0 = if is_apart { self.0 | bit } else { self.0 & !bit };
    }

    /// As stored: one bit for each number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// What [`Apart::bits`] gave; `None` for bits that mean nothing.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits < 8).then_some(Self(bits))
    }
}

/// The status row of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    /// The current execution.
    pub key: ExecutionKey,
    /// The partition the id belongs to.
    pub partition: PartitionId,
    /// The instance.
    pub id: InstanceId,
    /// Public name of the current execution.
    pub execution_id: ExecutionId,
    /// Orchestrator.
    pub name: Arc<str>,
    /// Pinned version.
    pub version: Option<Arc<str>>,
    /// Status; a parked instance is Running.
    pub status: Status,
    /// When the instance was created; continue-as-new keeps it.
    pub created: Timestamp,
    /// When it last moved.
    pub updated: Timestamp,
    /// When it reached its final status.
    pub completed: Option<Timestamp>,
    /// When a delayed start is due.
    pub scheduled_start: Option<Timestamp>,
    /// Who waits for the outcome.
    pub parent: Option<Parent>,
    /// Names and values to find it by, sorted by name.
    pub tags: Vec<(String, String)>,
    /// Input of the current execution.
    pub input: Option<Payload>,
    /// What the code shows of its progress.
    pub custom_status: Option<Payload>,
    /// Result, or the reason of a termination as a JSON string.
    pub output: Option<Payload>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it does not move though messages wait: code and history do not fit, or no code is there.
    pub parked: Option<Fault>,
    /// Events in the history of the current execution.
    pub events: u64,
    /// What the engine keeps beside: encoded, opaque to the store.
    pub extra: Vec<u8>,
    /// Which of input, custom status and output are payloads of their own.
    pub apart: Apart,
}

impl InstanceRow {
    /// One of its values.
    pub fn value(&self, field: Field) -> Option<&Payload> {
        match field {
            Field::Input => self.input.as_ref(),
            Field::CustomStatus => self.custom_status.as_ref(),
            Field::Output => self.output.as_ref(),
            Field::State => None,
        }
    }

    /// Changes a value. What is stored apart of the former one does not count any more.
    pub fn set_value(&mut self, field: Field, value: Option<Payload>) {
        self.apart.set(field, false);
        self.fill(field, value);
    }

    /// Puts a value in the row as it is stored, or takes it out.
    pub fn fill(&mut self, field: Field, value: Option<Payload>) {
        match field {
            Field::Input => self.input = value,
            Field::CustomStatus => self.custom_status = value,
            Field::Output => self.output = value,
            Field::State => {}
        }
    }

    /// Values that the row has and that were not read with it.
    pub fn missing(&self) -> impl Iterator<Item = Field> + use<> {
        let missing = Field::OF_INSTANCE.map(|field| self.apart.has(field) && self.value(field).is_none());
        Field::OF_INSTANCE
            .into_iter()
            .zip(missing)
            .filter_map(|(field, is_missing)| is_missing.then_some(field))
    }
}

/// An entity as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EntityRow {
    /// The entity.
    pub id: EntityId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// When its last operation ended.
    pub last_operation: Timestamp,
    /// Its state; `None` when it has none (only a queue or a lock), or is stored apart.
    pub state: Option<Payload>,
    /// The state is a payload of its own.
    pub is_state_apart: bool,
    /// Queue and lock, encoded, opaque to the store. Empty when there are none.
    pub queue: Vec<u8>,
}

impl EntityRow {
    /// An entity that has nothing yet.
    pub fn vacant(id: EntityId, partition: PartitionId) -> Self {
        Self {
            id,
            partition,
            last_operation: Timestamp::from_micros(0),
            state: None,
            is_state_apart: false,
            queue: Vec::new(),
        }
    }
}

/// A piece of a stored history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryChunk {
    /// Number of the first event, from 0.
    pub first: u64,
    /// How many events.
    pub count: u32,
    /// The events, encoded, one after the other.
    pub data: Vec<u8>,
}

/// An open timer: some 40 bytes in memory, so that a million fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerRow {
    /// When it is due.
    pub due: Timestamp,
    /// For which execution.
    pub key: ExecutionKey,
    /// For which task of it.
    pub task: TaskId,
}

/// What a partition needs in memory to go on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Waiting messages by sequence.
    pub messages: Vec<(u64, Vec<u8>)>,
    /// Open tasks.
    pub tasks: Vec<(ExecutionKey, TaskId, Vec<u8>)>,
    /// Open timers, by due time.
    pub timers: Vec<TimerRow>,
    /// Instances that are parked, with their ids.
    pub parked: Vec<InstanceId>,
    /// Entities with a queue or a lock.
    pub busy_entities: Vec<EntityRow>,
}

/// What belongs to the hub as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubLoaded {
    /// The epoch of this opening.
    pub epoch: Epoch,
    /// Number of partitions, fixed at creation.
    pub partitions: u32,
    /// The last log position that is durable.
    pub durable: Lsn,
    /// No execution key up to here is free.
    pub key_max: ExecutionKey,
    /// No message sequence up to here is free.
    pub message_max: u64,
    /// How many instances are in each status.
    pub counts: Vec<(Status, u64)>,
    /// Limiter buckets: name, key, record.
    pub limiters: Vec<(Arc<str>, Arc<str>, Vec<u8>)>,
    /// Small records by name.
    pub meta: Vec<(Arc<str>, Vec<u8>)>,
}

/// Why a batch was not appended. Each kind asks for something else of the caller.
#[derive(Debug)]
pub enum CommitError {
    /// Another host owns the partition. Drop it from memory.
    Fenced,
    /// That log position is taken: after `Unknown`, compare what is there.
    Conflict,
    /// Certainly not written. Trying again is safe.
    NotApplied(Cause),
    /// Perhaps written. Memory is not repaired: the process ends, and the next opening reads what
    /// became of it.
    Unknown(Cause),
}

/// What lies behind an error of a store.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("another host owns the partition"),
            Self::Conflict => f.write_str("the log position is taken"),
            Self::NotApplied(cause) => write!(f, "the commit was not written: {cause}"),
            Self::Unknown(cause) => write!(f, "the commit may or may not be written: {cause}"),
        }
    }
}

impl std::error::Error for CommitError {}

/// A read failed. The text says what, where and what to do.
#[derive(Debug)]
pub struct ReadError {
    kind: ReadErrorKind,
    cause: Cause,
}

/// What a caller can do about a [`ReadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// The disk or the system failed: a later attempt may succeed.
    Transient,
    /// What is stored is damaged: every attempt gives the same.
    Damaged,
    /// Another process owns the hub: this one must end.
    Fenced,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the store: {}", self.cause)
    }
}

impl std::error::Error for ReadError {}

impl ReadError {
    /// A later attempt may succeed.
    pub fn transient(cause: impl Into<Cause>) -> Self {
        Self {
            kind: ReadErrorKind::Transient,
            cause: cause.into(),
        }
    }

    /// What is stored is damaged: reading it again gives the same.
    pub fn damaged(what: impl fmt::Display) -> Self {
        Self {
            kind: ReadErrorKind::Damaged,
            cause: what.to_string().into(),
        }
    }

    /// Another process owns the hub.
    pub fn fenced(how: impl fmt::Display) -> Self {
        Self {
            kind: ReadErrorKind::Fenced,
            cause: how.to_string().into(),
        }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }

    /// Is it damage?
    pub fn is_damage(&self) -> bool {
        self.kind == ReadErrorKind::Damaged
    }
}

/// Does the system refuse until somebody changes something, such as the owner of a file? After any
/// other I/O error a later attempt may succeed.
pub fn is_refused(error: io::ErrorKind) -> bool {
    use io::ErrorKind as Io;
    matches!(
        error,
        Io::PermissionDenied
            | Io::ReadOnlyFilesystem
            | Io::NotADirectory
            | Io::IsADirectory
            | Io::InvalidFilename
            | Io::InvalidInput
            | Io::Unsupported
    )
}

/// What [`Store::history_page`] gives, of chunks in order. It ends before a hole.
pub fn page_of(chunks: Vec<HistoryChunk>, first: u64, bytes_max: usize) -> Vec<HistoryChunk> {
    let (mut next, mut bytes) = (first, 0);
    let mut page = Vec::new();
    for chunk in chunks {
        let end = chunk.first + u64::from(chunk.count);
        if end <= first {
            continue;
        }
        if chunk.first > next || bytes >= bytes_max {
            break;
        }
        (next, bytes) = (end, bytes + chunk.data.len());
        page.push(chunk);
    }
    page
}

/// A row that was moved to where damaged rows are kept, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its number there.
    pub number: u64,
    /// The table it is from.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it was moved.
    pub reason: String,
}

/// An instance or entity that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// Whose row it is; `None` when its key cannot be read either.
    pub owner: Option<Owner>,
    /// The instance, if its id can be read.
    pub instance: Option<InstanceId>,
    /// The status under which the instance is counted, if it is.
    pub status: Option<Status>,
    /// The table it is in.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// What becomes of the bytes of rows that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// They are moved to where damaged rows are kept.
    Kept,
    /// Nothing of them is kept.
    Dropped,
}

/// What a hub takes on its disk, and how much there is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Of the log: what was committed last, and files that wait to be used.
    pub log_bytes: u64,
    /// Of the tables.
    pub database_bytes: u64,
    /// Of these, large values that are kept apart, as they are stored.
    pub payload_bytes: u64,
    /// Large values that are kept apart.
    pub payloads: u64,
    /// Instances.
    pub instances: u64,
    /// Of these, those that were created since the time that was asked for.
    pub created_since: u64,
    /// History events of all instances.
    pub events: u64,
}

/// A whole hub as of one position, piece by piece: what a file of a backup holds, from its first byte.
pub type BackupPieces = Box<dyn Iterator<Item = Result<Vec<u8>, ReadError>> + Send>;

/// A place where commits are kept.
///
/// `append` is called by one thread at a time; reads may come from any thread meanwhile. A read
/// sees every batch whose `append` has returned.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Appends commits as one batch and returns when it is durable. Takes them out of `batch`, for
    /// they are many and nobody else needs them; a batch that was certainly not written stays there
    /// whole. An empty batch writes nothing and gives the last position, but is refused as any other
    /// when the handle is fenced: the engine asks so before it answers what needs no commit.
    ///
    /// # Errors
    /// See [`CommitError`]; on any of them nothing of the batch is visible to reads, and `batch`
    /// is as it was, to be compared or tried again.
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError>;

    /// What belongs to the hub as a whole, as of the opening.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load_hub(&self) -> Result<HubLoaded, ReadError>;

    /// What a partition needs in memory, as of now.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError>;

    /// A value that is stored apart. Rows and histories come without; whoever wants one asks.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn payload(&self, owner: &Owner, n: u64) -> Result<Option<Payload>, ReadError>;

    /// Length and hash of such a value.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn payload_digest(&self, owner: &Owner, n: u64) -> Result<Option<PayloadDigest>, ReadError>;

    /// The row of an instance.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError>;

    /// The row of an execution, if it is the current one of its instance.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError>;

    /// The history of an execution in order, dense from 0.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError>;

    /// A part of it, dense: the chunk that holds event `first`, and what follows until there are
    /// `bytes_max` bytes. Empty when there is no such event.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn history_page(
        &self,
        key: ExecutionKey,
        first: u64,
        bytes_max: usize,
    ) -> Result<Vec<HistoryChunk>, ReadError> {
        Ok(page_of(self.history(key)?, first, bytes_max))
    }

    /// One entity.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError>;

    /// A page of instances. Sees every batch appended before the call.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError>;

    /// A page of entities that have state. Sees every batch appended before the call.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError>;

    /// Folds what is in the log into the tables and says up to where. Also done in the background.
    ///
    /// # Errors
    /// When the tables cannot be written; the log holds the truth and it is tried again.
    fn checkpoint(&self) -> Result<Lsn, ReadError>;

    /// Bytes appended but not yet folded into the tables: what back-pressure goes by.
    fn unapplied_bytes(&self) -> u64;

    /// Bytes its disk has free for new work; `None` where that is not known or does not matter.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// What it takes on disk; `None` for a store that has none. May read much.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn size(&self, _since: Timestamp) -> Result<Option<StoreSize>, ReadError> {
        Ok(None)
    }

    /// A copy of everything that was appended before the call, while appends go on. It says which hub
    /// of that name it is. `None` for a store that has no such copies.
    ///
    /// # Errors
    /// When the store cannot be read, or has no room for the copy.
    fn backup(&self, _hub: &str) -> Result<Option<BackupPieces>, ReadError> {
        Ok(None)
    }

    /// The instances and entities that cannot be read. Reads all of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn damaged(&self) -> Result<Vec<DamagedRow>, ReadError> {
        Ok(Vec::new())
    }

    /// Removes executions and entities with all that is theirs, their tasks and timers included, and says
    /// what it moved. Durable when it returns. For what is damaged: a commit finds its row by values that
    /// may be wrong. The caller sees to it that it is in no memory.
    ///
    /// # Errors
    /// When the store cannot be read or written, or keeps no such rows. Then nothing was removed.
    fn remove(&self, _owners: &[Owner], _bytes: Bytes) -> Result<Vec<Moved>, ReadError> {
        Err(ReadError::transient("this store removes nothing but by commits"))
    }

    /// Lets go of what the store holds, such as the lock on its folder, though handles of it live
    /// on. Afterwards it answers nothing; closing it again does nothing.
    fn close(&self) {}
}
