//! The log of commits: batches in order, each durable before the next begins.
//!
//! Knows nothing of tables. Folding is somebody else's; it tells the log how far it came, and the
//! log recycles what is no longer needed.

pub(crate) mod codec;
pub(crate) mod disk;
pub(crate) mod frame;
pub(crate) mod recovery;
pub(crate) mod segment;
mod segments;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod sim_disk;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::{Commit, CommitError};

use disk::{Disk, DiskFile, FileId};
pub(crate) use recovery::{Batch, Known, begin, claim, find};
use segment::Header;
pub(crate) use segments::Segments;
use segments::{Full, Origin, TakeError};

/// Room that is kept for the seal at the end of a segment.
const SEAL_BYTES: usize = frame::HEADER_BYTES + 8;

/// Why a batch did not get into the log.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing was written; the log goes on.
    NotWritten(io::Error),
    /// A write or sync failed. What is on disk is unknown, and the log takes nothing any more.
    Broken(io::Error),
    /// Another process has opened the hub, or its folder was moved or replaced. The batch does not
    /// count, and the log takes nothing any more.
    Lost(Lost),
}

impl From<AppendError> for CommitError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotWritten(error) => Self::NotApplied(Box::new(error)),
            AppendError::Broken(error) => Self::Unknown(Box::new(error)),
            // The other process may have found the batch in the log.
            AppendError::Lost(lost) => Self::Unknown(Box::new(lost)),
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten(error) | Self::Broken(error) => error.fmt(f),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

/// Why the log is not this process's any more: a sentence without its full stop.
#[derive(Clone, Debug)]
pub(crate) struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lost {}

/// The end of the log, where batches are appended.
#[derive(Debug)]
pub(crate) struct Log {
    store: u128,
    epoch: u64,
    segments: Arc<Segments>,
    active: Active,
    /// Position of the last batch; it is durable.
    last: u64,
    /// Used again for each frame.
    buffer: Vec<u8>,
    is_broken: bool,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    /// Locked for as long as the segment is written.
    file: Box<dyn DiskFile>,
    id: FileId,
    name: String,
    /// The name of the segment that follows. Every opening takes it before it reads the end of
    /// the log, and so does a rotation: a file of that name is the mark of another opening.
    next_name: String,
    number: u64,
    seed: u32,
    position: u64,
    bytes: u64,
}

impl Log {
    /// Appends a batch and returns its position when it is durable.
    pub(crate) fn append(&mut self, batch: &[Commit]) -> Result<u64, AppendError> {
        if self.is_broken {
            return Err(AppendError::NotWritten(io::Error::other(
                "an earlier write or sync failed: the process has to be started again",
            )));
        }
        frame::begin(&mut self.buffer);
        codec::encode_batch(batch, &mut self.buffer);
        let payload = self.buffer.len() - frame::HEADER_BYTES;
        if let Err(error) = frame::check_payload(payload) {
            // It has room for no batch that is taken.
            self.buffer = Vec::new();
            return Err(AppendError::NotWritten(error));
        }
        let needed = frame::frame_bytes(payload);
        if self.active.position + (needed + SEAL_BYTES) as u64 > self.active.bytes {
            self.rotate(needed)?;
        }
        let lsn = self.last + 1;
        frame::finish(
            &mut self.buffer,
            self.active.seed,
            frame::KIND_BATCH,
            lsn,
            self.epoch,
            self.last,
        );
        self.active
            .write(&self.buffer)
            .map_err(|error| self.break_down(error))?;
        // Behind the write: an opening that leaves its mark later finds this frame, one that left
        // it earlier is noticed here.
        self.check_owner().map_err(|error| match error {
            AppendError::NotWritten(error) => self.break_down(error),
            error => error,
        })?;
        if !planted::has(Bug::AppendNotSynced) {
            self.active.file.sync().map_err(|error| self.break_down(error))?;
        }
        self.last = lsn;
        self.segments
            .note_position(self.active.position, self.active.bytes);
        Ok(lsn)
    }

    /// Is this process still the only one that writes the log, in the folder where it was opened?
    ///
    /// # Errors
    /// `Lost` when it is not, and then the log takes nothing any more; `NotWritten` when that cannot
    /// be found out.
    pub(crate) fn check_owner(&mut self) -> Result<(), AppendError> {
        match self.active.lost(self.segments.disk()) {
            Ok(None) => Ok(()),
            Ok(Some(lost)) => {
                self.is_broken = true;
                Err(AppendError::Lost(lost))
            }
            Err(error) => Err(AppendError::NotWritten(error)),
        }
    }

    /// Releases the lock of the segment. Nothing is appended after this.
    pub(crate) fn close(&mut self) {
        self.is_broken = true;
        if let Err(error) = self.active.file.unlock() {
            tracing::warn!(%error, "the log segment could not be unlocked");
        }
    }

    /// What the last append wrote. Whoever takes it away leaves an empty one.
    pub(crate) fn frame(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Position of the last batch.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The epoch of this opening.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of the segment that is written.
    pub(crate) fn active_segment(&self) -> u64 {
        self.active.number
    }

    /// Files of the log, shared with whoever recycles them.
    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Goes on in a new segment. It is ready and durable before the seal says that it is there.
    fn rotate(&mut self, needed: usize) -> Result<(), AppendError> {
        // Before a file is made: the folder may be another hub's by now.
        self.check_owner()?;
        let number = self.active.number + 1;
        let bytes = (segment::HEADER_BYTES + needed + SEAL_BYTES) as u64;
        let file = self.segments.take(number, bytes).map_err(|error| match error {
            TakeError::NotTaken(error) => AppendError::NotWritten(error),
            TakeError::Broken(error) => self.break_down(error),
            TakeError::Occupied => {
                self.is_broken = true;
                AppendError::Lost(Lost::to_another(&segment::name(number)))
            }
        })?;
        let header = Header {
            store: self.store,
            segment: number,
            first_lsn: self.last + 1,
            base_lsn: self.last,
            epoch: self.epoch,
            bytes: file.len().map_err(AppendError::NotWritten)?,
        };
        let next = Active::begin(file, &header)
            .and_then(|next| next.file.sync().map(|()| next))
            .map_err(|error| self.break_down(error))?;
        let mut seal = Vec::new();
        frame::begin(&mut seal);
        seal.extend_from_slice(&number.to_le_bytes());
        let seed = self.active.seed;
        frame::finish(
            &mut seal,
            seed,
            frame::KIND_SEAL,
            self.last,
            self.epoch,
            self.last,
        );
        self.active
            .write(&seal)
            .and_then(|()| self.active.file.sync())
            .map_err(|error| self.break_down(error))?;
        self.segments.retire(Full {
            segment: self.active.number,
            last_lsn: self.last,
            bytes: self.active.bytes,
            id: self.active.id,
            origin: Origin::Ours,
        });
        self.active = next;
        Ok(())
    }

    fn break_down(&mut self, error: io::Error) -> AppendError {
        self.is_broken = true;
        AppendError::Broken(error)
    }
}

impl Active {
    /// Writes the header; nothing is synced yet.
    fn begin(file: Box<dyn DiskFile>, header: &Header) -> io::Result<Self> {
        file.write_at(0, &header.encode())?;
        Ok(Self {
            bytes: header.bytes,
            id: file.id()?,
            file,
            name: segment::name(header.segment),
            next_name: segment::name(header.segment + 1),
            number: header.segment,
            seed: frame::seed(header.store, header.segment),
            position: segment::HEADER_BYTES as u64,
        })
    }

    /// Why the segment is not this process's any more, if it is not. Two lookups of names.
    fn lost(&self, disk: &dyn Disk) -> io::Result<Option<Lost>> {
        if disk.id_of(&self.name)? != Some(self.id) {
            return Ok(Some(Lost::with_its_folder(&self.name)));
        }
        let next = disk.id_of(&self.next_name)?;
        Ok(next.map(|_| Lost::to_another(&self.next_name)))
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_at(self.position, frame)?;
        self.position += frame.len() as u64;
        Ok(())
    }
}

impl Lost {
    fn with_its_folder(name: &str) -> Self {
        Self(format!(
            "{name} is not the file that this process writes: the hub's folder was moved, replaced or deleted"
        ))
    }

    fn to_another(next: &str) -> Self {
        Self(format!(
            "another process has opened the hub and begun {next}: only one host may have a folder"
        ))
    }
}
