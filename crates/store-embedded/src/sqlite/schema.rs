//! The tables as people see them, and the hub's own few values.
//!
//! Every row ends with a checksum over all of it (`checksum.rs`), but the history's, which comes before
//! the events. Columns that came later stand behind it: length and hash of a value, which is packed where its
//! column is a BLOB (`value.rs`), and `history_crc` of an instance, the CRC-32C of all events of its execution,
//! one behind the other (NULL where no version that knows it has written the row yet). Times are microseconds since 1970, UTC; values of users are JSON text as they gave it.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use super::checksum;

/// Version of the tables.
pub(crate) const VERSION: u32 = 4;
/// The earliest version that an opening brings to this one.
pub(crate) const UPGRADED_FROM: u32 = 2;

const TABLES: &str = "
CREATE TABLE hub (
  name TEXT PRIMARY KEY,
  value NOT NULL
) WITHOUT ROWID;
CREATE TABLE instances (
  key INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  execution_id TEXT NOT NULL,
  partition INTEGER NOT NULL,
  name TEXT NOT NULL,
  version TEXT,
  status TEXT NOT NULL,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  completed INTEGER,
  scheduled_start INTEGER,
  parent TEXT,
  tags TEXT,
  input TEXT,
  custom_status TEXT,
  output TEXT,
  failure TEXT,
  parked TEXT,
  events INTEGER NOT NULL,
  large INTEGER NOT NULL,
  extra BLOB NOT NULL,
  touch_crc INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  history_crc INTEGER
);
CREATE INDEX instances_created ON instances (created DESC, id);
CREATE INDEX instances_status ON instances (status, created DESC, id);
CREATE INDEX instances_parked ON instances (partition) WHERE parked IS NOT NULL;
CREATE TABLE history (
  position INTEGER PRIMARY KEY,
  key INTEGER AS (position >> 24),
  first INTEGER AS (position & 0xffffff),
  count INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  events BLOB NOT NULL
);
CREATE TABLE messages (
  partition INTEGER,
  sequence INTEGER,
  record BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (partition, sequence)
) WITHOUT ROWID;
CREATE TABLE tasks (
  partition INTEGER,
  key INTEGER,
  task INTEGER,
  record BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (partition, key, task)
) WITHOUT ROWID;
CREATE TABLE timers (
  partition INTEGER,
  due INTEGER,
  key INTEGER,
  task INTEGER,
  crc INTEGER NOT NULL,
  PRIMARY KEY (partition, due, key, task)
) WITHOUT ROWID;
CREATE TABLE entities (
  name TEXT,
  key TEXT,
  partition INTEGER NOT NULL,
  last_operation INTEGER NOT NULL,
  state TEXT,
  large INTEGER NOT NULL,
  queue BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (name, key)
);
CREATE INDEX entities_busy ON entities (partition) WHERE queue <> x'';
CREATE TABLE payloads (
  key INTEGER,
  n INTEGER,
  value NOT NULL,
  crc INTEGER NOT NULL,
  bytes INTEGER,
  sha256 BLOB,
  PRIMARY KEY (key, n)
);
CREATE TABLE entity_payloads (
  name TEXT,
  key TEXT,
  n INTEGER,
  value NOT NULL,
  crc INTEGER NOT NULL,
  bytes INTEGER,
  sha256 BLOB,
  PRIMARY KEY (name, key, n)
);
CREATE TABLE limiters (
  name TEXT,
  key TEXT,
  record BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (name, key)
) WITHOUT ROWID;
CREATE TABLE leases (
  partition INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  epoch INTEGER NOT NULL
);
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  record BLOB NOT NULL,
  crc INTEGER NOT NULL
) WITHOUT ROWID;
";

/// The parent's id of a row. A text that is damaged is no parent's; reading its row tells of the damage.
pub(super) const PARENT_ID: &str = "CASE WHEN json_valid(parent) THEN parent ->> '$.instance' END";

/// Children by their parent. Came after the first hubs, which get it when they are opened.
fn index_parents(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE INDEX IF NOT EXISTS instances_parent ON instances ({PARENT_ID}, created DESC, id)
         WHERE parent IS NOT NULL"
    ))
}

/// The values that a checkpoint and an opening leave behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Everything up to here is in the tables.
    pub(crate) applied: u64,
    /// Everything up to here was durable at that moment.
    pub(crate) durable: u64,
    /// The segment that was written at that moment.
    pub(crate) segment: u64,
    /// The epoch of the last opening.
    pub(crate) epoch: u64,
    /// No key up to here is free.
    pub(crate) key_max: u64,
    /// No sequence up to here is free.
    pub(crate) message_max: u64,
}

/// Makes the tables of an empty database.
pub(crate) fn create(connection: &Connection, store: u128) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    set_durable(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    index_parents(connection)?;
    set(connection, "store", &format!("{store:032x}"))?;
    set(connection, "format", &VERSION)?;
    write_position(connection, &Position::default())?;
    mark(connection, store)?;
    connection.execute_batch("COMMIT")
}

/// Brings earlier tables to this version. Version 2 knew neither length nor hash of a value, version 3
/// no checksum of a history and no mark; their rows go on without until they are written again.
pub(crate) fn upgrade(connection: &Connection, store: u128) -> rusqlite::Result<()> {
    index_parents(connection)?;
    let format = get::<u32>(connection, "format")?.unwrap_or(VERSION);
    if format >= VERSION {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    if format == 2 {
        connection.execute_batch(
            "ALTER TABLE payloads ADD COLUMN bytes INTEGER;
            ALTER TABLE payloads ADD COLUMN sha256 BLOB;
            ALTER TABLE entity_payloads ADD COLUMN bytes INTEGER;
            ALTER TABLE entity_payloads ADD COLUMN sha256 BLOB;",
        )?;
    }
    connection.execute_batch("ALTER TABLE instances ADD COLUMN history_crc INTEGER")?;
    set(connection, "format", &VERSION)?;
    mark(connection, store)?;
    connection.execute_batch("COMMIT")?;
    // The mark is looked for in the file itself; a reader that pins the former pages only delays it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Which hub the file is of, in its first bytes. The table `hub` says so too, but may be read from the
/// `-wal` beside the file, which could be another hub's.
fn mark(connection: &Connection, store: u128) -> rusqlite::Result<()> {
    let mark = file_mark(store) as i32;
    connection.execute_batch(&format!("PRAGMA user_version = {mark}"))
}

/// The mark of a hub's file: never 0, which is that of a file without one.
pub(crate) fn file_mark(store: u128) -> u32 {
    crc32c::crc32c(&store.to_be_bytes()).max(1)
}

/// Every transaction is synced before it counts. Read back, because SQLite ignores what it does not
/// know, and goes on in another mode when it cannot write the file that says so. An earlier version
/// created hubs in such a mode; the mode is set again each time.
pub(crate) fn set_durable(connection: &Connection) -> rusqlite::Result<()> {
    let journal: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864;",
    )?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if synchronous == 2 && journal == "wal" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
        Some(format!(
            "the database does not become durable: synchronous is {synchronous} (must be 2), journal_mode is {journal} (must be wal)"
        )),
    ))
}

/// Which hub the tables belong to, in hexadecimal, and their version.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<Option<(String, u32)>> {
    let store = get(connection, "store")?;
    let format: Option<u32> = get(connection, "format")?;
    Ok(store.zip(format))
}

pub(crate) fn read_position(connection: &Connection) -> rusqlite::Result<Position> {
    let number =
        |name| -> rusqlite::Result<u64> { Ok(get::<i64>(connection, name)?.unwrap_or_default() as u64) };
    let position = Position {
        applied: number("applied_lsn")?,
        durable: number("durable_lsn")?,
        segment: number("segment")?,
        epoch: number("epoch")?,
        key_max: number("key_max")?,
        message_max: number("message_max")?,
    };
    if number("position_crc")? != u64::from(checksum::of_position(&position)) {
        let reason = "the hub's position is damaged";
        return Err(rusqlite::Error::FromSqlConversionFailure(
            0,
            Type::Integer,
            reason.into(),
        ));
    }
    Ok(position)
}

/// The epoch of the last opening.
pub(crate) fn epoch(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(get::<i64>(connection, "epoch")?.unwrap_or_default() as u64)
}

pub(crate) fn write_position(connection: &Connection, position: &Position) -> rusqlite::Result<()> {
    let values = [
        ("applied_lsn", position.applied),
        ("durable_lsn", position.durable),
        ("segment", position.segment),
        ("epoch", position.epoch),
        ("key_max", position.key_max),
        ("message_max", position.message_max),
        ("position_crc", checksum::of_position(position).into()),
    ];
    for (name, value) in values {
        set(connection, name, &(value as i64))?;
    }
    Ok(())
}

fn get<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT value FROM hub WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn set(connection: &Connection, name: &str, value: &dyn rusqlite::ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO hub VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
        .execute(params![name, value])?;
    Ok(())
}
