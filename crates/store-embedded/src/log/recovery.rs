//! Opening a log: what is in it, whether that can be true, and where to go on.
//!
//! The only start-up path; a new hub is the case in which nothing is there. Nothing is changed
//! before everything was read and found right.

use std::io;
use std::sync::Arc;

use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::Commit;

use super::disk::Disk;
use super::frame;
use super::segment::{self, Header, HeaderError, Scan};
use super::segments::Segments;
use super::{Active, Log, codec};

/// What the tables know about the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The hub.
    pub(crate) store: u128,
    /// The highest epoch so far.
    pub(crate) epoch: u64,
    /// Everything up to here is in the tables.
    pub(crate) applied: u64,
    /// Everything up to here was durable.
    pub(crate) durable: u64,
    /// This segment has to be there; 0 in a hub without log.
    pub(crate) segment: u64,
}

/// A batch that is in the log and not yet in the tables.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) lsn: u64,
    pub(crate) commits: Vec<Commit>,
    /// Bytes of its frame.
    pub(crate) bytes: u64,
}

/// Why a log is not opened.
#[derive(Debug)]
pub(crate) enum LogError {
    /// It contradicts itself or the tables. The text is a sentence without its full stop.
    Damaged(String),
    /// Written by a newer version.
    Newer(u32),
    /// The disk refuses.
    Io(&'static str, io::Error),
}

/// What is in the log, without a change to it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Batches behind `applied`, dense.
    pub(crate) batches: Vec<Batch>,
    /// Position of the last batch.
    pub(crate) last: u64,
    /// Everything up to here is known to have been durable.
    pub(crate) proven: u64,
    /// The highest epoch.
    epoch: u64,
    /// Segments with the position up to which each is needed and their lengths.
    segments: Vec<(u64, u64, u64)>,
    /// Segments that were never begun.
    unbegun: Vec<u64>,
    /// Spares of the right length, and others.
    spares: Vec<u64>,
    broken_spares: Vec<u64>,
    must_exist: u64,
    former_epoch: u64,
    /// The segment that the seal of the last one names.
    sealed_to: Option<u64>,
}

/// Reads everything and changes nothing.
pub(crate) fn find(disk: &dyn Disk, known: &Known, segment_bytes: u64) -> Result<Found, LogError> {
    let names = disk
        .names()
        .map_err(|error| LogError::Io("list the folder", error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    if known.segment > 0 && !numbers.contains(&known.segment) {
        return Err(damaged(format!("{} is missing", segment::name(known.segment))));
    }
    let mut found = Found {
        last: 0,
        proven: known.durable.max(known.applied),
        epoch: known.epoch,
        must_exist: known.segment,
        ..Found::default()
    };
    for (index, number) in numbers.iter().enumerate() {
        let is_last = index + 1 == numbers.len();
        found.take_segment(disk, known, *number, is_last)?;
    }
    if let Some(next) = found.sealed_to {
        return Err(damaged(format!("{} is missing", segment::name(next))));
    }
    found.check_end(known)?;
    if planted::has(Bug::LastBatchCutOff) && found.last > found.proven {
        found.batches.pop();
        found.last -= 1;
    }
    for spare in names.iter().filter_map(|name| segment::spare_number_of(name)) {
        let file = disk.open(&segment::spare_name(spare));
        match file.and_then(|file| file.len()) {
            Ok(bytes) if bytes == segment_bytes => found.spares.push(spare),
            _ => found.broken_spares.push(spare),
        }
    }
    Ok(found)
}

impl Found {
    fn take_segment(
        &mut self,
        disk: &dyn Disk,
        known: &Known,
        number: u64,
        is_last: bool,
    ) -> Result<(), LogError> {
        let name = segment::name(number);
        let bytes = read_whole(disk, &name)?;
        let seed = frame::seed(known.store, number);
        let must_exist = number <= self.must_exist || self.sealed_to == Some(number);
        let header = match Header::decode(&bytes, known.store, number) {
            Ok(header) => header,
            Err(HeaderError::Newer(version)) => return Err(LogError::Newer(version)),
            Err(HeaderError::OtherStore) => {
                return Err(damaged(format!("{name} belongs to another hub")));
            }
            Err(HeaderError::Invalid)
                if is_last && !must_exist && !segment::holds_any_frame(&bytes, seed) =>
            {
                self.unbegun.push(number);
                return Ok(());
            }
            Err(HeaderError::Invalid) => {
                return Err(damaged(format!("the first bytes of {name} are damaged")));
            }
        };
        if header.bytes != bytes.len() as u64
            && is_last
            && !must_exist
            && segment::scan(&bytes, seed, &header).batches.is_empty()
        {
            // The crash came before the first sync of a file whose length was not durable either.
            self.unbegun.push(number);
            self.epoch = self.epoch.max(header.epoch);
            return Ok(());
        }
        if header.bytes != bytes.len() as u64 {
            return Err(damaged(format!(
                "{name} has {} bytes, it was written with {}",
                bytes.len(),
                header.bytes
            )));
        }
        let scan = segment::scan(&bytes, seed, &header);
        if let Some(later) = scan.contradiction {
            let bad = scan
                .batches
                .last()
                .map_or(header.first_lsn, |(frame, _)| frame.lsn + 1);
            return Err(damaged(format!(
                "position {bad} in {name} at byte {} is damaged, though it was durable when position {} was written",
                scan.end, later.lsn
            )));
        }
        if scan.batches.is_empty() && scan.sealed_to.is_none() && is_last && !must_exist {
            // Begun, but nothing went in: the crash came before the seal that points here.
            self.unbegun.push(number);
            self.epoch = self.epoch.max(header.epoch);
            return Ok(());
        }
        self.check_order(&header, &scan, known, &name)?;
        self.take_header(&header, known, &name)?;
        self.take_frames(scan, &bytes, known, &name)?;
        self.segments.push((number, self.last, bytes.len() as u64));
        Ok(())
    }

    /// Does this segment follow the one before?
    fn check_order(
        &mut self,
        header: &Header,
        scan: &Scan,
        known: &Known,
        name: &str,
    ) -> Result<(), LogError> {
        let Some((former, ..)) = self.segments.last() else {
            self.former_epoch = header.epoch;
            return Ok(());
        };
        let former = segment::name(*former);
        if header.epoch < self.former_epoch {
            return Err(damaged(format!("the epoch falls from {former} to {name}")));
        }
        let is_folded = header.first_lsn - 1 <= known.applied;
        match self.sealed_to {
            Some(next) if next != header.segment && !is_folded => {
                return Err(damaged(format!("{} is missing", segment::name(next))));
            }
            // A seal whose sync failed may be gone; but then nothing was written behind it.
            None if header.epoch == self.former_epoch && !is_folded && !scan.batches.is_empty() => {
                return Err(damaged(format!("the end of {former} is damaged")));
            }
            _ => {}
        }
        self.former_epoch = header.epoch;
        Ok(())
    }

    fn take_header(&mut self, header: &Header, known: &Known, name: &str) -> Result<(), LogError> {
        let before = header.first_lsn - 1;
        if before > self.last && before > known.applied {
            let first = self.last.max(known.applied) + 1;
            return Err(damaged(format!(
                "positions {first} to {before} are missing before {name}"
            )));
        }
        self.last = self.last.max(before);
        self.proven = self.proven.max(before);
        if header.base_lsn < self.last {
            // Frames that were not there when this segment was begun have come back to life.
            self.batches.retain(|batch| batch.lsn <= header.base_lsn);
            self.last = header.base_lsn;
        }
        self.epoch = self.epoch.max(header.epoch);
        Ok(())
    }

    fn take_frames(&mut self, scan: Scan, bytes: &[u8], known: &Known, name: &str) -> Result<(), LogError> {
        for (frame, payload) in scan.batches {
            self.proven = self.proven.max(frame.durable);
            if frame.lsn <= self.last {
                continue;
            }
            self.last = frame.lsn;
            if frame.lsn <= known.applied {
                continue;
            }
            let commits = codec::decode_batch(&bytes[payload..payload + frame.len]).map_err(|damage| {
                damaged(format!(
                    "position {} in {name} cannot be read ({damage})",
                    frame.lsn
                ))
            })?;
            self.batches.push(Batch {
                lsn: frame.lsn,
                commits,
                bytes: frame.bytes() as u64,
            });
        }
        if scan.sealed_to.is_some() {
            self.proven = self.proven.max(self.last);
        }
        self.sealed_to = scan.sealed_to;
        Ok(())
    }

    fn check_end(&self, known: &Known) -> Result<(), LogError> {
        if self.last < known.applied {
            return Err(damaged(format!(
                "it ends at position {}, but hub.db holds everything up to {}: it is an older copy",
                self.last, known.applied
            )));
        }
        if self.last < self.proven {
            return Err(damaged(format!(
                "it ends at position {}, though position {} was durable",
                self.last, self.proven
            )));
        }
        Ok(())
    }
}

/// Begins the segment of this opening, with everything in it that may not be durable elsewhere.
///
/// Gives what the tables lack. When this returns, all of that is durable.
pub(crate) fn begin(
    disk: Arc<dyn Disk>,
    known: &Known,
    segment_bytes: u64,
    found: Found,
) -> Result<(Log, Vec<Batch>), LogError> {
    begin_segment(disk, known, segment_bytes, found)
        .map_err(|error| LogError::Io("begin a log segment", error))
}

fn begin_segment(
    disk: Arc<dyn Disk>,
    known: &Known,
    segment_bytes: u64,
    found: Found,
) -> io::Result<(Log, Vec<Batch>)> {
    for number in &found.unbegun {
        disk.remove(&segment::name(*number))?;
    }
    for spare in &found.broken_spares {
        disk.remove(&segment::spare_name(*spare))?;
    }
    let segments = Arc::new(Segments::new(disk, segment_bytes, found.spares));
    let number = found
        .segments
        .last()
        .map_or(0, |(number, ..)| *number)
        .max(known.segment)
        + 1;
    for (segment, last_lsn, bytes) in &found.segments {
        segments.retire(*segment, *last_lsn, *bytes);
    }
    let unproven: Vec<&Batch> = found
        .batches
        .iter()
        .filter(|batch| batch.lsn > found.proven)
        .collect();
    let needed: u64 = unproven.iter().map(|batch| batch.bytes).sum();
    let file = segments.take(
        number,
        needed + (segment::HEADER_BYTES + super::SEAL_BYTES) as u64,
    )?;
    let header = Header {
        store: known.store,
        segment: number,
        first_lsn: found.proven + 1,
        base_lsn: found.last,
        epoch: found.epoch + 1,
        bytes: file.len()?,
    };
    let mut active = Active::begin(file, &header)?;
    // Frames without a header would look like damage, so the header is durable before them.
    active.file.sync()?;
    let mut buffer = Vec::new();
    for batch in unproven {
        frame::begin(&mut buffer);
        codec::encode_batch(&batch.commits, &mut buffer);
        let seed = active.seed;
        frame::finish(
            &mut buffer,
            seed,
            frame::KIND_BATCH,
            batch.lsn,
            header.epoch,
            found.proven,
        );
        active.write(&buffer)?;
    }
    if !buffer.is_empty() {
        active.file.sync()?;
    }
    let log = Log {
        store: known.store,
        epoch: header.epoch,
        segments,
        active,
        last: found.last,
        buffer,
        is_broken: false,
    };
    Ok((log, found.batches))
}

fn read_whole(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, LogError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(name)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| LogError::Io("read a log segment", error))
}

fn damaged(reason: String) -> LogError {
    LogError::Damaged(reason)
}
