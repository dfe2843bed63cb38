//! Damaged rows are moved aside, with their bytes, and the hub is sound again.

use std::fs;
use std::path::Path;

use dalsegno_core::query::InstanceQuery;
use dalsegno_core::store::{Bytes, Commit, Moved, Op, Owner, Store};
use dalsegno_core::{ExecutionKey, PartitionId};
use dalsegno_store_embedded::repair::{Repaired, repair};
use dalsegno_store_embedded::{EmbeddedStore, verify};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::opening::{commit, fill, row};
use crate::{checksums, options, snapshot};

fn change(folder: &Path, sql: &str) {
    let connection = Connection::open(folder.join("hub.db")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

fn check_sound(folder: &Path) {
    let report = verify::verify(folder).unwrap();
    assert!(report.is_sound(), "{report}");
}

fn places(moved: &[Moved]) -> Vec<(&str, &str)> {
    moved
        .iter()
        .map(|moved| (moved.table.as_str(), moved.row.as_str()))
        .collect()
}

#[test]
fn a_damaged_instance_is_moved_aside_with_its_bytes_and_all_that_is_its() {
    // Such a row could be neither terminated nor purged.
    let folder = checksums::hub();
    drop(fill(folder.path(), 2..4));
    change(
        folder.path(),
        "UPDATE instances SET output = CAST(x'22ff22' AS TEXT) WHERE key = 1",
    );
    let moved = repair(folder.path()).unwrap().moved;
    assert_eq!(
        places(&moved),
        [
            ("instances", "key 1"),
            ("tasks", "partition 0, key 1, task 1"),
            ("timers", "partition 0, due 9, key 1, task 2"),
            ("history", "position 16777216"),
            ("payloads", "rowid 1"),
        ]
    );
    check_sound(folder.path());
    let tables = Connection::open(folder.path().join("hub.db")).unwrap();
    let record: String = tables
        .query_row("SELECT record FROM quarantine WHERE number = ?1", [1], |row| {
            row.get(0)
        })
        .unwrap();
    for line in [
        "key integer 0000000000000001",
        "id text 6f726465722d31",
        "output text 22ff22",
    ] {
        assert!(record.lines().any(|found| found == line), "{line}: {record}");
    }
    drop(tables);
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert_eq!(store.instance(&row(1).id).unwrap(), None);
    assert_eq!(store.history(ExecutionKey(3)).unwrap().len(), 1);
    assert_eq!(store.list(&InstanceQuery::default()).unwrap().rows.len(), 2);
    // The id is free again.
    let epoch = store.load_hub().unwrap().epoch;
    store.append(&mut vec![commit(epoch, 1)]).unwrap();
    assert_eq!(store.instance(&row(1).id).unwrap(), Some(row(1)));
    drop(store);
    check_sound(folder.path());
}

#[test]
fn a_damaged_row_of_any_table_is_moved_and_the_hub_starts_again() {
    let changes = [
        ("instances", "id = CAST(x'ff' AS TEXT)", "instances"),
        ("entities", "queue = x'07'", "entities"),
        ("messages", "record = x'00'", "messages"),
        ("tasks", "record = x'00'", "tasks"),
        ("timers", "due = due + 1", "timers"),
        ("limiters", "record = x'00'", "limiters"),
        ("limiters", "key = CAST(x'ff' AS TEXT)", "limiters"),
        ("meta", "record = x'00'", "meta"),
    ];
    for (table, change_of_row, from) in changes {
        let folder = checksums::hub();
        change(folder.path(), &format!("UPDATE {table} SET {change_of_row}"));
        let moved = repair(folder.path()).unwrap().moved;
        assert_eq!(moved[0].table, from, "{change_of_row}");
        assert!(!moved[0].reason.is_empty());
        check_sound(folder.path());
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        store.load_hub().unwrap();
        store.load(PartitionId(0)).unwrap();
    }
}

#[test]
fn what_is_only_in_the_log_is_not_lost_by_a_repair() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    store.checkpoint().unwrap();
    let epoch = store.load_hub().unwrap().epoch;
    store.append(&mut vec![commit(epoch, 4)]).unwrap();
    store.abandon();
    change(folder.path(), "UPDATE instances SET name = 'x' WHERE key = 2");
    let moved = repair(folder.path()).unwrap().moved;
    assert_eq!(places(&moved)[0], ("instances", "key 2"));
    check_sound(folder.path());
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert_eq!(store.instance(&row(4).id).unwrap(), Some(row(4)));
}

#[test]
fn a_sound_hub_is_left_as_it_is_and_an_open_one_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..4));
    assert_eq!(repair(folder.path()).unwrap(), Repaired::default());
    let tables = Connection::open(folder.path().join("hub.db")).unwrap();
    assert!(tables.prepare("SELECT * FROM quarantine").is_err());
    drop(tables);
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let before = snapshot(folder.path());
    assert!(repair(folder.path()).unwrap_err().is_in_use());
    assert_eq!(snapshot(folder.path()), before);
    drop(store);
}

#[test]
fn a_flipped_bit_in_the_file_of_a_row_is_repaired() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..4));
    let path = folder.path().join("hub.db");
    let whole = fs::read(&path).unwrap();
    // In the row itself, the name of the orchestrator follows; an index has the id alone.
    let at = whole
        .windows(128)
        .position(|run| run.starts_with(b"order-2") && run.windows(5).any(|name| name == b"Order"))
        .expect("the row is in the file");
    let mut bytes = whole;
    bytes[at + 6] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let moved = repair(folder.path()).unwrap().moved;
    assert_eq!(places(&moved)[0], ("instances", "key 2"));
    check_sound(folder.path());
}

fn removed(store: &EmbeddedStore, bytes: Bytes) -> Vec<Moved> {
    let owners: Vec<Owner> = store
        .damaged()
        .unwrap()
        .into_iter()
        .filter_map(|row| row.owner)
        .collect();
    store.remove(&owners, bytes).unwrap()
}

fn count(folder: &Path, table: &str) -> u32 {
    let tables = Connection::open(folder.join("hub.db")).unwrap();
    tables
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap()
}

const OF_ONE: [&str; 5] = ["instances", "history", "payloads", "tasks", "timers"];

#[test]
fn an_open_hub_removes_what_is_damaged_with_all_that_is_its() {
    for bytes in [Bytes::Kept, Bytes::Dropped] {
        let folder = checksums::hub();
        change(folder.path(), "UPDATE instances SET name = 'x'");
        change(folder.path(), "UPDATE entities SET key = CAST(x'ff' AS TEXT)");
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let damaged = store.damaged().unwrap();
        let [instance, entity] = &damaged[..] else {
            panic!("{damaged:?}");
        };
        assert_eq!(instance.owner, Some(Owner::Execution(ExecutionKey(1))));
        assert_eq!(instance.instance, Some(row(1).id));
        assert_eq!(entity.owner, None, "its key cannot be read");
        let moved = removed(&store, bytes);
        let places: Vec<&str> = moved.iter().map(|moved| moved.table.as_str()).collect();
        match bytes {
            Bytes::Kept => assert_eq!(places, OF_ONE),
            Bytes::Dropped => assert_eq!(places, [""; 0]),
        }
        for table in OF_ONE {
            assert_eq!(count(folder.path(), table), 0, "{table}");
        }
        assert_eq!(count(folder.path(), "entities"), 1);
        assert_eq!(store.damaged().unwrap(), damaged[1..]);
        store.abandon();
    }
}

#[test]
fn an_instance_whose_value_is_missing_is_damaged() {
    let folder = checksums::hub();
    change(folder.path(), "DELETE FROM payloads");
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let damaged = store.damaged().unwrap();
    assert_eq!(damaged[0].owner, Some(Owner::Execution(ExecutionKey(1))));
    assert!(damaged[0].reason.contains("missing"), "{damaged:?}");
}

/// Makes the id in the row of one instance that of another. An index still has the first.
fn flip_id(folder: &Path, id: &str, other: &str) {
    let path = folder.join("hub.db");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(128)
        .position(|run| run.starts_with(id.as_bytes()) && run.windows(5).any(|name| name == b"Order"))
        .expect("the row is in the file");
    bytes[at..at + id.len()].copy_from_slice(other.as_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_row_whose_id_became_that_of_its_neighbour_is_moved() {
    // Its index could not be built anew, and nothing was moved.
    for is_open in [false, true] {
        let folder = TempDir::new().unwrap();
        drop(fill(folder.path(), 1..4));
        flip_id(folder.path(), "order-1", "order-3");
        let moved = match is_open {
            false => repair(folder.path()).unwrap().moved,
            true => removed(
                &EmbeddedStore::open(folder.path(), options()).unwrap(),
                Bytes::Kept,
            ),
        };
        assert_eq!(places(&moved)[0], ("instances", "key 1"));
        check_sound(folder.path());
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        assert_eq!(store.instance(&row(1).id).unwrap(), None);
        assert_eq!(store.instance(&row(3).id).unwrap(), Some(row(3)));
    }
}

/// A hub with so many instances that its tables have many pages, and nothing in its log.
fn large_hub() -> TempDir {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..201));
    folder
}

/// Makes the page of the tables that holds the row of an instance, or a part of an index, unreadable.
fn spoil_page(folder: &Path, of: &str) {
    let path = folder.join("hub.db");
    let tables = Connection::open(&path).unwrap();
    let root: u32 = tables
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?1",
            [of],
            |row| row.get(0),
        )
        .unwrap();
    let page_bytes: u32 = tables
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .unwrap();
    drop(tables);
    let mut bytes = fs::read(&path).unwrap();
    let begin = (root as usize - 1) * page_bytes as usize;
    bytes[begin] = 0x77;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_page_that_cannot_be_read_is_named_with_the_way_out_by_lists_starts_verify_and_repair() {
    const WAY_OUT: &str = "restore the hub from a backup";
    for of in ["instances", "instances_created", "messages", "meta"] {
        let folder = large_hub();
        spoil_page(folder.path(), of);
        let report = verify::verify(folder.path()).unwrap();
        let text = report.to_string();
        assert!(!report.is_sound() && text.contains("hub.db"), "{of}: {text}");
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let read = store
            .load_hub()
            .and_then(|_| store.load(PartitionId(0)))
            .and_then(|_| store.list(&InstanceQuery::default()));
        let error = read.map(drop).unwrap_err();
        assert!(error.is_damage(), "{of}: {error}");
        let text = error.to_string();
        assert!(
            text.contains("hub.db") && text.contains("malformed") && text.contains(WAY_OUT),
            "{of}: {text}"
        );
        drop(store);
        match repair(folder.path()) {
            // Its rows are readable, without this index.
            Ok(repaired) => {
                assert_eq!((of, repaired.moved), ("instances_created", Vec::new()));
                assert!(!repaired.malformed.is_empty());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(error.is_damaged() && text.contains(WAY_OUT), "{of}: {text}");
                assert!(
                    text.contains(&folder.path().display().to_string()),
                    "{of}: {text}"
                );
            }
        }
    }
}

#[test]
fn the_tables_of_a_later_opening_are_not_written() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    store.checkpoint().unwrap();
    change(
        folder.path(),
        "UPDATE hub SET value = value + 1 WHERE name = 'epoch'",
    );
    let owners = [Owner::Execution(ExecutionKey(2))];
    let error = store.remove(&owners, Bytes::Kept).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    store.abandon();
    assert_eq!(count(folder.path(), "instances"), 3);
    let tables = Connection::open(folder.path().join("hub.db")).unwrap();
    assert!(tables.prepare("SELECT * FROM quarantine").is_err());
}

#[test]
fn a_damaged_row_that_was_deleted_is_gone_before_the_tables_know_it() {
    // The engine read such a row again after its deletion, and kept the instance as damaged.
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..4));
    for sql in [
        "UPDATE instances SET name = 'x' WHERE key = 2",
        "UPDATE history SET events = x'00' WHERE key = 2",
    ] {
        change(folder.path(), sql);
    }
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert!(store.instance(&row(2).id).unwrap_err().is_damage());
    assert!(store.history(ExecutionKey(2)).unwrap_err().is_damage());
    let delete = Op::DeleteExecution {
        key: ExecutionKey(2),
        id: row(2).id,
    };
    let deletion = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().unwrap().epoch,
        ops: vec![delete],
    };
    store.append(&mut vec![deletion]).unwrap();
    assert_eq!(store.instance(&row(2).id).unwrap(), None);
    assert_eq!(store.instance_by_key(ExecutionKey(2)).unwrap(), None);
    assert_eq!(store.history(ExecutionKey(2)).unwrap(), []);
    assert_eq!(store.instance(&row(3).id).unwrap(), Some(row(3)));
}

#[test]
fn a_damaged_row_that_refuses_a_start_is_named_with_the_command_that_moves_it() {
    let changes = [
        ("messages", "record = x'00'", "message 1 "),
        ("messages", "record = 'text'", "message 1 "),
        ("messages", "sequence = 'one'", "message one "),
        ("tasks", "record = x'00'", "task 1 of execution 1 "),
        ("tasks", "task = -1", "task -1 of execution 1 "),
        ("timers", "due = 'soon'", "timer 2 of execution 1 "),
        ("timers", "key = 5", "timer 2 of execution 5 "),
        ("limiters", "record = x'00'", "limiter github, key k "),
        (
            "limiters",
            "name = CAST(x'67ff' AS TEXT)",
            "limiter g\u{fffd}, key k ",
        ),
        ("meta", "record = x'00'", "the record \"schedule\" "),
        (
            "meta",
            "name = CAST(x'67ff' AS TEXT)",
            "the record \"g\u{fffd}\" ",
        ),
    ];
    for (table, change_of_row, name) in changes {
        let folder = checksums::hub();
        change(folder.path(), &format!("UPDATE {table} SET {change_of_row}"));
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        let read = store.load_hub().and_then(|_| store.load(PartitionId(0)));
        let error = read.map(drop).unwrap_err();
        assert!(error.is_damage(), "{change_of_row}: {error}");
        let text = error.to_string();
        let command = format!("run `dalsegno repair {}`", folder.path().display());
        assert!(
            text.contains(name) && text.contains(&command),
            "{change_of_row}: {text}"
        );
        drop(store);
        assert_eq!(repair(folder.path()).unwrap().moved[0].table, table);
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        store.load_hub().unwrap();
        store.load(PartitionId(0)).unwrap();
    }
}
