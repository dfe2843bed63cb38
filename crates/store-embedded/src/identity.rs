//! The identity of a hub: a small text file that says that a hub is here, and which.
//!
//! It is written first and read first, so that a hub whose tables or log are gone is never taken
//! for an empty folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::OpenError;

/// The file's name.
pub(crate) const FILE: &str = "identity";
/// The newest format of a hub folder that this version reads.
pub(crate) const FORMAT: u32 = 1;

const FILE_NEW: &str = "identity.new";
const FIRST_LINE: &str = "dalsegno hub";
/// FNV-1a, 64 bits folded to 32: how ids are spread over partitions.
const HASH: &str = "fnv1a-64-folded";

/// What never changes in a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Random, one for each hub.
    pub(crate) store: u128,
    /// Number of partitions.
    pub(crate) partitions: u32,
    /// Whether tables and log were made.
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Making the hub was begun; nothing in it counts.
    Creating,
    /// It is whole.
    Ready,
}

impl Identity {
    /// Reads the file; `None` when there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, OpenError> {
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => Self::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io("read the file identity", error)),
        }
    }

    /// Replaces the file, durably, at once or not at all.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(FILE_NEW);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(self.encode().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, folder.join(FILE))?;
        File::open(folder)?.sync_all()
    }

    pub(crate) fn encode(&self) -> String {
        let stage = match self.stage {
            Stage::Creating => "creating",
            Stage::Ready => "ready",
        };
        let text = format!(
            "{FIRST_LINE}\nformat {FORMAT}\nstore {:032x}\npartitions {}\nhash {HASH}\nstage {stage}\n",
            self.store, self.partitions
        );
        format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = || OpenError::damaged("the file identity is damaged");
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let (body, crc) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once('\n'))
            .ok_or_else(damaged)?;
        let body = format!("{body}\n");
        let expected = format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes()));
        if crc != expected {
            return Err(damaged());
        }
        let mut lines = body.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(damaged());
        }
        let mut value = |name: &str| -> Result<&str, OpenError> {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.and_then(|value| value.strip_prefix(' ')).ok_or_else(damaged)
        };
        let format: u32 = value("format")?.parse().map_err(|_| damaged())?;
        if format > FORMAT {
            return Err(OpenError::newer("the hub", format, FORMAT));
        }
        let store = u128::from_str_radix(value("store")?, 16).map_err(|_| damaged())?;
        let partitions = value("partitions")?.parse().map_err(|_| damaged())?;
        if value("hash")? != HASH || partitions == 0 {
            return Err(damaged());
        }
        let stage = match value("stage")? {
            "creating" => Stage::Creating,
            "ready" => Stage::Ready,
            _ => return Err(damaged()),
        };
        Ok(Self {
            store,
            partitions,
            stage,
        })
    }
}

/// Is this one of the files that only a hub has?
pub(crate) fn belongs_to_hub(name: &str) -> bool {
    name.starts_with("log.") || name.starts_with(crate::sqlite::FILE)
}

/// Files that an attempt to make a hub may leave before the identity is there.
pub(crate) fn is_prelude(name: &str) -> bool {
    name == FILE_NEW || name == crate::recovery::LOCK_FILE
}
