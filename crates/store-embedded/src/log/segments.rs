//! The files of the log: which are full, which wait to be used again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::planted::{self, Bug};

use super::disk::{Disk, DiskFile, FileId};
use super::segment;

/// Files kept for the next segments; more are removed.
const SPARES_MAX: usize = 4;
/// The first segment of an opening is a segment of full length divided by this: a hub in which
/// nothing happens takes little room.
const FIRST_PART: u64 = 256;
/// And no shorter than this.
const FIRST_BYTES_MIN: u64 = 4096;
/// Each segment is so many times as long as the one before, up to the full length.
const GROWTH: u64 = 16;

/// Shared by the committer, who takes segments, and the checkpoint, which gives them back.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    /// Full length of a segment, unless one batch needs more. Only such are used again.
    segment_bytes: u64,
    files: Mutex<Files>,
    /// The active segment is more than half full and no spare is there.
    wants_spare: AtomicBool,
}

#[derive(Debug, Default)]
struct Files {
    full: Vec<Full>,
    spares: Vec<Spare>,
    next_spare: u64,
    /// Length of the next file that is filled.
    next_bytes: u64,
}

/// A file that waits to become a segment.
#[derive(Clone, Copy, Debug)]
struct Spare {
    number: u64,
    bytes: u64,
}

/// A segment that is not written any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    pub(crate) segment: u64,
    /// Needed until this position is folded into the tables.
    pub(crate) last_lsn: u64,
    pub(crate) bytes: u64,
    /// The file, which another process may have replaced.
    pub(crate) id: FileId,
    pub(crate) origin: Origin,
}

/// Which opening began a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This one: when it is folded, the file can be used again.
    Ours,
    /// An earlier one. Its process may still have the file open, so the file is never used again:
    /// a late write of that process must not reach what is written now.
    Earlier,
}

/// Why there is no file for a segment.
#[derive(Debug)]
pub(crate) enum TakeError {
    /// Nothing has that name; it can be tried again.
    NotTaken(io::Error),
    /// Another process has a file of that name.
    Occupied,
    /// The file has its name, perhaps not durably.
    Broken(io::Error),
}

impl Segments {
    /// With spares of full length.
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, spares: Vec<u64>) -> Self {
        let next_spare = spares.iter().max().map_or(0, |max| max + 1);
        let spares = spares.into_iter().map(|number| Spare {
            number,
            bytes: segment_bytes,
        });
        Self {
            disk,
            segment_bytes,
            files: Mutex::new(Files {
                full: Vec::new(),
                spares: spares.collect(),
                next_spare,
                next_bytes: (segment_bytes / FIRST_PART)
                    .clamp(FIRST_BYTES_MIN.min(segment_bytes), segment_bytes),
            }),
            wants_spare: AtomicBool::new(false),
        }
    }

    /// A file of at least `bytes` for a segment, locked, under its name, which is durable.
    ///
    /// It is locked before it has the name, so a process that finds a segment finds the lock of
    /// its writer. The name is taken from nobody: of two processes that want it, one gets it.
    pub(crate) fn take(&self, segment: u64, bytes: u64) -> Result<Box<dyn DiskFile>, TakeError> {
        let fitting = {
            let mut files = self.lock();
            let fitting = files.spares.iter().rposition(|spare| spare.bytes >= bytes);
            fitting.map(|index| files.spares.remove(index))
        };
        let from = match fitting {
            Some(spare) => spare,
            // Whoever takes it writes its header and syncs both.
            None => self
                .make(bytes, |file, bytes| file.reserve(bytes))
                .map_err(TakeError::NotTaken)?,
        };
        let spare = segment::spare_name(from.number);
        let file = self.disk.open(&spare).map_err(TakeError::NotTaken)?;
        if !file.try_lock().map_err(TakeError::NotTaken)? {
            return Err(TakeError::Occupied);
        }
        self.grow(from.bytes);
        match self.disk.rename(&spare, &segment::name(segment)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(TakeError::Occupied),
            Err(error) => return Err(TakeError::NotTaken(error)),
        }
        self.disk.sync_names().map_err(TakeError::Broken)?;
        Ok(file)
    }

    /// The folder of the log.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// A segment of such a length is written: the next is longer.
    fn grow(&self, bytes: u64) {
        let mut files = self.lock();
        files.next_bytes = files
            .next_bytes
            .max(bytes.saturating_mul(GROWTH).min(self.segment_bytes));
    }

    /// A segment is full; it is needed until `last_lsn` is folded.
    pub(crate) fn retire(&self, full: Full) {
        self.lock().full.push(full);
    }

    /// Gives back the segments of which everything is folded, durably. The one that the tables name stays,
    /// though the log may have gone on in the next before the checkpoint heard of it.
    pub(crate) fn recycle(&self, applied: u64, named: u64) -> io::Result<()> {
        let applied = applied + u64::from(planted::has(Bug::SegmentRecycledEarly));
        loop {
            let mut files = self.lock();
            let is_free = |full: &Full| full.last_lsn <= applied && full.segment < named;
            let Some(index) = files.full.iter().position(is_free) else {
                return Ok(());
            };
            let full = files.full.remove(index);
            let name = segment::name(full.segment);
            if self.disk.id_of(&name)? != Some(full.id) {
                return Err(io::Error::other(format!(
                    "{name} is not the file that this process knows: the hub's folder was moved or replaced"
                )));
            }
            if full.origin == Origin::Ours
                && full.bytes == self.segment_bytes
                && files.spares.len() < SPARES_MAX
            {
                let number = files.next_spare;
                files.next_spare += 1;
                self.disk.rename(&name, &segment::spare_name(number))?;
                files.spares.push(Spare {
                    number,
                    bytes: full.bytes,
                });
            } else {
                self.disk.remove(&name)?;
            }
        }
    }

    /// Says how full the active segment is.
    pub(crate) fn note_position(&self, position: u64, bytes: u64) {
        if position * 2 > bytes && !self.wants_spare.load(Ordering::Relaxed) {
            self.wants_spare.store(true, Ordering::Relaxed);
        }
    }

    /// Prepares a spare when one is needed soon, so that the committer does not have to.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        if !self.wants_spare.swap(false, Ordering::Relaxed) || !self.lock().spares.is_empty() {
            return Ok(());
        }
        let spare = self.make(0, |file, bytes| file.fill(bytes).and_then(|()| file.sync()))?;
        self.lock().spares.push(spare);
        Ok(())
    }

    /// A spare of the next length or of at least `bytes`. Whoever has time fills it: writing into one
    /// that has only room costs a little more with each sync.
    fn make(
        &self,
        bytes: u64,
        extend: impl FnOnce(&dyn DiskFile, u64) -> io::Result<()>,
    ) -> io::Result<Spare> {
        let (number, bytes) = {
            let mut files = self.lock();
            files.next_spare += 1;
            (files.next_spare - 1, bytes.max(files.next_bytes))
        };
        let name = segment::spare_name(number);
        let file = self.disk.create(&name)?;
        let filled = extend(file.as_ref(), bytes);
        if filled.is_err() {
            // Half a file would only hold the space that is missing.
            let _ = self.disk.remove(&name);
        }
        filled.map(|()| Spare { number, bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
