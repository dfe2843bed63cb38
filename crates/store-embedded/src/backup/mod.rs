//! A whole hub in one file, as of one position.
//!
//! The tables hold everything up to a position of the log, so a copy of them is a hub: nothing of the
//! log goes into the file. SQLite writes that copy within one read, while commits and checkpoints go
//! on. The file is a row of frames (`frames`), each with a checksum, and ends with the hash of all.

mod frames;
mod restore;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dalsegno_core::store::{BackupPieces, ReadError};
use rusqlite::Connection;

use crate::identity::{Identity, Stage};
use crate::sqlite::schema;
use crate::store::read_error;
pub use restore::{check_file, restore};

/// How the copy is called while it is made; it loses its name at once.
const COPY_PREFIX: &str = "backup.";

/// What a file of a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The name of the hub, as its host called it.
    pub hub: String,
    /// The random number of the hub, in hexadecimal.
    pub store: String,
    /// Its partitions.
    pub partitions: u32,
    /// Everything up to this commit is in it.
    pub position: u64,
    /// Bytes of the tables.
    pub database_bytes: u64,
}

/// Why a file is no backup that can be used, or why a hub is not made of it.
#[derive(Debug)]
pub struct BackupError {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Damaged,
    Occupied,
    Other,
}

impl BackupError {
    /// The file is damaged, cut off or something else.
    pub fn is_damaged(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// There is something where the hub is to be.
    pub fn is_occupied(&self) -> bool {
        self.kind == Kind::Occupied
    }

    fn damaged(what: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Damaged,
            text: format!("{what}: this file cannot be restored, take another"),
        }
    }

    fn occupied(text: String) -> Self {
        Self {
            kind: Kind::Occupied,
            text,
        }
    }

    fn other(text: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Other,
            text: text.to_string(),
        }
    }

    fn io(what: &str, error: &io::Error) -> Self {
        Self::other(format!("cannot {what}: {error}"))
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BackupError {}

/// Copies what the tables hold, in one read of them, and gives the file piece by piece.
pub(crate) fn pieces(
    tables: &Connection,
    folder: &Path,
    partitions: u32,
    hub: &str,
) -> Result<BackupPieces, ReadError> {
    let name = format!("{COPY_PREFIX}{:016x}", uuid::Uuid::new_v4().as_u128() as u64);
    let path = folder.join(name);
    let copied = copy(tables, &path);
    // Whoever has it open goes on reading; nobody else finds it.
    let removed = fs::remove_file(&path);
    let (file, position, store) = copied?;
    removed.map_err(ReadError::transient)?;
    let bytes = file.metadata().map_err(ReadError::transient)?.len();
    let store = u128::from_str_radix(&store, 16).map_err(ReadError::damaged)?;
    let identity = Identity {
        store,
        partitions,
        stage: Stage::Ready,
    };
    let head = restore::head(hub, position.applied, bytes, &identity);
    Ok(Box::new(frames::Pieces::new(&head, file, bytes)))
}

/// The copy, open, with the position and the hub that it says it is of.
fn copy(tables: &Connection, path: &Path) -> Result<(File, schema::Position, String), ReadError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(ReadError::transient)?;
    let target = path
        .to_str()
        .ok_or_else(|| ReadError::transient("the hub's folder has a name that is not UTF-8"))?;
    tables.execute("VACUUM INTO ?1", [target]).map_err(read_error)?;
    let copied = crate::sqlite::open_reader(path).map_err(read_error)?;
    let position = schema::read_position(&copied).map_err(read_error)?;
    let (store, _) = schema::identity(&copied)
        .map_err(read_error)?
        .ok_or_else(|| ReadError::damaged("hub.db does not say which hub it belongs to"))?;
    Ok((file, position, store))
}

/// Removes copies that a process left which ended while it made them.
pub(crate) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COPY_PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
