//! What is in the log and not yet in the tables, in memory, coalesced.
//!
//! Two windows: the frozen one is being written to the tables, the active one takes what comes.
//! Reads look here first and at the tables after, while nothing leaves: a window is dropped only
//! after its transaction has committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dalsegno_core::store::{Commit, EntityRow, HistoryChunk, InstanceRow, Op, Owner};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, Payload, TaskId, Timestamp};
use hashbrown::HashMap;

use crate::log::{Batch, codec, frame};

/// Name and key of a limiter's bucket.
type BucketId = (Arc<str>, Arc<str>);

/// Shared by the committer, the checkpoint and all readers.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Durable batches that nobody looked at yet: the committer's only contact.
    pending: Mutex<Vec<Frames>>,
    layers: RwLock<Layers>,
}

/// Frames of the log, one behind the other, as they were written. So a batch is in one piece and
/// goes at once when it is folded; its commits would be thousands of small pieces between those
/// that stay, and leave holes.
#[derive(Debug)]
struct Frames(Vec<u8>);

/// Bytes of frames in one piece; a longer frame is a piece of its own.
const FRAMES_BYTES: usize = 1024 * 1024;

impl Frames {
    fn has_room(&self, bytes: usize) -> bool {
        self.0.len() + bytes <= self.0.capacity()
    }

    fn read(&self, mut take: impl FnMut(Batch)) {
        let mut rest = self.0.as_slice();
        while let Some(frame) = frame::peek(rest) {
            let payload = &rest[frame::HEADER_BYTES..frame::HEADER_BYTES + frame.len];
            take(Batch {
                lsn: frame.lsn,
                commits: codec::decode_batch(payload).expect("this process has encoded it"),
                bytes: frame.bytes() as u64,
            });
            rest = &rest[frame.bytes()..];
        }
    }
}

/// Both windows, as one state.
#[derive(Debug)]
pub(crate) struct Layers {
    active: Window,
    frozen: Option<Arc<Window>>,
}

/// What survives of a run of whole commits.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Position of the last commit in it.
    pub(crate) lsn: u64,
    /// Bytes of their frames.
    pub(crate) bytes: u64,
    pub(crate) executions: HashMap<ExecutionKey, Execution>,
    /// The execution whose row was put last, for each id; it may be gone again.
    pub(crate) ids: HashMap<InstanceId, ExecutionKey>,
    /// By partition and sequence; `None` is a removal.
    pub(crate) messages: HashMap<(u32, u64), Option<Vec<u8>>>,
    /// By partition, execution and task.
    pub(crate) tasks: HashMap<(u32, ExecutionKey, TaskId), Option<Vec<u8>>>,
    /// By partition, due time, execution and task; whether it is there.
    pub(crate) timers: HashMap<(u32, Timestamp, ExecutionKey, TaskId), bool>,
    pub(crate) entities: HashMap<EntityId, Option<Box<EntityRow>>>,
    pub(crate) entity_payloads: HashMap<EntityId, Payloads>,
    pub(crate) limiters: HashMap<BucketId, Option<Vec<u8>>>,
    pub(crate) meta: HashMap<Arc<str>, Option<Vec<u8>>>,
    /// The highest execution key so far, of all windows.
    pub(crate) key_max: u64,
    /// The highest message sequence so far, of all windows.
    pub(crate) message_max: u64,
    /// Nothing of an execution above this is in the tables, nor in an earlier window.
    pub(crate) fresh_above: u64,
    /// As for executions, for messages.
    pub(crate) fresh_messages_above: u64,
}

/// What changed of one execution.
#[derive(Debug, Default)]
pub(crate) struct Execution {
    /// Its row as it is now.
    pub(crate) row: Option<Box<InstanceRow>>,
    /// A row in the tables is not its row any more.
    pub(crate) is_row_gone: bool,
    /// Changes of the row in the tables.
    pub(crate) touch: Option<(Timestamp, u64)>,
    /// What the tables have of it goes first.
    pub(crate) is_wiped: bool,
    /// New events.
    pub(crate) history: Vec<HistoryChunk>,
    /// Values stored apart, by number; `None` is a removal.
    pub(crate) payloads: BTreeMap<u64, Option<Payload>>,
}

/// What changed of an entity's values.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    /// What the tables have of them goes first.
    pub(crate) is_wiped: bool,
    /// By number; `None` is a removal.
    pub(crate) values: BTreeMap<u64, Option<Payload>>,
}

impl Overlay {
    /// An empty overlay over tables in which these are the highest numbers.
    pub(crate) fn new(key_max: u64, message_max: u64) -> Self {
        let active = Window::after(key_max, message_max);
        Self {
            pending: Mutex::default(),
            layers: RwLock::new(Layers { active, frozen: None }),
        }
    }

    /// Takes a batch that is durable.
    pub(crate) fn push(&self, frame: &mut Vec<u8>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if frame.len() > FRAMES_BYTES {
            return pending.push(Frames(std::mem::take(frame)));
        }
        match pending.last_mut() {
            Some(last) if last.has_room(frame.len()) => last.0.extend_from_slice(frame),
            _ => {
                let mut frames = Vec::with_capacity(FRAMES_BYTES);
                frames.extend_from_slice(frame);
                pending.push(Frames(frames));
            }
        }
    }

    /// Takes a batch that was found in the log.
    pub(crate) fn take(&self, batch: Batch) {
        self.settled().active.absorb(batch);
    }

    /// Everything that was pushed before, unchanging while the guard lives.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Layers> {
        let is_settled = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        if !is_settled {
            drop(self.settled());
        }
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the active window and hands it out to be written. One that failed is handed out again.
    pub(crate) fn freeze(&self) -> Arc<Window> {
        let mut layers = self.settled();
        if let Some(frozen) = &layers.frozen {
            return Arc::clone(frozen);
        }
        let next = Window::after(layers.active.key_max, layers.active.message_max);
        let frozen = Arc::new(std::mem::replace(&mut layers.active, next));
        layers.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// Drops the frozen window: its transaction has committed.
    pub(crate) fn thaw(&self) {
        let frozen = self
            .layers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .frozen
            .take();
        // Freeing a large window takes a while; nobody waits for it.
        drop(frozen);
    }

    fn settled(&self) -> RwLockWriteGuard<'_, Layers> {
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for frames in pending {
            frames.read(|batch| layers.active.absorb(batch));
        }
        layers
    }
}

impl Layers {
    /// The row of an instance; `table` is asked when no window has it.
    pub(crate) fn instance<E>(
        &self,
        id: &InstanceId,
        table: impl FnOnce() -> Result<Option<InstanceRow>, E>,
    ) -> Result<Option<InstanceRow>, E> {
        for (depth, window) in self.newest_first().enumerate() {
            if let Some(key) = window.ids.get(id) {
                let row = window
                    .executions
                    .get(key)
                    .and_then(|execution| execution.row.as_deref());
                return Ok(self.patched(row.cloned(), depth));
            }
        }
        Ok(self.patched(table()?, usize::MAX))
    }

    /// Was the row of that execution deleted, and not written again?
    pub(crate) fn is_row_gone(&self, key: ExecutionKey) -> bool {
        let newest = self.newest_first().find_map(|window| window.executions.get(&key));
        newest.is_some_and(|execution| execution.row.is_none() && execution.is_row_gone)
    }

    /// The row of an execution, if it is the current one.
    pub(crate) fn instance_by_key<E>(
        &self,
        key: ExecutionKey,
        table: impl FnOnce() -> Result<Option<InstanceRow>, E>,
    ) -> Result<Option<InstanceRow>, E> {
        let mut found = None;
        for (depth, window) in self.newest_first().enumerate() {
            match window.executions.get(&key) {
                Some(Execution { row: Some(row), .. }) => {
                    found = Some((Some((**row).clone()), depth));
                    break;
                }
                Some(execution) if execution.is_row_gone => return Ok(None),
                _ => {}
            }
        }
        let (row, depth) = match found {
            Some(found) => found,
            None => (table()?, usize::MAX),
        };
        let is_current = |row: &InstanceRow| {
            self.newest_first()
                .find_map(|window| window.ids.get(&row.id))
                .is_none_or(|current| *current == key)
        };
        Ok(self.patched(row, depth).filter(is_current))
    }

    /// A history; `table` is always asked.
    pub(crate) fn history<E>(
        &self,
        key: ExecutionKey,
        table: impl FnOnce() -> Result<Vec<HistoryChunk>, E>,
    ) -> Result<Vec<HistoryChunk>, E> {
        let is_wiped = self
            .newest_first()
            .filter_map(|window| window.executions.get(&key))
            .any(|execution| execution.is_wiped);
        let mut chunks = match is_wiped {
            // What the tables have of it may be damaged, and does not count.
            true => Vec::new(),
            false => table()?,
        };
        for execution in self
            .oldest_first()
            .filter_map(|window| window.executions.get(&key))
        {
            if execution.is_wiped {
                chunks.clear();
            }
            for chunk in &execution.history {
                // The tables may have the frozen window already.
                let end = chunks.last().map_or(0, |last| last.first + u64::from(last.count));
                if chunk.first >= end {
                    chunks.push(chunk.clone());
                }
            }
        }
        Ok(chunks)
    }

    /// An entity; `table` is asked when no window has it.
    pub(crate) fn entity<E>(
        &self,
        id: &EntityId,
        table: impl FnOnce() -> Result<Option<EntityRow>, E>,
    ) -> Result<Option<EntityRow>, E> {
        match self.newest_first().find_map(|window| window.entities.get(id)) {
            Some(row) => Ok(row.as_deref().cloned()),
            None => table(),
        }
    }

    /// A value that is stored apart; `table` is asked when no window knows of it.
    pub(crate) fn payload<E>(
        &self,
        owner: &Owner,
        n: u64,
        table: impl FnOnce() -> Result<Option<Payload>, E>,
    ) -> Result<Option<Payload>, E> {
        self.known_payload(owner, n)
            .map_or_else(table, |known| Ok(known.cloned()))
    }

    /// The same as far as a window knows of it: `Some(None)` when it is gone.
    pub(crate) fn known_payload(&self, owner: &Owner, n: u64) -> Option<Option<&Payload>> {
        for window in self.newest_first() {
            let known = match owner {
                Owner::Execution(key) => window
                    .executions
                    .get(key)
                    .map(|execution| (&execution.payloads, execution.is_wiped)),
                Owner::Entity(id) => window
                    .entity_payloads
                    .get(id)
                    .map(|payloads| (&payloads.values, payloads.is_wiped)),
            };
            match known.map(|(values, is_wiped)| (values.get(&n), is_wiped)) {
                Some((Some(value), _)) => return Some(value.as_ref()),
                Some((None, true)) => return Some(None),
                _ => {}
            }
        }
        None
    }

    /// A row with what windows newer than `depth` did to it.
    fn patched(&self, row: Option<InstanceRow>, depth: usize) -> Option<InstanceRow> {
        let mut row = row?;
        let newer: Vec<&Window> = self.newest_first().take(depth).collect();
        for window in newer.into_iter().rev() {
            let Some(execution) = window.executions.get(&row.key) else {
                continue;
            };
            if execution.is_row_gone {
                return None;
            }
            if let Some((updated, events)) = execution.touch {
                row.updated = updated;
                row.events = events;
            }
        }
        Some(row)
    }

    fn newest_first(&self) -> impl Iterator<Item = &Window> {
        std::iter::once(&self.active).chain(self.frozen.as_deref())
    }

    fn oldest_first(&self) -> impl Iterator<Item = &Window> {
        self.frozen
            .as_deref()
            .into_iter()
            .chain(std::iter::once(&self.active))
    }
}

impl Window {
    fn after(key_max: u64, message_max: u64) -> Self {
        Self {
            key_max,
            message_max,
            fresh_above: key_max,
            fresh_messages_above: message_max,
            ..Self::default()
        }
    }

    /// Applies a batch. The last version of everything is what stays.
    fn absorb(&mut self, batch: Batch) {
        self.lsn = batch.lsn;
        self.bytes += batch.bytes;
        for Commit { partition, ops, .. } in batch.commits {
            for op in ops {
                self.apply(partition.0, op);
            }
        }
    }

    /// Tasks and timers belong to the partition whose commit put them.
    fn apply(&mut self, partition: u32, op: Op) {
        match op {
            Op::PutInstance(row) => self.put_instance(row),
            Op::TouchInstance { key, updated, events } => self.touch(key, updated, events),
            Op::DeleteExecution { key, .. } => self.delete_execution(key),
            Op::AppendHistory {
                key,
                first,
                count,
                data,
            } => self.append_history(key, HistoryChunk { first, count, data }),
            Op::PutMessage { partition, seq, data } => {
                self.message_max = self.message_max.max(seq);
                self.messages.insert((partition.0, seq), Some(data));
            }
            Op::DeleteMessage { partition, seq } if seq > self.fresh_messages_above => {
                self.messages.remove(&(partition.0, seq));
            }
            Op::DeleteMessage { partition, seq } => {
                self.messages.insert((partition.0, seq), None);
            }
            Op::PutTask { key, task, data } => {
                self.key_max = self.key_max.max(key.0);
                self.tasks.insert((partition, key, task), Some(data));
            }
            Op::DeleteTask { key, task } => {
                self.tasks.insert((partition, key, task), None);
            }
            Op::PutTimer { due, key, task } => {
                self.key_max = self.key_max.max(key.0);
                self.timers.insert((partition, due, key, task), true);
            }
            Op::DeleteTimer { due, key, task } => {
                self.timers.insert((partition, due, key, task), false);
            }
            Op::PutPayload { owner, n, value } => self.put_payload(owner, n, Some(value)),
            Op::DeletePayload { owner, n } => self.put_payload(owner, n, None),
            named => self.apply_named(named),
        }
    }

    fn put_payload(&mut self, owner: Owner, n: u64, value: Option<Payload>) {
        let values = match owner {
            Owner::Execution(key) => {
                if value.is_some() {
                    self.key_max = self.key_max.max(key.0);
                }
                &mut self.executions.entry(key).or_default().payloads
            }
            Owner::Entity(id) => &mut self.entity_payloads.entry(id).or_default().values,
        };
        values.insert(n, value);
    }

    fn apply_named(&mut self, op: Op) {
        match op {
            Op::PutEntity(row) => {
                self.entities.insert(row.id.clone(), Some(row));
            }
            Op::DeleteEntity { id } => {
                let gone = Payloads {
                    is_wiped: true,
                    ..Payloads::default()
                };
                self.entity_payloads.insert(id.clone(), gone);
                self.entities.insert(id, None);
            }
            Op::PutLimiter { name, key, data } => {
                self.limiters.insert((name, key), Some(data));
            }
            Op::DeleteLimiter { name, key } => {
                self.limiters.insert((name, key), None);
            }
            Op::PutMeta { name, data } => {
                self.meta.insert(name, Some(data));
            }
            Op::DeleteMeta { name } => {
                self.meta.insert(name, None);
            }
            _ => unreachable!("the caller passes changes of named records only"),
        }
    }

    fn put_instance(&mut self, row: Box<InstanceRow>) {
        let key = row.key;
        self.key_max = self.key_max.max(key.0);
        let former = self.ids.insert(row.id.clone(), key);
        if let Some(former) = former.filter(|former| *former != key)
            && let Some(former) = self.executions.get_mut(&former)
        {
            former.row = None;
            former.touch = None;
            former.is_row_gone = true;
        }
        let execution = self.executions.entry(key).or_default();
        execution.row = Some(row);
        execution.touch = None;
        execution.is_row_gone = false;
    }

    fn touch(&mut self, key: ExecutionKey, updated: Timestamp, events: u64) {
        let execution = self.executions.entry(key).or_default();
        if let Some(row) = &mut execution.row {
            row.updated = updated;
            row.events = events;
        } else if !execution.is_row_gone {
            execution.touch = Some((updated, events));
        }
    }

    fn delete_execution(&mut self, key: ExecutionKey) {
        if key.0 > self.fresh_above {
            // Came and went: the tables never hear of it.
            self.executions.remove(&key);
            return;
        }
        self.executions.insert(
            key,
            Execution {
                is_row_gone: true,
                is_wiped: true,
                ..Execution::default()
            },
        );
    }

    fn append_history(&mut self, key: ExecutionKey, chunk: HistoryChunk) {
        self.key_max = self.key_max.max(key.0);
        let history = &mut self.executions.entry(key).or_default().history;
        match history.last_mut() {
            Some(last) if last.first + u64::from(last.count) == chunk.first => {
                last.count += chunk.count;
                last.data.extend_from_slice(&chunk.data);
            }
            _ => history.push(chunk),
        }
    }
}
