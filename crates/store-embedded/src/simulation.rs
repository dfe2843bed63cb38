//! The embedded store's own log on a simulated disk, for the simulator of the project.
//!
//! Appends, segments, recycling and recovery are the product's. The tables are not SQLite but an
//! image in memory that changes in whole transactions, as `hub.db` does: real SQLite is held by
//! the kill loop and the store's own tests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery};
use dalsegno_core::store::{
    Commit, CommitError, EntityRow, HistoryChunk, HubLoaded, InstanceRow, Loaded, Lsn, Owner, PayloadDigest,
    ReadError, Store,
};
use dalsegno_core::{EntityId, Epoch, ExecutionKey, InstanceId, PartitionId, Payload};
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::Random;

pub use crate::log::sim_disk::SimDisk;
use crate::log::{AppendError, Known, Log, begin, claim, find};
use crate::recovery::log_error;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone, the operating system writes what it has.
    Kill,
    /// The power is gone: what was not synced is there in part, or torn.
    PowerLoss,
}

/// What a process leaves behind: the log's files and the tables.
#[derive(Clone, Debug)]
pub struct Remains {
    disk: SimDisk,
    tables: Image,
    segment_bytes: u64,
}

/// The tables after their last transaction.
#[derive(Clone, Debug)]
struct Image {
    tables: Arc<MemoryStore>,
    known: Known,
}

/// A checkpoint under way: the tables as they will be.
#[derive(Debug)]
struct Window {
    tables: Arc<MemoryStore>,
    lsn: u64,
}

/// An open hub; see the module.
#[derive(Debug)]
pub struct SimStore {
    log: Mutex<Log>,
    disk: SimDisk,
    segment_bytes: u64,
    epoch: Epoch,
    /// Tables and everything appended since: what readers see.
    view: MemoryStore,
    image: Mutex<Image>,
    window: Mutex<Option<Window>>,
    is_broken: AtomicBool,
}

impl Remains {
    /// An empty disk for a new hub.
    pub fn empty(partitions: u32, segment_bytes: u64) -> Self {
        let known = Known {
            store: 0x00112233_44556677_8899aabb_ccddeeff,
            epoch: 0,
            applied: 0,
            durable: 0,
            segment: 0,
        };
        Self {
            disk: SimDisk::default(),
            tables: Image {
                tables: Arc::new(MemoryStore::new(partitions)),
                known,
            },
            segment_bytes,
        }
    }

    /// The disk, to make it fail.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// What is left when the process that was opening this crashed.
    #[must_use]
    pub fn after(&self, crash: Crash, random: &mut Random) -> Self {
        let disk = match crash {
            Crash::Kill => self.disk.after_kill(),
            Crash::PowerLoss => self.disk.after_power_loss(random),
        };
        Self { disk, ..self.clone() }
    }

    /// Recovers, as every opening does.
    ///
    /// # Errors
    /// When the disk fails, and when the log is refused; the text is that of the real store.
    pub fn open(&self) -> Result<SimStore, String> {
        let known = self.tables.known;
        let failed = |error| log_error(error).to_string();
        let claim = claim(&self.disk).map_err(failed)?;
        let found = find(&self.disk, claim, &known, self.segment_bytes).map_err(failed)?;
        let (log, batches) =
            begin(Arc::new(self.disk.clone()), &known, self.segment_bytes, found).map_err(failed)?;
        let view = self.tables.tables.fork();
        for batch in &batches {
            apply(&view, &batch.commits).map_err(|error| error.to_string())?;
        }
        let mut image = self.tables.clone();
        image.known = Known {
            epoch: log.epoch(),
            durable: log.last(),
            segment: log.active_segment(),
            ..known
        };
        // As the real opening does, once the tables name the new segment.
        if let Err(error) = log.segments().recycle(known.applied, image.known.segment) {
            tracing::debug!(%error, "log segments could not be recycled");
        }
        Ok(SimStore {
            epoch: Epoch(log.epoch()),
            log: Mutex::new(log),
            disk: self.disk.clone(),
            segment_bytes: self.segment_bytes,
            view,
            image: Mutex::new(image),
            window: Mutex::default(),
            is_broken: AtomicBool::new(false),
        })
    }
}

/// Applies commits of any epoch to tables that know only their own.
fn apply(tables: &MemoryStore, commits: &[Commit]) -> Result<Lsn, CommitError> {
    let epoch = tables
        .load_hub()
        .map_err(|error| CommitError::NotApplied(Box::new(error)))?
        .epoch;
    let mut stamped: Vec<Commit> = commits
        .iter()
        .map(|commit| Commit {
            epoch,
            ..commit.clone()
        })
        .collect();
    tables.append(&mut stamped)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimStore {
    /// The disk, to make it fail.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// What is left when the process ends now.
    pub fn crash(&self, crash: Crash, random: &mut Random) -> Remains {
        let remains = Remains {
            disk: self.disk.clone(),
            tables: lock(&self.image).clone(),
            segment_bytes: self.segment_bytes,
        };
        remains.after(crash, random)
    }

    /// Closes the window of a checkpoint: what is appended from now on is not in it.
    pub fn begin_checkpoint(&self) {
        let mut window = lock(&self.window);
        if window.is_none() {
            *window = Some(Window {
                lsn: lock(&self.log).last(),
                tables: Arc::new(self.view.fork()),
            });
        }
    }

    /// Writes the window to the tables, in one transaction, and recycles segments.
    pub fn finish_checkpoint(&self) {
        let Some(window) = lock(&self.window).take() else {
            return;
        };
        let log = lock(&self.log);
        let mut image = lock(&self.image);
        image.tables = window.tables;
        image.known = Known {
            applied: window.lsn,
            durable: window.lsn.max(image.known.durable),
            segment: log.active_segment(),
            ..image.known
        };
        // As in the real store: what fails here only keeps the house, or the disk is down.
        let _ = log
            .segments()
            .recycle(window.lsn, image.known.segment)
            .and_then(|()| log.segments().prepare());
    }

    fn check(&self) -> Result<(), ReadError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(ReadError::transient("a write or sync of the log has failed"));
        }
        Ok(())
    }
}

impl Store for SimStore {
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError> {
        if batch.iter().any(|commit| commit.epoch != self.epoch) {
            return Err(CommitError::Fenced);
        }
        let mut log = lock(&self.log);
        if batch.is_empty() {
            return match log.check_owner() {
                Ok(()) => Ok(Lsn(log.last())),
                Err(AppendError::Lost(_)) => {
                    self.is_broken.store(true, Ordering::SeqCst);
                    Err(CommitError::Fenced)
                }
                Err(error) => Err(error.into()),
            };
        }
        let lsn = log.append(batch).map_err(|error| {
            if !matches!(error, AppendError::NotWritten(_)) {
                self.is_broken.store(true, Ordering::SeqCst);
            }
            CommitError::from(error)
        })?;
        apply(&self.view, batch).map_err(|error| CommitError::Unknown(Box::new(error)))?;
        batch.clear();
        Ok(Lsn(lsn))
    }

    fn load_hub(&self) -> Result<HubLoaded, ReadError> {
        self.check()?;
        Ok(HubLoaded {
            epoch: self.epoch,
            durable: Lsn(lock(&self.log).last()),
            ..self.view.load_hub()?
        })
    }

    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError> {
        self.check()?;
        self.view.load(partition)
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError> {
        self.check()?;
        self.view.instance(id)
    }

    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError> {
        self.check()?;
        self.view.instance_by_key(key)
    }

    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError> {
        self.check()?;
        self.view.history(key)
    }

    fn payload(&self, owner: &Owner, number: u64) -> Result<Option<Payload>, ReadError> {
        self.check()?;
        self.view.payload(owner, number)
    }

    fn payload_digest(&self, owner: &Owner, number: u64) -> Result<Option<PayloadDigest>, ReadError> {
        self.check()?;
        self.view.payload_digest(owner, number)
    }

    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError> {
        self.check()?;
        self.view.entity(id)
    }

    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError> {
        self.check()?;
        self.view.list(query)
    }

    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError> {
        self.check()?;
        self.view.list_entities(query)
    }

    fn checkpoint(&self) -> Result<Lsn, ReadError> {
        self.check()?;
        self.begin_checkpoint();
        self.finish_checkpoint();
        Ok(Lsn(lock(&self.image).known.applied))
    }

    fn unapplied_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use dalsegno_store_tests::{Subject, conformance, random_operations};

    use super::*;

    struct Simulated {
        store: SimStore,
        random: Random,
        crash: Crash,
    }

    impl Subject for Simulated {
        fn store(&self) -> &dyn Store {
            &self.store
        }

        fn reopen(&mut self) {
            let remains = self.store.crash(self.crash, &mut self.random);
            self.store = remains.open().unwrap();
        }
    }

    fn make(crash: Crash) -> Simulated {
        let remains = Remains::empty(dalsegno_store_tests::PARTITIONS, 4_096);
        Simulated {
            store: remains.open().unwrap(),
            random: Random::new(7),
            crash,
        }
    }

    #[test]
    fn the_simulated_store_passes_the_suite() {
        for crash in [Crash::Kill, Crash::PowerLoss] {
            conformance(|| make(crash));
            random_operations(0..20, || make(crash));
        }
    }
}
