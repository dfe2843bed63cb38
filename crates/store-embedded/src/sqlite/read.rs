//! Rows out of the tables.

use std::sync::Arc;

use dalsegno_core::query::{EntityPage, EntityQuery, InstanceCursor, InstancePage, InstanceQuery, Status};
use dalsegno_core::store::{
    Apart, EntityRow, HistoryChunk, InstanceRow, Loaded, Owner, PayloadDigest, StoreSize, TimerRow,
};
use dalsegno_core::{
    EntityId, ExecutionId, ExecutionKey, Fault, FaultKind, InstanceId, PartitionId, Payload, TaskId,
    Timestamp,
};
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::schema::PARENT_ID;
use super::value::{self, Stored};
use super::{checksum, text};

pub(super) const INSTANCE_COLUMNS: &str = "key, id, execution_id, partition, name, version, status, created, updated,
  completed, scheduled_start, parent, tags, input, custom_status, output, failure, parked, events, large, extra,
  touch_crc, crc, history_crc";
/// Lines of what SQLite finds wrong with the file.
const MALFORMED_MAX: u32 = 20;
/// Rows on one page of a list that may be left out because their ids cannot be read.
const UNADDRESSABLE_MAX: usize = 64;
pub(super) const ENTITY_COLUMNS: &str = "name, key, partition, last_operation, state, large, queue, crc";

type NamedRecords = Vec<(Arc<str>, Vec<u8>)>;
type LimiterRecords = Vec<(Arc<str>, Arc<str>, Vec<u8>)>;

pub(crate) fn instance(connection: &Connection, id: &InstanceId) -> rusqlite::Result<Option<InstanceRow>> {
    one_instance(connection, "id = ?1", id.as_str())
}

pub(crate) fn instance_by_key(
    connection: &Connection,
    key: ExecutionKey,
) -> rusqlite::Result<Option<InstanceRow>> {
    one_instance(connection, "key = ?1", key.0 as i64)
}

/// The key in the row of an instance, whose other columns may be damaged.
pub(crate) fn key_of(connection: &Connection, id: &InstanceId) -> rusqlite::Result<Option<ExecutionKey>> {
    connection
        .prepare_cached("SELECT key FROM instances WHERE id = ?1")?
        .query_row([id.as_str()], |row| key(row, 0))
        .optional()
}

fn one_instance(
    connection: &Connection,
    filter: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<Option<InstanceRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {INSTANCE_COLUMNS} FROM instances WHERE {filter}"
        ))?
        .query_row([value], instance_row)
        .optional()
}

/// The events of an execution, if they are what its row says: none is missing, none was changed.
pub(crate) fn history(connection: &Connection, key: ExecutionKey) -> rusqlite::Result<Vec<HistoryChunk>> {
    // Row and events of the same moment.
    let read = connection.unchecked_transaction()?;
    let expected = history_crc(&read, key)?;
    let chunks = chunks(&read, key)?;
    drop(read);
    let add = |sum, chunk: &HistoryChunk| checksum::of_longer_history(sum, &chunk.data);
    match expected {
        Some(expected) if expected != chunks.iter().fold(0, add) => Err(damaged(
            0,
            format!(
                "the history of execution {} is not the one that its row knows",
                key.0
            ),
        )),
        _ => Ok(chunks),
    }
}

/// The checksum of an execution's history as its row has it; `None` without row, and in one that an
/// earlier version wrote.
pub(crate) fn history_crc(connection: &Connection, key: ExecutionKey) -> rusqlite::Result<Option<u32>> {
    let found = connection
        .prepare_cached("SELECT history_crc FROM instances WHERE key = ?1")?
        .query_row([key.0 as i64], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// The events of an execution, in the pieces that are stored.
pub(crate) fn chunks(connection: &Connection, key: ExecutionKey) -> rusqlite::Result<Vec<HistoryChunk>> {
    connection
        .prepare_cached(
            "SELECT position, count, crc, events FROM history
             WHERE position BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff ORDER BY position",
        )?
        .query_map([key.0 as i64], history_chunk)?
        .collect()
}

/// How much is in the tables.
pub(crate) fn sizes(connection: &Connection, since: Timestamp) -> rusqlite::Result<StoreSize> {
    let unsigned = |row: &Row<'_>, column| row.get::<_, i64>(column).map(|number| number as u64);
    let (instances, created_since, events) = connection.query_row(
        "SELECT count(*), count(*) FILTER (WHERE created >= ?1), ifnull(sum(events), 0) FROM instances",
        [since.as_micros()],
        |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?)),
    )?;
    let (payloads, payload_bytes) = connection.query_row(
        "SELECT count(*), ifnull(sum(bytes), 0) FROM
         (SELECT octet_length(value) AS bytes FROM payloads
          UNION ALL SELECT octet_length(value) FROM entity_payloads)",
        [],
        |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)),
    )?;
    Ok(StoreSize {
        payload_bytes,
        payloads,
        instances,
        created_since,
        events,
        ..StoreSize::default()
    })
}

/// From the chunk that holds event `first` on, until there are so many bytes.
pub(crate) fn history_page(
    connection: &Connection,
    key: ExecutionKey,
    first: u64,
    bytes_max: usize,
) -> rusqlite::Result<Vec<HistoryChunk>> {
    let mut statement = connection.prepare_cached(
        "SELECT position, count, crc, events FROM history
         WHERE position BETWEEN
             coalesce((SELECT max(position) FROM history WHERE position BETWEEN ?1 << 24 AND ?1 << 24 | ?2), ?1 << 24)
             AND ?1 << 24 | 0xffffff ORDER BY position",
    )?;
    let first = first.min(0xff_ffff) as i64;
    let mut rows = statement.query_map([key.0 as i64, first], history_chunk)?;
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(chunk) = rows.next().transpose()?
    {
        bytes += chunk.data.len();
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// A chunk from columns position, count, crc, events.
pub(crate) fn history_chunk(row: &Row<'_>) -> rusqlite::Result<HistoryChunk> {
    let position = row.get::<_, i64>(0)? as u64;
    let data: Vec<u8> = row.get(3)?;
    check(row, 2, checksum::of_history(position, &data), || {
        format!("the history of execution {}", position >> 24)
    })?;
    Ok(HistoryChunk {
        first: position & 0xff_ffff,
        count: row.get(1)?,
        data,
    })
}

pub(crate) fn entity(connection: &Connection, id: &EntityId) -> rusqlite::Result<Option<EntityRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {ENTITY_COLUMNS} FROM entities WHERE name = ?1 AND key = ?2"
        ))?
        .query_row([id.name(), id.key()], entity_row)
        .optional()
}

pub(crate) fn list(connection: &Connection, query: &InstanceQuery) -> rusqlite::Result<InstancePage> {
    let mut filter = Filter::default();
    if !query.statuses.is_empty() {
        let statuses: Vec<Value> = query
            .statuses
            .iter()
            .map(|status| text_value(status.as_str()))
            .collect();
        filter.add_list("status IN", statuses);
    }
    if let Some(from) = query.created_from {
        filter.add("created >= ?", from.as_micros().into());
    }
    if let Some(to) = query.created_to {
        filter.add("created <= ?", to.as_micros().into());
    }
    if let Some(prefix) = query.id_prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
        filter.add("id >= ?", text_value(prefix));
        filter.add("substr(id, 1, ?)", (prefix.chars().count() as i64).into());
        filter.add_to_last(" = ?", text_value(prefix));
    }
    if let Some(name) = &query.name {
        filter.add("name = ?", text_value(name));
    }
    if let Some(parent) = &query.parent {
        filter.conditions.push("parent IS NOT NULL".to_owned());
        let is_its = format!("{PARENT_ID} = ?");
        filter.add(&is_its, text_value(parent.as_str()));
    }
    for (name, value) in &query.tags {
        // Tags that are damaged are none; they fail no list.
        filter.add(
            "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags END) WHERE key = ?",
            text_value(name),
        );
        filter.add_to_last(" AND value = ?)", text_value(value));
    }
    if let Some(after) = &query.after {
        let created = after.created.as_micros();
        filter.add("created <= ?", created.into());
        filter.add("(created < ?", created.into());
        filter.add_to_last(" OR id > ?)", text_value(after.id.as_str()));
    }
    let sql = format!(
        "SELECT {INSTANCE_COLUMNS} FROM instances{} ORDER BY created DESC, id LIMIT {}",
        filter.sql(),
        query.limit.saturating_add(1 + UNADDRESSABLE_MAX)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query(params_from_iter(filter.values))?;
    let (rows, has_more) = page(found, query.limit, |row| {
        Ok(listed_row(row)?.filter(|row| !is_at(row, query.after.as_ref())))
    })?;
    let next = rows.last().filter(|_| has_more).map(|row| InstanceCursor {
        created: row.created,
        id: row.id.clone(),
    });
    Ok(InstancePage { rows, next })
}

/// Rows of a page as far as they can be listed, and whether more follow.
fn page<T>(
    mut found: rusqlite::Rows<'_>,
    limit: usize,
    listed: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<(Vec<T>, bool)> {
    let (mut rows, mut left_out) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        match listed(row)? {
            Some(_) if rows.len() == limit => return Ok((rows, true)),
            Some(row) => rows.push(row),
            None => left_out += 1,
        }
    }
    // The query ended at its own limit: the next page begins behind the last row that can be listed.
    Ok((rows, left_out > UNADDRESSABLE_MAX))
}

/// Is it the row behind which the page begins? One whose id is damaged may be found there again.
fn is_at(row: &InstanceRow, after: Option<&InstanceCursor>) -> bool {
    after.is_some_and(|after| row.created == after.created && row.id == after.id)
}

/// A row as lists show it. One that is damaged is shown as far as it can be read, parked for its
/// damage; whoever asks for that instance gets the error. `None` when its id or its place in the list
/// cannot be read: nobody can ask for that one, and `verify` finds it.
fn listed_row(row: &Row<'_>) -> rusqlite::Result<Option<InstanceRow>> {
    let error = match instance_row(row) {
        Err(error) if is_row_damage(&error) => reason(&error),
        found => return found.map(Some),
    };
    let key = key(row, 0)?;
    let time = |column| row.get::<_, i64>(column).ok().map(Timestamp::from_micros);
    let (Ok(id), Some(created)) = (row.get::<_, String>(1), time(7)) else {
        tracing::error!(key = key.0, %error, "an instance is left out of a list: its id or time cannot be read");
        return Ok(None);
    };
    let damage = format!("{error}: repair the hub, or restore it from a backup");
    Ok(Some(InstanceRow {
        key,
        partition: PartitionId(row.get(3).unwrap_or_default()),
        id: InstanceId::trusted(id),
        execution_id: ExecutionId(0),
        name: lossy(row, 4)?.into(),
        version: None,
        status: status(row, 6).unwrap_or(Status::Running),
        created,
        updated: time(8).unwrap_or(created),
        completed: time(9),
        scheduled_start: None,
        parent: None,
        tags: Vec::new(),
        input: None,
        custom_status: None,
        output: None,
        failure: None,
        parked: Some(Fault::new(FaultKind::Damaged, damage)),
        events: row.get::<_, i64>(18).unwrap_or_default() as u64,
        apart: Apart::default(),
        extra: Vec::new(),
    }))
}

/// A text, though it is not one any more.
fn lossy(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    })
}

/// Is it what is stored that is wrong? Reading it again gives the same.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    is_malformed(error) || is_row_damage(error)
}

/// Is the file damaged, and not just a row? SQLite cannot read a page, or tables are not there: a query
/// that meets it has no further rows.
pub(crate) fn is_malformed(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    // `Unknown` is an error in a statement; ours are right for the tables that we created.
    let code = error.sqlite_error_code();
    code.is_some_and(|code| matches!(code, DatabaseCorrupt | NotADatabase | Unknown))
}

/// Is it one row that cannot be read?
fn is_row_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

/// The text of an error without what is only about our own code.
pub(crate) fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, reason) => reason.to_string(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

pub(crate) fn list_entities(connection: &Connection, query: &EntityQuery) -> rusqlite::Result<EntityPage> {
    let mut filter = Filter::default();
    filter.conditions.push("(state IS NOT NULL OR large)".to_owned());
    if let Some(name) = &query.name {
        filter.add("name = ?", text_value(name));
    }
    if let Some(from) = query.from {
        filter.add("last_operation >= ?", from.as_micros().into());
    }
    if let Some(to) = query.to {
        filter.add("last_operation <= ?", to.as_micros().into());
    }
    if let Some(after) = &query.after {
        filter.add("(name, key) > (?", text_value(after.name()));
        filter.add_to_last(", ?)", text_value(after.key()));
    }
    let sql = format!(
        "SELECT {ENTITY_COLUMNS} FROM entities{} ORDER BY name, key LIMIT {}",
        filter.sql(),
        query.limit.saturating_add(1 + UNADDRESSABLE_MAX)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query(params_from_iter(filter.values))?;
    let (rows, has_more) = page(found, query.limit, |row| {
        Ok(listed_entity(row)?.filter(|row| Some(&row.id) != query.after.as_ref()))
    })?;
    let next = rows.last().filter(|_| has_more).map(|row| row.id.clone());
    Ok(EntityPage { rows, next })
}

/// An entity as lists show it: without its state when it is damaged. Whoever asks for it gets the error.
fn listed_entity(row: &Row<'_>) -> rusqlite::Result<Option<EntityRow>> {
    let error = match entity_row(row) {
        Err(error) if is_row_damage(&error) => reason(&error),
        found => return found.map(Some),
    };
    let Ok(id) = entity_id(row, 0) else {
        tracing::error!(%error, "an entity is left out of a list: its id cannot be read");
        return Ok(None);
    };
    tracing::error!(entity = %id, %error, "an entity is listed without its state: it is damaged");
    let last_operation = time(row, 3).unwrap_or(Timestamp::from_micros(0));
    Ok(Some(EntityRow {
        last_operation,
        ..EntityRow::vacant(id, PartitionId(row.get(2).unwrap_or_default()))
    }))
}

pub(crate) fn load(connection: &Connection, partition: PartitionId) -> rusqlite::Result<Loaded> {
    let PartitionId(partition) = partition;
    let messages = connection
        .prepare_cached("SELECT sequence, record, crc FROM messages WHERE partition = ?1 ORDER BY sequence")?
        .query_map([partition], |row| message(row, partition))?
        .collect::<rusqlite::Result<_>>()?;
    let tasks = connection
        .prepare_cached("SELECT key, task, record, crc FROM tasks WHERE partition = ?1 ORDER BY key, task")?
        .query_map([partition], |row| task(row, partition))?
        .collect::<rusqlite::Result<_>>()?;
    let timers = connection
        .prepare_cached(
            "SELECT due, key, task, crc FROM timers WHERE partition = ?1 ORDER BY due, key, task",
        )?
        .query_map([partition], |row| timer(row, partition))?
        .collect::<rusqlite::Result<_>>()?;
    // One that is damaged is met, and says so, when somebody asks for it; the others go on.
    let parked = connection
        .prepare_cached("SELECT id FROM instances WHERE parked IS NOT NULL AND partition = ?1 ORDER BY id")?
        .query_map([partition], |row| Ok(row.get::<_, String>(0).ok()))?
        .filter_map(Result::transpose)
        .map(|id| id.map(InstanceId::trusted))
        .collect::<rusqlite::Result<_>>()?;
    let busy_entities = connection
        .prepare_cached(&format!(
            "SELECT {ENTITY_COLUMNS} FROM entities WHERE queue <> x'' AND partition = ?1 ORDER BY name, key"
        ))?
        .query_map([partition], entity_row)?
        .filter(|row| match row {
            Err(error) if is_row_damage(error) => {
                tracing::error!(%error, "an entity that waits is damaged; it is left as it is");
                false
            }
            _ => true,
        })
        .collect::<rusqlite::Result<_>>()?;
    Ok(Loaded {
        messages,
        tasks,
        timers,
        parked,
        busy_entities,
    })
}

/// A status that is damaged is counted nowhere.
pub(crate) fn counts(connection: &Connection) -> rusqlite::Result<Vec<(Status, u64)>> {
    let mut counts: Vec<(Status, u64)> = connection
        .prepare_cached("SELECT status, count(*) FROM instances GROUP BY status")?
        .query_map([], |row| Ok((status(row, 0), row.get::<_, i64>(1)? as u64)))?
        .filter_map(|row| match row {
            Ok((Ok(status), count)) => Some(Ok((status, count))),
            Ok((Err(error), _)) if is_row_damage(&error) => None,
            Ok((Err(error), _)) | Err(error) => Some(Err(error)),
        })
        .collect::<rusqlite::Result<_>>()?;
    counts.sort_unstable();
    Ok(counts)
}

pub(crate) fn limiters(connection: &Connection) -> rusqlite::Result<LimiterRecords> {
    connection
        .prepare_cached("SELECT name, key, record, crc FROM limiters ORDER BY name, key")?
        .query_map([], limiter)?
        .collect()
}

/// A bucket from columns name, key, record, crc.
fn limiter(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, Arc<str>, Vec<u8>)> {
    let read = || {
        let (name, key, record): (Arc<str>, Arc<str>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        check_sum(row, 3, checksum::of_named(&[&name, &key], &record))?;
        Ok((name, key, record))
    };
    read().map_err(|error| {
        in_row(error, || {
            format!("limiter {}, key {}", shown(row, 0), shown(row, 1))
        })
    })
}

pub(crate) fn meta(connection: &Connection) -> rusqlite::Result<NamedRecords> {
    connection
        .prepare_cached("SELECT name, record, crc FROM meta ORDER BY name")?
        .query_map([], meta_record)?
        .collect()
}

/// A record from columns name, record, crc.
fn meta_record(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, Vec<u8>)> {
    let read = || {
        let (name, record): (Arc<str>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        check_sum(row, 2, checksum::of_named(&[&name], &record))?;
        Ok((name, record))
    };
    read().map_err(|error| in_row(error, || format!("the record \"{}\"", shown(row, 0))))
}

/// Can this row be read? Of the columns that a list of instances reads.
pub(super) fn check_instance(row: &Row<'_>) -> rusqlite::Result<()> {
    instance_row(row).map(drop)
}

/// The same, of the columns that a list of entities reads.
pub(super) fn check_entity(row: &Row<'_>) -> rusqlite::Result<()> {
    entity_row(row).map(drop)
}

/// Of columns sequence, record, crc, partition.
pub(super) fn check_message(row: &Row<'_>) -> rusqlite::Result<()> {
    message(row, row.get(3)?).map(drop)
}

/// Of columns key, task, record, crc, partition.
pub(super) fn check_task(row: &Row<'_>) -> rusqlite::Result<()> {
    task(row, row.get(4)?).map(drop)
}

/// Of columns due, key, task, crc, partition.
pub(super) fn check_timer(row: &Row<'_>) -> rusqlite::Result<()> {
    timer(row, row.get(4)?).map(drop)
}

/// Of columns name, key, record, crc.
pub(super) fn check_limiter(row: &Row<'_>) -> rusqlite::Result<()> {
    limiter(row).map(drop)
}

/// Of columns name, record, crc.
pub(super) fn check_meta(row: &Row<'_>) -> rusqlite::Result<()> {
    meta_record(row).map(drop)
}

/// What SQLite finds wrong with the file: its pages, not what is in the rows.
pub(crate) fn malformed_pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let found: Vec<String> = connection
        .prepare(&format!("PRAGMA quick_check({MALFORMED_MAX})"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

/// Calls `check` with every instance row and the checksum of its history, or with its key and why it
/// cannot be read.
pub(crate) fn every_instance(
    connection: &Connection,
    mut check: impl FnMut(u64, rusqlite::Result<(InstanceRow, Option<u32>)>),
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare(&format!("SELECT {INSTANCE_COLUMNS} FROM instances ORDER BY key"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sum = row.get(23);
        let key = row.get::<_, i64>(0)? as u64;
        check(key, instance_row(row).and_then(|found| Ok((found, sum?))));
    }
    Ok(())
}

/// Calls `check` with every value that is stored apart, or with why it cannot be read.
pub(crate) fn every_payload(
    connection: &Connection,
    mut check: impl FnMut(rusqlite::Result<(Owner, u64)>),
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT value, crc, bytes, sha256, n, key FROM payloads ORDER BY key, n")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let owner = Owner::Execution(key(row, 5)?);
        let n = row.get::<_, i64>(4)? as u64;
        check(payload_row(row, &owner, n).map(|_| (owner, n)));
    }
    let mut statement = connection.prepare(
        "SELECT value, crc, bytes, sha256, n, name, key FROM entity_payloads ORDER BY name, key, n",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let owner = Owner::Entity(entity_id(row, 5)?);
        let n = row.get::<_, i64>(4)? as u64;
        check(payload_row(row, &owner, n).map(|_| (owner, n)));
    }
    Ok(())
}

/// Calls `check` with every entity row, or with why it cannot be read.
pub(crate) fn every_entity(
    connection: &Connection,
    mut check: impl FnMut(rusqlite::Result<EntityRow>),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!(
        "SELECT {ENTITY_COLUMNS} FROM entities ORDER BY name, key"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        check(entity_row(row));
    }
    Ok(())
}

/// Calls `check` with what is wrong in the queues.
pub(crate) fn every_queued(
    connection: &Connection,
    mut check: impl FnMut(rusqlite::Error),
) -> rusqlite::Result<()> {
    type Check = fn(&Row<'_>) -> rusqlite::Result<()>;
    let tables: [(&str, Check); 3] = [
        (
            "SELECT sequence, record, crc, partition FROM messages",
            check_message,
        ),
        ("SELECT key, task, record, crc, partition FROM tasks", check_task),
        ("SELECT due, key, task, crc, partition FROM timers", check_timer),
    ];
    for (sql, read) in tables {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(error) = read(row) {
                check(error);
            }
        }
    }
    Ok(())
}

pub(crate) fn payload(connection: &Connection, owner: &Owner, n: u64) -> rusqlite::Result<Option<Payload>> {
    one_payload(connection, owner, n, payload_row)
}

/// Length and hash of a value. One of an earlier format is read for them.
pub(crate) fn payload_digest(
    connection: &Connection,
    owner: &Owner,
    n: u64,
) -> rusqlite::Result<Option<PayloadDigest>> {
    one_payload(connection, owner, n, |row, owner, n| match digest(row)? {
        Some(digest) => Ok(digest),
        None => Ok(value::digest_of(payload_row(row, owner, n)?.as_str())),
    })
}

fn one_payload<T>(
    connection: &Connection,
    owner: &Owner,
    n: u64,
    read: impl FnOnce(&Row<'_>, &Owner, u64) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let number = n as i64;
    let read = |row: &Row<'_>| read(row, owner, n);
    match owner {
        Owner::Execution(key) => connection
            .prepare_cached("SELECT value, crc, bytes, sha256 FROM payloads WHERE key = ?1 AND n = ?2")?
            .query_row([key.0 as i64, number], read)
            .optional(),
        Owner::Entity(id) => connection
            .prepare_cached(
                "SELECT value, crc, bytes, sha256 FROM entity_payloads WHERE name = ?1 AND key = ?2 AND n = ?3",
            )?
            .query_row(params![id.name(), id.key(), number], read)
            .optional(),
    }
}

/// A value from columns value, crc, bytes, sha256.
fn payload_row(row: &Row<'_>, owner: &Owner, n: u64) -> rusqlite::Result<Payload> {
    let stored = Stored::of_column(row.get_ref(0)?)?;
    let digest = digest(row)?;
    let what = || match owner {
        Owner::Execution(key) => format!("value {n} of execution {}", key.0),
        Owner::Entity(id) => format!("value {n} of entity {id}"),
    };
    let sum = checksum::of_payload(owner, n, stored.as_bytes(), digest.as_ref());
    check(row, 1, sum, what)?;
    stored
        .unpack(digest.as_ref())
        .map_err(|reason| damaged(0, format!("{} {reason}", what())))
}

/// From columns bytes and sha256, the third and fourth.
fn digest(row: &Row<'_>) -> rusqlite::Result<Option<PayloadDigest>> {
    let bytes: Option<i64> = row.get(2)?;
    let sha256: Option<[u8; 32]> = row.get(3)?;
    Ok(bytes.zip(sha256).map(|(bytes, sha256)| PayloadDigest {
        bytes: bytes as u64,
        sha256,
    }))
}

/// A message from columns sequence, record, crc.
fn message(row: &Row<'_>, partition: u32) -> rusqlite::Result<(u64, Vec<u8>)> {
    let read = || {
        let sequence = row.get::<_, i64>(0)? as u64;
        let record: Vec<u8> = row.get(1)?;
        check_sum(row, 2, checksum::of_message(partition, sequence, &record))?;
        Ok((sequence, record))
    };
    read().map_err(|error| in_row(error, || format!("message {}", shown(row, 0))))
}

/// A task from columns key, task, record, crc.
fn task(row: &Row<'_>, partition: u32) -> rusqlite::Result<(ExecutionKey, TaskId, Vec<u8>)> {
    let read = || {
        let (key, task) = (key(row, 0)?, TaskId(row.get(1)?));
        let record: Vec<u8> = row.get(2)?;
        check_sum(row, 3, checksum::of_task(partition, key, task, &record))?;
        Ok((key, task, record))
    };
    read().map_err(|error| {
        in_row(error, || {
            format!("task {} of execution {}", shown(row, 1), shown(row, 0))
        })
    })
}

/// A timer from columns due, key, task, crc.
fn timer(row: &Row<'_>, partition: u32) -> rusqlite::Result<TimerRow> {
    let read = || {
        let (due, key, task) = (time(row, 0)?, key(row, 1)?, TaskId(row.get(2)?));
        check_sum(row, 3, checksum::of_timer(partition, due, key, task))?;
        Ok(TimerRow { due, key, task })
    };
    read().map_err(|error| {
        in_row(error, || {
            format!("timer {} of execution {}", shown(row, 2), shown(row, 1))
        })
    })
}

fn instance_row(row: &Row<'_>) -> rusqlite::Result<InstanceRow> {
    let value = |column| -> rusqlite::Result<Option<Payload>> {
        Ok(row.get::<_, Option<Arc<str>>>(column)?.map(Payload::from_json))
    };
    let execution_id: String = row.get(2)?;
    let found = InstanceRow {
        key: key(row, 0)?,
        partition: PartitionId(row.get(3)?),
        id: InstanceId::trusted(row.get::<_, String>(1)?),
        execution_id: u128::from_str_radix(&execution_id, 16)
            .map(ExecutionId)
            .map_err(|error| damaged(2, error.to_string()))?,
        name: row.get(4)?,
        version: row.get(5)?,
        status: status(row, 6)?,
        created: time(row, 7)?,
        updated: time(row, 8)?,
        completed: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        scheduled_start: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_micros),
        parent: parsed(row, 11, text::read_parent)?,
        tags: parsed(row, 12, text::read_tags)?.unwrap_or_default(),
        input: value(13)?,
        custom_status: value(14)?,
        output: value(15)?,
        failure: parsed(row, 16, text::read_failure)?,
        parked: parsed(row, 17, text::read_fault)?,
        events: row.get::<_, i64>(18)? as u64,
        apart: Apart::from_bits(row.get(19)?)
            .ok_or_else(|| damaged(19, "it has unknown values".to_owned()))?,
        extra: row.get(20)?,
    };
    let name = || format!("the row of instance {}", found.id);
    let touch = checksum::of_touch(found.key, found.updated, found.events, row.get(23)?);
    check(row, 21, touch, name)?;
    check(row, 22, checksum::of_instance(&found), name)?;
    Ok(found)
}

fn entity_row(row: &Row<'_>) -> rusqlite::Result<EntityRow> {
    let found = EntityRow {
        id: entity_id(row, 0)?,
        partition: PartitionId(row.get(2)?),
        last_operation: time(row, 3)?,
        state: row.get::<_, Option<Arc<str>>>(4)?.map(Payload::from_json),
        is_state_apart: row.get(5)?,
        queue: row.get(6)?,
    };
    check(row, 7, checksum::of_entity(&found), || {
        format!("the row of entity {}", found.id)
    })?;
    Ok(found)
}

/// From two columns, the first of which is this.
fn entity_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EntityId> {
    let (name, key): (String, String) = (row.get(column)?, row.get(column + 1)?);
    EntityId::new(&name, &key).map_err(|error| damaged(column, error.reason))
}

/// Is a row as it was written?
fn check(row: &Row<'_>, column: usize, sum: u32, what: impl Fn() -> String) -> rusqlite::Result<()> {
    if row.get::<_, u32>(column)? == sum {
        return Ok(());
    }
    Err(damaged(column, format!("{} is damaged", what())))
}

/// The same for a row whose name is said by [`in_row`].
fn check_sum(row: &Row<'_>, column: usize, sum: u32) -> rusqlite::Result<()> {
    match row.get::<_, u32>(column)? == sum {
        true => Ok(()),
        false => Err(damaged(column, "its checksum does not match".to_owned())),
    }
}

/// Names the row that cannot be read.
fn in_row(error: rusqlite::Error, name: impl Fn() -> String) -> rusqlite::Error {
    match is_row_damage(&error) {
        true => damaged(0, format!("{} is damaged: {}", name(), reason(&error))),
        false => error,
    }
}

/// A key column as far as it can be read, to name its row by.
fn shown(row: &Row<'_>, column: usize) -> String {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Real(number)) => number.to_string(),
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            String::from_utf8_lossy(bytes).escape_debug().to_string()
        }
        Ok(ValueRef::Null) | Err(_) => "?".to_owned(),
    }
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<ExecutionKey> {
    Ok(ExecutionKey(row.get::<_, i64>(column)? as u64))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<Status> {
    let word: String = row.get(column)?;
    Status::ALL
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or_else(|| damaged(column, format!("status {word:?} is unknown")))
}

fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else {
        return Ok(None);
    };
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(damaged(column, "not the JSON that belongs there".to_owned())),
    }
}

fn damaged(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}

fn text_value(text: &str) -> Value {
    Value::from(text.to_owned())
}

/// Conditions and the values of their parameters, in order.
#[derive(Default)]
struct Filter {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Filter {
    fn add(&mut self, condition: &str, value: Value) {
        self.conditions.push(condition.to_owned());
        self.values.push(value);
    }

    fn add_to_last(&mut self, condition: &str, value: Value) {
        if let Some(last) = self.conditions.last_mut() {
            last.push_str(condition);
        }
        self.values.push(value);
    }

    fn add_list(&mut self, condition: &str, values: Vec<Value>) {
        let places = vec!["?"; values.len()].join(", ");
        self.conditions.push(format!("{condition} ({places})"));
        self.values.extend(values);
    }

    fn sql(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        }
    }
}
