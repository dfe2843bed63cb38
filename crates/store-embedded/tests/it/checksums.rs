//! Rows that are not as they were written: noticed when they are read, and by `verify`.

use std::path::Path;

use dalsegno_core::query::{EntityQuery, InstanceQuery};
use dalsegno_core::store::{Commit, EntityRow, Field, Op, Owner, Store};
use dalsegno_core::{EntityId, ExecutionKey, FaultKind, PartitionId, Payload, TaskId, Timestamp};
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
pub(crate) fn hub() -> TempDir {
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
        ("instances", "history_crc", "history_crc + 1", "instance order-1"),
        ("instances", "history_crc", "NULL", "instance order-1"),
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
        "hub.db has format 1, this version reads 4 only: use the version that made it, or a new folder"
    );
}

/// Makes tables of version 3 or 2 of those of a hub: without checksums of histories, without mark.
fn make_former(folder: &Path, version: u32) {
    let connection = Connection::open(folder.join("hub.db")).unwrap();
    connection
        .execute_batch("ALTER TABLE instances DROP COLUMN history_crc; PRAGMA user_version = 0;")
        .unwrap();
    let row = row(1);
    let touch = [row.key.0, row.updated.as_micros() as u64, row.events]
        .iter()
        .fold(0, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()));
    let set = format!("UPDATE instances SET touch_crc = {touch}");
    assert_eq!(connection.execute(&set, []).unwrap(), 1);
    let set = format!("UPDATE hub SET value = {version} WHERE name = 'format'");
    assert_eq!(connection.execute(&set, []).unwrap(), 1);
}

#[test]
fn tables_of_version_3_are_opened_and_their_histories_get_a_checksum_when_they_grow() {
    let folder = hub();
    make_former(folder.path(), 3);
    assert!(verify::verify(folder.path()).unwrap_err().is_older());
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert_eq!(store.history(KEY).unwrap().len(), 1);
    let sum = || -> Option<u32> {
        let connection = Connection::open(folder.path().join("hub.db")).unwrap();
        let sql = "SELECT history_crc FROM instances WHERE key = 1";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(sum(), None);
    let ops = vec![
        Op::AppendHistory {
            key: KEY,
            first: 2,
            count: 1,
            data: vec![8; 50],
        },
        Op::TouchInstance {
            key: KEY,
            updated: Timestamp::from_micros(5),
            events: 3,
        },
    ];
    append(&store, ops);
    store.checkpoint().unwrap();
    let whole = [[7; 100].as_slice(), &[8; 50]].concat();
    assert_eq!(sum(), Some(crc32c::crc32c(&whole)));
    drop(store);
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    let file = std::fs::read(folder.path().join("hub.db")).unwrap();
    assert_ne!(file[60..64], [0; 4], "the file says which hub it is of");
}

fn append(store: &EmbeddedStore, ops: Vec<Op>) {
    let commit = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().unwrap().epoch,
        ops,
    };
    store.append(&mut vec![commit]).unwrap();
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
    drop(connection);
    make_former(folder.path(), 2);

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

/// A hub with a neighbour, closed, and the neighbour's key. Both have a history in two pieces.
fn two_histories() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    for (first, count) in [(0, 2), (2, 1)] {
        for key in [1, 2] {
            let events = Op::AppendHistory {
                key: ExecutionKey(key),
                first,
                count,
                data: vec![first as u8; 100],
            };
            let mut row = row(key);
            row.events = first + u64::from(count);
            append(&store, vec![Op::PutInstance(Box::new(row)), events]);
        }
        store.checkpoint().unwrap();
    }
    drop(store);
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    folder
}

fn change_any(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("hub.db")).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
}

#[test]
fn a_lost_or_exchanged_history_is_damage_and_its_neighbours_are_read() {
    // It was read as an empty history, with which the engine went on.
    let of_first = "position BETWEEN 1 << 24 AND 1 << 24 | 0xffffff";
    let exchanged = crc32c::crc32c_append(crc32c::crc32c(&((1_u64 << 24) + 2).to_le_bytes()), &[9; 10]);
    let changes = [
        (
            format!("DELETE FROM history WHERE {of_first}"),
            "is not the one that its row knows",
        ),
        (
            format!("DELETE FROM history WHERE {of_first} AND first = 2"),
            "is not the one that its row knows",
        ),
        (
            format!("DELETE FROM history WHERE {of_first} AND first = 0"),
            "is not the one that its row knows",
        ),
        // In its place, with a good checksum of its own, and as many events.
        (
            format!(
                "UPDATE history SET events = x'{}', crc = {exchanged} WHERE {of_first} AND first = 2",
                "09".repeat(10)
            ),
            "is not the one that its row knows",
        ),
    ];
    for (sql, expected) in changes {
        let folder = two_histories();
        change_any(folder.path(), &sql);
        let report = verify::verify(folder.path()).unwrap();
        assert!(
            report.problems.iter().any(|problem| problem.contains(expected)),
            "{sql}: {report}"
        );
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let error = store.history(KEY).unwrap_err();
        assert!(
            error.is_damage() && error.to_string().contains(expected),
            "{sql}: {error}"
        );
        assert_eq!(store.history(ExecutionKey(2)).unwrap().len(), 2, "{sql}");
        assert!(
            store.instance(&row(1).id).unwrap().is_some(),
            "{sql}: its row is there"
        );
        // What is damaged stays so when the history goes on.
        let events = Op::AppendHistory {
            key: KEY,
            first: 3,
            count: 1,
            data: vec![3; 10],
        };
        let touch = Op::TouchInstance {
            key: KEY,
            updated: Timestamp::from_micros(5),
            events: 4,
        };
        append(&store, vec![events, touch]);
        store.checkpoint().unwrap();
        assert!(store.history(KEY).unwrap_err().is_damage(), "{sql}");
    }
}

#[test]
fn a_history_page_with_a_hole_is_damage() {
    let folder = two_histories();
    change_any(folder.path(), "DELETE FROM history WHERE first = 0 AND key = 1");
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert!(store.history_page(KEY, 0, 1_000).unwrap_err().is_damage());
    assert_eq!(store.history_page(ExecutionKey(2), 0, 1_000).unwrap().len(), 2);
}

#[test]
fn a_history_without_row_is_noticed_in_tables_and_log() {
    // It was called sound.
    let folder = two_histories();
    change(folder.path(), "DELETE FROM instances WHERE key = 1");
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(
        report.problems,
        ["the history of execution 1 (3 events) belongs to no instance"]
    );

    let folder = TempDir::new().unwrap();
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let orphan = Op::AppendHistory {
        key: KEY,
        first: 0,
        count: 1,
        data: vec![1; 10],
    };
    append(&store, vec![orphan]);
    let mut row = row(2);
    row.events = 7;
    append(&store, vec![Op::PutInstance(Box::new(row))]);
    store.abandon();
    let report = verify::verify(folder.path()).unwrap();
    assert_eq!(
        report.problems,
        [
            "instance order-2 says 7 events, its history has 0",
            "the history of execution 1 (1 events) belongs to no instance"
        ]
    );
}

/// The ids on all pages of a list, with what it says of damage.
fn listed(store: &EmbeddedStore, query: &InstanceQuery) -> Vec<(String, Option<String>)> {
    let (mut query, mut listed) = (query.clone(), Vec::new());
    loop {
        let page = store.list(&query).unwrap();
        listed.extend(page.rows.into_iter().map(|row| {
            let damage = row.parked.filter(|fault| fault.kind == FaultKind::Damaged);
            (row.id.to_string(), damage.map(|fault| fault.message))
        }));
        assert!(listed.len() < 20, "the list does not end: {listed:?}");
        match page.next {
            Some(next) => query.after = Some(next),
            None => return listed,
        }
    }
}

#[test]
fn one_damaged_row_is_listed_as_damaged_and_its_neighbours_as_they_are() {
    // Every list over it, the overview and every purge by filter failed.
    let changes = [
        "custom_status = 'x'",
        "status = 'Unheard'",
        "tags = 'no json'",
        "name = CAST(x'ff41' AS TEXT)",
        "output = CAST(x'22ff22' AS TEXT)",
        "execution_id = 'zz'",
        "parent = '[' ",
        "large = 99",
        "updated = 'never'",
        "events = events + 1",
        "touch_crc = 7",
    ];
    for change_of_row in changes {
        for limit in [1, 2, 10] {
            let folder = TempDir::new().unwrap();
            drop(crate::opening::fill(folder.path(), 1..4));
            change(
                folder.path(),
                &format!("UPDATE instances SET {change_of_row} WHERE key = 2"),
            );
            let store = EmbeddedStore::open(folder.path(), options()).unwrap();
            store.load_hub().unwrap();
            let query = InstanceQuery {
                limit,
                ..InstanceQuery::default()
            };
            let rows = listed(&store, &query);
            let ids: Vec<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(ids, ["order-3", "order-2", "order-1"], "{change_of_row}");
            assert!(rows[0].1.is_none() && rows[2].1.is_none(), "{change_of_row}");
            let damage = rows[1].1.as_ref().expect("it is shown as damaged");
            assert!(damage.contains("repair the hub"), "{damage}");
            // By other ways than the damaged column, too.
            let tagged = InstanceQuery {
                tags: vec![("team".into(), "red".into())],
                ..query
            };
            assert!(listed(&store, &tagged).len() >= 2, "{change_of_row}");
            let error = store.instance(&row(2).id).unwrap_err();
            assert!(error.is_damage(), "{change_of_row}: {error}");
            assert_eq!(store.instance(&row(3).id).unwrap(), Some(row(3)));
        }
    }
}

#[test]
fn a_row_that_cannot_be_named_is_left_out_and_lists_end() {
    for change_of_row in ["id = CAST(x'ff6f' AS TEXT)", "created = 'never'"] {
        for limit in [1, 2, 10] {
            let folder = TempDir::new().unwrap();
            drop(crate::opening::fill(folder.path(), 1..4));
            change(
                folder.path(),
                &format!("UPDATE instances SET {change_of_row} WHERE key = 2"),
            );
            let store = EmbeddedStore::open(folder.path(), options()).unwrap();
            let query = InstanceQuery {
                limit,
                ..InstanceQuery::default()
            };
            let ids: Vec<String> = listed(&store, &query).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, ["order-3", "order-1"], "{change_of_row}, {limit}");
            drop(store);
            let report = verify::verify(folder.path()).unwrap();
            assert!(!report.is_sound(), "{change_of_row}");
        }
    }
}

#[test]
fn one_damaged_entity_is_listed_without_its_state_and_fails_no_start() {
    for change_of_row in [
        "queue = x'07'",
        "state = CAST(x'ff' AS TEXT)",
        "crc = 1",
        "key = CAST(x'ff' AS TEXT)",
    ] {
        let folder = hub();
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let neighbour = EntityRow {
            id: EntityId::new("counter", "b").unwrap(),
            state: Some("1".into()),
            is_state_apart: false,
            ..entity()
        };
        append(&store, vec![Op::PutEntity(Box::new(neighbour.clone()))]);
        drop(store);
        change(
            folder.path(),
            &format!("UPDATE entities SET {change_of_row} WHERE key = 'a'"),
        );
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let busy = store.load(PartitionId(0)).unwrap().busy_entities;
        assert_eq!(busy, std::slice::from_ref(&neighbour), "{change_of_row}");
        let rows = store.list_entities(&EntityQuery::default()).unwrap().rows;
        assert_eq!(rows.last(), Some(&neighbour), "{change_of_row}");
        assert_eq!(rows.len(), if change_of_row.starts_with("key") { 1 } else { 2 });
        assert!(rows.iter().filter(|row| row.state.is_none()).count() < 2);
    }
}
