//! Reads that partitions ask for, off their threads.

use std::sync::Arc;

use dalsegno_core::query::{
    EntityPage, EntityQuery, InstanceCursor, InstancePage, InstanceQuery, LargeValues,
};
use dalsegno_core::store::{self, EntityRow, Field, HistoryChunk, InstanceRow, Owner, ReadError, Store};
use dalsegno_core::{Event, Fault, FaultKind, InstanceId, PartitionId, Payload};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::input::{Input, Load, Loaded, StoredInstance, Unread};
use crate::mailbox::Mailboxes;
use crate::record;
use crate::request::Outline;

/// Reads that are taken together by one blocking task.
const READS_MAX: usize = 256;

/// How often a row is read again whose values have changed since it was read.
const TRIES_MAX: usize = 10;

/// Serves reads until all who may ask are gone.
pub async fn serve(
    mut loads: UnboundedReceiver<(usize, Load)>,
    store: Arc<dyn Store>,
    mailboxes: Arc<Mailboxes>,
) {
    let mut batch = Vec::new();
    while loads.recv_many(&mut batch, READS_MAX).await > 0 {
        let (store, mailboxes) = (store.clone(), mailboxes.clone());
        let reads = std::mem::take(&mut batch);
        tokio::task::spawn_blocking(move || {
            for (index, load) in reads {
                let partition = PartitionId(u32::try_from(index).expect("partitions are counted in u32"));
                mailboxes.send(partition, Input::Loaded(Box::new(read(&*store, load))));
            }
        });
    }
}

/// Answers one question of a partition.
pub fn read(store: &dyn Store, load: Load) -> Loaded {
    match load {
        Load::Instance(id) => Loaded::Instance {
            found: read_instance(store, &id, History::IfOpen),
            id,
        },
        Load::History(id) => Loaded::Instance {
            found: read_instance(store, &id, History::Always),
            id,
        },
        Load::Execution(key) => {
            let found = store.instance_by_key(key).map(|row| row.map(|row| row.id));
            Loaded::Execution {
                key,
                found: found.map_err(Unread::from),
            }
        }
        Load::Entity(id) => {
            let found = read_entity(store, &id).map_err(Unread::from);
            Loaded::Entity { id, found }
        }
    }
}

#[derive(PartialEq)]
enum History {
    IfOpen,
    Always,
}

fn read_instance(
    store: &dyn Store,
    id: &InstanceId,
    wanted: History,
) -> Result<Option<StoredInstance>, Unread> {
    let row = store.instance(id)?;
    let Some(mut row) = row else { return Ok(None) };
    if row.status.is_final() && wanted == History::IfOpen {
        // Nobody runs it any more, and who wants its values asks for them.
        let history = Ok(Vec::new());
        return Ok(Some(StoredInstance { row, history }));
    }
    if !complete(store, &mut row, LargeValues::Read)? {
        return Ok(None);
    }
    let history = match read_history(store, &row) {
        Err(error) if error.is_damage() => Err(error.to_string()),
        history => Ok(history?),
    };
    Ok(Some(StoredInstance { row, history }))
}

/// What a partition needs to go on after a restart, with all values.
///
/// # Errors
/// When the store cannot be read.
pub fn load(store: &dyn Store, partition: PartitionId) -> Result<store::Loaded, ReadError> {
    let mut loaded = store.load(partition)?;
    for row in &mut loaded.busy_entities {
        complete_entity(store, row, LargeValues::Read)?;
    }
    Ok(loaded)
}

/// One entity with its state.
///
/// # Errors
/// When the store cannot be read.
pub fn read_entity(store: &dyn Store, id: &dalsegno_core::EntityId) -> Result<Option<EntityRow>, ReadError> {
    let Some(mut row) = store.entity(id)? else {
        return Ok(None);
    };
    let is_there = complete_entity(store, &mut row, LargeValues::Read)?;
    Ok(is_there.then_some(row))
}

/// Reads the values of a row that are stored apart, as far as they are wanted. False when the
/// execution is gone meanwhile.
///
/// # Errors
/// When the store cannot be read, or a value is missing.
pub fn complete(store: &dyn Store, row: &mut InstanceRow, large: LargeValues) -> Result<bool, ReadError> {
    let is_wanted = |field: &Field| match large {
        LargeValues::Read => true,
        LargeValues::LeaveOutInputs => *field != Field::Input,
        LargeValues::LeaveOut => false,
    };
    for _ in 0..TRIES_MAX {
        let mut is_complete = true;
        for field in row.missing().filter(is_wanted) {
            let value = store.payload(&Owner::Execution(row.key), field.number())?;
            is_complete &= value.is_some();
            row.fill(field, value);
        }
        if is_complete {
            return Ok(true);
        }
        match store.instance_by_key(row.key)? {
            Some(newer) => *row = newer,
            None => return Ok(false),
        }
    }
    Err(missing_value(&format!("instance {}", row.id)))
}

/// The same for an entity.
///
/// # Errors
/// When the store cannot be read, or the state is missing.
pub fn complete_entity(
    store: &dyn Store,
    row: &mut EntityRow,
    large: LargeValues,
) -> Result<bool, ReadError> {
    for _ in 0..TRIES_MAX {
        if !row.is_state_apart || row.state.is_some() || large == LargeValues::LeaveOut {
            return Ok(true);
        }
        row.state = store.payload(&Owner::Entity(row.id.clone()), Field::State.number())?;
        if row.state.is_none() {
            match store.entity(&row.id)? {
                Some(newer) => *row = newer,
                None => return Ok(false),
            }
        }
    }
    Err(missing_value(&format!("entity {}", row.id)))
}

fn missing_value(whose: &str) -> ReadError {
    ReadError::damaged(format_args!(
        "a value of {whose} is missing: restore the hub from a backup"
    ))
}

/// The decoded history of a row's execution, as far as the row knows it, with all values.
///
/// # Errors
/// When the store cannot be read, or the records are damaged or not dense.
pub fn read_history(store: &dyn Store, row: &InstanceRow) -> Result<Vec<Event>, ReadError> {
    read_history_with(store, row, LargeValues::Read)
}

/// The same, with the values that are wanted.
///
/// # Errors
/// When the store cannot be read, or the records are damaged or not dense.
pub fn read_history_with(
    store: &dyn Store,
    row: &InstanceRow,
    large: LargeValues,
) -> Result<Vec<Event>, ReadError> {
    let chunks = store.history(row.key)?;
    let events = decode_history(store, row, chunks, large, usize::MAX)?;
    check_end(store, row, events.len() as u64)?;
    Ok(events)
}

/// Is the history as long as its row says, or longer by what came after the row was read? One that
/// is shorter is damaged, unless the execution went while it was read.
fn check_end(store: &dyn Store, row: &InstanceRow, end: u64) -> Result<(), ReadError> {
    if end >= row.events || store.instance_by_key(row.key)?.is_none() {
        return Ok(());
    }
    Err(ReadError::damaged(format_args!(
        "the history of {} ends at event {end}, its row says {}: restore the hub from a backup",
        row.id, row.events
    )))
}

/// A part of it from event `first` on, until there are so many bytes as stored, or of values; empty
/// when the execution is gone.
///
/// # Errors
/// When the store cannot be read, or the records are damaged or not dense.
pub fn read_history_page(
    store: &dyn Store,
    row: &InstanceRow,
    first: u64,
    large: LargeValues,
    bytes_max: usize,
) -> Result<Vec<Event>, ReadError> {
    let chunks = store.history_page(row.key, first, bytes_max)?;
    let begin = chunks.first().map_or(first, |chunk| chunk.first);
    if chunks.iter().map(|chunk| chunk.data.len()).sum::<usize>() < bytes_max {
        // Nothing follows.
        let end = chunks
            .last()
            .map_or(0, |chunk| chunk.first + u64::from(chunk.count));
        check_end(store, row, end)?;
    }
    let mut events = decode_history(store, row, chunks, large, bytes_max)?;
    let surplus = usize::try_from(first - begin.min(first)).unwrap_or(usize::MAX);
    events.drain(..surplus.min(events.len()));
    Ok(events)
}

/// The events of chunks that follow each other, until their values apart have so many bytes.
fn decode_history(
    store: &dyn Store,
    row: &InstanceRow,
    chunks: Vec<HistoryChunk>,
    large: LargeValues,
    bytes_max: usize,
) -> Result<Vec<Event>, ReadError> {
    let begin = chunks.first().map_or(0, |chunk| chunk.first);
    let (mut events, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        if bytes >= bytes_max {
            break;
        }
        let first = events.len();
        let chunk = read_chunk(row, &chunk, begin + first as u64)?;
        events.extend(chunk.events);
        if large == LargeValues::LeaveOut {
            continue;
        }
        for (place, n) in chunk.apart {
            let value = event_value(store, row, n)?;
            if value.is_none() && store.history(row.key)?.is_empty() {
                // The execution went while it was read.
                return Ok(Vec::new());
            }
            bytes += value.as_ref().map_or(0, Payload::len_bytes);
            match (events[first + place].kind.value_mut(), value) {
                (Some(place), Some(value)) => *place = Some(value),
                _ => return Err(missing_value(&format!("the history of {}", row.id))),
            }
        }
    }
    Ok(events)
}

/// The history of a row's execution without its large values.
///
/// # Errors
/// When the store cannot be read, or the records are damaged or not dense.
pub fn read_outline(store: &dyn Store, row: &InstanceRow) -> Result<Outline, ReadError> {
    let (mut events, mut left_out) = (Vec::new(), Vec::new());
    for chunk in store.history(row.key)? {
        let first = events.len();
        let chunk = read_chunk(row, &chunk, first as u64)?;
        events.extend(chunk.events);
        for (place, n) in chunk.apart {
            // There is none when the execution went while it was read.
            let digest = store.payload_digest(&Owner::Execution(row.key), n)?;
            left_out.extend(digest.map(|digest| (first + place, digest)));
        }
    }
    check_end(store, row, events.len() as u64)?;
    Ok(Outline { events, left_out })
}

/// The events of a chunk that has to begin with that number, and where which value of them is apart.
fn read_chunk(
    row: &InstanceRow,
    chunk: &HistoryChunk,
    number: u64,
) -> Result<record::StoredEvents, ReadError> {
    let stored = record::decode_events(&chunk.data).map_err(ReadError::damaged)?;
    if chunk.first != number || stored.events.len() != chunk.count as usize {
        let text = format!("the history of {} has a gap at event {number}", row.id);
        return Err(ReadError::damaged(text));
    }
    Ok(stored)
}

/// A value of an event; one that the row has too is not read twice.
fn event_value(store: &dyn Store, row: &InstanceRow, n: u64) -> Result<Option<Payload>, ReadError> {
    let in_row = Field::OF_INSTANCE
        .into_iter()
        .filter(|field| field.number() == n && row.apart.has(*field))
        .find_map(|field| row.value(field).cloned());
    match in_row {
        Some(value) => Ok(Some(value)),
        None => store.payload(&Owner::Execution(row.key), n),
    }
}

/// A page of instances with the values that are wanted. It ends early, with a place to go on from,
/// once its values have so many bytes.
///
/// # Errors
/// When the store cannot be read, or a value is missing.
pub fn list(store: &dyn Store, query: &InstanceQuery, bytes_max: usize) -> Result<InstancePage, ReadError> {
    completed(store, store.list(query)?, query.large, bytes_max)
}

/// The same for a page that was read already.
pub(crate) fn completed(
    store: &dyn Store,
    page: InstancePage,
    large: LargeValues,
    bytes_max: usize,
) -> Result<InstancePage, ReadError> {
    let InstancePage { rows, mut next } = page;
    let (mut kept, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for mut row in rows {
        if bytes >= bytes_max {
            next = kept.last().map(|row: &InstanceRow| InstanceCursor {
                created: row.created,
                id: row.id.clone(),
            });
            break;
        }
        let is_there = match complete(store, &mut row, large) {
            // One instance whose value is damaged fails no list.
            Err(error) if error.is_damage() => {
                let fault = Fault::new(FaultKind::Damaged, error.to_string());
                row.parked.get_or_insert(fault);
                true
            }
            is_there => is_there?,
        };
        if is_there {
            let values = [&row.input, &row.output, &row.custom_status];
            bytes += values
                .into_iter()
                .flatten()
                .map(Payload::len_bytes)
                .sum::<usize>();
            kept.push(row);
        }
    }
    Ok(InstancePage { rows: kept, next })
}

/// The same for entities.
///
/// # Errors
/// When the store cannot be read, or a state is missing.
pub fn list_entities(
    store: &dyn Store,
    query: &EntityQuery,
    bytes_max: usize,
) -> Result<EntityPage, ReadError> {
    let EntityPage { rows, mut next } = store.list_entities(query)?;
    let (mut kept, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for mut row in rows {
        if bytes >= bytes_max {
            next = kept.last().map(|row: &EntityRow| row.id.clone());
            break;
        }
        let is_there = match complete_entity(store, &mut row, query.large) {
            Err(error) if error.is_damage() => {
                tracing::error!(entity = %row.id, %error, "an entity is listed without its state");
                true
            }
            is_there => is_there?,
        };
        if is_there {
            bytes += row.state.as_ref().map_or(0, Payload::len_bytes);
            kept.push(row);
        }
    }
    Ok(EntityPage { rows: kept, next })
}
