//! Segment files: names, header, and finding the frames in one.
//!
//! A segment is a file of fixed length, written in full before its first use and recycled later.
//! Its header (72 bytes, little-endian):
//!
//! ```text
//! 0         8          12     16       32        40           48          56       64       72
//! ┌─────────┬──────────┬──────┬────────┬─────────┬────────────┬───────────┬────────┬────────┐
//! │ magic   │ version  │ crc  │ store  │ segment │ first lsn  │ base lsn  │ epoch  │ length │
//! └─────────┴──────────┴──────┴────────┴─────────┴────────────┴───────────┴────────┴────────┘
//! ```
//!
//! Everything below `first lsn` was durable when the segment began. What earlier segments hold
//! beyond `base lsn` is void: it was not there when the hub was opened and this segment begun.

use super::frame::{self, Frame, u32_at, u64_at};

/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: usize = 72;
/// Version of segment header, frames and batch encoding together.
pub(crate) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"DALSEGNO";
const PREFIX: &str = "log.";
const SPARE_PREFIX: &str = "log.spare.";

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: u128,
    pub(crate) segment: u64,
    pub(crate) first_lsn: u64,
    pub(crate) base_lsn: u64,
    pub(crate) epoch: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Never written, torn, damaged, or of another segment.
    Invalid,
    /// Whole, but of another hub.
    OtherStore,
    /// Written by a newer version.
    Newer(u32),
}

/// What the frames of a segment say.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Batches with the position of their payloads, in order, dense.
    pub(crate) batches: Vec<(Frame, usize)>,
    /// Number of the next segment, when this one is sealed.
    pub(crate) sealed_to: Option<u64>,
    /// Where no valid frame was found any more.
    pub(crate) end: usize,
    /// A valid frame behind the end that knew an earlier position to be durable.
    pub(crate) contradiction: Option<Frame>,
}

/// The name of a segment's file.
pub(crate) fn name(segment: u64) -> String {
    format!("{PREFIX}{segment:016x}")
}

/// The name of a file that waits to become a segment.
pub(crate) fn spare_name(n: u64) -> String {
    format!("{SPARE_PREFIX}{n:016x}")
}

/// The segment whose file has this name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    hexadecimal(name.strip_prefix(PREFIX)?)
}

/// The number of the spare whose file has this name.
pub(crate) fn spare_number_of(name: &str) -> Option<u64> {
    hexadecimal(name.strip_prefix(SPARE_PREFIX)?)
}

fn hexadecimal(text: &str) -> Option<u64> {
    (text.len() == 16)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

impl Header {
    /// The bytes on disk.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.base_lsn.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads and checks a header.
    pub(crate) fn decode(bytes: &[u8], store: u128, segment: u64) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes
            .get(..HEADER_BYTES)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(HeaderError::Invalid)?;
        if &bytes[0..8] != MAGIC || u32_at(bytes, 12) != header_checksum(bytes) {
            return Err(HeaderError::Invalid);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(HeaderError::Newer(version));
        }
        let header = Self {
            store: u128::from_be_bytes(bytes[16..32].try_into().expect("16 bytes")),
            segment: u64_at(bytes, 32),
            first_lsn: u64_at(bytes, 40),
            base_lsn: u64_at(bytes, 48),
            epoch: u64_at(bytes, 56),
            bytes: u64_at(bytes, 64),
        };
        if header.store != store {
            return Err(HeaderError::OtherStore);
        }
        if header.segment != segment || header.first_lsn == 0 || header.base_lsn + 1 < header.first_lsn {
            return Err(HeaderError::Invalid);
        }
        Ok(header)
    }
}

/// Finds the frames of a segment whose first may have any position from `first_lsn` on.
pub(crate) fn scan(bytes: &[u8], seed: u32, header: &Header) -> Scan {
    let mut scan = Scan {
        end: HEADER_BYTES,
        ..Scan::default()
    };
    let mut last = header.first_lsn - 1;
    while let Some(frame) = frame::read(&bytes[scan.end..], seed) {
        let is_next = match frame.kind {
            frame::KIND_SEAL => frame.lsn == last && frame.len == 8,
            _ => frame.lsn == last + 1,
        };
        if !is_next || frame.epoch != header.epoch || scan.sealed_to.is_some() {
            break;
        }
        let payload = scan.end + frame::HEADER_BYTES;
        if frame.kind == frame::KIND_SEAL {
            scan.sealed_to = Some(u64_at(bytes, payload));
        } else {
            scan.batches.push((frame, payload));
            last = frame.lsn;
        }
        scan.end += frame.bytes();
    }
    if scan.sealed_to.is_none() {
        scan.contradiction = later_frame(bytes, scan.end, seed, last);
    }
    scan
}

/// Is any valid frame of this segment in these bytes, wherever?
pub(crate) fn holds_any_frame(bytes: &[u8], seed: u32) -> bool {
    (0..bytes.len())
        .step_by(8)
        .any(|at| frame::read(&bytes[at..], seed).is_some())
}

/// A valid frame behind `end` which says that a position beyond `last` was durable.
fn later_frame(bytes: &[u8], end: usize, seed: u32, last: u64) -> Option<Frame> {
    (end + 8..bytes.len()).step_by(8).find_map(|at| {
        let frame = frame::peek(&bytes[at..])?;
        if frame.durable <= last {
            return None;
        }
        frame::read(&bytes[at..], seed)
    })
}

fn header_checksum(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}
