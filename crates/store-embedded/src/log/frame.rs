//! One frame of the log: a batch of commits, or the seal that ends a segment.
//!
//! ```text
//! 0      4      8      12     16            24            32            40
//! ┌──────┬──────┬──────┬──────┬─────────────┬─────────────┬─────────────┬─────────┬─────────┐
//! │ len  │ crc  │ kind │ 0    │ lsn         │ epoch       │ durable     │ payload │ padding │
//! └──────┴──────┴──────┴──────┴─────────────┴─────────────┴─────────────┴─────────┴─────────┘
//! ```
//!
//! All numbers are little-endian. `len` counts the payload, padding rounds up to 8 bytes. The
//! checksum covers everything but itself and is seeded with the hub's id and the segment's number,
//! so that what an earlier life of a recycled segment left behind never looks like a frame.
//! `durable` is the highest position known to be durable when the frame was written.

use std::io;

use dalsegno_core::limits::COMMIT_BYTES_MAX;

/// Most bytes of a payload: `len` has 32 bits.
pub(crate) const PAYLOAD_BYTES_MAX: usize = COMMIT_BYTES_MAX;

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 40;

/// A batch of commits.
pub(crate) const KIND_BATCH: u32 = 1;
/// Ends a segment: the next one is there and ready.
pub(crate) const KIND_SEAL: u32 = 2;

/// A frame as read, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u32,
    pub(crate) lsn: u64,
    pub(crate) epoch: u64,
    pub(crate) durable: u64,
    /// Length of the payload.
    pub(crate) len: usize,
}

impl Frame {
    /// Bytes in the segment, padding included.
    pub(crate) fn bytes(&self) -> usize {
        frame_bytes(self.len)
    }
}

/// Bytes that a frame with such a payload takes in a segment.
pub(crate) fn frame_bytes(payload: usize) -> usize {
    HEADER_BYTES + payload.next_multiple_of(8)
}

/// Refuses a batch that a frame cannot hold. Nothing of it is written: the length of a longer one
/// would not be its own.
pub(crate) fn check_payload(bytes: usize) -> io::Result<()> {
    match bytes > PAYLOAD_BYTES_MAX {
        true => Err(io::Error::other(format!(
            "a batch has {bytes} bytes, a frame of the log holds {PAYLOAD_BYTES_MAX}: lower limits.turn_bytes_max and \
             limits.batch_bytes_max"
        ))),
        false => Ok(()),
    }
}

/// Makes room for a header at the start of an empty buffer; the payload is written behind it.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
}

/// Fills in the header and the padding.
pub(crate) fn finish(buffer: &mut Vec<u8>, seed: u32, kind: u32, lsn: u64, epoch: u64, durable: u64) {
    let len = u32::try_from(buffer.len() - HEADER_BYTES).expect("the payload was checked");
    buffer.resize(buffer.len().next_multiple_of(8), 0);
    buffer[0..4].copy_from_slice(&len.to_le_bytes());
    buffer[8..12].copy_from_slice(&kind.to_le_bytes());
    buffer[12..16].fill(0);
    buffer[16..24].copy_from_slice(&lsn.to_le_bytes());
    buffer[24..32].copy_from_slice(&epoch.to_le_bytes());
    buffer[32..40].copy_from_slice(&durable.to_le_bytes());
    let crc = checksum(seed, buffer);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The frame at the start of `bytes`, if a whole and valid one is there.
pub(crate) fn read(bytes: &[u8], seed: u32) -> Option<Frame> {
    let frame = peek(bytes)?;
    let whole = bytes.get(..frame.bytes())?;
    let crc = u32::from_le_bytes(whole[4..8].try_into().ok()?);
    (crc == checksum(seed, whole)).then_some(frame)
}

/// What the header says, checked for sense but not for truth.
pub(crate) fn peek(bytes: &[u8]) -> Option<Frame> {
    let header = bytes.get(..HEADER_BYTES)?;
    let kind = u32_at(header, 8);
    let known = kind == KIND_BATCH || kind == KIND_SEAL;
    let frame = Frame {
        kind,
        lsn: u64_at(header, 16),
        epoch: u64_at(header, 24),
        durable: u64_at(header, 32),
        len: u32_at(header, 0) as usize,
    };
    (known && u32_at(header, 12) == 0 && frame.durable <= frame.lsn).then_some(frame)
}

/// What the checksums of a segment begin with.
pub(crate) fn seed(store: u128, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&store.to_be_bytes()), &segment.to_le_bytes())
}

fn checksum(seed: u32, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &frame[..4]), &frame[8..])
}

pub(crate) fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from_le_bytes(bytes[position..position + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], position: usize) -> u64 {
    u64::from_le_bytes(bytes[position..position + 8].try_into().expect("8 bytes"))
}
