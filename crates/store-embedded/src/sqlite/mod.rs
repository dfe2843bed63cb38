//! The tables: `hub.db`, a SQLite database that people may open read-only while the hub runs.
//!
//! One connection writes, in the checkpoint's transactions; a small pool reads.

pub(crate) mod checksum;
pub(crate) mod quarantine;
pub(crate) mod read;
pub(crate) mod schema;
mod text;
pub(crate) mod value;
pub(crate) mod write;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::Access;

/// Connections that are kept open for readers.
const READERS_MAX: usize = 4;
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 64;
/// How long to wait for somebody else's lock, in milliseconds.
const BUSY_MS: u32 = 2_000;
/// Pages that the writer keeps, in KiB. A window is written in the order of its keys, so that more helps little.
const WRITER_CACHE_KB: u32 = 16 * 1024;
/// Pages that each reader keeps, in KiB; the system caches the file too.
const READER_CACHE_KB: u32 = 4 * 1024;

/// The database's file name.
pub(crate) const FILE: &str = "hub.db";

/// Connections for readers.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
            idle: Mutex::default(),
        }
    }

    /// Closes what is idle, so that the writer is the last and SQLite tidies up.
    pub(crate) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs a read on a connection of its own.
    pub(crate) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = read(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS_MAX {
            idle.push(connection);
        }
        result
    }
}

/// A connection that writes nothing.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    configured(Connection::open_with_flags(path, flags)?, READER_CACHE_KB)
}

/// The connection of the checkpoint. The file is there, perhaps empty.
pub(crate) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // SQLite opens a file for reading when it could not open it for writing, for whatever reason. If the
    // file may be written, the disk failed, and may not the next time.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        let code = match rustix::fs::access(path, Access::WRITE_OK) {
            Ok(()) => rusqlite::ffi::SQLITE_IOERR,
            Err(_) => rusqlite::ffi::SQLITE_PERM,
        };
        let text = "the file could not be opened for writing".to_owned();
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(code),
            Some(text),
        ));
    }
    configured(connection, WRITER_CACHE_KB)
}

fn configured(connection: Connection, cache_kb: u32) -> rusqlite::Result<Connection> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout = {BUSY_MS}; PRAGMA cache_size = -{cache_kb}; PRAGMA temp_store = MEMORY;"
    ))?;
    Ok(connection)
}
