//! Opening a log: what is in it, whether that can be true, and where to go on.
//!
//! The only start-up path; a new hub is the case in which nothing is there. Nothing is changed
//! before everything was read and found right.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use dalsegno_core::planted::{self, Bug};
use dalsegno_core::store::Commit;

use super::disk::{Disk, DiskFile};
use super::frame;
use super::segment::{self, Header, HeaderError, Scan};
use super::segments::{Full, Origin, Segments, TakeError};
use super::{Active, Log, codec};

/// How often the segments are listed until all of them are locked. Only a log that another process
/// writes changes meanwhile.
const CLAIM_ROUNDS_MAX: u32 = 8;

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
    /// Another process writes it. The text says how that was noticed.
    InUse(String),
    /// The disk refuses.
    Io(&'static str, io::Error),
}

/// All segments of a log, locked: while this lives, no other process opens or writes them.
///
/// The file `lock` is there for people and can be deleted or replaced; the segments hold the data.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    files: BTreeMap<u64, Box<dyn DiskFile>>,
}

/// Locks all segments, or says which one another process has locked.
///
/// The process that writes a log has its last segment locked, and the next one before it has a
/// name. So a list of segments that are all locked here, and that is still the list afterwards,
/// belongs to no other process.
pub(crate) fn claim(disk: &dyn Disk) -> Result<Claim, LogError> {
    let failed = |error| LogError::Io("lock the log", error);
    let mut claim = Claim::default();
    for _ in 0..CLAIM_ROUNDS_MAX {
        let numbers = segment_numbers(&disk.names().map_err(failed)?);
        claim.files.retain(|number, _| numbers.contains(number));
        if claim.files.len() == numbers.len() {
            return Ok(claim);
        }
        for number in numbers {
            if !claim.files.contains_key(&number) {
                claim.lock(disk, number)?;
            }
        }
    }
    Err(LogError::InUse(
        "another process adds log segments to it".to_owned(),
    ))
}

impl Claim {
    /// A segment that holds a frame of this hub, if any does.
    pub(crate) fn commits(&self, store: u128) -> io::Result<Option<String>> {
        for (number, file) in &self.files {
            let bytes = file.read_whole()?;
            if segment::holds_any_frame(&bytes, frame::seed(store, *number)) {
                return Ok(Some(segment::name(*number)));
            }
        }
        Ok(None)
    }

    fn lock(&mut self, disk: &dyn Disk, number: u64) -> Result<(), LogError> {
        let name = segment::name(number);
        let file = match disk.open(&name) {
            Ok(file) => file,
            // The process that folded it has removed it; the next list shows that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LogError::Io("open a log segment", error)),
        };
        let is_ours = file
            .try_lock()
            .map_err(|error| LogError::Io("lock a log segment", error))?;
        if !is_ours {
            return Err(LogError::InUse(format!("another process has {name} locked")));
        }
        self.files.insert(number, file);
        Ok(())
    }
}

/// The numbers of the segments among these names, sorted.
fn segment_numbers(names: &[String]) -> Vec<u64> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    numbers
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
    claim: Claim,
    segments: Vec<Full>,
    /// Where the frames of the last segment end.
    end: usize,
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
pub(crate) fn find(
    disk: &dyn Disk,
    claim: Claim,
    known: &Known,
    segment_bytes: u64,
) -> Result<Found, LogError> {
    let numbers: Vec<u64> = claim.files.keys().copied().collect();
    let found = read_segments(claim, known);
    let names = disk
        .names()
        .map_err(|error| LogError::Io("list the folder", error))?;
    if segment_numbers(&names) != numbers {
        // What looks like damage may be a log that another process writes just now.
        return Err(LogError::InUse(
            "another process changes its log segments".to_owned(),
        ));
    }
    let mut found = found?;
    for spare in names.iter().filter_map(|name| segment::spare_number_of(name)) {
        let file = disk.open(&segment::spare_name(spare));
        match file.and_then(|file| file.len()) {
            Ok(bytes) if bytes == segment_bytes => found.spares.push(spare),
            _ => found.broken_spares.push(spare),
        }
    }
    Ok(found)
}

fn read_segments(claim: Claim, known: &Known) -> Result<Found, LogError> {
    let numbers: Vec<u64> = claim.files.keys().copied().collect();
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
        found.take_segment(&*claim.files[number], known, *number, is_last)?;
    }
    found.claim = claim;
    if let Some(next) = found.sealed_to {
        return Err(damaged(format!("{} is missing", segment::name(next))));
    }
    found.check_end(known)?;
    if planted::has(Bug::LastBatchCutOff) && found.last > found.proven {
        found.batches.pop();
        found.last -= 1;
    }
    Ok(found)
}

impl Found {
    fn take_segment(
        &mut self,
        file: &dyn DiskFile,
        known: &Known,
        number: u64,
        is_last: bool,
    ) -> Result<(), LogError> {
        let name = segment::name(number);
        let bytes = read_whole(file)?;
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
        self.end = scan.end;
        self.take_frames(scan, &bytes, known, &name)?;
        let id = file
            .id()
            .map_err(|error| LogError::Io("read a log segment", error))?;
        self.segments.push(Full {
            segment: number,
            last_lsn: self.last,
            bytes: bytes.len() as u64,
            id,
            origin: Origin::Earlier,
        });
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
        let Some(former) = self.segments.last() else {
            self.former_epoch = header.epoch;
            return Ok(());
        };
        let former = segment::name(former.segment);
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

    /// Batches that are perhaps not durable where they are.
    fn unproven(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|batch| batch.lsn > self.proven)
    }

    /// Has another process written behind what was found, or begun or removed a segment, other
    /// than the one that this opening has begun since?
    fn has_moved(&self, disk: &dyn Disk, known: &Known, begun: u64) -> io::Result<bool> {
        let mut numbers = segment_numbers(&disk.names()?);
        numbers.retain(|number| *number != begun);
        if !numbers.iter().eq(self.segments.iter().map(|full| &full.segment)) {
            return Ok(true);
        }
        let Some(last) = self.segments.last() else {
            return Ok(false);
        };
        let seed = frame::seed(known.store, last.segment);
        let file = &self.claim.files[&last.segment];
        holds_frame_at(&**file, self.end, last.bytes as usize, seed)
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
    let failed = |error| LogError::Io("begin a log segment", error);
    tidy(&*disk, &found).map_err(failed)?;
    let segments = Arc::new(Segments::new(disk, segment_bytes, found.spares.clone()));
    let last = found.segments.last().map_or(0, |full| full.segment);
    let number = last.max(known.segment) + 1;
    let bytes = found.unproven().map(|batch| batch.bytes).sum::<u64>();
    let bytes = bytes + (segment::HEADER_BYTES + super::SEAL_BYTES) as u64;
    let file = segments.take(number, bytes).map_err(|error| match error {
        TakeError::NotTaken(error) | TakeError::Broken(error) => failed(error),
        TakeError::Occupied => {
            LogError::InUse(format!("another process has begun {}", segment::name(number)))
        }
    })?;
    // The new name is the mark of this opening: a former owner that writes a batch looks for it
    // before it acknowledges the batch. So what is not in the log now is acknowledged by nobody.
    if found.has_moved(segments.disk(), known, number).map_err(failed)? {
        segments.disk().remove(&segment::name(number)).map_err(failed)?;
        return Err(LogError::InUse(
            "another process has written to its log".to_owned(),
        ));
    }
    begin_segment(segments, file, number, known, found).map_err(failed)
}

/// Removes what was never begun and what cannot be used.
fn tidy(disk: &dyn Disk, found: &Found) -> io::Result<()> {
    for number in &found.unbegun {
        disk.remove(&segment::name(*number))?;
    }
    for spare in &found.broken_spares {
        disk.remove(&segment::spare_name(*spare))?;
    }
    Ok(())
}

fn begin_segment(
    segments: Arc<Segments>,
    file: Box<dyn DiskFile>,
    number: u64,
    known: &Known,
    found: Found,
) -> io::Result<(Log, Vec<Batch>)> {
    for full in &found.segments {
        segments.retire(*full);
    }
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
    for batch in found.unproven() {
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

/// Is there a whole and valid frame at this place of a segment?
fn holds_frame_at(file: &dyn DiskFile, at: usize, end: usize, seed: u32) -> io::Result<bool> {
    if at + frame::HEADER_BYTES > end {
        return Ok(false);
    }
    let mut bytes = vec![0; frame::HEADER_BYTES];
    file.read_at(at as u64, &mut bytes)?;
    let Some(frame) = frame::peek(&bytes).filter(|frame| at + frame.bytes() <= end) else {
        return Ok(false);
    };
    bytes.resize(frame.bytes(), 0);
    file.read_at(at as u64, &mut bytes)?;
    Ok(frame::read(&bytes, seed).is_some())
}

fn read_whole(file: &dyn DiskFile) -> Result<Vec<u8>, LogError> {
    file.read_whole()
        .map_err(|error| LogError::Io("read a log segment", error))
}

fn damaged(reason: String) -> LogError {
    LogError::Damaged(reason)
}
