//! A store that fails as it is told, around one that works.
//!
//! Each error means what [`CommitError`] says it means, so that callers can be held to their part:
//! what was certainly not written may be tried again, what is unknown turns out later.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery};
use dalsegno_core::store::{
    Commit, CommitError, EntityRow, HistoryChunk, HubLoaded, InstanceRow, Loaded, Lsn, Owner, PayloadDigest,
    ReadError, Store,
};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId, PartitionId, Payload};

/// What becomes of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The store below takes it.
    Taken,
    /// Certainly not written.
    Refused,
    /// Another host owns the partition.
    Fenced,
    /// The position is taken.
    Conflict,
    /// Reported as unknown, and written.
    UnknownWritten,
    /// Reported as unknown, and not written.
    UnknownLost,
    /// Reported as unknown; written when [`FailingStore::settle`] is called, unless fenced by then.
    UnknownLate,
}

/// Who decides what fails.
pub trait Faults: Send + 'static {
    /// What becomes of an append. An empty batch can only be `Taken` or `Fenced`.
    fn append(&mut self, batch: &[Commit]) -> Fate;

    /// Does the next read of a row, a history or a value fail?
    fn read_fails(&mut self) -> bool {
        false
    }

    /// Why the next read that a start makes fails, if it does.
    fn start_fails(&mut self) -> Option<ReadError> {
        None
    }

    /// Is what a read that fails meets damaged for good?
    fn is_damage(&self) -> bool {
        false
    }
}

/// See the module.
pub struct FailingStore {
    store: Arc<dyn Store>,
    faults: Mutex<Box<dyn Faults>>,
    late: Mutex<Vec<Vec<Commit>>>,
}

impl fmt::Debug for FailingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingStore")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What an injected error says.
const PLANNED: &str = "a planned failure of the store";

/// Was this error planned, or does it come from the store below?
pub fn is_planned(error: &CommitError) -> bool {
    match error {
        CommitError::NotApplied(cause) | CommitError::Unknown(cause) => cause.to_string() == PLANNED,
        CommitError::Fenced | CommitError::Conflict => false,
    }
}

impl FailingStore {
    /// Fails as `faults` say, around a store.
    pub fn new(store: Arc<dyn Store>, faults: impl Faults) -> Self {
        Self {
            store,
            faults: Mutex::new(Box::new(faults)),
            late: Mutex::default(),
        }
    }

    /// What was under way arrives now, if the store below still takes it.
    pub fn settle(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        for mut batch in late {
            // A batch that comes too late is fenced, which is what fences are for.
            let _ = self.store.append(&mut batch);
        }
    }

    fn faults(&self) -> MutexGuard<'_, Box<dyn Faults>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Store) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut faults = self.faults();
        if faults.read_fails() {
            return Err(match faults.is_damage() {
                true => ReadError::damaged(PLANNED),
                false => ReadError::transient(PLANNED),
            });
        }
        drop(faults);
        read(&*self.store)
    }
}

impl Store for FailingStore {
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError> {
        let fate = self.faults().append(batch);
        match fate {
            Fate::Taken => return self.store.append(batch),
            Fate::Refused => return Err(CommitError::NotApplied(PLANNED.into())),
            Fate::Fenced => return Err(CommitError::Fenced),
            Fate::Conflict => return Err(CommitError::Conflict),
            Fate::UnknownWritten => drop(self.store.append(batch)?),
            Fate::UnknownLost => {}
            Fate::UnknownLate => {
                let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                late.push(std::mem::take(batch));
            }
        }
        Err(CommitError::Unknown(PLANNED.into()))
    }

    fn load_hub(&self) -> Result<HubLoaded, ReadError> {
        let failure = self.faults().start_fails();
        failure.map_or_else(|| self.store.load_hub(), Err)
    }

    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError> {
        let failure = self.faults().start_fails();
        failure.map_or_else(|| self.store.load(partition), Err)
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError> {
        self.read(|store| store.instance(id))
    }

    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError> {
        self.read(|store| store.instance_by_key(key))
    }

    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError> {
        self.read(|store| store.history(key))
    }

    fn history_page(
        &self,
        key: ExecutionKey,
        first: u64,
        bytes_max: usize,
    ) -> Result<Vec<HistoryChunk>, ReadError> {
        self.read(|store| store.history_page(key, first, bytes_max))
    }

    fn payload(&self, owner: &Owner, number: u64) -> Result<Option<Payload>, ReadError> {
        self.read(|store| store.payload(owner, number))
    }

    fn payload_digest(&self, owner: &Owner, number: u64) -> Result<Option<PayloadDigest>, ReadError> {
        self.read(|store| store.payload_digest(owner, number))
    }

    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError> {
        self.read(|store| store.entity(id))
    }

    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError> {
        self.store.list(query)
    }

    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError> {
        self.store.list_entities(query)
    }

    fn checkpoint(&self) -> Result<Lsn, ReadError> {
        self.store.checkpoint()
    }

    fn unapplied_bytes(&self) -> u64 {
        self.store.unapplied_bytes()
    }

    fn close(&self) {
        self.store.close();
    }
}

/// Appends meet these fates, in order; after them everything is taken.
impl Faults for std::collections::VecDeque<Fate> {
    fn append(&mut self, _batch: &[Commit]) -> Fate {
        self.pop_front().unwrap_or(Fate::Taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use dalsegno_core::Epoch;
    use dalsegno_core::store::Op;
    use dalsegno_store_memory::MemoryStore;

    use super::*;

    fn commit() -> Commit {
        let op = Op::PutMeta {
            name: "a".into(),
            data: Vec::new(),
        };
        Commit {
            partition: PartitionId(0),
            epoch: Epoch(1),
            ops: vec![op],
        }
    }

    /// An append with this fate: what was said, and whether it is there before and after the end.
    fn check(fate: Fate, said: &str, is_there: [bool; 2]) {
        let memory = Arc::new(MemoryStore::new(1));
        let store = FailingStore::new(memory.clone(), VecDeque::from([fate]));
        let answer = format!("{:?}", store.append(&mut vec![commit()]));
        assert!(answer.contains(said), "{fate:?}: {answer}");
        let has = || !memory.load_hub().unwrap().meta.is_empty();
        assert_eq!(has(), is_there[0], "{fate:?}");
        store.settle();
        assert_eq!(has(), is_there[1], "{fate:?}");
    }

    #[test]
    fn every_error_means_what_it_says() {
        check(Fate::Taken, "Ok", [true, true]);
        check(Fate::Refused, "NotApplied", [false, false]);
        check(Fate::Fenced, "Fenced", [false, false]);
        check(Fate::Conflict, "Conflict", [false, false]);
        check(Fate::UnknownWritten, "Unknown", [true, true]);
        check(Fate::UnknownLost, "Unknown", [false, false]);
        check(Fate::UnknownLate, "Unknown", [false, true]);
    }

    #[test]
    fn what_arrives_after_the_next_opening_is_fenced() {
        let memory = Arc::new(MemoryStore::new(1));
        let store = FailingStore::new(memory.clone(), VecDeque::from([Fate::UnknownLate]));
        assert!(store.append(&mut vec![commit()]).is_err());
        let next = memory.reopen();
        store.settle();
        assert_eq!(next.load_hub().unwrap().meta, Vec::new());
    }
}
