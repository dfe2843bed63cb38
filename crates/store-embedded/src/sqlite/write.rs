//! A window into the tables.

use dalsegno_core::store::{EntityRow, HistoryChunk, InstanceRow, Owner, TimerRow};
use dalsegno_core::{ExecutionKey, Payload, Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::schema::{self, Position};
use super::value::{self, Stored};
use super::{checksum, read, text};
use crate::overlay::{Execution, Window};

/// Free pages given back to the file system after a checkpoint.
const VACUUM_PAGES_MAX: u32 = 1_000;

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it is in the tables.
    Whole,
    /// Nothing is: the tables belong to the opening of this later epoch.
    Superseded(u64),
}

/// One transaction: all of the window and how far the tables are now, or nothing.
///
/// The epoch in the tables is compared within it, so that a process whose hub another one has
/// opened meanwhile changes nothing.
pub(crate) fn write_window(
    connection: &Connection,
    window: &Window,
    position: &Position,
) -> rusqlite::Result<Written> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let write = || {
        let epoch = schema::epoch(connection)?;
        if epoch != position.epoch {
            return Ok(Written::Superseded(epoch));
        }
        write_tables(connection, window)?;
        schema::write_position(connection, position)?;
        connection.execute_batch("COMMIT")?;
        Ok(Written::Whole)
    };
    let written = write();
    if !matches!(written, Ok(Written::Whole)) {
        // Fails when SQLite has rolled back by itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    written
}

/// Gives free pages back, a few at a time.
pub(crate) fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let free: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free > VACUUM_PAGES_MAX {
        connection.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
    }
    Ok(())
}

fn write_tables(connection: &Connection, window: &Window) -> rusqlite::Result<()> {
    let db = Writer { connection };
    // In the order of the keys, so that pages are visited once.
    let mut executions: Vec<(&ExecutionKey, &Execution)> = window.executions.iter().collect();
    executions.sort_unstable_by_key(|(key, _)| **key);
    for (key, _) in executions.iter().filter(|(_, execution)| execution.is_wiped) {
        db.delete_execution(**key)?;
    }
    for (id, key) in &window.ids {
        if window
            .executions
            .get(key)
            .is_none_or(|execution| execution.row.is_none())
        {
            db.run("DELETE FROM instances WHERE id = ?1", [id.as_str()])?;
        }
    }
    for (key, execution) in &executions {
        let is_fresh = key.0 > window.fresh_above;
        let sum = db.history_sum(**key, execution, is_fresh)?;
        if let Some(row) = &execution.row {
            db.put_instance(row, sum, is_fresh)?;
        }
        let touch = match execution.touch {
            None if execution.row.is_none() && !execution.history.is_empty() => db.touched(**key)?,
            touch => touch,
        };
        if let Some((updated, events)) = touch {
            db.touch(**key, updated, events, sum)?;
        }
    }
    for (key, execution) in executions {
        for chunk in &execution.history {
            let position = key.0 << 24 | chunk.first;
            db.run(
                "INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3, ?4)",
                params![
                    position as i64,
                    chunk.count,
                    checksum::of_history(position, &chunk.data),
                    chunk.data
                ],
            )?;
        }
        let is_fresh = key.0 > window.fresh_above;
        for (n, value) in &execution.payloads {
            if value.is_some() || !is_fresh {
                db.put_payload(&Owner::Execution(*key), *n, value.as_ref())?;
            }
        }
    }
    write_queues(&db, window)?;
    write_named(&db, window)
}

fn write_queues(db: &Writer<'_>, window: &Window) -> rusqlite::Result<()> {
    let mut messages: Vec<_> = window.messages.iter().collect();
    messages.sort_unstable_by_key(|(place, _)| **place);
    for ((partition, seq), record) in messages {
        match record {
            Some(record) => db.run(
                "INSERT OR REPLACE INTO messages VALUES (?1, ?2, ?3, ?4)",
                params![
                    partition,
                    *seq as i64,
                    record,
                    checksum::of_message(*partition, *seq, record)
                ],
            )?,
            None => db.run(
                "DELETE FROM messages WHERE partition = ?1 AND sequence = ?2",
                params![partition, *seq as i64],
            )?,
        }
    }
    let is_fresh = |key: ExecutionKey| key.0 > window.fresh_above;
    let mut tasks: Vec<_> = window.tasks.iter().collect();
    tasks.sort_unstable_by_key(|(place, _)| **place);
    for ((partition, key, task), record) in tasks {
        match record {
            Some(record) => db.run(
                "INSERT OR REPLACE INTO tasks VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    partition,
                    key.0 as i64,
                    task.0,
                    record,
                    checksum::of_task(*partition, *key, *task, record)
                ],
            )?,
            None if is_fresh(*key) => {}
            None => db.run(
                "DELETE FROM tasks WHERE partition = ?1 AND key = ?2 AND task = ?3",
                params![partition, key.0 as i64, task.0],
            )?,
        }
    }
    let mut timers: Vec<_> = window.timers.iter().collect();
    timers.sort_unstable_by_key(|(place, _)| **place);
    for ((partition, due, key, task), is_there) in timers {
        let timer = TimerRow {
            due: *due,
            key: *key,
            task: *task,
        };
        if *is_there {
            db.put_timer(*partition, &timer)?;
        } else if !is_fresh(*key) {
            db.delete_timer(*partition, &timer)?;
        }
    }
    Ok(())
}

fn write_named(db: &Writer<'_>, window: &Window) -> rusqlite::Result<()> {
    for (id, payloads) in &window.entity_payloads {
        if payloads.is_wiped {
            db.run(
                "DELETE FROM entity_payloads WHERE name = ?1 AND key = ?2",
                [id.name(), id.key()],
            )?;
        }
        for (n, value) in &payloads.values {
            db.put_payload(&Owner::Entity(id.clone()), *n, value.as_ref())?;
        }
    }
    for (id, row) in &window.entities {
        match row {
            Some(row) => db.put_entity(row)?,
            None => db.run(
                "DELETE FROM entities WHERE name = ?1 AND key = ?2",
                [id.name(), id.key()],
            )?,
        }
    }
    for ((name, key), record) in &window.limiters {
        match record {
            Some(record) => db.run(
                "INSERT OR REPLACE INTO limiters VALUES (?1, ?2, ?3, ?4)",
                params![name, key, record, checksum::of_named(&[name, key], record)],
            )?,
            None => db.run("DELETE FROM limiters WHERE name = ?1 AND key = ?2", [name, key])?,
        }
    }
    for (name, record) in &window.meta {
        match record {
            Some(record) => db.run(
                "INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)",
                params![name, record, checksum::of_named(&[name], record)],
            )?,
            None => db.run("DELETE FROM meta WHERE name = ?1", [name])?,
        }
    }
    Ok(())
}

struct Writer<'c> {
    connection: &'c Connection,
}

impl Writer<'_> {
    fn run(&self, sql: &str, values: impl Params) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// By its key alone: neighbours and the instance's later executions stay.
    fn delete_execution(&self, key: ExecutionKey) -> rusqlite::Result<()> {
        let key = key.0 as i64;
        self.run(
            "DELETE FROM history WHERE position BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff",
            [key],
        )?;
        self.run("DELETE FROM payloads WHERE key = ?1", [key])?;
        self.run("DELETE FROM instances WHERE key = ?1", [key])
    }

    /// The checksum of a history with what this window adds to it; `None` when what the tables have of
    /// it is damaged.
    fn history_sum(
        &self,
        key: ExecutionKey,
        execution: &Execution,
        is_fresh: bool,
    ) -> rusqlite::Result<Option<u32>> {
        let stored = match is_fresh || execution.is_wiped {
            true => Some(0),
            false => self.stored_history_sum(key)?,
        };
        let add = |sum, chunk: &HistoryChunk| checksum::of_longer_history(sum, &chunk.data);
        Ok(stored.map(|sum| execution.history.iter().fold(sum, add)))
    }

    /// The checksum of a history in the tables: of its row, or, where that does not know it yet, made of
    /// the events, once.
    fn stored_history_sum(&self, key: ExecutionKey) -> rusqlite::Result<Option<u32>> {
        if let Some(sum) = read::history_crc(self.connection, key)? {
            return Ok(Some(sum));
        }
        let Ok(chunks) = read::chunks(self.connection, key) else {
            return Ok(None);
        };
        let add = |sum, chunk: &HistoryChunk| checksum::of_longer_history(sum, &chunk.data);
        Ok(Some(chunks.iter().fold(0, add)))
    }

    /// What a touch would leave as it is.
    fn touched(&self, key: ExecutionKey) -> rusqlite::Result<Option<(Timestamp, u64)>> {
        self.connection
            .prepare_cached("SELECT updated, events FROM instances WHERE key = ?1")?
            .query_row([key.0 as i64], |row| {
                let events: i64 = row.get(1)?;
                Ok((Timestamp::from_micros(row.get(0)?), events as u64))
            })
            .optional()
    }

    fn touch(
        &self,
        key: ExecutionKey,
        updated: Timestamp,
        events: u64,
        history: Option<u32>,
    ) -> rusqlite::Result<()> {
        self.run(
            "UPDATE instances SET updated = ?2, events = ?3, touch_crc = ?4, history_crc = ?5 WHERE key = ?1",
            params![
                key.0 as i64,
                updated.as_micros(),
                events as i64,
                checksum::of_touch(key, updated, events, history),
                history
            ],
        )
    }

    fn put_instance(&self, row: &InstanceRow, history: Option<u32>, is_fresh: bool) -> rusqlite::Result<()> {
        if !is_fresh && self.execute_row(UPDATE_INSTANCE, row, history)? > 0 {
            return Ok(());
        }
        // Replaces the row of an earlier execution of the same id.
        self.execute_row(INSERT_INSTANCE, row, history).map(drop)
    }

    fn execute_row(&self, sql: &str, row: &InstanceRow, history: Option<u32>) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params![
            row.key.0 as i64,
            row.id.as_str(),
            row.execution_id.to_string(),
            row.partition.0,
            row.name,
            row.version,
            row.status.as_str(),
            row.created.as_micros(),
            row.updated.as_micros(),
            row.completed.map(|at| at.as_micros()),
            row.scheduled_start.map(|at| at.as_micros()),
            row.parent.as_ref().map(text::parent_text),
            text::tags_text(&row.tags),
            row.input.as_ref().map(Payload::as_str),
            row.custom_status.as_ref().map(Payload::as_str),
            row.output.as_ref().map(Payload::as_str),
            row.failure.as_ref().map(text::failure_text),
            row.parked.as_ref().map(text::fault_text),
            row.events as i64,
            row.apart.bits(),
            row.extra,
            checksum::of_touch(row.key, row.updated, row.events, history),
            checksum::of_instance(row),
            history,
        ])
    }

    fn put_payload(&self, owner: &Owner, n: u64, value: Option<&Payload>) -> rusqlite::Result<()> {
        let Some(value) = value.map(Payload::as_str) else {
            return self.delete_payload(owner, n as i64);
        };
        let (stored, digest) = (Stored::pack(value), value::digest_of(value));
        let sum = checksum::of_payload(owner, n, stored.as_bytes(), Some(&digest));
        let (n, bytes) = (n as i64, digest.bytes as i64);
        match owner {
            Owner::Execution(key) => self.run(
                "INSERT OR REPLACE INTO payloads VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![key.0 as i64, n, stored, sum, bytes, digest.sha256],
            ),
            Owner::Entity(id) => self.run(
                "INSERT OR REPLACE INTO entity_payloads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id.name(), id.key(), n, stored, sum, bytes, digest.sha256],
            ),
        }
    }

    fn delete_payload(&self, owner: &Owner, n: i64) -> rusqlite::Result<()> {
        match owner {
            Owner::Execution(key) => self.run(
                "DELETE FROM payloads WHERE key = ?1 AND n = ?2",
                [key.0 as i64, n],
            ),
            Owner::Entity(id) => self.run(
                "DELETE FROM entity_payloads WHERE name = ?1 AND key = ?2 AND n = ?3",
                params![id.name(), id.key(), n],
            ),
        }
    }

    fn put_entity(&self, row: &EntityRow) -> rusqlite::Result<()> {
        self.run(
            "INSERT OR REPLACE INTO entities VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                row.id.name(),
                row.id.key(),
                row.partition.0,
                row.last_operation.as_micros(),
                row.state.as_ref().map(Payload::as_str),
                row.is_state_apart,
                row.queue,
                checksum::of_entity(row),
            ],
        )
    }

    fn put_timer(&self, partition: u32, timer: &TimerRow) -> rusqlite::Result<()> {
        let TimerRow { due, key, task } = *timer;
        self.run(
            "INSERT OR REPLACE INTO timers VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                partition,
                due.as_micros(),
                key.0 as i64,
                task.0,
                checksum::of_timer(partition, due, key, task)
            ],
        )
    }

    fn delete_timer(&self, partition: u32, timer: &TimerRow) -> rusqlite::Result<()> {
        let TimerRow { due, key, task } = *timer;
        self.run(
            "DELETE FROM timers WHERE partition = ?1 AND due = ?2 AND key = ?3 AND task = ?4",
            params![partition, due.as_micros(), key.0 as i64, task.0],
        )
    }
}

const INSERT_INSTANCE: &str = "INSERT OR REPLACE INTO instances VALUES
  (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)";

const UPDATE_INSTANCE: &str = "UPDATE instances SET
  id = ?2, execution_id = ?3, partition = ?4, name = ?5, version = ?6, status = ?7, created = ?8,
  updated = ?9, completed = ?10, scheduled_start = ?11, parent = ?12, tags = ?13, input = ?14,
  custom_status = ?15, output = ?16, failure = ?17, parked = ?18, events = ?19, large = ?20, extra = ?21,
  touch_crc = ?22, crc = ?23, history_crc = ?24
  WHERE key = ?1";

/// Says who owns a partition since when.
pub(crate) fn put_lease(
    connection: &Connection,
    partition: u32,
    owner: &str,
    epoch: u64,
) -> rusqlite::Result<()> {
    let db = Writer { connection };
    db.run(
        "INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3)",
        params![partition, owner, epoch as i64],
    )
}
