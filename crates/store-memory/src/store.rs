//! The handle: epochs, locking and the answers in the form the trait wants.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dalsegno_core::query::{EntityPage, EntityQuery, InstanceCursor, InstancePage, InstanceQuery};
use dalsegno_core::store::{
    Commit, CommitError, EntityRow, HistoryChunk, HubLoaded, InstanceRow, Loaded, Lsn, Op, Owner,
    PayloadDigest, ReadError, Store,
};
use dalsegno_core::{EntityId, Epoch, ExecutionKey, InstanceId, PartitionId, Payload};

use sha2::{Digest, Sha256};

use crate::tables::Tables;

/// A store that keeps everything in memory.
///
/// Every batch is "durable" at once. [`MemoryStore::reopen`] stands for a restart: it gives a new
/// handle on the same data in the next epoch, and the older handle is fenced from then on.
#[derive(Debug)]
pub struct MemoryStore {
    /// Shared by all handles on the same hub.
    hub: Arc<Mutex<Hub>>,
    /// The epoch of this opening.
    epoch: Epoch,
    /// Which appends of this handle wait.
    hold: Hold,
}

/// Appends that wait, as those of a slow disk do.
#[derive(Debug, Default)]
struct Hold {
    state: Mutex<HoldState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct HoldState {
    /// A record of the hub with this in it waits.
    text: Option<String>,
    is_waiting: bool,
}

impl Hold {
    fn lock(&self) -> MutexGuard<'_, HoldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, text: Option<String>) {
        self.lock().text = text;
        self.changed.notify_all();
    }

    /// Returns once nothing in the batch is held.
    fn pass(&self, batch: &[Commit]) {
        let mut state = self.lock();
        loop {
            state.is_waiting = state.text.as_deref().is_some_and(|text| writes(batch, text));
            if !state.is_waiting {
                return;
            }
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait(&self) {
        let mut state = self.lock();
        while !state.is_waiting {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Does the batch write a record of the hub in which this text is?
fn writes(batch: &[Commit], text: &str) -> bool {
    let has_text = |data: &[u8]| data.windows(text.len()).any(|part| part == text.as_bytes());
    let mut ops = batch.iter().flat_map(|commit| &commit.ops);
    ops.any(|op| matches!(op, Op::PutMeta { data, .. } if has_text(data)))
}

#[derive(Debug)]
struct Hub {
    epoch: Epoch,
    partitions: u32,
    last: Lsn,
    tables: Tables,
    /// What it says of its disk.
    free_bytes: Option<u64>,
}

impl MemoryStore {
    /// An empty hub with so many partitions, in epoch 1.
    pub fn new(partitions: u32) -> Self {
        assert!(partitions > 0, "a hub has at least one partition");
        let epoch = Epoch(1);
        Self {
            hub: Arc::new(Mutex::new(Hub {
                epoch,
                partitions,
                last: Lsn(0),
                tables: Tables::default(),
                free_bytes: None,
            })),
            epoch,
            hold: Hold::default(),
        }
    }

    /// Has appends wait that write a record of the hub with this text in it, until
    /// [`MemoryStore::release`].
    pub fn hold(&self, text: &str) {
        self.hold.set(Some(text.to_owned()));
    }

    /// Blocks until such an append waits.
    pub fn wait_until_held(&self) {
        self.hold.wait();
    }

    /// Has no append wait any more.
    pub fn release(&self) {
        self.hold.set(None);
    }

    /// Has the store say that its disk has so much room.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.lock().free_bytes = bytes;
    }

    /// Opens the same hub again, in the next epoch. This handle's appends are `Fenced` from now on.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut hub = self.lock();
        hub.epoch = Epoch(hub.epoch.0 + 1);
        Self {
            hub: Arc::clone(&self.hub),
            epoch: hub.epoch,
            hold: Hold::default(),
        }
    }

    /// A hub of its own with the same contents, opened in the next epoch: what a crash at this
    /// moment leaves behind, while this handle goes on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let hub = self.lock();
        let epoch = Epoch(hub.epoch.0 + 1);
        Self {
            hub: Arc::new(Mutex::new(Hub {
                epoch,
                partitions: hub.partitions,
                last: hub.last,
                free_bytes: hub.free_bytes,
                tables: hub.tables.clone(),
            })),
            epoch,
            hold: Hold::default(),
        }
    }

    /// The last position of the log.
    pub fn last(&self) -> Lsn {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // Commits are checked before the first change, so a panic elsewhere leaves no half of one.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError> {
        self.hold.pass(batch);
        let mut hub = self.lock();
        let current = hub.epoch;
        if self.epoch != current || batch.iter().any(|commit| commit.epoch != current) {
            return Err(CommitError::Fenced);
        }
        if batch.is_empty() {
            return Ok(hub.last);
        }
        hub.tables.check(batch).map_err(CommitError::NotApplied)?;
        for commit in std::mem::take(batch) {
            hub.tables.apply(commit);
        }
        hub.last = Lsn(hub.last.0 + 1);
        Ok(hub.last)
    }

    fn load_hub(&self) -> Result<HubLoaded, ReadError> {
        let hub = self.lock();
        Ok(HubLoaded {
            epoch: self.epoch,
            partitions: hub.partitions,
            durable: hub.last,
            key_max: hub.tables.key_max,
            message_max: hub.tables.message_max,
            counts: hub.tables.counts(),
            limiters: hub.tables.limiters(),
            meta: hub.tables.meta(),
        })
    }

    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError> {
        Ok(self.lock().tables.load(partition))
    }

    fn payload(&self, owner: &Owner, n: u64) -> Result<Option<Payload>, ReadError> {
        let hub = self.lock();
        Ok(hub.tables.payloads.get(owner).and_then(|of| of.get(&n)).cloned())
    }

    fn payload_digest(&self, owner: &Owner, n: u64) -> Result<Option<PayloadDigest>, ReadError> {
        let value = self.payload(owner, n)?;
        Ok(value.map(|value| PayloadDigest {
            bytes: value.len_bytes() as u64,
            sha256: Sha256::digest(value.as_str().as_bytes()).into(),
        }))
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError> {
        Ok(self.lock().tables.instances.get(id).cloned())
    }

    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError> {
        Ok(self.lock().tables.instance_by_key(key).cloned())
    }

    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError> {
        Ok(self.lock().tables.history.get(&key).cloned().unwrap_or_default())
    }

    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError> {
        Ok(self.lock().tables.entities.get(id).cloned())
    }

    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError> {
        let hub = self.lock();
        let mut found: Vec<&InstanceRow> = hub
            .tables
            .instances
            .values()
            .filter(|row| query.matches(row) && is_after(row, query.after.as_ref()))
            .collect();
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        let more = found.len() > query.limit;
        let rows: Vec<InstanceRow> = found.into_iter().take(query.limit).cloned().collect();
        let next = rows.last().filter(|_| more).map(|row| InstanceCursor {
            created: row.created,
            id: row.id.clone(),
        });
        Ok(InstancePage { rows, next })
    }

    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError> {
        let hub = self.lock();
        let mut found = hub.tables.entities.values().filter(|row| {
            (row.state.is_some() || row.is_state_apart)
                && query.after.as_ref().is_none_or(|after| row.id > *after)
                && query.name.as_ref().is_none_or(|name| row.id.name() == name)
                && query.from.is_none_or(|from| row.last_operation >= from)
                && query.to.is_none_or(|to| row.last_operation <= to)
        });
        let rows: Vec<EntityRow> = found.by_ref().take(query.limit).cloned().collect();
        let more = found.next().is_some();
        let next = rows.last().filter(|_| more).map(|row| row.id.clone());
        Ok(EntityPage { rows, next })
    }

    fn checkpoint(&self) -> Result<Lsn, ReadError> {
        Ok(self.last())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.lock().free_bytes
    }

    fn unapplied_bytes(&self) -> u64 {
        0
    }
}

fn is_after(row: &InstanceRow, after: Option<&InstanceCursor>) -> bool {
    after.is_none_or(|cursor| {
        row.created < cursor.created || (row.created == cursor.created && row.id > cursor.id)
    })
}
