//! Rows that cannot be read, moved aside.

use std::fmt::Write;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params, params_from_iter};

use super::read;

/// A row that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its number in the table `quarantine`.
    pub number: u64,
    /// The table it was in.
    pub table: String,
    /// Which row, by its key.
    pub row: String,
    /// Why it was moved.
    pub reason: String,
}

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

const TABLES: [Table; 7] = [
    Table {
        name: "instances",
        key: &["key"],
        columns: read::INSTANCE_COLUMNS,
        check: read::check_instance,
    },
    Table {
        name: "entities",
        key: &["rowid"],
        columns: read::ENTITY_COLUMNS,
        check: read::check_entity,
    },
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

/// One transaction: all rows that cannot be read and what belongs to them, or nothing.
pub(crate) fn move_damaged(connection: &Connection) -> rusqlite::Result<Vec<Moved>> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(QUARANTINE)?;
    let mut moved = Vec::new();
    for table in &TABLES {
        let damaged = damaged(&transaction, table)?;
        if !damaged.is_empty() && moved.is_empty() {
            // A row that is not what it was is not what its indexes say either.
            transaction.execute_batch("REINDEX")?;
        }
        for (key, reason) in damaged {
            move_row(&transaction, table.name, table.key, &key, &reason, &mut moved)?;
            if let ("instances", [Value::Integer(execution)]) = (table.name, key.as_slice()) {
                for (of, columns) in OF_EXECUTION {
                    let reason = format!("it belongs to execution {execution}, which was moved");
                    let is_its = format!("key = {execution}");
                    move_all(&transaction, of, columns, &is_its, &reason, &mut moved)?;
                }
            }
        }
    }
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
    if moved.is_empty() {
        // The tables stay as they were.
        transaction.rollback()?;
    } else {
        transaction.commit()?;
    }
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
    let sql = format!("SELECT {} FROM {table} WHERE {which}", columns.join(", "));
    let keys: Vec<Vec<Value>> = connection
        .prepare(&sql)?
        .query_map([], |row| key_of(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    for key in keys {
        move_row(connection, table, columns, &key, reason, moved)?;
    }
    Ok(())
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
    let is_it: Vec<String> = columns
        .iter()
        .zip(key)
        .map(|(column, value)| match value {
            Value::Blob(_) => format!("CAST({column} AS BLOB) = ?"),
            _ => format!("{column} IS ?"),
        })
        .collect();
    let is_it = is_it.join(" AND ");
    let values = || params_from_iter(key.iter());
    let record = connection.query_row(&format!("SELECT * FROM {table} WHERE {is_it}"), values(), record)?;
    let name = name_of(columns, key);
    connection.execute(
        "INSERT INTO quarantine (source, row, reason, record) VALUES (?1, ?2, ?3, ?4)",
        params![table, name, reason, record],
    )?;
    let number = connection.last_insert_rowid() as u64;
    connection.execute(&format!("DELETE FROM {table} WHERE {is_it}"), values())?;
    moved.push(Moved {
        number,
        table: table.to_owned(),
        row: name,
        reason: reason.to_owned(),
    });
    Ok(())
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
