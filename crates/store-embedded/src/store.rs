//! The store itself: the trait's answers out of log, overlay and tables.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery};
use dalsegno_core::store::{
    BackupPieces, Bytes, Commit, CommitError, DamagedRow, EntityRow, HistoryChunk, HubLoaded, InstanceRow,
    Loaded, Lsn, Moved, Op, Owner, PayloadDigest, ReadError, Store, StoreSize, page_of,
};
use dalsegno_core::{EntityId, Epoch, ExecutionKey, InstanceId, PartitionId, Payload, Timestamp};

use crate::backup;
use crate::checkpoint::{Checkpoint, Need, Stop, Unfolded};
use crate::error::OpenError;
use crate::log::{AppendError, Log};
use crate::options::Options;
use crate::overlay::Overlay;
use crate::recovery::{self, Opened};
use crate::sqlite::quarantine::{self, Removed};
use crate::sqlite::{self, Readers, read, schema, value};

/// Events that one history can hold; the engine's own limit is far below.
const HISTORY_EVENTS_MAX: u64 = 1 << 24;
/// Execution keys are below this; 100,000 a second last for 170 years.
const KEYS_MAX: u64 = 1 << 39;

/// A hub in a folder of this machine.
///
/// Dropping it folds what is in the log into the tables first. A crash at any moment loses nothing
/// that an append has returned for.
#[derive(Debug)]
pub struct EmbeddedStore {
    folder: PathBuf,
    log: Mutex<Log>,
    checkpoint: Arc<Checkpoint>,
    readers: Arc<Readers>,
    epoch: Epoch,
    partitions: u32,
    /// A write or sync has failed: nothing is answered any more.
    is_broken: AtomicBool,
    /// Shut down: nothing is answered any more.
    is_closed: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the store is open.
    folder_lock: Mutex<Option<File>>,
}

impl EmbeddedStore {
    /// Opens the hub in `folder`, or makes one there when the folder is empty or not there.
    ///
    /// # Errors
    /// When another process has it open, when the folder is something else, and when files are
    /// missing, damaged, newer or of another hub. Then nothing was changed.
    pub fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        let Opened {
            lock,
            identity,
            database,
            writer,
            position,
            log,
            batches,
        } = recovery::open(folder, &options).map_err(|error| error.in_folder(folder))?;
        let epoch = Epoch(log.epoch());
        let overlay = Overlay::new(position.key_max, position.message_max);
        let segments = Arc::clone(log.segments());
        let checkpoint = Checkpoint::new(folder.to_owned(), database, options, overlay, segments, &position);
        for batch in batches {
            checkpoint.take(batch, log.active_segment());
        }
        let checkpoint = Arc::new(checkpoint);
        let thread = {
            let checkpoint = Arc::clone(&checkpoint);
            thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(move || checkpoint.run(&writer, position))
                .map_err(|error| OpenError::io("start the checkpoint thread", error))?
        };
        Ok(Self {
            folder: folder.to_owned(),
            log: Mutex::new(log),
            checkpoint,
            readers: Arc::new(Readers::new(folder)),
            epoch,
            partitions: identity.partitions,
            is_broken: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            thread: Mutex::new(Some(thread)),
            folder_lock: Mutex::new(Some(lock)),
        })
    }

    /// Ends without folding what is in the log, as a crash does. For tests.
    pub fn abandon(self) {
        self.checkpoint.stop(Stop::Now);
    }

    /// Nothing is answered or folded after this.
    fn break_down(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
        self.checkpoint.stop(Stop::Now);
    }

    fn check(&self) -> Result<(), ReadError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(ReadError::transient(
                "a write or sync of the log has failed, or another process has opened the hub: start this process again",
            ));
        }
        if self.checkpoint.is_superseded() {
            return Err(ReadError::fenced(
                "another process has opened the hub, or its folder was moved or replaced: start this process again",
            ));
        }
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(ReadError::transient("the hub was shut down"));
        }
        Ok(())
    }

    /// A copy of the tables takes as much room as they do, for as long as it is read.
    fn check_room(&self) -> Result<(), ReadError> {
        let (_, needed) = file_sizes(&self.folder).map_err(ReadError::transient)?;
        match self.free_bytes() {
            Some(free) if free < needed => Err(ReadError::transient(format!(
                "a backup needs {needed} bytes beside the hub for a while, the disk has {free}"
            ))),
            _ => Ok(()),
        }
    }

    fn end(&self, stop: Stop) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::SeqCst);
        drop(log);
        self.readers.close();
        self.checkpoint.stop(stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported; the log has what it did not fold.
            let _ = thread.join();
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).close();
        self.folder_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Waits until the tables have everything, then reads them.
    fn read_tables<T>(
        &self,
        need: Need,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        self.read_tables_as(WayOut::Running, need, read)
    }

    /// The same for what a start needs: without it there is no host.
    fn read_at_start<T>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        self.read_tables_as(WayOut::Start(&self.folder), Need::Now, read)
    }

    fn read_tables_as<T>(
        &self,
        way_out: WayOut<'_>,
        need: Need,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        self.check()?;
        self.wait(way_out, need)?;
        self.readers.with(read).map_err(|error| way_out.read_error(error))
    }

    fn wait(&self, way_out: WayOut<'_>, need: Need) -> Result<u64, ReadError> {
        self.checkpoint.wait(need).map_err(|unfolded| match unfolded {
            Unfolded::Malformed(reason) => way_out.malformed(&reason),
            Unfolded::Failed(_) => ReadError::transient(unfolded.to_string()),
            // Whatever stopped it has a better text.
            Unfolded::Stopped => match self.check() {
                Err(error) => error,
                Ok(()) => ReadError::transient(unfolded.to_string()),
            },
        })
    }
}

/// Who reads: what helps against damage depends on it.
#[derive(Clone, Copy, Debug)]
enum WayOut<'a> {
    /// A host that runs. The text goes to clients, so it does not say where the folder is.
    Running,
    /// A host that starts, or a check of the hub in this folder.
    Start(&'a Path),
}

impl WayOut<'_> {
    fn read_error(self, error: rusqlite::Error) -> ReadError {
        let reason = read::reason(&error);
        match self {
            _ if read::is_malformed(&error) => self.malformed(&reason),
            // The caller asked for this row. All others are readable.
            Self::Running if read::is_damage(&error) => ReadError::damaged(reason),
            Self::Start(folder) if read::is_damage(&error) => ReadError::damaged(format_args!(
                "{reason}: run `dalsegno repair {}`, or restore the hub from a backup",
                folder.display()
            )),
            _ => ReadError::transient(error),
        }
    }

    /// Repairing moves single rows; a page that SQLite cannot read holds many.
    fn malformed(self, reason: &str) -> ReadError {
        match self {
            Self::Running => ReadError::damaged(format_args!(
                "hub.db is malformed ({reason}): stop the host, and restore the hub from a backup"
            )),
            Self::Start(folder) => ReadError::damaged(format_args!(
                "{} is malformed ({reason}): restore the hub from a backup",
                folder.join(sqlite::FILE).display()
            )),
        }
    }
}

impl Store for EmbeddedStore {
    fn append(&self, batch: &mut Vec<Commit>) -> Result<Lsn, CommitError> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(CommitError::NotApplied(
                "an earlier write or sync has failed".into(),
            ));
        }
        if self.checkpoint.is_superseded() || batch.iter().any(|commit| commit.epoch != self.epoch) {
            return Err(CommitError::Fenced);
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(CommitError::NotApplied("the hub was shut down".into()));
        }
        if batch.is_empty() {
            return match log.check_owner() {
                Ok(()) => Ok(Lsn(log.last())),
                Err(AppendError::Lost(lost)) => {
                    self.break_down();
                    tracing::error!(%lost, "the hub is not this process's any more");
                    Err(CommitError::Fenced)
                }
                Err(error) => Err(error.into()),
            };
        }
        check_limits(batch)?;
        let lsn = log.append(batch).map_err(|error| {
            if !matches!(error, AppendError::NotWritten(_)) {
                self.break_down();
            }
            CommitError::from(error)
        })?;
        batch.clear();
        let segment = log.active_segment();
        self.checkpoint.push(lsn, log.frame(), segment);
        Ok(Lsn(lsn))
    }

    fn load_hub(&self) -> Result<HubLoaded, ReadError> {
        let durable = Lsn(self.checkpoint.appended());
        self.read_at_start(|connection| {
            let position = schema::read_position(connection)?;
            Ok(HubLoaded {
                epoch: self.epoch,
                partitions: self.partitions,
                durable,
                key_max: ExecutionKey(position.key_max),
                message_max: position.message_max,
                counts: read::counts(connection)?,
                limiters: read::limiters(connection)?,
                meta: read::meta(connection)?,
            })
        })
    }

    fn load(&self, partition: PartitionId) -> Result<Loaded, ReadError> {
        self.read_at_start(|connection| read::load(connection, partition))
    }

    fn payload(&self, owner: &Owner, n: u64) -> Result<Option<Payload>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        layers
            .payload(owner, n, || {
                self.readers
                    .with(|connection| read::payload(connection, owner, n))
            })
            .map_err(read_error)
    }

    fn payload_digest(&self, owner: &Owner, n: u64) -> Result<Option<PayloadDigest>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        match layers.known_payload(owner, n) {
            Some(known) => Ok(known.map(|value| value::digest_of(value.as_str()))),
            None => self
                .readers
                .with(|connection| read::payload_digest(connection, owner, n))
                .map_err(read_error),
        }
    }

    fn instance(&self, id: &InstanceId) -> Result<Option<InstanceRow>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        layers
            .instance(id, || {
                self.readers
                    .with(|connection| match read::instance(connection, id) {
                        // The row is to be deleted by the next checkpoint.
                        Err(error) if read::is_damage(&error) => match read::key_of(connection, id)? {
                            Some(key) if layers.is_row_gone(key) => Ok(None),
                            _ => Err(error),
                        },
                        found => found,
                    })
            })
            .map_err(read_error)
    }

    fn instance_by_key(&self, key: ExecutionKey) -> Result<Option<InstanceRow>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        layers
            .instance_by_key(key, || {
                self.readers
                    .with(|connection| read::instance_by_key(connection, key))
            })
            .map_err(read_error)
    }

    fn history(&self, key: ExecutionKey) -> Result<Vec<HistoryChunk>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        let chunks = layers
            .history(key, || {
                self.readers.with(|connection| read::history(connection, key))
            })
            .map_err(read_error)?;
        drop(layers);
        check_dense(key, 0, &chunks, usize::MAX)?;
        Ok(chunks)
    }

    fn history_page(
        &self,
        key: ExecutionKey,
        first: u64,
        bytes_max: usize,
    ) -> Result<Vec<HistoryChunk>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        let chunks = layers
            .history(key, || {
                self.readers
                    .with(|connection| read::history_page(connection, key, first, bytes_max))
            })
            .map_err(read_error)?;
        drop(layers);
        let begin = chunks.first().map_or(0, |chunk| chunk.first.min(first));
        check_dense(key, begin, &chunks, bytes_max)?;
        Ok(page_of(chunks, first, bytes_max))
    }

    fn entity(&self, id: &EntityId) -> Result<Option<EntityRow>, ReadError> {
        self.check()?;
        let layers = self.checkpoint.overlay.read();
        layers
            .entity(id, || {
                self.readers.with(|connection| read::entity(connection, id))
            })
            .map_err(read_error)
    }

    fn list(&self, query: &InstanceQuery) -> Result<InstancePage, ReadError> {
        self.read_tables(Need::Shared, |connection| read::list(connection, query))
    }

    fn list_entities(&self, query: &EntityQuery) -> Result<EntityPage, ReadError> {
        self.read_tables(Need::Shared, |connection| read::list_entities(connection, query))
    }

    fn checkpoint(&self) -> Result<Lsn, ReadError> {
        self.check()?;
        self.wait(WayOut::Running, Need::Now).map(Lsn)
    }

    fn size(&self, since: Timestamp) -> Result<Option<StoreSize>, ReadError> {
        let files = file_sizes(&self.folder).map_err(ReadError::transient)?;
        let (log_bytes, database_bytes) = files;
        self.read_tables(Need::Shared, |connection| {
            let rows = read::sizes(connection, since)?;
            Ok(Some(StoreSize {
                log_bytes,
                database_bytes,
                ..rows
            }))
        })
    }

    fn backup(&self, hub: &str) -> Result<Option<BackupPieces>, ReadError> {
        self.check()?;
        self.wait(WayOut::Running, Need::Now)?;
        self.check_room()?;
        let tables = sqlite::open_reader(&self.folder.join(sqlite::FILE)).map_err(read_error)?;
        backup::pieces(&tables, &self.folder, self.partitions, hub).map(Some)
    }

    /// What the file system gives to processes like this one, without its reserve for others.
    fn free_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.folder).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn unapplied_bytes(&self) -> u64 {
        self.checkpoint.unapplied_bytes()
    }

    fn damaged(&self) -> Result<Vec<DamagedRow>, ReadError> {
        self.read_tables(Need::Now, quarantine::find)
    }

    fn remove(&self, owners: &[Owner], bytes: Bytes) -> Result<Vec<Moved>, ReadError> {
        Store::checkpoint(self)?;
        self.checkpoint.check_tables().map_err(ReadError::fenced)?;
        let removed = sqlite::open_writer(&self.folder.join(sqlite::FILE))
            .and_then(|tables| {
                schema::set_durable(&tables)?;
                quarantine::remove(&tables, owners, bytes, self.epoch.0)
            })
            .map_err(read_error)?;
        match removed {
            Removed::Whole(rows) => Ok(rows),
            Removed::Superseded(epoch) => Err(ReadError::fenced(format_args!(
                "another process has opened the hub, in epoch {epoch}"
            ))),
        }
    }

    fn close(&self) {
        self.end(Stop::Clean);
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.end(if thread::panicking() {
            Stop::Now
        } else {
            Stop::Clean
        });
    }
}

/// Does each piece of a history begin where the one before ends, and the first at `begin`? What follows
/// that many bytes was not read whole.
fn check_dense(
    key: ExecutionKey,
    begin: u64,
    chunks: &[HistoryChunk],
    bytes_max: usize,
) -> Result<(), ReadError> {
    let (mut next, mut bytes) = (begin, 0);
    for chunk in chunks {
        if bytes >= bytes_max {
            break;
        }
        bytes += chunk.data.len();
        if chunk.first != next {
            let text = format!(
                "history of execution {} has a hole before event {}",
                key.0, chunk.first
            );
            return Err(ReadError::damaged(text));
        }
        next += u64::from(chunk.count);
    }
    Ok(())
}

/// Bytes of the log and of the tables, as their files take them.
fn file_sizes(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut log, mut tables) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that went meanwhile takes nothing.
        let bytes = || entry.metadata().map_or(0, |metadata| metadata.len());
        match () {
            () if name.starts_with("log.") => log += bytes(),
            () if name.starts_with(sqlite::FILE) => tables += bytes(),
            () => {}
        }
    }
    Ok((log, tables))
}

/// What the tables cannot hold is refused before it is in the log.
fn check_limits(batch: &[Commit]) -> Result<(), CommitError> {
    for op in batch.iter().flat_map(|commit| &commit.ops) {
        let (key, end) = match op {
            Op::AppendHistory {
                key, first, count, ..
            } => (key.0, first.saturating_add(u64::from(*count))),
            Op::PutInstance(row) => (row.key.0, 0),
            _ => continue,
        };
        if end > HISTORY_EVENTS_MAX || key >= KEYS_MAX {
            let text = format!("a history has {end} events, the store holds {HISTORY_EVENTS_MAX}");
            return Err(CommitError::NotApplied(text.into()));
        }
    }
    Ok(())
}

/// An error that a running host meets.
pub(crate) fn read_error(error: rusqlite::Error) -> ReadError {
    WayOut::Running.read_error(error)
}
