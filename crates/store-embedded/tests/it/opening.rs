//! Opening, closing, and what a hub's folder looks like.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use dalsegno_core::query::{InstanceQuery, Status};
use dalsegno_core::store::{Apart, Commit, CommitError, InstanceRow, Op, Store};
use dalsegno_core::{Epoch, ExecutionId, ExecutionKey, InstanceId, PartitionId, Timestamp};
use dalsegno_store_embedded::{EmbeddedStore, Options, verify};
use expect_test::expect;
use tempfile::TempDir;

use crate::{options, snapshot};

pub(crate) fn row(key: u64) -> InstanceRow {
    let id = InstanceId::trusted(format!("order-{key}"));
    InstanceRow {
        key: ExecutionKey(key),
        partition: PartitionId(0),
        id,
        execution_id: ExecutionId(u128::from(key)),
        name: "Order".into(),
        version: None,
        status: Status::Running,
        created: Timestamp::from_micros(key as i64),
        updated: Timestamp::from_micros(key as i64),
        completed: None,
        scheduled_start: None,
        parent: None,
        tags: vec![("team".into(), "red".into())],
        input: None,
        custom_status: None,
        output: None,
        failure: None,
        parked: None,
        events: 2,
        extra: Vec::new(),
        apart: Apart::default(),
    }
}

/// One instance with a history, in one commit.
pub(crate) fn commit(epoch: Epoch, key: u64) -> Commit {
    Commit {
        partition: PartitionId(0),
        epoch,
        ops: vec![
            Op::PutInstance(Box::new(row(key))),
            Op::AppendHistory {
                key: ExecutionKey(key),
                first: 0,
                count: 2,
                data: vec![key as u8; 200],
            },
        ],
    }
}

pub(crate) fn fill(folder: &Path, keys: std::ops::Range<u64>) -> EmbeddedStore {
    let store = EmbeddedStore::open(folder, options()).unwrap();
    let epoch = store.load_hub().unwrap().epoch;
    for key in keys {
        store.append(&mut vec![commit(epoch, key)]).unwrap();
    }
    store
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_hub_is_private_to_its_user() {
    let folder = TempDir::new().unwrap();
    let hub = folder.path().join("data").join("hub");
    let store = fill(&hub, 1..4);
    store.checkpoint().unwrap();
    assert_eq!(mode(&hub), 0o700);
    for entry in fs::read_dir(&hub).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn the_identity_is_golden() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..2));
    let text = fs::read_to_string(folder.path().join("identity")).unwrap();
    let masked: Vec<&str> = text
        .lines()
        .map(|line| match line.split_once(' ') {
            Some((name @ ("store" | "crc32c"), value)) => {
                assert_eq!(value.len(), if name == "store" { 32 } else { 8 });
                name
            }
            _ => line,
        })
        .collect();
    expect![[r#"
        dalsegno hub
        format 1
        store
        partitions 4
        hash fnv1a-64-folded
        stage ready
        crc32c"#]]
    .assert_eq(&masked.join("\n"));
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..2);
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    assert!(error.is_in_use());
    assert_eq!(
        error.to_string(),
        format!("hub is in use by pid {}", std::process::id())
    );
    let error = verify::verify(folder.path()).unwrap_err();
    assert!(error.is_in_use());
    // A lock that a dead process left behind is none.
    store.abandon();
    EmbeddedStore::open(folder.path(), options()).unwrap();
}

#[test]
fn an_older_opening_is_fenced() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..2);
    let older = store.load_hub().unwrap().epoch;
    drop(store);
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    let refused = store.append(&mut vec![commit(older, 2)]);
    assert!(matches!(refused, Err(CommitError::Fenced)));
}

#[test]
fn a_hub_keeps_its_partitions() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..2));
    let other = Options {
        partitions: 64,
        ..options()
    };
    let store = EmbeddedStore::open(folder.path(), other).unwrap();
    assert_eq!(store.load_hub().unwrap().partitions, options().partitions);
}

/// Makes the identity say that the hub was never created.
fn forget_creation(folder: &Path) {
    let whole = fs::read_to_string(folder.join("identity")).unwrap();
    let body = whole
        .rsplit_once("crc32c")
        .unwrap()
        .0
        .replace("stage ready", "stage creating");
    let half = format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()));
    fs::write(folder.join("identity"), half).unwrap();
}

#[test]
fn making_a_hub_that_was_cut_off_is_begun_again() {
    let folder = TempDir::new().unwrap();
    // As it is after the first steps: the identity says that nothing counts yet.
    drop(fill(folder.path(), 1..2));
    forget_creation(folder.path());
    for name in ["log.0000000000000001", "hub.db"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("hub.db"), b"").unwrap();
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert!(store.instance(&InstanceId::trusted("order-1")).unwrap().is_none());
}

#[test]
fn a_hub_that_holds_commits_is_never_created_again() {
    let folder = TempDir::new().unwrap();
    drop(fill(folder.path(), 1..2));
    forget_creation(folder.path());
    let refused = |expected: &str| {
        let before = snapshot(folder.path());
        let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
        assert!(
            error.is_damaged() && error.to_string().contains(expected),
            "{error}"
        );
        assert_eq!(snapshot(folder.path()), before);
    };
    refused("log.0000000000000001 holds commits");
    fs::remove_file(folder.path().join("log.0000000000000001")).unwrap();
    refused("hub.db was opened 1 times");
}

#[test]
fn a_folder_that_may_not_be_written_is_no_passing_trouble() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = EmbeddedStore::open(&file.join("hub"), options()).unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

#[test]
fn a_hub_without_checkpoint_is_replayed_and_sound() {
    let folder = TempDir::new().unwrap();
    fill(folder.path(), 1..201).abandon();
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.last, report.unapplied, report.instances), (200, 200, 0));
    assert_eq!((report.histories, report.events), (200, 400));
    let store = EmbeddedStore::open(folder.path(), options()).unwrap();
    assert_eq!(store.instance(&row(200).id).unwrap(), Some(row(200)));
    drop(store);
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(
        (report.applied, report.unapplied, report.instances),
        (200, 0, 200)
    );
    assert_eq!(report.counts, [(Status::Running, 200)]);
}

#[test]
fn checking_a_hub_changes_nothing() {
    let folder = TempDir::new().unwrap();
    fill(folder.path(), 1..51).abandon();
    let before = snapshot(folder.path());
    verify::verify(folder.path()).unwrap();
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn segments_are_recycled_below_the_checkpoint() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..1);
    let epoch = store.load_hub().unwrap().epoch;
    for key in 1..=600 {
        store.append(&mut vec![commit(epoch, key)]).unwrap();
        if key % 50 == 0 {
            store.checkpoint().unwrap();
        }
    }
    drop(store);
    let log: Vec<String> = snapshot(folder.path())
        .into_iter()
        .map(|(name, ..)| name)
        .filter(|name| name.starts_with("log."))
        .collect();
    assert!(log.len() <= 7, "{log:?}");
}

#[test]
fn people_read_the_tables_while_the_hub_runs() {
    let folder = TempDir::new().unwrap();
    let store = fill(folder.path(), 1..4);
    store.checkpoint().unwrap();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(folder.path().join("hub.db"), flags).unwrap();
    let line: String = reader
        .query_row(
            "SELECT id || ' ' || name || ' ' || status || ' ' || tags FROM instances WHERE key = 2",
            [],
            |row| row.get(0),
        )
        .unwrap();
    expect![[r#"order-2 Order Running {"team":"red"}"#]].assert_eq(&line);
    // A reader that stays does not stop commits or checkpoints.
    let mut statement = reader.prepare("SELECT id FROM instances").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    let epoch = store.load_hub().unwrap().epoch;
    store.append(&mut vec![commit(epoch, 4)]).unwrap();
    store.checkpoint().unwrap();
    let page = store
        .list(&InstanceQuery {
            limit: 10,
            ..InstanceQuery::default()
        })
        .unwrap();
    assert_eq!(page.rows.len(), 4);
}

#[test]
fn an_idle_hub_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let busy = Options {
        checkpoint_interval: Duration::from_millis(1),
        ..options()
    };
    let store = EmbeddedStore::open(folder.path(), busy).unwrap();
    let epoch = store.load_hub().unwrap().epoch;
    store.append(&mut vec![commit(epoch, 1)]).unwrap();
    store.checkpoint().unwrap();
    let before = snapshot(folder.path());
    // Reads of a clean hub fold nothing.
    for _ in 0..50 {
        store.checkpoint().unwrap();
        store.load(PartitionId(0)).unwrap();
        store.list(&InstanceQuery::default()).unwrap();
    }
    assert_eq!(snapshot(folder.path()), before);
    assert_eq!(store.unapplied_bytes(), 0);
}

#[test]
fn openings_of_an_idle_hub_add_nothing() {
    let folder = TempDir::new().unwrap();
    let segments = || {
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("log.")).count()
    };
    fill(folder.path(), 1..3).abandon();
    for n in 0..5 {
        let store = EmbeddedStore::open(folder.path(), options()).unwrap();
        match n {
            // What was only in the log is folded when the hub is closed.
            0 => assert_eq!(segments(), 2),
            _ => assert_eq!(segments(), 1),
        }
        drop(store);
    }
    let size = || -> u64 {
        let store = EmbeddedStore::open(folder.path(), Options::default()).unwrap();
        store.size(Timestamp::from_micros(0)).unwrap().unwrap().log_bytes
    };
    assert_eq!((size(), size(), size()), (256 * 1024, 256 * 1024, 256 * 1024));
}
