//! The frames of a backup: what is written and how it is read.
//!
//! ```text
//! 0      4      8          16     20
//! ┌──────┬──────┬──────────┬──────┬─────────┐
//! │ kind │ len  │ number   │ crc  │ payload │
//! └──────┴──────┴──────────┴──────┴─────────┘
//! ```
//!
//! The first is `HEAD` and its payload text; then come `DATA` with the tables in order, and one `END.`
//! with the number of their bytes and the SHA-256 of head and data together. Numbers are little-endian;
//! the checksum is CRC-32C of the 16 bytes before it and the payload.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use dalsegno_core::store::ReadError;
use sha2::{Digest, Sha256};

use super::BackupError;

pub(super) const HEAD: [u8; 4] = *b"HEAD";
pub(super) const DATA: [u8; 4] = *b"DATA";
pub(super) const END: [u8; 4] = *b"END.";

const HEADER_BYTES: usize = 20;
/// Bytes of the tables in one frame.
const DATA_BYTES: usize = 1 << 20;
/// Payload of the last frame.
const END_BYTES: usize = 8 + 32;

/// Makes the frames, one after the other.
pub(super) struct Pieces {
    file: File,
    bytes: u64,
    position: u64,
    number: u64,
    hash: Sha256,
    head: Option<String>,
    is_over: bool,
}

impl Pieces {
    pub(super) fn new(head: &str, file: File, bytes: u64) -> Self {
        Self {
            file,
            bytes,
            position: 0,
            number: 0,
            hash: Sha256::new(),
            head: Some(head.to_owned()),
            is_over: false,
        }
    }

    fn frame(&mut self, kind: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
        frame.extend_from_slice(&kind);
        let len = u32::try_from(payload.len()).expect("a frame is at most a megabyte");
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&self.number.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
        frame.extend_from_slice(&crc.to_le_bytes());
        frame.extend_from_slice(payload);
        self.number += 1;
        self.hash.update(payload);
        frame
    }

    fn data(&mut self) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(self.bytes - self.position).unwrap_or(usize::MAX);
        let mut payload = vec![0; rest.min(DATA_BYTES)];
        self.file.read_exact_at(&mut payload, self.position)?;
        self.position += payload.len() as u64;
        Ok(self.frame(DATA, &payload))
    }
}

impl Iterator for Pieces {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(head) = self.head.take() {
            return Some(Ok(self.frame(HEAD, head.as_bytes())));
        }
        if self.position < self.bytes {
            return Some(self.data().map_err(ReadError::transient));
        }
        if self.is_over {
            return None;
        }
        self.is_over = true;
        let mut end = self.bytes.to_le_bytes().to_vec();
        end.extend_from_slice(&self.hash.clone().finalize());
        Some(Ok(self.frame(END, &end)))
    }
}

/// Reads frames and finds out whether they are those that were written.
pub(super) struct FrameReader<'i> {
    input: &'i mut dyn Read,
    /// Where the next frame begins in the file.
    at: u64,
    number: u64,
    data_bytes: u64,
    hash: Sha256,
}

impl<'i> FrameReader<'i> {
    pub(super) fn new(input: &'i mut dyn Read) -> Self {
        Self {
            input,
            at: 0,
            number: 0,
            data_bytes: 0,
            hash: Sha256::new(),
        }
    }

    /// The text of the first frame.
    pub(super) fn head(&mut self) -> Result<String, BackupError> {
        let (kind, payload) = self.frame()?;
        if kind != HEAD {
            return Err(BackupError::damaged(
                "it does not begin as a backup of dalsegno does",
            ));
        }
        self.hash.update(&payload);
        String::from_utf8(payload).map_err(|_| BackupError::damaged("its head is no text"))
    }

    /// The next bytes of the tables; `None` when all were read and are as they were written.
    pub(super) fn data(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let (kind, payload) = self.frame()?;
        match kind {
            DATA => {
                self.hash.update(&payload);
                self.data_bytes += payload.len() as u64;
                Ok(Some(payload))
            }
            END => self.check_end(&payload).map(|()| None),
            _ => Err(self.damaged("is of no kind that belongs there")),
        }
    }

    fn check_end(&mut self, payload: &[u8]) -> Result<(), BackupError> {
        let hash = self.hash.clone().finalize();
        let expected = [&self.data_bytes.to_le_bytes()[..], &hash[..]].concat();
        if payload.len() != END_BYTES || *payload != expected[..] {
            return Err(BackupError::damaged(
                "its end does not fit to what comes before: frames are missing or of another backup",
            ));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(BackupError::damaged(format!(
                "there is something behind its end, at byte {}",
                self.at
            ))),
            Err(error) => Err(BackupError::io("read the backup", &error)),
        }
    }

    fn frame(&mut self) -> Result<([u8; 4], Vec<u8>), BackupError> {
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header)?;
        let kind: [u8; 4] = header[0..4].try_into().expect("4 bytes");
        if self.number == 0 && kind != HEAD {
            return Err(BackupError::damaged(
                "it does not begin as a backup of dalsegno does",
            ));
        }
        let len = u32::from_le_bytes(header[4..8].try_into().expect("4 bytes")) as usize;
        let number = u64::from_le_bytes(header[8..16].try_into().expect("8 bytes"));
        if len > DATA_BYTES || number != self.number {
            return Err(self.damaged("has a damaged header"));
        }
        let mut payload = vec![0; len];
        self.fill(&mut payload)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &payload);
        if header[16..20] != crc.to_le_bytes() {
            return Err(self.damaged("does not have its checksum"));
        }
        self.at += (HEADER_BYTES + len) as u64;
        self.number += 1;
        Ok((kind, payload))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("is cut off"),
            _ => BackupError::io("read the backup", &error),
        })
    }

    fn damaged(&self, how: &str) -> BackupError {
        let part = match self.number {
            0 => "its head".to_owned(),
            _ => format!("hub.db from byte {} on", self.data_bytes),
        };
        BackupError::damaged(format!(
            "frame {} at byte {} of the file ({part}) {how}",
            self.number, self.at
        ))
    }
}
