//! The files of the log: which are full, which wait to be used again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::planted::{self, Bug};

use super::disk::{Disk, DiskFile};
use super::segment;

/// Files kept for the next segments; more are removed.
const SPARES_MAX: usize = 4;
/// Bytes written at a time when a file is filled.
const FILL_BYTES: usize = 1 << 20;

/// Shared by the committer, who takes segments, and the checkpoint, which gives them back.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    /// Length of a segment, unless one batch needs more.
    segment_bytes: u64,
    files: Mutex<Files>,
    /// The active segment is more than half full and no spare is there.
    wants_spare: AtomicBool,
}

#[derive(Debug, Default)]
struct Files {
    full: Vec<Full>,
    spares: Vec<u64>,
    next_spare: u64,
}

#[derive(Clone, Copy, Debug)]
struct Full {
    segment: u64,
    /// Needed until this position is folded into the tables.
    last_lsn: u64,
    bytes: u64,
}

impl Segments {
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, spares: Vec<u64>) -> Self {
        let next_spare = spares.iter().max().map_or(0, |max| max + 1);
        Self {
            disk,
            segment_bytes,
            files: Mutex::new(Files {
                full: Vec::new(),
                spares,
                next_spare,
            }),
            wants_spare: AtomicBool::new(false),
        }
    }

    /// A file of at least `bytes` for a segment, under its name, which is durable.
    pub(crate) fn take(&self, segment: u64, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let spare = if bytes <= self.segment_bytes {
            self.lock().spares.pop()
        } else {
            None
        };
        let from = match spare {
            Some(spare) => spare,
            None => self.fill(bytes.max(self.segment_bytes))?,
        };
        let name = segment::name(segment);
        self.disk.rename(&segment::spare_name(from), &name)?;
        self.disk.sync_names()?;
        self.disk.open(&name)
    }

    /// A segment is full; it is needed until `last_lsn` is folded.
    pub(crate) fn retire(&self, segment: u64, last_lsn: u64, bytes: u64) {
        self.lock().full.push(Full {
            segment,
            last_lsn,
            bytes,
        });
    }

    /// Gives back the segments of which everything is folded, durably.
    pub(crate) fn recycle(&self, applied: u64) -> io::Result<()> {
        let applied = applied + u64::from(planted::has(Bug::SegmentRecycledEarly));
        loop {
            let mut files = self.lock();
            let Some(index) = files.full.iter().position(|full| full.last_lsn <= applied) else {
                return Ok(());
            };
            let full = files.full.remove(index);
            let name = segment::name(full.segment);
            if full.bytes == self.segment_bytes && files.spares.len() < SPARES_MAX {
                let spare = files.next_spare;
                files.next_spare += 1;
                self.disk.rename(&name, &segment::spare_name(spare))?;
                files.spares.push(spare);
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
        let spare = self.fill(self.segment_bytes)?;
        self.lock().spares.push(spare);
        Ok(())
    }

    /// A spare of such a length, written in full.
    fn fill(&self, bytes: u64) -> io::Result<u64> {
        let spare = {
            let mut files = self.lock();
            files.next_spare += 1;
            files.next_spare - 1
        };
        let name = segment::spare_name(spare);
        let file = self.disk.create(&name)?;
        let filled = fill_file(file.as_ref(), bytes);
        if filled.is_err() {
            // Half a file would only hold the space that is missing.
            let _ = self.disk.remove(&name);
        }
        filled.map(|()| spare)
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill_file(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut position = 0;
    while position < bytes {
        let part = (bytes - position).min(FILL_BYTES as u64);
        file.write_at(position, &zeros[..part as usize])?;
        position += part;
    }
    file.sync()
}
