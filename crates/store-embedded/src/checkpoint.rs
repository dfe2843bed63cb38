//! The thread that folds the log into the tables.
//!
//! It sleeps without a timeout while there is nothing to fold, so an idle hub does nothing at all.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::log::Segments;
use crate::log::disk::{Disk, FileId, Folder};
use crate::options::Options;
use crate::overlay::{Overlay, Window};
use crate::sqlite::schema::Position;
use crate::sqlite::write::Written;
use crate::sqlite::{self, read, write};

/// What committer, readers and the checkpoint thread share.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) overlay: Overlay,
    pub(crate) options: Options,
    folder: PathBuf,
    /// The file of the tables when it was opened.
    database: FileId,
    segments: Arc<Segments>,
    /// Position of the last batch, durable and in the overlay.
    appended: AtomicU64,
    /// Number of the segment that is written.
    segment: AtomicU64,
    unapplied_bytes: AtomicU64,
    /// The thread waits for something to fold.
    is_idle: AtomicBool,
    /// The tables belong to a later opening.
    is_superseded: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    applied: u64,
    /// Somebody waits for this position.
    wanted: u64,
    /// And does not want to wait for others to join.
    is_urgent: bool,
    attempts: u64,
    /// Why the last attempt failed.
    error: Option<Unfolded>,
    stop: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Go on.
    No,
    /// Fold what there is, then end.
    Clean,
    /// End as a crash does.
    Now,
}

/// Why a window is not in the tables.
enum FoldError {
    /// They are not this opening's any more, for this reason.
    Superseded(String),
    /// It is tried again.
    Failed(Unfolded),
}

/// Why the tables do not have what somebody waits for.
#[derive(Clone, Debug)]
pub(crate) enum Unfolded {
    /// The disk or the system failed.
    Failed(String),
    /// SQLite cannot read a page that it has to change.
    Malformed(String),
    /// Another process has the hub, or this one has ended.
    Stopped,
}

impl From<rusqlite::Error> for Unfolded {
    fn from(error: rusqlite::Error) -> Self {
        let reason = read::reason(&error);
        match read::is_malformed(&error) {
            true => Self::Malformed(reason),
            false => Self::Failed(reason),
        }
    }
}

impl fmt::Display for Unfolded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::Malformed(reason) => write!(f, "hub.db is malformed: {reason}"),
            Self::Stopped => f.write_str("the store has stopped"),
        }
    }
}

/// How soon a reader needs the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// At once.
    Now,
    /// Together with others who list.
    Shared,
}

impl Checkpoint {
    pub(crate) fn new(
        folder: PathBuf,
        database: FileId,
        options: Options,
        overlay: Overlay,
        segments: Arc<Segments>,
        position: &Position,
    ) -> Self {
        Self {
            overlay,
            options,
            folder,
            database,
            segments,
            appended: AtomicU64::new(position.applied),
            segment: AtomicU64::new(position.segment),
            unapplied_bytes: AtomicU64::new(0),
            is_idle: AtomicBool::new(false),
            is_superseded: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                applied: position.applied,
                wanted: 0,
                is_urgent: false,
                attempts: 0,
                error: None,
                stop: Stop::No,
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes a batch that is durable. The only contact of the committer.
    pub(crate) fn push(&self, lsn: u64, frame: &mut Vec<u8>, segment: u64) {
        let bytes = frame.len() as u64;
        self.overlay.push(frame);
        self.note(lsn, bytes, segment);
    }

    /// The same for a batch that was found in the log.
    pub(crate) fn take(&self, batch: crate::log::Batch, segment: u64) {
        let (lsn, bytes) = (batch.lsn, batch.bytes);
        self.overlay.take(batch);
        self.note(lsn, bytes, segment);
    }

    fn note(&self, lsn: u64, bytes: u64, segment: u64) {
        self.segment.store(segment, Ordering::SeqCst);
        self.appended.store(lsn, Ordering::SeqCst);
        let before = self.unapplied_bytes.fetch_add(bytes, Ordering::SeqCst);
        let limit = self.options.checkpoint_bytes;
        let has_reached_limit = before < limit && before + bytes >= limit;
        if self.is_idle.swap(false, Ordering::SeqCst) || has_reached_limit {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::SeqCst)
    }

    pub(crate) fn unapplied_bytes(&self) -> u64 {
        self.unapplied_bytes.load(Ordering::SeqCst)
    }

    /// Has another process opened the hub? Then nothing is folded any more, and nothing may be acknowledged.
    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::SeqCst)
    }

    /// Waits until everything appended before the call is in the tables.
    pub(crate) fn wait(&self, need: Need) -> Result<u64, Unfolded> {
        let target = self.appended();
        let mut progress = self.lock();
        let attempts = progress.attempts;
        loop {
            if progress.applied >= target {
                return Ok(progress.applied);
            }
            if progress.stop == Stop::Now {
                return Err(Unfolded::Stopped);
            }
            if progress.attempts > attempts
                && let Some(error) = &progress.error
            {
                return Err(error.clone());
            }
            progress.wanted = progress.wanted.max(target);
            progress.is_urgent |= need == Need::Now;
            self.changed.notify_all();
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the thread end. Once it ends as a crash does, it stays so.
    pub(crate) fn stop(&self, stop: Stop) {
        let mut progress = self.lock();
        if progress.stop != Stop::Now {
            progress.stop = stop;
        }
        drop(progress);
        self.changed.notify_all();
    }

    /// The thread's loop.
    pub(crate) fn run(&self, writer: &Connection, mut position: Position) {
        let _end = End(self);
        let mut last_end = Instant::now();
        while self.wait_for_work(last_end) {
            let window = self.overlay.freeze();
            let result = self.fold(writer, &window, &mut position);
            let mut progress = self.lock();
            progress.attempts += 1;
            match result {
                Ok(()) => {
                    progress.applied = position.applied;
                    progress.is_urgent &= progress.wanted > position.applied;
                    progress.error = None;
                }
                Err(FoldError::Superseded(reason)) => {
                    tracing::error!(reason, "the tables are not this process's any more: it must end");
                    self.is_superseded.store(true, Ordering::SeqCst);
                    progress.stop = Stop::Now;
                }
                Err(FoldError::Failed(error)) => {
                    tracing::warn!(%error, "a checkpoint failed and will be tried again");
                    progress.error = Some(error);
                }
            }
            drop(progress);
            self.changed.notify_all();
            last_end = Instant::now();
        }
    }

    /// False when the thread is to end.
    fn wait_for_work(&self, last_end: Instant) -> bool {
        let mut progress = self.lock();
        loop {
            let is_dirty = self.appended() > progress.applied;
            match progress.stop {
                Stop::Now => return false,
                Stop::Clean if !is_dirty || progress.error.is_some() => return false,
                Stop::Clean => return true,
                Stop::No => {}
            }
            if !is_dirty {
                self.is_idle.store(true, Ordering::SeqCst);
                if self.appended() > progress.applied {
                    continue;
                }
                progress = self
                    .changed
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            self.is_idle.store(false, Ordering::SeqCst);
            let rest = self.delay(&progress).saturating_sub(last_end.elapsed());
            if rest.is_zero() {
                return true;
            }
            let (guard, _) = self
                .changed
                .wait_timeout(progress, rest)
                .unwrap_or_else(PoisonError::into_inner);
            progress = guard;
        }
    }

    /// How long after the last checkpoint the next one begins.
    fn delay(&self, progress: &Progress) -> Duration {
        if progress.error.is_some() {
            self.options.retry_interval
        } else if progress.is_urgent || self.unapplied_bytes() >= self.options.checkpoint_bytes {
            Duration::ZERO
        } else if progress.wanted > progress.applied {
            self.options.list_checkpoint_interval
        } else {
            self.options.checkpoint_interval
        }
    }

    fn fold(&self, writer: &Connection, window: &Window, position: &mut Position) -> Result<(), FoldError> {
        self.check_database()?;
        self.check_wal(writer).map_err(FoldError::Failed)?;
        let next = Position {
            applied: window.lsn,
            durable: window.lsn,
            // Read after the window was closed: the segment of its last commit, or a later one.
            segment: self.segment.load(Ordering::SeqCst),
            key_max: window.key_max,
            message_max: window.message_max,
            ..*position
        };
        match write::write_window(writer, window, &next) {
            Ok(Written::Whole) => {}
            Ok(Written::Superseded(epoch)) => {
                let reason = format!("another process has opened the hub, in epoch {epoch}");
                return Err(FoldError::Superseded(reason));
            }
            Err(error) => return Err(FoldError::Failed(error.into())),
        }
        *position = next;
        self.unapplied_bytes.fetch_sub(window.bytes, Ordering::SeqCst);
        self.overlay.thaw();
        // The tables have it; what follows only keeps the house.
        let tidied = self
            .segments
            .recycle(next.applied, next.segment)
            .and_then(|()| self.segments.prepare());
        if let Err(error) = tidied {
            tracing::warn!(%error, "log segments could not be recycled");
        }
        if let Err(error) = write::vacuum(writer) {
            tracing::warn!(%error, "free pages of hub.db could not be given back");
        }
        Ok(())
    }

    /// SQLite goes on with the file that it has open, though another one has its name: what is folded
    /// into it would be gone, and so would the segments that had it.
    fn check_database(&self) -> Result<(), FoldError> {
        let found = Folder::new(&self.folder).id_of(sqlite::FILE);
        match found.map_err(|error| FoldError::Failed(Unfolded::Failed(error.to_string())))? {
            Some(id) if id == self.database => Ok(()),
            _ => Err(FoldError::Superseded(
                "hub.db is not the file that this process has open: it or the hub's folder was moved, replaced or deleted"
                    .to_owned(),
            )),
        }
    }

    /// A reader that never ends keeps SQLite from reusing its log; it grows up to a limit.
    fn check_wal(&self, writer: &Connection) -> Result<(), Unfolded> {
        let wal = self.folder.join(format!("{}-wal", sqlite::FILE));
        let bytes = fs::metadata(&wal).map_or(0, |metadata| metadata.len());
        if bytes < self.options.wal_bytes_max {
            return Ok(());
        }
        let is_busy: bool = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            return Err(Unfolded::Failed(format!(
                "hub.db-wal has {bytes} bytes, wal_bytes_max is {}: end the program that reads hub.db",
                self.options.wal_bytes_max
            )));
        }
        Ok(())
    }

    /// Are the tables under their name those that this process has open? If not, says why.
    pub(crate) fn check_tables(&self) -> Result<(), String> {
        self.check_database().map_err(|error| match error {
            FoldError::Superseded(reason) => reason,
            FoldError::Failed(unfolded) => unfolded.to_string(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However the thread ends, nobody waits for it any more.
struct End<'c>(&'c Checkpoint);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop(Stop::Now);
    }
}
