//! Rows that cannot be read, moved aside.

use std::fmt::Write;

use dalsegno_core::query::Status;
use dalsegno_core::store::{Bytes, DamagedRow, Moved, Owner};
use dalsegno_core::{EntityId, ExecutionKey, InstanceId};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
};

use super::{read, schema};

/// `record` has a line for each column: its name, the type of its value, and the bytes in hexadecimal.
const QUARANTINE: &str = "
CREATE TABLE IF NOT EXISTS quarantine (
  number INTEGER PRIMARY KEY,
  source TEXT NOT NULL,
  row TEXT NOT NULL,
  reason TEXT NOT NULL,
  record TEXT NOT NULL
)";

/// A table whose rows have checksums.
struct Table {
    name: &'static str,
    /// The columns that name a row.
    key: &'static [&'static str],
    /// The columns that `check` reads.
    columns: &'static str,
    check: fn(&Row<'_>) -> rusqlite::Result<()>,
}

const INSTANCES: Table = Table {
    name: "instances",
    key: &["key"],
    columns: read::INSTANCE_COLUMNS,
    check: read::check_instance,
};

const ENTITIES: Table = Table {
    name: "entities",
    key: &["rowid"],
    columns: read::ENTITY_COLUMNS,
    check: read::check_entity,
};

const TABLES: [Table; 7] = [
    INSTANCES,
    ENTITIES,
    Table {
        name: "messages",
        key: &["partition", "sequence"],
        columns: "sequence, record, crc, partition",
        check: read::check_message,
    },
    Table {
        name: "tasks",
        key: &["partition", "key", "task"],
        columns: "key, task, record, crc, partition",
        check: read::check_task,
    },
    Table {
        name: "timers",
        key: &["partition", "due", "key", "task"],
        columns: "due, key, task, crc, partition",
        check: read::check_timer,
    },
    Table {
        name: "limiters",
        key: &["name", "key"],
        columns: "name, key, record, crc",
        check: read::check_limiter,
    },
    Table {
        name: "meta",
        key: &["name"],
        columns: "name, record, crc",
        check: read::check_meta,
    },
];

/// What goes with a row that is gone: tables, the columns that name a row, and which rows.
const ORPHANS: [(&str, &[&str], &str); 3] = [
    (
        "history",
        &["position"],
        "(position >> 24) NOT IN (SELECT key FROM instances)",
    ),
    ("payloads", &["rowid"], "key NOT IN (SELECT key FROM instances)"),
    (
        "entity_payloads",
        &["rowid"],
        "NOT EXISTS (SELECT 1 FROM entities WHERE entities.name = entity_payloads.name
         AND entities.key = entity_payloads.key)",
    ),
];

/// Tasks and timers of an execution. Those without instance are not all orphans: deliveries to webhooks
/// have keys of their own.
const OF_EXECUTION: [(&str, &[&str]); 2] = [
    ("tasks", &["partition", "key", "task"]),
    ("timers", &["partition", "due", "key", "task"]),
];

/// What is an execution's, and the value that names the execution.
const OF_INSTANCE: [(&str, &[&str], &str); 5] = [
    ("instances", &["key"], "key"),
    ("history", &["position"], "position >> 24"),
    ("payloads", &["rowid"], "key"),
    ("tasks", &["partition", "key", "task"], "key"),
    ("timers", &["partition", "due", "key", "task"], "key"),
];

/// The instances and entities that cannot be read, also when it is a value of theirs that is damaged.
pub(crate) fn find(connection: &Connection) -> rusqlite::Result<Vec<DamagedRow>> {
    let mut found = Vec::new();
    for (key, reason) in damaged(connection, &INSTANCES)? {
        found.push(damaged_instance(connection, &key, reason)?);
    }
    for (key, reason) in damaged(connection, &ENTITIES)? {
        found.push(damaged_entity(connection, &key, reason)?);
    }
    let mut lacking = Vec::new();
    read::every_instance(connection, |_, row| {
        lacking.extend(row.ok().filter(|(row, _)| row.missing().next().is_some()));
    })?;
    for (row, _) in lacking {
        let owner = Owner::Execution(row.key);
        for field in row.missing() {
            let reason = match read::payload(connection, &owner, field.number()) {
                Ok(Some(_)) => continue,
                Ok(None) => format!("value {} of it is missing", field.number()),
                Err(error) if read::is_damage(&error) => error.to_string(),
                Err(error) => return Err(error),
            };
            let key = [Value::Integer(row.key.0 as i64)];
            found.push(damaged_instance(connection, &key, reason)?);
            break;
        }
    }
    Ok(found)
}

fn damaged_instance(connection: &Connection, key: &[Value], reason: String) -> rusqlite::Result<DamagedRow> {
    let texts = "SELECT key, id, status FROM instances WHERE key = ?1";
    connection.query_row(texts, params_from_iter(key), |row| {
        let key_of_execution = ExecutionKey(row.get::<_, i64>(0)? as u64);
        let (id, status) = (row.get::<_, String>(1).ok(), row.get::<_, String>(2).ok());
        let is_it = |word: &str, status: &Status| status.as_str() == word;
        Ok(DamagedRow {
            owner: Some(Owner::Execution(key_of_execution)),
            instance: id.and_then(|id| InstanceId::parse(&id).ok()),
            status: status.and_then(|word| Status::ALL.into_iter().find(|status| is_it(&word, status))),
            table: INSTANCES.name.to_owned(),
            row: name_of(INSTANCES.key, key),
            reason,
        })
    })
}

fn damaged_entity(connection: &Connection, key: &[Value], reason: String) -> rusqlite::Result<DamagedRow> {
    let texts = "SELECT name, key FROM entities WHERE rowid = ?1";
    let id = connection.query_row(texts, params_from_iter(key), |row| {
        let (name, key) = (row.get::<_, String>(0), row.get::<_, String>(1));
        Ok(name.ok().zip(key.ok()))
    })?;
    let id = id.and_then(|(name, key)| EntityId::new(&name, &key).ok());
    Ok(DamagedRow {
        owner: id.map(Owner::Entity),
        instance: None,
        status: None,
        table: ENTITIES.name.to_owned(),
        row: name_of(ENTITIES.key, key),
        reason,
    })
}

/// What became of rows that were to be removed.
pub(crate) enum Removed {
    Whole(Vec<Moved>),
    /// Another process has opened the hub, in this epoch; nothing was removed.
    Superseded(u64),
}

/// One transaction: executions and entities with all that is theirs, or nothing.
pub(crate) fn remove(
    connection: &Connection,
    owners: &[Owner],
    bytes: Bytes,
    opened_in: u64,
) -> rusqlite::Result<Removed> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let epoch = schema::epoch(&transaction)?;
    if epoch != opened_in {
        return Ok(Removed::Superseded(epoch));
    }
    let mut moved = Vec::new();
    if bytes == Bytes::Kept {
        transaction.execute_batch(QUARANTINE)?;
    }
    past_wrong_indexes(&transaction, |transaction| {
        for owner in owners {
            for (table, columns, which) in rows_of(owner) {
                for key in keys(transaction, table, columns, &which)? {
                    if bytes == Bytes::Kept {
                        let reason = format!("it belongs to {}, which is damaged", name_of_owner(owner));
                        moved.push(copy_row(transaction, table, columns, &key, &reason)?);
                    }
                    delete_row(transaction, table, columns, &key)?;
                }
            }
        }
        Ok(())
    })?;
    transaction.commit()?;
    Ok(Removed::Whole(moved))
}

fn name_of_owner(owner: &Owner) -> String {
    match owner {
        Owner::Execution(key) => format!("execution {}", key.0),
        Owner::Entity(id) => format!("entity {id}"),
    }
}

/// The rows of an owner: their table, the columns of their keys, and the condition. No index is used to
/// find them, since indexes may say something else than the rows.
fn rows_of(owner: &Owner) -> Vec<(&'static str, &'static [&'static str], String)> {
    match owner {
        Owner::Execution(key) => OF_INSTANCE
            .into_iter()
            .map(|(table, columns, whose)| (table, columns, format!("+({whose}) = {}", key.0)))
            .collect(),
        Owner::Entity(id) => ["entities", "entity_payloads"]
            .into_iter()
            .map(|table| {
                let columns: &[&str] = &["rowid"];
                let (name, key) = (quoted(id.name()), quoted(id.key()));
                (table, columns, format!("+name = {name} AND +key = {key}"))
            })
            .collect(),
    }
}

/// As a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Runs a removal though indexes do not say what is in the rows, then builds them anew. SQLite refuses to
/// delete a row that its indexes do not have, except in this mode.
fn past_wrong_indexes(
    connection: &Connection,
    remove: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "writable_schema", true)?;
    let removed = remove(connection);
    connection.pragma_update(None, "writable_schema", false)?;
    removed?;
    connection.execute_batch("REINDEX")
}

/// One transaction: all rows that cannot be read and what belongs to them, or nothing.
pub(crate) fn move_damaged(connection: &Connection) -> rusqlite::Result<Vec<Moved>> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let had_quarantine = transaction.table_exists(None, "quarantine")?;
    transaction.execute_batch(QUARANTINE)?;
    let mut moved = Vec::new();
    past_wrong_indexes(&transaction, |transaction| {
        for table in &TABLES {
            for (key, reason) in damaged(transaction, table)? {
                move_row(transaction, table.name, table.key, &key, &reason, &mut moved)?;
                if let ("instances", [Value::Integer(execution)]) = (table.name, key.as_slice()) {
                    for (of, columns) in OF_EXECUTION {
                        let reason = format!("it belongs to execution {execution}, which was moved");
                        let is_its = format!("key = {execution}");
                        move_all(transaction, of, columns, &is_its, &reason, &mut moved)?;
                    }
                }
            }
        }
        Ok(())
    })?;
    for (name, columns, which) in ORPHANS {
        move_all(
            &transaction,
            name,
            columns,
            which,
            "it belongs to no row",
            &mut moved,
        )?;
    }
    if moved.is_empty() && !had_quarantine {
        transaction.execute_batch("DROP TABLE quarantine")?;
    }
    transaction.commit()?;
    Ok(moved)
}

/// The keys of the rows of a table that cannot be read, and why.
fn damaged(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<(Vec<Value>, String)>> {
    let sql = format!(
        "SELECT {}, {} FROM {}",
        table.columns,
        table.key.join(", "),
        table.name
    );
    let mut statement = connection.prepare(&sql)?;
    let first = statement.column_count() - table.key.len();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match (table.check)(row) {
            Err(error) if read::is_malformed(&error) => return Err(error),
            Err(error) if read::is_damage(&error) => found.push((key_of(row, first)?, read::reason(&error))),
            checked => checked?,
        }
    }
    Ok(found)
}

fn move_all(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    which: &str,
    reason: &str,
    moved: &mut Vec<Moved>,
) -> rusqlite::Result<()> {
    for key in keys(connection, table, columns, which)? {
        move_row(connection, table, columns, &key, reason, moved)?;
    }
    Ok(())
}

/// The keys of the rows of which `which` is true.
fn keys(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    which: &str,
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let sql = format!("SELECT {} FROM {table} WHERE {which}", columns.join(", "));
    connection
        .prepare(&sql)?
        .query_map([], |row| key_of(row, 0))?
        .collect()
}

/// The values of the columns from `first` on. A text goes by its bytes, since it may not be one any more.
fn key_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Vec<Value>> {
    (first..row.as_ref().column_count())
        .map(|column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                ValueRef::Integer(number) => Value::Integer(number),
                ValueRef::Real(number) => Value::Real(number),
                ValueRef::Null => Value::Null,
            })
        })
        .collect()
}

fn move_row(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    key: &[Value],
    reason: &str,
    moved: &mut Vec<Moved>,
) -> rusqlite::Result<()> {
    moved.push(copy_row(connection, table, columns, key, reason)?);
    delete_row(connection, table, columns, key)
}

fn delete_row(connection: &Connection, table: &str, columns: &[&str], key: &[Value]) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {table} WHERE {}", is_it(columns, key));
    connection.execute(&sql, params_from_iter(key)).map(drop)
}

/// A row that is there already, byte for byte, is not copied again.
fn copy_row(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    key: &[Value],
    reason: &str,
) -> rusqlite::Result<Moved> {
    let sql = format!("SELECT * FROM {table} WHERE {}", is_it(columns, key));
    let record = connection.query_row(&sql, params_from_iter(key), record)?;
    let name = name_of(columns, key);
    let copied: Option<i64> = connection
        .query_row(
            "SELECT number FROM quarantine WHERE source = ?1 AND row = ?2 AND record = ?3",
            params![table, name, record],
            |row| row.get(0),
        )
        .optional()?;
    let number = match copied {
        Some(number) => number,
        None => {
            connection.execute(
                "INSERT INTO quarantine (source, row, reason, record) VALUES (?1, ?2, ?3, ?4)",
                params![table, name, reason, record],
            )?;
            connection.last_insert_rowid()
        }
    };
    Ok(Moved {
        number: number as u64,
        table: table.to_owned(),
        row: name,
        reason: reason.to_owned(),
    })
}

/// The condition that a row has this key, whose values are the parameters.
fn is_it(columns: &[&str], key: &[Value]) -> String {
    let is_it: Vec<String> = columns
        .iter()
        .zip(key)
        .map(|(column, value)| match value {
            Value::Blob(_) => format!("CAST({column} AS BLOB) = ?"),
            _ => format!("{column} IS ?"),
        })
        .collect();
    is_it.join(" AND ")
}

fn name_of(columns: &[&str], key: &[Value]) -> String {
    let parts: Vec<String> = columns
        .iter()
        .zip(key)
        .map(|(column, value)| match value {
            Value::Integer(number) => format!("{column} {number}"),
            Value::Blob(bytes) => format!("{column} {}", String::from_utf8_lossy(bytes).escape_debug()),
            _ => format!("{column} ?"),
        })
        .collect();
    parts.join(", ")
}

/// All columns of a row, as they are.
fn record(row: &Row<'_>) -> rusqlite::Result<String> {
    let mut record = String::new();
    for column in 0..row.as_ref().column_count() {
        let name = row.as_ref().column_name(column)?;
        let (kind, bytes) = match row.get_ref(column)? {
            ValueRef::Null => ("null", Vec::new()),
            ValueRef::Integer(number) => ("integer", number.to_be_bytes().to_vec()),
            ValueRef::Real(number) => ("real", number.to_be_bytes().to_vec()),
            ValueRef::Text(bytes) => ("text", bytes.to_vec()),
            ValueRef::Blob(bytes) => ("blob", bytes.to_vec()),
        };
        record += &format!("{name} {kind} ");
        for byte in bytes {
            write!(record, "{byte:02x}").expect("a string takes all");
        }
        record.push('\n');
    }
    Ok(record)
}
