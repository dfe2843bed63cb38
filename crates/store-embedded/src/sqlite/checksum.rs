//! A checksum over each row: its key and all that is in it, so that a row in the wrong place is
//! noticed too.
//!
//! SQLite notices damaged pages by their structure only; a flipped bit inside a value is ours to find.

use dalsegno_core::store::{EntityRow, InstanceRow, Owner, PayloadDigest};
use dalsegno_core::{ExecutionKey, TaskId, Timestamp};

use super::schema::Position;
use crate::log::codec;

/// All of a row but what a touch changes.
pub(crate) fn of_instance(row: &InstanceRow) -> u32 {
    let mut bytes = Vec::with_capacity(256);
    codec::encode_row_at(row, Timestamp::from_micros(0), 0, &mut bytes);
    crc32c::crc32c(&bytes)
}

/// What a touch changes. Rows of earlier versions have no checksum of their history.
pub(crate) fn of_touch(key: ExecutionKey, updated: Timestamp, events: u64, history: Option<u32>) -> u32 {
    let sum = of_numbers(&[key.0, updated.as_micros() as u64, events]);
    history.map_or(sum, |history| crc32c::crc32c_append(sum, &history.to_le_bytes()))
}

/// The checksum of a history that goes on with these events. That of an empty one is 0.
pub(crate) fn of_longer_history(history: u32, events: &[u8]) -> u32 {
    crc32c::crc32c_append(history, events)
}

pub(crate) fn of_entity(row: &EntityRow) -> u32 {
    let mut bytes = Vec::with_capacity(256);
    codec::encode_entity(row, &mut bytes);
    crc32c::crc32c(&bytes)
}

pub(crate) fn of_history(position: u64, events: &[u8]) -> u32 {
    crc32c::crc32c_append(of_numbers(&[position]), events)
}

pub(crate) fn of_message(partition: u32, sequence: u64, record: &[u8]) -> u32 {
    crc32c::crc32c_append(of_numbers(&[u64::from(partition), sequence]), record)
}

pub(crate) fn of_task(partition: u32, key: ExecutionKey, task: TaskId, record: &[u8]) -> u32 {
    let place = of_numbers(&[u64::from(partition), key.0, u64::from(task.0)]);
    crc32c::crc32c_append(place, record)
}

pub(crate) fn of_timer(partition: u32, due: Timestamp, key: ExecutionKey, task: TaskId) -> u32 {
    of_numbers(&[
        u64::from(partition),
        due.as_micros() as u64,
        key.0,
        u64::from(task.0),
    ])
}

pub(crate) fn of_payload(owner: &Owner, n: u64, stored: &[u8], digest: Option<&PayloadDigest>) -> u32 {
    let owner = match owner {
        Owner::Execution(key) => of_numbers(&[key.0]),
        Owner::Entity(id) => of_named(&[id.name(), id.key()], b""),
    };
    let place = crc32c::crc32c_append(owner, &n.to_le_bytes());
    let value = crc32c::crc32c_append(place, stored);
    digest.map_or(value, |digest| {
        let length = crc32c::crc32c_append(value, &digest.bytes.to_le_bytes());
        crc32c::crc32c_append(length, &digest.sha256)
    })
}

/// A record that is found by names; where one ends and the next begins counts too.
pub(crate) fn of_named(names: &[&str], record: &[u8]) -> u32 {
    let place = names.iter().fold(0, |sum, name| {
        let sum = crc32c::crc32c_append(sum, &(name.len() as u64).to_le_bytes());
        crc32c::crc32c_append(sum, name.as_bytes())
    });
    crc32c::crc32c_append(place, record)
}

pub(crate) fn of_position(position: &Position) -> u32 {
    let Position {
        applied,
        durable,
        segment,
        epoch,
        key_max,
        message_max,
    } = *position;
    of_numbers(&[applied, durable, segment, epoch, key_max, message_max])
}

fn of_numbers(numbers: &[u64]) -> u32 {
    numbers
        .iter()
        .fold(0, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()))
}
