//! Rows that are not as they were written: noticed when they are read, and by `verify`.

use std::path::Path;

use dalsegno_core::query::{EntityQuery, InstanceQuery};
use dalsegno_core::store::{Commit, EntityRow, Field, Op, Owner, Store};
use dalsegno_core::{EntityId, ExecutionKey, PartitionId, Payload, TaskId, Timestamp};
use dalsegno_store_embedded::{EmbeddedStore, verify};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::opening::row;
use crate::options;

const KEY: ExecutionKey = ExecutionKey(1);

fn entity() -> EntityRow {
    EntityRow {
        id: EntityId::new("counter", "a").unwrap(),
        partition: PartitionId(0),
        last_operation: Timestamp::from_micros(7),
        state: None,
        is_state_apart: true,
        queue: vec![1, 2],
    }
}

/// A hub, closed, with a row in every table.
fn hub() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let mut row = row(1);
    row.apart.set(Field::Input, true);
    row.custom_status = Some("\"half\"".into());
    let value = Payload::from(format!("\"{}\"", "x".repeat(100_000)));
    let ops = vec![
        Op::PutInstance(Box::new(row)),
        Op::AppendHistory {
            key: KEY,
            first: 0,
            count: 2,
            data: vec![7; 100],
        },
        Op::PutPayload {
            owner: Owner::Execution(KEY),
            n: 0,
            value: value.clone(),
        },
        Op::PutMessage {
            partition: PartitionId(0),
            seq: 1,
            data: vec![1; 10],
        },
        Op::PutTask {
            key: KEY,
            task: TaskId(1),
            data: vec![2; 10],
        },
        Op::PutTimer {
            due: Timestamp::from_micros(9),
            key: KEY,
            task: TaskId(2),
        },
        Op::PutEntity(Box::new(entity())),
        Op::PutPayload {
            owner: Owner::Entity(entity().id),
            n: 0,
            value,
        },
        Op::PutLimiter {
            name: "github".into(),
            key: "k".into(),
            data: vec![3; 10],
        },
        Op::PutMeta {
            name: "schedule".into(),
            data: vec![4; 10],
        },
    ];
    let commit = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().unwrap().epoch,
        ops,
    };
    store.append(&mut vec![commit]).unwrap();
    drop(store);
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound() && report.payloads == 2, "{report}");
    folder
}

fn change(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("hub.db")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

/// Everything that reads the tables: the first refusal.
fn read_all(folder: &Path) -> String {
    let store = match EmbeddedStore::open(folder, options()) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.is_damaged(), "{error}");
            return error.to_string();
        }
    };
    let read = || {
        store.load_hub()?;
        store.load(PartitionId(0))?;
        store.instance(&row(1).id)?;
        store.history(KEY)?;
        store.payload(&Owner::Execution(KEY), 0)?;
        store.payload(&Owner::Entity(entity().id), 0)?;
        store.entity(&entity().id)
    };
    read().map_or_else(|error| error.to_string(), |_| "nothing was noticed".to_owned())
}

#[test]
fn a_changed_value_in_any_table_is_noticed() {
    let changes = [
        ("instances", "custom_status", "'\"hale\"'", "instance order-1"),
        ("instances", "extra", "x'01'", "instance order-1"),
        ("instances", "status", "'Completed'", "instance order-1"),
        ("instances", "updated", "updated + 1", "instance order-1"),
        ("instances", "events", "events + 1", "instance order-1"),
        ("instances", "large", "0", "instance order-1"),
        ("history", "events", "x'07'", "history of execution 1"),
        ("messages", "record", "x'00'", "message 1"),
        ("messages", "sequence", "2", "message 2"),
        ("tasks", "record", "x'00'", "task 1 of execution 1"),
        ("timers", "due", "due + 1", "timer 2 of execution 1"),
        ("entities", "queue", "x'010203'", "entity @counter@a"),
        ("entities", "last_operation", "8", "entity @counter@a"),
        ("payloads", "value", "value||' '", "value 0 of execution 1"),
        ("payloads", "bytes", "bytes - 1", "value 0 of execution 1"),
        ("payloads", "sha256", "zeroblob(32)", "value 0 of execution 1"),
        (
            "entity_payloads",
            "value",
            "value||' '",
            "value 0 of entity @counter@a",
        ),
        ("limiters", "record", "x'00'", "limiter github"),
        ("meta", "record", "x'00'", "the record \"schedule\""),
    ];
    for (table, column, value, named) in changes {
        let folder = hub();
        change(folder.path(), &format!("UPDATE {table} SET {column} = {value}"));
        let report = verify::verify(folder.path()).unwrap();
        assert!(
            report.problems.iter().any(|problem| problem.contains(named)),
            "{table}.{column}: {report}"
        );
        let refusal = read_all(folder.path());
        assert!(refusal.contains(named), "{table}.{column}: {refusal}");
    }
}

#[test]
fn a_changed_position_is_refused() {
    for name in ["applied_lsn", "epoch", "key_max"] {
        let folder = hub();
        change(
            folder.path(),
            &format!("UPDATE hub SET value = value + 1 WHERE name = '{name}'"),
        );
        let refusal = read_all(folder.path());
        assert!(refusal.contains("position is damaged"), "{name}: {refusal}");
        assert!(verify::verify(folder.path()).unwrap_err().is_damaged());
    }
}

#[test]
fn tables_of_an_older_format_are_refused() {
    let folder = hub();
    change(folder.path(), "UPDATE hub SET value = 1 WHERE name = 'format'");
    let error = EmbeddedStore::open(folder.path(), options())
        .map(drop)
        .unwrap_err();
    assert!(error.is_older(), "{error}");
    assert_eq!(
        error.to_string(),
        "hub.db has format 1, this version reads 3 only: use the version that made it, or a new folder"
    );
}

#[test]
fn tables_of_version_2_are_opened_and_go_on_with_lengths_and_hashes() {
    let folder = hub();
    let connection = Connection::open(folder.path().join("hub.db")).unwrap();
    let text = format!("\"{}\"", "x".repeat(100_000));
    let sum = |place: u32| {
        crc32c::crc32c_append(
            crc32c::crc32c_append(place, &0_u64.to_le_bytes()),
            text.as_bytes(),
        )
    };
    let named = ["counter", "a"].iter().fold(0, |sum, name| {
        let sum = crc32c::crc32c_append(sum, &(name.len() as u64).to_le_bytes());
        crc32c::crc32c_append(sum, name.as_bytes())
    });
    let sums = [
        ("payloads", sum(crc32c::crc32c(&KEY.0.to_le_bytes()))),
        ("entity_payloads", sum(crc32c::crc32c_append(named, b""))),
    ];
    for (table, sum) in sums {
        let sql = format!("ALTER TABLE {table} DROP COLUMN bytes; ALTER TABLE {table} DROP COLUMN sha256;");
        connection.execute_batch(&sql).unwrap();
        let sql = format!("UPDATE {table} SET value = ?1, crc = ?2");
        assert_eq!(connection.execute(&sql, (&text, sum)).unwrap(), 1);
    }
    let set = "UPDATE hub SET value = 2 WHERE name = 'format'";
    assert_eq!(connection.execute(set, []).unwrap(), 1);
    drop(connection);

    let error = verify::verify(folder.path()).unwrap_err();
    assert!(error.is_older(), "{error}");
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    for owner in [Owner::Execution(KEY), Owner::Entity(entity().id)] {
        assert_eq!(store.payload(&owner, 0).unwrap(), Some(text.as_str().into()));
        let digest = store.payload_digest(&owner, 0).unwrap().unwrap();
        assert_eq!(digest.bytes, text.len() as u64);
    }
    drop(store);
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound() && report.payloads == 2, "{report}");
}

#[test]
fn a_value_that_repeats_itself_takes_little_room() {
    let folder = hub();
    let connection = Connection::open(folder.path().join("hub.db")).unwrap();
    let room: u32 = connection
        .query_row("SELECT length(value) FROM payloads", [], |row| row.get(0))
        .unwrap();
    assert!(room < 1_000, "100,000 letters x take {room} bytes");
}

#[test]
fn a_value_without_owner_and_a_missing_value_are_noticed() {
    let folder = hub();
    change(folder.path(), "DELETE FROM payloads WHERE n = 0");
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(report.problems, ["value 0 of execution 1 is missing or damaged"]);
    let folder = hub();
    change(
        folder.path(),
        &format!(
            "INSERT INTO payloads VALUES (5, 3, '1', {}, NULL, NULL)",
            crc32c::crc32c_append(
                crc32c::crc32c_append(crc32c::crc32c(&5_u64.to_le_bytes()), &3_u64.to_le_bytes()),
                b"1"
            )
        ),
    );
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(report.problems, ["value 3 of execution 5 belongs to nobody"]);
}

/// A list and a history go past the large values: that these cannot be read does not matter to them.
#[test]
fn large_values_are_read_when_asked_for_only() {
    let folder = hub();
    for table in ["payloads", "entity_payloads"] {
        change(folder.path(), &format!("UPDATE {table} SET value = 'damaged'"));
    }
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let page = store.list(&InstanceQuery::default()).unwrap();
    assert!(page.rows[0].apart.has(Field::Input) && page.rows[0].input.is_none());
    assert_eq!(store.history(KEY).unwrap().len(), 1);
    assert_eq!(
        store.list_entities(&EntityQuery::default()).unwrap().rows,
        [entity()]
    );
    assert!(store.payload(&Owner::Execution(KEY), 0).is_err());
    assert!(store.payload(&Owner::Entity(entity().id), 0).is_err());
}

#[test]
fn deleting_leaves_no_value_behind() {
    let folder = hub();
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let commit = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().unwrap().epoch,
        ops: vec![
            Op::DeleteExecution {
                key: KEY,
                id: row(1).id,
            },
            Op::DeleteEntity { id: entity().id },
        ],
    };
    store.append(&mut vec![commit]).unwrap();
    drop(store);
    let connection = Connection::open(folder.path().join("hub.db")).unwrap();
    for table in ["instances", "history", "payloads", "entities", "entity_payloads"] {
        let count: i64 = connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 0, "{table}");
    }
}
